/**
 * Opens a filesystem for changes, and closes it again.
 *
 *     open     replay the journal ──► mark the superblock ──► finish orphans ──► ready
 *     close    commit ──► write everything to its place ──► mark the superblock clean
 *
 * @see fs/ext4/super.c, ext4_fill_super, ext4_setup_super and ext4_put_super
 */
import type { WritableDevice } from "../base/block-device.ts";
import { Errno } from "../base/errno.ts";
import { le16, setLe16, setLe32 } from "../base/layout.ts";
import type { FsBlock, InodeNumber } from "../base/numbers.ts";
import { Allocator } from "./alloc/allocator.ts";
import { blockOf } from "./alloc/blocks.ts";
import { storeCounts } from "./alloc/free-counts.ts";
import { discardClusters } from "./alloc/trim.ts";
import {
  ErrorPolicy,
  type ErrorsBehaviour,
  hasKnownErrors,
  keepErrorFields,
  reportCorruption,
} from "./error-policy.ts";
import { CorruptionError, FsError, UnsupportedError } from "./errors.ts";
import { Filesystem, type OpenOptions } from "./filesystem.ts";
import { Incompat, ROCOMPAT_SUPPORTED, RoCompat, roCompatNames } from "./format/features.ts";
import type { Timestamp } from "./format/inode.ts";
import { SuperblockLayout, SuperblockState } from "./format/superblock.ts";
import { InodeTimes, type TimesOptions } from "./inode-times.ts";
import { applyFastCommits } from "./journal/apply-fast-commits.ts";
import type { FastCommitLog } from "./journal/fast-commit-log.ts";
import { InPlaceTarget } from "./journal/in-place.ts";
import { Jbd2Target } from "./journal/jbd2-target.ts";
import type { Journal } from "./journal/journal.ts";
import { openJournal, recoverForGood } from "./journal/recover-for-good.ts";
import { type CommitTarget, Transactions } from "./journal/transaction.ts";
import { finishKernelUses } from "./map/kernel-completion.ts";
import { StaleTails } from "./map/stale-tails.ts";
import { finishTruncation } from "./map/truncate.ts";
import { MountProtection } from "./mount-protection.ts";
import { freeOrphan, release } from "./ops/release.ts";
import { XattrHints } from "./ops/xattr-hints.ts";
import { Orphans } from "./orphans.ts";
import { QUOTA_CREDITS, Quotas } from "./quota/quotas.ts";
import { SuperblockEditor } from "./superblock-editor.ts";
import type { InvalidateMappings } from "./writer.ts";

export interface WriteOptions extends OpenOptions, TimesOptions {
  /** The external journal, when the image has one. */
  readonly journalDevice?: WritableDevice;
  /** The clock; the machine's if absent. */
  readonly now?: () => Timestamp;
  /** Numbers from 0 up to, not including, 1; `Math.random` if absent. */
  readonly random?: () => number;
  /**
   * Returns after so many milliseconds: for finding out whether another host uses the filesystem.
   * Without it, one that was not unmounted cleanly and has the MMP feature is refused.
   */
  readonly sleep?: (ms: number) => void;
  /** What another host is told, by the MMP block, about who uses the filesystem; ASCII. */
  readonly hostName?: string;
  readonly deviceName?: string;
  /** What follows when the filesystem turns out to be damaged; its own wish if absent. */
  readonly errors?: ErrorsBehaviour | undefined;
  /** Told that the policy on errors asks for the end of the program. */
  readonly onPanic?: (error: CorruptionError) => void;
  /** @see InvalidateMappings */
  readonly invalidateMappings?: InvalidateMappings;
  /** Told when the filesystem has become read-only because it could not be written. */
  readonly onAbort?: (error: unknown) => void;
  /** Told of damage that was found and stays where it is, while the operation went on without. */
  readonly onDamage?: (error: CorruptionError) => void;
  /** Tell the device of blocks that were freed, once that is durable. */
  readonly discard?: boolean;
  /** Told of blocks that were freed, once that is durable and before they get another use. */
  readonly onFreed?: (start: FsBlock, count: number) => void;
  /** New inodes belong to the group of their directory, as on BSD; what the image says if absent. */
  readonly bsdGroups?: boolean | undefined;
  /** Who may use the reserved blocks besides root; what the image says if absent. */
  readonly reserveUid?: number | undefined;
  readonly reserveGid?: number | undefined;
}

