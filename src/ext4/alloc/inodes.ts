/**
 * Allocates and frees inodes.
 *
 * The end of an inode table may never have been written (`bg_itable_unused`). An inode is taken
 * from there only when the rest of its group is in use, and its block of the table then begins as
 * zeros.
 *
 * @see fs/ext4/ialloc.c
 */
import { Errno } from "../../base/errno.ts";
import type { FsBlock, GroupIndex, InodeNumber } from "../../base/numbers.ts";
import { CorruptionError, FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { type GroupDescriptor, GroupFlags } from "../format/group-descriptor.ts";
import type { Inode } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { changeBlockBitmap, changeInodeBitmap, isUninit, knowsUninit } from "./bitmaps.ts";
import { areSet, clearBits, setBits } from "./bits.ts";
import { groupForDirectory } from "./placement.ts";

/** Blocks that one allocation changes: both bitmaps, the descriptors, the inode table. */
export const ALLOCATE_INODE_CREDITS = 4;

/**
 * Allocates an inode number, near the directory `parent`.
 *
 * @throws FsError ENOSPC when no inode is free.
 */
export function allocateInode(
  fs: Filesystem,
  tx: Tx,
  parent: Inode,
  isDirectory: boolean,
): InodeNumber {
  const { inodesPerGroup } = fs.superblock;
  const { inodes } = fs.writer.allocator;
  const near = Math.floor((parent.number - 1) / inodesPerGroup) as GroupIndex;
  let group = isDirectory ? groupForDirectory(fs, parent) : near;
  for (;;) {
    const next = inodes.nextGroup(group);
    if (next < 0) throw new FsError(Errno.ENOSPC, "no inode is free");
    const index = inodes.firstFreeInGroup(next * inodesPerGroup);
    if (index >= 0) return takeInode(fs, tx, index, isDirectory);
    group = ((next + 1) % fs.superblock.groupCount) as GroupIndex;
  }
}

/** Marks the inode `index`, counted from 0, as in use; it is free. @returns its number. */
export function takeInode(
  fs: Filesystem,
  tx: Tx,
  index: number,
  isDirectory: boolean,
): InodeNumber {
  const { inodesPerGroup } = fs.superblock;
  const group = Math.floor(index / inodesPerGroup) as GroupIndex;
  const bit = index % inodesPerGroup;
  // A group with inodes in use has a bitmap of its blocks as well, as the kernel wants it.
  if (isUninit(fs, group, GroupFlags.BLOCK_UNINIT)) changeBlockBitmap(fs, tx, group, () => {});
  const usedBefore = usedInodes(fs, fs.groups.descriptor(group), group);
  const bitmap = changeInodeBitmap(fs, tx, group, (descriptor) => {
    descriptor.freeInodes--;
    if (isDirectory) descriptor.usedDirectories++;
    if (bit >= usedBefore) descriptor.unusedInodes = inodesPerGroup - bit - 1;
  });
  setBits(bitmap, bit, 1);
  fs.writer.allocator.inodes.take(tx, { start: index, count: 1 });
  if (bit >= usedBefore) createTableBlocks(fs, tx, group, usedBefore, bit);
  return (index + 1) as InodeNumber;
}

/** Inodes at the start of the table of `group` that may have been used. */
function usedInodes(fs: Filesystem, descriptor: GroupDescriptor, group: GroupIndex): number {
  const { inodesPerGroup } = fs.superblock;
  if (!knowsUninit(fs)) return inodesPerGroup;
  if (isUninit(fs, group, GroupFlags.INODE_UNINIT)) return 0;
  return Math.max(0, inodesPerGroup - descriptor.unusedInodes);
}

/**
 * Makes zeros of the blocks of the table up to the one with inode `bit`, unless mke2fs or the
 * kernel has written zeros there already.
 */
function createTableBlocks(
  fs: Filesystem,
  tx: Tx,
  group: GroupIndex,
  usedBefore: number,
  bit: number,
): void {
  const { inodeTable, flags } = fs.groups.descriptor(group);
  if ((flags & GroupFlags.INODE_ZEROED) !== 0) return;
  const perBlock = fs.superblock.blockSize / fs.superblock.inodeSize;
  const end = Math.floor(bit / perBlock);
  for (let block = Math.ceil(usedBefore / perBlock); block <= end; block++) {
    tx.create((inodeTable + block) as FsBlock);
  }
}

/**
 * Frees the number of `inode`, which has no link and no blocks any more, and notes when that was in
 * the inode.
 *
 * @throws CorruptionError when it is free already.
 */
export function freeInode(fs: Filesystem, tx: Tx, inode: Inode): void {
  const { inodesPerGroup } = fs.superblock;
  const { inodes, windows } = fs.writer.allocator;
  tx.edit(inode).deletionTime = tx.now.seconds % 0x1_0000_0000;
  tx.noteFreed(inode);
  windows.discard(inode.number);
  const index = inode.number - 1;
  const group = Math.floor(index / inodesPerGroup) as GroupIndex;
  if (inodes.isDamaged(group)) return;
  const bit = index % inodesPerGroup;
  const bitmap = changeInodeBitmap(fs, tx, group, (descriptor) => {
    descriptor.freeInodes++;
    if (inode.isDirectory && descriptor.usedDirectories > 0) descriptor.usedDirectories--;
  });
  if (!areSet(bitmap, bit, 1)) {
    throw new CorruptionError("bitmap-free", { group, inode: inode.number }, "to be freed");
  }
  clearBits(bitmap, bit, 1);
  inodes.free(tx, { start: index, count: 1 });
}
