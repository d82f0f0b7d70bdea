/**
 * Durability: what fsync(2) and its relatives promise. One commit makes everything durable that was
 * done before it, so many who wait for the same one wait for one.
 */
import { Errno } from "../../base/errno.ts";
import type { InodeNumber } from "../../base/numbers.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import type { LogErasure } from "../journal/transaction.ts";
import { refuseUnconverted, settleKernelEnd, settleKernelEnds } from "../map/kernel-completion.ts";
import { storeTimes } from "./times.ts";

/**
 * Returns when everything done so far is on stable storage.
 *
 * @throws FsError EIO; ENOSPC when there is no space for the map of what the kernel has written; whatever
 *   operations are refused with once writing has ended.
 */
export function syncFilesystem(fs: Filesystem): void {
  if (!fs.isWritable) return;
  const { transactions, device } = fs.writer;
  settleKernelEnds(fs);
  storeTimes(fs);
  if (transactions.isAborted || transactions.hasChanges) transactions.commit();
  else device.flush();
  refuseUnconverted(fs);
}

/**
 * Returns when the contents of inode `number`, its attributes and its names are on stable storage.
 *
 * @param dataOnly times alone are not worth a commit: fdatasync(2).
 * @throws FsError EIO; ENOSPC when there is no space for the map of what the kernel has written; whatever
 *   operations are refused with once writing has ended.
 */
export function syncFile(fs: Filesystem, number: InodeNumber, dataOnly: boolean): void {
  if (!fs.isWritable) return;
  const { transactions, device } = fs.writer;
  settleKernelEnd(fs, number);
  const inode = fs.inode(number);
  if (!dataOnly) storeTimes(fs, number);
  const changedIn = dataOnly ? inode.changedIn : Math.max(inode.changedIn, inode.timesChangedIn);
  if (transactions.isAborted || changedIn >= transactions.runningId) transactions.commit();
  else device.flush();
  refuseUnconverted(fs, number);
}

/**
 * Writes everything to its place and empties the journal, so that names and attributes of deleted
 * files can be had from it no longer if `erasure` says so.
 *
 * @throws FsError EROFS or ENODEV when there is no journal to write to, EIO when that fails.
 * @see fs/ext4/ioctl.c, ext4_ioctl_checkpoint
 */
export function checkpointJournal(fs: Filesystem, erasure?: LogErasure): void {
  if (!fs.isWritable) throw new FsError(Errno.EROFS, "the filesystem is read-only");
  const { transactions } = fs.writer;
  if (!transactions.hasLog) throw new FsError(Errno.ENODEV, "the filesystem has no journal");
  storeTimes(fs);
  transactions.checkpoint(erasure);
}
