/**
 * Recovery in memory: finds what an unclean journal holds that the filesystem on the device does
 * not have yet. Nothing is written.
 */
import type { BlockDevice } from "../../base/block-device.ts";
import { Errno, errnoName } from "../../base/errno.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { Compat } from "../format/features.ts";
import { JournalSuperblock } from "../format/jbd2.ts";
import { FastCommitLog } from "./fast-commit-log.ts";
import { type LoggedBlocks, replayLog } from "./replay.ts";
import type { NewerBlocks } from "./replayed-device.ts";
import { findLogEnd } from "./scan.ts";
import {
  DeviceJournal,
  InodeJournal,
  type JournalSource,
  type StoredJournal,
  uuidText,
} from "./source.ts";

/** What a journal holds. */
export interface Recovery {
  readonly transactionCount: number;
  /** The newest contents of all blocks that the transactions changed. */
  readonly blocks: NewerBlocks;
  /** What was committed after the transactions, if it was anything. */
  readonly fastCommits: FastCommitLog | undefined;
}

const NOTHING: Recovery = {
  transactionCount: 0,
  blocks: {
    numbers: new Float64Array(),
    contents: () => new Uint8Array(),
  },
  fastCommits: undefined,
};

/**
 * Reads the journal of `fs`.
 *
 * @param fs as it lies on its device.
 * @param journalDevice the external journal, if it is known.
 * @param warn told what does not prevent the recovery, one line each.
 * @throws FsError when the external journal is needed and missing, or another one.
 * @throws UnsupportedError naming journal features that we do not have.
 * @throws CorruptionError when transactions that were completed cannot be replayed.
 */
export function recover(
  fs: Filesystem,
  journalDevice: BlockDevice | undefined,
  warn: (message: string) => void,
): Recovery {
  if (!fs.superblock.hasCompat(Compat.HAS_JOURNAL)) {
    warn("the filesystem needs recovery, but has no journal");
    return NOTHING;
  }
  const source = findJournal(fs, journalDevice);
  const view = new DataView(source.readBlock(source.superblockIndex).buffer);
  const { blockSize, blockCount } = source;
  const superblock = new JournalSuperblock(view, blockSize, blockCount, fs.checksums);
  verifyUser(source, superblock);
  if (superblock.errorNumber !== 0) {
    warn(`${errorRecorded(superblock)}: run e2fsck`);
  }
  return superblock.start === 0 ? NOTHING : readLog(fs, source, superblock, warn);
}

/** What the log of a journal holds, which is not empty. */
export function readLog(
  fs: Filesystem,
  source: JournalSource,
  superblock: JournalSuperblock,
  warn: (message: string) => void,
): Recovery & { readonly blocks: LoggedBlocks } {
  const end = findLogEnd(source, superblock);
  const blockEnd = Math.floor(fs.device.sizeBytes / source.blockSize);
  const blocks = replayLog(source, superblock, end, blockEnd);
  const { inodeSize } = fs.superblock;
  const fastCommits = new FastCommitLog(source, superblock, end, inodeSize, fs.checksums);
  if (fastCommits.isTorn) warn("the last fast commit was interrupted, and is left out");
  return {
    transactionCount: (end - superblock.sequence) >>> 0,
    blocks,
    fastCommits: fastCommits.commitCount > 0 ? fastCommits : undefined,
  };
}

/** What a journal held, for a message; undefined when it was nothing. */
export function replayed({ transactionCount, fastCommits }: Recovery): string | undefined {
  const found: string[] = [];
  if (transactionCount > 0 || fastCommits !== undefined) {
    found.push(counted(transactionCount, "transaction"));
  }
  if (fastCommits !== undefined) found.push(counted(fastCommits.commitCount, "fast commit"));
  return found.length === 0 ? undefined : `replayed ${found.join(" and ")} of the journal`;
}

const counted = (count: number, what: string): string =>
  `${count} ${what}${count === 1 ? "" : "s"}`;

/** What the journal says about an error that once ended all writing. */
function errorRecorded({ errorNumber }: JournalSuperblock): string {
  return `the journal was given up after error ${errnoName(Math.abs(errorNumber))}`;
}

/**
 * The journal of a filesystem that has one.
 *
 * @throws FsError when it is on another device, and that is missing or another one.
 */
export function findJournal(fs: Filesystem, journalDevice: BlockDevice | undefined): StoredJournal {
  const { journalInode, journalUuid } = fs.superblock;
  if (journalInode !== 0) return new InodeJournal(fs, journalInode);
  if (journalDevice !== undefined) return new DeviceJournal(fs, journalDevice);
  throw new FsError(
    Errno.ENXIO,
    `the journal is on another device, with UUID ${uuidText(journalUuid)}: name it with journal_path=`,
  );
}

/** @throws FsError EINVAL when a journal device has other users. */
export function verifyUser(source: JournalSource, { userCount }: JournalSuperblock): void {
  if (!(source instanceof DeviceJournal) || userCount === 1) return;
  throw new FsError(Errno.EINVAL, `the journal device has ${userCount} users`);
}
