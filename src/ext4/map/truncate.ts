/**
 * Sets the size of a file. What a smaller size leaves over is freed from the end, in as many handles
 * as it takes; if one is not enough the inode is on the orphan list meanwhile, so that a mount after
 * a crash frees the rest.
 *
 * @see fs/ext4/inode.c, ext4_setattr and ext4_truncate
 */
import { Errno } from "../../base/errno.ts";
import type { FileBlock, InodeNumber } from "../../base/numbers.ts";
import { discardPreallocation } from "../alloc/blocks.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { FILE_BLOCK_END } from "../format/extent.ts";
import { type Inode, InodeFlags } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { ORPHAN_CREDITS } from "../orphans.ts";
import { Budget, STEP_CREDITS } from "./budget.ts";
import { freeInSteps, freeRuns, hasBlockMap } from "./change.ts";
import { fitsInline, moveOutOfLine, resizeInline } from "./inline-editor.ts";
import { finishKernelUse } from "./kernel-completion.ts";
import { maxFileSize, setFileSize, touch } from "./size.ts";
import { syncIfWanted } from "./synchronous.ts";
import { refuseUnwritable, SIZE_CREDITS, zeroTail } from "./write.ts";

/**
 * Makes the file `number` have `sizeBytes` bytes, new ones being zeros, and sets its times. Blocks
 * behind the new size are freed even where the size does not change.
 *
 * @throws FsError EFBIG when no file can be that large; EISDIR, EINVAL, ENOKEY, EPERM.
 */
export function setSize(fs: Filesystem, number: InodeNumber, sizeBytes: number): void {
  finishKernelUse(fs, number);
  const inode = fs.inode(number);
  refuseUnwritable(inode);
  if (sizeBytes > maxFileSize(fs, inode)) {
    throw new FsError(Errno.EFBIG, `inode ${number} cannot have ${sizeBytes} bytes`);
  }
  if (inode.hasFlag(InodeFlags.INLINE_DATA) && fitsInline(fs, inode, sizeBytes)) {
    resizeInline(fs, inode, sizeBytes);
  } else {
    moveOutOfLine(fs, inode);
    if (sizeBytes > inode.sizeBytes) grow(fs, inode, sizeBytes);
    else shrink(fs, inode, sizeBytes);
  }
  syncIfWanted(fs, inode);
}

function grow(fs: Filesystem, inode: Inode, sizeBytes: number): void {
  fs.writer.staleTails.settle(fs, inode);
  fs.transact(SIZE_CREDITS, (tx) => {
    zeroTail(fs, inode);
    setFileSize(fs, tx, inode, sizeBytes);
    touch(tx, inode);
  });
}

function shrink(fs: Filesystem, inode: Inode, sizeBytes: number): void {
  const { orphans, staleTails, kernelData } = fs.writer;
  const from = firstBlockBehind(fs, sizeBytes);
  const isOrphan = orphans.has(inode.number);
  fs.writer.invalidateMappings(inode.number, sizeBytes, Number.MAX_SAFE_INTEGER);
  discardPreallocation(fs, inode.number);
  let at = FILE_BLOCK_END;
  fs.transact(STEP_CREDITS + ORPHAN_CREDITS, (tx) => {
    const leavesTail = sizeBytes < inode.sizeBytes && kernelData === undefined;
    if (leavesTail) staleTails.add(tx, inode, () => zeroTail(fs, inode));
    setFileSize(fs, tx, inode, sizeBytes);
    touch(tx, inode);
    at = freeRuns(fs, tx, inode, from, FILE_BLOCK_END, new Budget(fs));
    if (at > from) orphans.add(tx, inode);
  });
  if (at <= from) return;
  freeInSteps(fs, inode, from, at, ORPHAN_CREDITS, (tx) => {
    if (!isOrphan) orphans.remove(tx, inode);
  });
}

/** Frees what a truncation that a crash interrupted has left behind the end of `inode`. */
export function finishTruncation(fs: Filesystem, inode: Inode): void {
  const finish = (tx: Tx): void => fs.writer.orphans.remove(tx, inode);
  if (!hasBlockMap(fs, inode)) {
    fs.transact(ORPHAN_CREDITS, finish);
    return;
  }
  zeroTail(fs, inode);
  const from = firstBlockBehind(fs, inode.sizeBytes);
  freeInSteps(fs, inode, from, FILE_BLOCK_END, ORPHAN_CREDITS, finish);
}

function firstBlockBehind(fs: Filesystem, sizeBytes: number): FileBlock {
  return Math.ceil(sizeBytes / fs.superblock.blockSize) as FileBlock;
}