/**
 * Whether the last user of a filesystem has left something to the next: transactions in the journal, or
 * inodes without a name.
 */
export function isUnfinished({ superblock }: Filesystem): boolean {
  const { needsRecovery, lastOrphan } = superblock;
  return needsRecovery || lastOrphan !== 0 || superblock.hasRoCompat(RoCompat.ORPHAN_PRESENT);
}

/**
 * Finishes that for good, and leaves the filesystem clean. It does not count as a mount.
 *
 * @throws as `openWritableFilesystem` and `closeFilesystem` do.
 */
export function finishFilesystem(device: WritableDevice, options: WriteOptions = {}): void {
  closeFilesystem(openProtected(device, options, false));
}

/** Blocks that marking the superblock changes. */
const SUPERBLOCK_CREDITS = 1;
/** @see fs/ext4/ext4.h, EXT4_DFL_MAX_MNT_COUNT */
const MAX_MNT_COUNT = 20;
const TWO_TO_32 = 0x1_0000_0000;

/**
 * Opens the filesystem on `device` for reading and writing.
 *
 * @throws CorruptionError when this is not a filesystem or a damaged one.
 * @throws UnsupportedError when it has features that forbid writing, or reading.
 * @throws FsError when its journal is needed and is not there.
 */
export function openWritableFilesystem(
  device: WritableDevice,
  options: WriteOptions = {},
): Filesystem {
  return openProtected(device, options, true);
}

function openProtected(
  device: WritableDevice,
  options: WriteOptions,
  countsAsMount: boolean,
): Filesystem {
  const now = options.now ?? machineTime;
  const random = options.random ?? Math.random;
  const asItLies = new Filesystem(device, options);
  refuseUnsupported(asItLies);
  const protection = MountProtection.claim(asItLies, { ...options, device, now, random });
  try {
    return openAlone(asItLies, device, { ...options, now, random, countsAsMount }, protection);
  } catch (error) {
    protection?.release();
    throw error;
  }
}

/** What a caller may leave out is decided here. */
interface CompleteOptions extends WriteOptions {
  readonly now: () => Timestamp;
  readonly random: () => number;
  readonly countsAsMount: boolean;
}

/** Opens the filesystem that nobody else uses, which `protection` sees to. */
function openAlone(
  asItLies: Filesystem,
  device: WritableDevice,
  options: CompleteOptions,
  protection: MountProtection | undefined,
): Filesystem {
  const { fs, journal } = recovered(asItLies, device, options);
  journal?.setFeatures();
  allowChanges(fs, device, options, journal, protection);
  const { superblock, transactions } = fs.writer;
  if (hasKnownErrors(superblock.view)) {
    options.onWarning?.("the filesystem has errors: e2fsck should be run");
  }
  markMounted(fs, options.countsAsMount);
  if (journal !== undefined) {
    journal.clearError();
    const { now } = options;
    transactions.useTarget(new Jbd2Target({ journal, device, blocks: fs.blocks, now }));
  }
  finishOrphans(fs, options);
  return fs;
}

/** Gives `fs` its writer. Changes are committed in place until it gets another target. */
function allowChanges(
  fs: Filesystem,
  device: WritableDevice,
  options: CompleteOptions,
  journal: Journal | undefined,
  protection: MountProtection | undefined,
): void {
  const { now, random } = options;
  const systemZone = fs.protectSystemBlocks();
  const inPlace = new InPlaceTarget(device, fs.blocks, fs.superblock.blockSize);
  const transactions = new Transactions({
    blocks: fs.blocks,
    inodes: fs.inodes,
    groups: fs.groups,
    target: inPlace,
    now,
    onAbort: (error) => {
      errors.recordAbort(error);
      options.onAbort?.(error);
    },
  });
  const superblock = new SuperblockEditor(fs.superblock, fs.blocks, fs.checksums);
  const errors = new ErrorPolicy({
    device,
    transactions,
    superblock,
    now,
    behaviour: options.errors,
    onPanic: options.onPanic ?? (() => {}),
  });
  fs.setWriter({
    device,
    kernelData: undefined,
    transactions,
    superblock,
    inPlace,
    journal,
    stateBefore: le16(superblock.view, 0, SuperblockLayout.state),
    times: new InodeTimes({ ...options, transactions, inodes: fs.inodes, now }),
    orphans: new Orphans(fs, journal !== undefined),
    errors,
    protection,
    allocator: new Allocator(fs, systemZone, {
      onDamage: (error) => {
        options.onDamage?.(error);
        transactions.whenIdle(() => errors.report(error));
      },
      onFreeClusters: (run) => {
        if (options.discard === true) discardClusters(fs, run);
        options.onFreed?.(blockOf(fs, run.start), run.count * fs.superblock.clusterBlocks);
      },
    }),
    xattrHints: new XattrHints(),
    quotas: quotasOf(fs, transactions, superblock.view),
    now,
    random,
    staleTails: new StaleTails(),
    invalidateMappings: options.invalidateMappings ?? (() => {}),
    bsdGroups: options.bsdGroups ?? fs.superblock.hasBsdGroups,
    reserveUid: options.reserveUid ?? fs.superblock.reserveUid,
    reserveGid: options.reserveGid ?? fs.superblock.reserveGid,
    mayUseReserve: () => true,
  });
}

