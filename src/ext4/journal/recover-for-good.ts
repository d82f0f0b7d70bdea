/**
 * Recovery that writes: what the log of the journal holds goes to its places on the device, and the
 * log becomes empty. Whenever it is interrupted, the next one starts over with the same log, and
 * comes to the same. Fast commits stay, for `applyFastCommits`.
 *
 * @see fs/jbd2/recovery.c, jbd2_journal_recover and jbd2_journal_skip_recovery
 */
import type { WritableDevice } from "../../base/block-device.ts";
import type { Filesystem } from "../filesystem.ts";
import { Compat } from "../format/features.ts";
import type { FastCommitLog } from "./fast-commit-log.ts";
import { Journal } from "./journal.ts";
import { findJournal, readLog, replayed, verifyUser } from "./recover.ts";
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
  fs.protectSystemBlocks();
  const source = findJournal(fs, journalDevice);
  const isExternal = fs.superblock.journalInode === 0;
  const journal = new Journal(fs, source, isExternal ? (journalDevice ?? device) : device);
  verifyUser(source, journal.superblock);
  return journal;
}

/** What recovery did, and what it left to do. */
export interface Replay {
  /** Something on the device may have changed. */
  readonly isDone: boolean;
  /** Fast commits, which are in the journal until their changes have been committed. */
  readonly fastCommits: FastCommitLog | undefined;
}

/**
 * Brings the device up to date with the transactions in the journal, and empties its log.
 *
 * @param fs as it lies on `device`.
 * @param warn told what was found, one line each.
 */
export function recoverForGood(
  fs: Filesystem,
  journal: Journal,
  device: WritableDevice,
  warn: (message: string) => void,
): Replay {
  const { source, superblock } = journal;
  if (superblock.start === 0) return { isDone: false, fastCommits: undefined };
  if (!fs.superblock.needsRecovery) {
    // Nobody but a tool that meant to throw the log away leaves one behind.
    empty(journal, superblock.sequence + superblock.logEnd);
    return { isDone: false, fastCommits: undefined };
  }
  const found = readLog(fs, source, superblock, warn);
  const { blocks, transactionCount, fastCommits } = found;
  writeBlocks(device, source.blockSize, blocks);
  device.flush();
  const sequence = superblock.sequence + transactionCount;
  if (fastCommits === undefined) {
    empty(journal, sequence);
  } else {
    // Fast commits count as long as the transaction of their number is the next one in the log.
    journal.setStart(blocks.behind, sequence >>> 0);
    journal.device.flush();
  }
  const what = replayed(found);
  if (what !== undefined) warn(what);
  return { isDone: true, fastCommits };
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
