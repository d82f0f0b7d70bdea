/**
 * The second half of recovery: which block of the journal is the newest content of which block of
 * the filesystem. Only that is kept in memory, not the contents: 16 bytes for each block that the
 * log replaces, a few times as much while it is read.
 *
 * The kernel reads the log twice here: it collects all revokes, then replays what they leave. A
 * revoke in transaction n speaks of transactions up to and including n, so the same comes out when
 * the revokes of each transaction are applied to what was found so far, as its last step; and no
 * table of revokes has to be held, which a hostile journal could make as large as it likes.
 *
 * @see ext4/journal.rst, "Revocation Block"; fs/jbd2/recovery.c, do_one_pass
 */
import { Errno } from "../../base/errno.ts";
import { CorruptionError, FsError } from "../errors.ts";
import {
  isBefore,
  JOURNAL_MAGIC,
  JournalBlockType,
  type JournalSuperblock,
  nextSequence,
  TagFlags,
} from "../format/jbd2.ts";
import { LogWalk } from "./log.ts";
import type { NewerBlocks } from "./replayed-device.ts";
import type { JournalSource } from "./source.ts";

/** The newest contents of the blocks in a log, read from the journal when asked for. */
export class LoggedBlocks implements NewerBlocks {
  readonly numbers: Float64Array;
  /** The index of the journal's block behind the log. */
  readonly behind: number;
  readonly #places: Float64Array;
  readonly #source: JournalSource;

  /** @param places for each block of the filesystem its place, as `placeOf` makes it. */
  constructor(places: ReadonlyMap<number, number>, source: JournalSource, behind: number) {
    this.behind = behind;
    this.numbers = Float64Array.from(places.keys()).sort();
    this.#places = this.numbers.map((number) => places.get(number) as number);
    this.#source = source;
  }

  contents(index: number): Uint8Array {
    const place = this.#places[index] as number;
    const bytes = this.#source.readBlock(Math.floor(place / 2));
    if (place % 2 === 1) new DataView(bytes.buffer).setUint32(0, JOURNAL_MAGIC, false);
    return bytes;
  }
}

/**
 * The place of a block in the journal, as one number. An escaped block began with the magic number
 * of journal blocks, and zeros stand for it in the log.
 */
function placeOf(index: number, isEscaped: boolean): number {
  return index * 2 + (isEscaped ? 1 : 0);
}

/**
 * Finds the newest contents of every block that the transactions before `end` changed.
 *
 * @param end the first transaction that does not count, from `findLogEnd`.
 * @param blockEnd blocks on the filesystem's device.
 * @throws CorruptionError `journal-block` for a block past the end of the device,
 *   `journal-checksum` for data that fails its checksum and is not revoked later.
 */
export function replayLog(
  source: JournalSource,
  superblock: JournalSuperblock,
  end: number,
  blockEnd: number,
): LoggedBlocks {
  const walk = new LogWalk(source, superblock);
  const places = new Map<number, number>();
  const damaged = new Map<number, number>();
  let revokeIndexes: number[] = [];
  for (let sequence = superblock.sequence; isBefore(sequence, end); ) {
    const record = walk.record(sequence);
    if (record === undefined) {
      throw new FsError(Errno.EIO, `transaction ${sequence} of the journal is gone on second read`);
    }
    if (record.type === JournalBlockType.REVOKE) revokeIndexes.push(record.index);
    if (record.type === JournalBlockType.DESCRIPTOR) {
      for (const tag of superblock.tags(record.view)) {
        const index = walk.take();
        const { block, flags } = tag;
        if (block >= blockEnd) {
          const what = `the device has ${blockEnd} blocks`;
          throw new CorruptionError("journal-block", { block }, what);
        }
        const isVerified = superblock.checksumVersion >= 2;
        if (isVerified && !superblock.isDataValid(tag, sequence, source.readBlock(index))) {
          damaged.set(block, index);
        } else {
          places.set(block, placeOf(index, (flags & TagFlags.ESCAPE) !== 0));
        }
      }
    }
    if (record.type === JournalBlockType.COMMIT) {
      for (const index of revokeIndexes) {
        superblock.eachRevoked(new DataView(source.readBlock(index).buffer), (block) => {
          places.delete(block);
          damaged.delete(block);
        });
      }
      revokeIndexes = [];
      sequence = nextSequence(sequence);
    }
  }
  const [first] = damaged;
  if (first !== undefined) {
    const [block, index] = first;
    throw new CorruptionError("journal-checksum", { block }, `its copy in journal block ${index}`);
  }
  return new LoggedBlocks(places, source, walk.next);
}