/**
 * Frees what has no name any more, writes everything and marks the filesystem as clean. It can only
 * be read after that. One that could not be written any more stays as it is, for the next recovery.
 *
 * @throws FsError EIO when something could not be written.
 */
export function closeFilesystem(fs: Filesystem): void {
  if (!fs.isWritable) return;
  const { orphans, transactions, protection } = fs.writer;
  try {
    if (transactions.isAborted) return;
    finishKernelUses(fs);
    for (const number of orphans.numbers()) releaseDamaged(fs, number);
    if (!transactions.isAborted) settleFilesystem(fs);
  } finally {
    fs.setWriter(undefined);
    protection?.release();
  }
}

/** As `release`, but what cannot be freed because it is damaged is reported and left to e2fsck. */
function releaseDamaged(fs: Filesystem, number: InodeNumber): void {
  try {
    if (!fs.writer.transactions.isAborted) release(fs, number);
  } catch (error) {
    if (!(error instanceof CorruptionError)) throw error;
    reportCorruption(fs, error);
  }
}

/**
 * Writes everything and marks the filesystem as clean. Nothing may be changed after that.
 *
 * @returns where commits went, and would have to go again.
 * @throws FsError EIO when something could not be written.
 */
export function settleFilesystem(fs: Filesystem): CommitTarget {
  const { transactions, inPlace, times } = fs.writer;
  times.store();
  transactions.checkpoint();
  const target = transactions.useTarget(inPlace);
  markClean(fs);
  return target;
}

/** Makes a filesystem that was settled ready for changes again, which go to `target`. */
export function unsettleFilesystem(fs: Filesystem, target: CommitTarget): void {
  const { transactions } = fs.writer;
  transactions.commit();
  markMounted(fs, false);
  transactions.useTarget(target);
}

/** The filesystem with what its journal held, and the journal, empty, if it has one. */
function recovered(
  asItLies: Filesystem,
  device: WritableDevice,
  options: CompleteOptions,
): { fs: Filesystem; journal: Journal | undefined } {
  const warn = options.onWarning ?? (() => {});
  if (options.noRecovery === true) {
    if (asItLies.superblock.needsRecovery) {
      throw new FsError(Errno.EROFS, "cannot be written without what its journal holds");
    }
    warn("no journal: it is left alone, and a crash will need e2fsck");
    return { fs: asItLies, journal: undefined };
  }
  const open = (fs: Filesystem) => ({
    fs,
    journal: openJournal(fs, device, options.journalDevice),
  });
  const superblock = new SuperblockEditor(asItLies.superblock, asItLies.blocks, asItLies.checksums);
  const before = superblock.view;
  const { journal } = open(asItLies);
  if (journal === undefined) {
    warn("no journal: the filesystem has none, and a crash will need e2fsck");
    return { fs: asItLies, journal };
  }
  const { isDone, fastCommits } = recoverForGood(asItLies, journal, device, warn);
  if (!isDone) return { fs: asItLies, journal };
  superblock.writeThrough(device, (replayed) => keepErrorFields(before, replayed));
  if (fastCommits !== undefined) {
    const { fs, journal } = open(new Filesystem(device, options));
    if (journal !== undefined) commitFastCommits(fs, device, options, journal, fastCommits);
  }
  return open(new Filesystem(device, options));
}

/**
 * Makes one transaction of what the fast commits in `journal` changed, and empties that. The
 * transaction takes the number that they need to count, so that they end when it begins to.
 */
