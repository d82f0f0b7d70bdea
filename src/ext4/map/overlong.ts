/**
 * Files with a block map that were given blocks behind their ends for a kernel to write to. None of those
 * can be unwritten, so nobody would take them for what fallocate(2) promised: until the file ends behind
 * them it is an orphan, and the next mount after a crash cuts it.
 *
 * Not so a file whose xattrs are in a block: e2fsck (1.47.0 at least) takes that away from an orphan which
 * it cuts. Such a file ends at once where the kernel is going to write, and has zeros there after a crash.
 */
import type { Filesystem } from "../filesystem.ts";
import type { Inode } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import type { Overlong } from "./kernel-data.ts";
import { setFileSize } from "./size.ts";

/** `inode`, which has a block map, has blocks for what the kernel is going to write. */
export function noteOverlong(fs: Filesystem, tx: Tx, inode: Inode, given: Overlong): void {
  const { kernelData, orphans } = fs.writer;
  const before = kernelData?.overlong.get(inode.number);
  if (kernelData === undefined || given.end * fs.superblock.blockSize <= inode.sizeBytes) return;
  if (inode.xattrBlock !== 0) {
    if (given.bytes > inode.sizeBytes) setFileSize(fs, tx, inode, given.bytes);
    return;
  }
  if (before !== undefined && before.end >= given.end) return;
  kernelData.overlong.set(inode.number, given);
  tx.onRollback(() => {
    if (before === undefined) kernelData.overlong.delete(inode.number);
    else kernelData.overlong.set(inode.number, before);
  });
  orphans.add(tx, inode);
}

/** Whether `inode` was overlong and is so no longer with `sizeBytes` bytes. */
export function endsOverlong(fs: Filesystem, inode: Inode, sizeBytes: number): boolean {
  const given = fs.writer.kernelData?.overlong.get(inode.number);
  return given !== undefined && Math.ceil(sizeBytes / fs.superblock.blockSize) >= given.end;
}

/** `inode` ends behind its last block again. One without a name stays an orphan. */
export function forgetOverlong(fs: Filesystem, tx: Tx, inode: Inode): void {
  const { kernelData, orphans } = fs.writer;
  const given = kernelData?.overlong.get(inode.number);
  if (kernelData === undefined || given === undefined) return;
  kernelData.overlong.delete(inode.number);
  tx.onRollback(() => kernelData.overlong.set(inode.number, given));
  if (inode.linkCount > 0) orphans.remove(tx, inode);
}

/** `inode` gets a block for its xattrs: it must not be an orphan any more. */
export function endOverlong(fs: Filesystem, tx: Tx, inode: Inode): void {
  const given = fs.writer.kernelData?.overlong.get(inode.number);
  if (given === undefined) return;
  if (given.bytes > inode.sizeBytes) setFileSize(fs, tx, inode, given.bytes);
  forgetOverlong(fs, tx, inode);
}
