/**
 * Reads the area of fast commits: finds out how many of its tags count, and hands them out in order.
 *
 * The area is written from its start after each full commit, over what an earlier round left there.
 * What belongs to this round is known by the sequence number in HEAD and TAIL, that of the
 * transaction which a full commit would have written next.
 *
 * Where the very first fast commit is torn the kernel refuses to mount. Nothing is damaged then: the
 * power failed while it was written, and the state before it is whole. We show that state.
 *
 * @see fs/ext4/fast_commit.c, ext4_fc_replay_scan
 */
import { le32 } from "../../base/layout.ts";
import { CorruptionError, UnsupportedError } from "../errors.ts";
import type { Checksums } from "../format/checksum.ts";
import {
  type FastCommitTag,
  FC_TAG_SIZE,
  FcHead,
  FcTagType,
  FcTail,
  fastCommitTag,
} from "../format/fast-commit.ts";
import type { JournalSuperblock } from "../format/jbd2.ts";
import type { JournalSource } from "./source.ts";

/** More than a round of fast commits ever holds; what they change is kept in memory. */
const BYTES_MAX = 16 * 1024 * 1024;

export class FastCommitLog {
  /** Tags that belong to complete fast commits. */
  readonly tagCount: number;
  /** Fast commits that are complete. */
  readonly commitCount: number;
  /** The first fast commit was begun and not finished. */
  readonly isTorn: boolean;
  readonly #source: JournalSource;
  readonly #first: number;
  readonly #end: number;
  readonly #inodeSize: number;

  /**
   * @param sequence of the first transaction that is not in the log: what `findLogEnd` answers.
   * @param inodeSize the filesystem's.
   * @throws UnsupportedError naming features of fast commits that we do not have.
   */
  constructor(
    source: JournalSource,
    superblock: JournalSuperblock,
    sequence: number,
    inodeSize: number,
    checksums: Checksums,
  ) {
    this.#source = source;
    this.#first = superblock.fastCommitFirst;
    this.#end = superblock.fastCommitEnd;
    this.#inodeSize = inodeSize;
    let tagCount = 0;
    let commitCount = 0;
    let seen = 0;
    let bytes = 0;
    let crc = 0;
    for (const [tag, block] of this.#everyTag()) {
      if (seen === 0 && tag.type !== FcTagType.HEAD) break;
      if (tag.type === FcTagType.HEAD && !isHeadOf(tag, sequence)) break;
      seen++;
      if (tag.type === FcTagType.TAIL) {
        crc = checksums.over(crc, block.subarray(tag.at, tag.at + FC_TAG_SIZE + FcTail.crc));
        const tid = le32(tag.value, 0, FcTail.tid);
        if (tid !== sequence || le32(tag.value, 0, FcTail.crc) !== crc) break;
        tagCount = seen;
        commitCount++;
        crc = 0;
      } else {
        crc = checksums.over(crc, block.subarray(tag.at, tag.end));
        if (tag.type !== FcTagType.PAD) bytes += tag.end - tag.at;
        if (bytes > BYTES_MAX) {
          throw new CorruptionError("fast-commit", {}, `more than ${BYTES_MAX} bytes of changes`);
        }
      }
    }
    this.tagCount = tagCount;
    this.commitCount = commitCount;
    this.isTorn = commitCount === 0 && seen > 0;
  }

  /** The tags of all complete fast commits. */
  *tags(): Generator<FastCommitTag> {
    let left = this.tagCount;
    for (const [tag] of this.#everyTag()) {
      if (left-- === 0) return;
      yield tag;
    }
  }

  /** Tags and the blocks they are in, up to the first place without one. */
  *#everyTag(): Generator<[FastCommitTag, Uint8Array]> {
    for (let index = this.#first; index < this.#end; index++) {
      const block = this.#source.readBlock(index);
      for (let at = 0; at + FC_TAG_SIZE <= block.length; ) {
        const tag = fastCommitTag(block, at, this.#inodeSize);
        if (tag === undefined) return;
        yield [tag, block];
        at = tag.end;
      }
    }
  }
}

function isHeadOf(tag: FastCommitTag, sequence: number): boolean {
  const features = le32(tag.value, 0, FcHead.features);
  if (features !== 0) {
    const names: string[] = [];
    for (let bit = 0; bit < 32; bit++) {
      if ((features >>> bit) & 1) names.push(`fast_commit FEATURE_${bit}`);
    }
    throw new UnsupportedError(names, `the fast commits cannot be replayed: ${names.join(", ")}`);
  }
  return le32(tag.value, 0, FcHead.tid) === sequence;
}
