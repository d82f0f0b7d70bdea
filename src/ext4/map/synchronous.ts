/**
 * `chattr +S`: what happens to the contents of such a file is durable when the operation returns.
 * Directories, with +S or +D, are looked after where their entries change (dir/growth.ts).
 *
 * @see include/linux/fs.h, IS_SYNC and IS_DIRSYNC
 */
import type { Filesystem } from "../filesystem.ts";
import { type Inode, InodeFlags } from "../format/inode.ts";

/**
 * Waits until everything done so far is on stable storage, if the flags of `inode` want that. Not to be
 * called within a handle.
 *
 * @throws FsError EIO.
 */
export function syncIfWanted(fs: Filesystem, inode: Inode): void {
  if (!inode.hasFlag(InodeFlags.SYNC)) return;
  const { transactions, device } = fs.writer;
  if (transactions.isAborted || transactions.hasChanges) transactions.commit();
  else device.flush();
}
