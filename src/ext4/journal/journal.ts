/**
 * A journal that is written to: its blocks on their device, and its superblock.
 *
 *     superblock     start 0: empty. Otherwise: where the oldest transaction that still counts
 *                    begins, and its sequence number
 *     blocks         by index, in runs that lie together on the device
 */
import type { WritableDevice } from "../../base/block-device.ts";
import { be32, setBe32, setU8 } from "../../base/layout.ts";
import type { Filesystem } from "../filesystem.ts";
import { Incompat } from "../format/features.ts";
import {
  ChecksumType,
  JournalBlockType,
  JournalCompat,
  JournalIncompat,
  JournalSuperblock,
  JournalSuperblockLayout,
  sealJournalSuperblock,
} from "../format/jbd2.ts";
import type { JournalRun, StoredJournal } from "./source.ts";
import type { LogErasure } from "./transaction.ts";

const S = JournalSuperblockLayout;

export class Journal {
  readonly source: StoredJournal;
  readonly device: WritableDevice;
  readonly #fs: Filesystem;
  readonly #runs: readonly JournalRun[];
  readonly #stored: Uint8Array;
  readonly #view: DataView;
  #superblock: JournalSuperblock;

  /**
   * @param device where the runs of `source` lie.
   * @throws CorruptionError, UnsupportedError when its superblock cannot be used.
   */
  constructor(fs: Filesystem, source: StoredJournal, device: WritableDevice) {
    this.#fs = fs;
    this.source = source;
    this.device = device;
    this.#runs = source.runs();
    this.#stored = source.readBlock(source.superblockIndex);
    this.#view = new DataView(this.#stored.buffer);
    this.#superblock = this.#parse();
  }

  get superblock(): JournalSuperblock {
    return this.#superblock;
  }

  /**
   * Says where the log begins. The next flush of the device makes it durable.
   *
   * @param start 0 when the log is empty.
   */
  setStart(start: number, sequence: number): void {
    this.#update(() => {
      setBe32(this.#view, 0, S.start, start);
      setBe32(this.#view, 0, S.sequence, sequence);
    });
  }

  /** Forgets that the filesystem was given up once. */
  clearError(): void {
    if (this.#superblock.errorNumber === 0) return;
    this.#update(() => setBe32(this.#view, 0, S.errno, 0));
  }

  /**
   * Gives an empty journal the features that the filesystem needs, and takes away those that its
   * transactions do not use: fast commits, and commits without a flush before them.
   *
   * @see fs/ext4/super.c, set_journal_csum_feature_set and ext4_load_and_init_journal
   */
  setFeatures(): void {
    const view = this.#view;
    if (be32(view, 0, S.blocktype) !== JournalBlockType.SUPERBLOCK_V2) this.#convert();
    const before = be32(view, 0, S.featureIncompat);
    let compat = be32(view, 0, S.featureCompat);
    let incompat = before | JournalIncompat.REVOKE;
    incompat &= ~(JournalIncompat.ASYNC_COMMIT | JournalIncompat.FAST_COMMIT);
    if (this.#fs.superblock.hasIncompat(Incompat["64BIT"])) incompat |= JournalIncompat["64BIT"];
    if (this.#fs.superblock.metadataChecksums) {
      compat &= ~JournalCompat.CHECKSUM;
      incompat = (incompat & ~JournalIncompat.CSUM_V2) | JournalIncompat.CSUM_V3;
    }
    if (incompat === before) return;
    this.#update(() => {
      setBe32(view, 0, S.featureCompat, compat);
      setBe32(view, 0, S.featureIncompat, incompat);
      if (this.#fs.superblock.metadataChecksums)
        setU8(view, 0, S.checksumType, ChecksumType.CRC32C);
    });
  }

  /** Stores whole blocks from block `index` on. They must not reach past the end. */
  write(index: number, bytes: Uint8Array): void {
    const { blockSize } = this.source;
    let at = 0;
    for (let run = this.#runAt(index); at < bytes.length; run++) {
      const { start, count, deviceBlock } = this.#runs[run] as JournalRun;
      const into = index + at / blockSize - start;
      const part = bytes.subarray(at, at + (count - into) * blockSize);
      this.device.write((deviceBlock + into) * blockSize, part);
      at += part.length;
    }
  }

  /** Takes the contents of the log away. It must be empty. */
  erase(how: LogErasure): void {
    const { blockSize } = this.source;
    const { logFirst, logEnd } = this.#superblock;
    for (const { start, count, deviceBlock } of this.#runs) {
      const from = Math.max(start, logFirst);
      const end = Math.min(start + count, logEnd);
      if (from < end)
        this.device[how]((deviceBlock + from - start) * blockSize, (end - from) * blockSize);
    }
  }

  #runAt(index: number): number {
    const found = this.#runs.findIndex(({ start, count }) => index < start + count);
    if (found < 0) throw new RangeError(`the journal has no block ${index}`);
    return found;
  }

  /** Makes a superblock of version 2 of one of version 1, which ends behind its error number. */
  #convert(): void {
    this.#update(() => {
      setBe32(this.#view, 0, S.blocktype, JournalBlockType.SUPERBLOCK_V2);
      this.#stored.fill(0, S.featureCompat);
      this.#stored.set(this.#fs.superblock.uuid, S.uuid);
      setBe32(this.#view, 0, S.nrUsers, 1);
    });
  }

  #update(change: () => void): void {
    change();
    sealJournalSuperblock(this.#view, this.#fs.checksums);
    this.#superblock = this.#parse();
    this.write(this.source.superblockIndex, this.#stored);
  }

  #parse(): JournalSuperblock {
    const { blockSize, blockCount } = this.source;
    return new JournalSuperblock(this.#view, blockSize, blockCount, this.#fs.checksums);
  }
}
