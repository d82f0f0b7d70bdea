/**
 * Recovery that writes: what the journal holds goes to its places on the device, and the journal
 * becomes empty. Whenever it is interrupted, the next one starts over with the same journal, and
 * comes to the same.
 *
 * @see fs/jbd2/recovery.c, jbd2_journal_recover and jbd2_journal_skip_recovery
 */
import type { WritableDevice } from "../../base/block-device.ts";
import { UnsupportedError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { Compat } from "../format/features.ts";
import { Journal } from "./journal.ts";
import { findJournal, readLog, verifyUser } from "./recover.ts";
import type { NewerBlocks } from "./replayed-device.ts";

/** Blocks next to each other are written together, this many bytes at a time. */
const RUN_BYTES_MAX = 1024 * 1024;

/**
 * The journal of `fs`, for writing; undefined when it has none.
 *
 * @param device the one under `fs`.
 * @param journalDevice the external journal, if it is known.
 * @throws FsError, CorruptionError or UnsupportedError when the journal cannot be used.
 */
export function openJournal(
  fs: Filesystem,
  device: WritableDevice,
  journalDevice: WritableDevice | undefined,
): Journal | undefined {
  if (!fs.superblock.hasCompat(Compat.HAS_JOURNAL)) return undefined;
  const source = findJournal(fs, journalDevice);
  const isExternal = fs.superblock.journalInode === 0;
  const journal = new Journal(fs, source, isExternal ? (journalDevice ?? device) : device);
  verifyUser(source, journal.superblock);
  return journal;
}

/**
 * Brings the device up to date with the journal, and empties that.
 *
 * @param fs as it lies on `device`; to be opened again when the answer is true.
 * @param warn told what was found, one line each.
 * @returns whether anything on the device has changed.
 */
export function recoverForGood(
  fs: Filesystem,
  journal: Journal,
  device: WritableDevice,
  warn: (message: string) => void,
): boolean {
  const { source, superblock } = journal;
  if (superblock.start === 0) return false;
  if (!fs.superblock.needsRecovery) {
    // Nobody but a tool that meant to throw the log away leaves one behind.
    empty(journal, superblock.sequence + superblock.logEnd);
    return false;
  }
  const { blocks, transactionCount, fastCommits } = readLog(fs, source, superblock, warn);
  if (fastCommits !== undefined) {
    throw new UnsupportedError(["fast_commit"], "the fast commits can only be replayed in memory");
  }
  writeBlocks(device, source.blockSize, blocks);
  device.flush();
  empty(journal, superblock.sequence + transactionCount);
  return true;
}

/**
 * Says that the log is empty. The sequence number after `sequence` will be the next: the one of a
 * transaction that was never finished is not used again.
 */
function empty(journal: Journal, sequence: number): void {
  journal.setStart(0, sequence >>> 0);
  journal.device.flush();
}

function writeBlocks(device: WritableDevice, blockSize: number, blocks: NewerBlocks): void {
  const { numbers } = blocks;
  const runMax = Math.max(1, Math.floor(RUN_BYTES_MAX / blockSize));
  const run = new Uint8Array(runMax * blockSize);
  for (let from = 0; from < numbers.length; ) {
    const first = numbers[from] as number;
    let count = 0;
    do {
      run.set(blocks.contents(from + count), count * blockSize);
      count++;
    } while (count < runMax && numbers[from + count] === first + count);
    device.write(first * blockSize, run.subarray(0, count * blockSize));
    from += count;
  }
}
