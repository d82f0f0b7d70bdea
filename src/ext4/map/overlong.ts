/**
 * Files with a block map that were given blocks behind their ends for a kernel to write to. None of those
 * can be unwritten, so nobody would take them for what fallocate(2) promised: until the file ends behind
 * them it is an orphan, and the next mount after a crash cuts it.
 */
import type { FileBlock } from "../../base/numbers.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Inode } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";

/** `inode`, which has a block map, has blocks up to `end` now. */
export function noteOverlong(fs: Filesystem, tx: Tx, inode: Inode, end: FileBlock): void {
  const { kernelData, orphans } = fs.writer;
  const before = kernelData?.overlong.get(inode.number);
  if (kernelData === undefined || end * fs.superblock.blockSize <= inode.sizeBytes) return;
  if (before !== undefined && before >= end) return;
  kernelData.overlong.set(inode.number, end);
  tx.onRollback(() => {
    if (before === undefined) kernelData.overlong.delete(inode.number);
    else kernelData.overlong.set(inode.number, before);
  });
  orphans.add(tx, inode);
}

/** Whether `inode` was overlong and is so no longer with `sizeBytes` bytes. */
export function endsOverlong(fs: Filesystem, inode: Inode, sizeBytes: number): boolean {
  const end = fs.writer.kernelData?.overlong.get(inode.number);
  return end !== undefined && Math.ceil(sizeBytes / fs.superblock.blockSize) >= end;
}

/** `inode` ends behind its last block again. One without a name stays an orphan. */
export function forgetOverlong(fs: Filesystem, tx: Tx, inode: Inode): void {
  const { kernelData, orphans } = fs.writer;
  const end = kernelData?.overlong.get(inode.number);
  if (kernelData === undefined || end === undefined) return;
  kernelData.overlong.delete(inode.number);
  tx.onRollback(() => kernelData.overlong.set(inode.number, end));
  if (inode.linkCount > 0) orphans.remove(tx, inode);
}