function commitFastCommits(
  fs: Filesystem,
  device: WritableDevice,
  options: CompleteOptions,
  journal: Journal,
  fastCommits: FastCommitLog,
): void {
  allowChanges(fs, device, options, journal, undefined);
  const { transactions } = fs.writer;
  const { now } = options;
  transactions.useTarget(new Jbd2Target({ journal, device, blocks: fs.blocks, now }));
  applyFastCommits(fs, fastCommits);
  transactions.checkpoint();
  fs.setWriter(undefined);
}

/** The quotas of `fs`, which from now on are charged with every operation. */
function quotasOf(
  fs: Filesystem,
  transactions: Transactions,
  superblock: DataView,
): Quotas | undefined {
  const quotas = Quotas.of(fs, superblock);
  if (quotas !== undefined) transactions.beforeFinish((tx) => quotas.settle(tx), QUOTA_CREDITS);
  return quotas;
}

/** Frees or truncates what the last user of the filesystem could not, before it crashed. */
function finishOrphans(fs: Filesystem, { onWarning, onDamage }: WriteOptions): void {
  const { freed, truncated } = fs.writer.orphans.finishAll({
    free: (inode) => freeOrphan(fs, inode),
    truncate: (inode) => finishTruncation(fs, inode),
    onDamage: (error) => {
      onDamage?.(error);
      reportCorruption(fs, error);
    },
  });
  if (freed > 0) onWarning?.(`orphans freed: ${freed}`);
  if (truncated > 0) onWarning?.(`truncations finished: ${truncated}`);
}

/**
 * Says in the superblock that the filesystem is in use. That must be on the device before anything
 * is in the journal: nobody looks into the journal of a filesystem that needs no recovery.
 */
function markMounted(fs: Filesystem, countsAsMount: boolean): void {
  const { superblock, transactions, journal, orphans } = fs.writer;
  fs.transact(SUPERBLOCK_CREDITS, (tx) => {
    if (journal !== undefined) superblock.setFeature(tx, "incompat", Incompat.RECOVER, true);
    if (orphans.mayBeInFile) superblock.setFeature(tx, "roCompat", RoCompat.ORPHAN_PRESENT, true);
    superblock.edit(tx, (view) => {
      const S = SuperblockLayout;
      let state = le16(view, 0, S.state);
      if (journal === undefined) state &= ~SuperblockState.VALID;
      else if (journal.superblock.errorNumber !== 0) state |= SuperblockState.ERROR;
      setLe16(view, 0, S.state, state);
      if (!countsAsMount) return;
      if (le16(view, 0, S.maxMntCount) === 0) setLe16(view, 0, S.maxMntCount, MAX_MNT_COUNT);
      setLe16(view, 0, S.mntCount, (le16(view, 0, S.mntCount) + 1) & 0xffff);
      setLe32(view, 0, S.mtime, tx.now.seconds % TWO_TO_32);
      setLe32(view, 0, S.wtime, tx.now.seconds % TWO_TO_32);
    });
  });
  transactions.commit();
}

/** Says in the superblock that nobody uses the filesystem, once its journal is empty. */
function markClean(fs: Filesystem): void {
  const { superblock, transactions, journal, stateBefore, orphans } = fs.writer;
  fs.transact(SUPERBLOCK_CREDITS, (tx) => {
    if (journal !== undefined) superblock.setFeature(tx, "incompat", Incompat.RECOVER, false);
    superblock.setFeature(tx, "roCompat", RoCompat.ORPHAN_PRESENT, orphans.areInFile);
    storeCounts(fs, tx);
    superblock.edit(tx, (view) => {
      const S = SuperblockLayout;
      const state = le16(view, 0, S.state) | (stateBefore & SuperblockState.VALID);
      setLe16(view, 0, S.state, state);
      setLe32(view, 0, S.wtime, tx.now.seconds % TWO_TO_32);
    });
  });
  transactions.commit();
}

function refuseUnsupported(fs: Filesystem): void {
  const unknown = fs.superblock.features.roCompat & ~ROCOMPAT_SUPPORTED;
  if (unknown === 0) return;
  const names = roCompatNames(unknown);
  const plural = names.length > 1 ? "s" : "";
  throw new UnsupportedError(
    names,
    `cannot be written, only read: feature${plural} ${names.join(", ")}`,
  );
}

function machineTime(): Timestamp {
  const milliseconds = Date.now();
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanoseconds: (milliseconds - seconds * 1000) * 1_000_000 };
}
