/**
 * The bitmaps of a group: one bit for each cluster and each inode, set when in use.
 *
 * A group flagged uninitialised has no bitmap on the device yet: its own is computed, and stored
 * when the first change is made to it. What lies in the block behind the last bit is set.
 *
 * @see ext4/bitmaps.rst
 */
import type { GroupIndex } from "../../base/numbers.ts";
import { type Block, BlockKind } from "../cache/block-cache.ts";
import { CorruptionError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { RoCompat } from "../format/features.ts";
import { type GroupDescriptor, GroupFlags } from "../format/group-descriptor.ts";
import type { Tx } from "../journal/transaction.ts";
import { setBits } from "./bits.ts";
import { inodeTableBlocks, superblockAndDescriptors } from "./groups.ts";

/** The bits of the clusters of `group`: `clustersPerGroup / 8` bytes, a copy. */
export function loadBlockBitmap(fs: Filesystem, group: GroupIndex): Uint8Array {
  const { clustersPerGroup } = fs.superblock;
  if (isUninit(fs, group, GroupFlags.BLOCK_UNINIT)) return computeBlockBitmap(fs, group);
  return verifiedBlockBitmap(fs, group).bytes.slice(0, Math.ceil(clustersPerGroup / 8));
}

/** The bits of the inodes of `group`: `inodesPerGroup / 8` bytes, a copy. */
export function loadInodeBitmap(fs: Filesystem, group: GroupIndex): Uint8Array {
  const bytes = Math.ceil(fs.superblock.inodesPerGroup / 8);
  if (isUninit(fs, group, GroupFlags.INODE_UNINIT)) return new Uint8Array(bytes);
  return verifiedInodeBitmap(fs, group).bytes.slice(0, bytes);
}

/** The bitmap of the clusters of `group`, for changes: the descriptor is announced as changed, too. */
export function changeBlockBitmap(
  fs: Filesystem,
  tx: Tx,
  group: GroupIndex,
  edit: (descriptor: GroupDescriptor) => void,
): Uint8Array {
  const flag = GroupFlags.BLOCK_UNINIT;
  if (!isUninit(fs, group, flag)) {
    fs.groups.change(tx, group, edit);
    return tx.modify(verifiedBlockBitmap(fs, group)).bytes;
  }
  const block = tx.create(fs.groups.descriptor(group).blockBitmap);
  block.bytes.set(computeBlockBitmap(fs, group));
  markBehind(block.bytes, fs.superblock.clustersPerGroup);
  block.markVerified(BlockKind.BITMAP, ownerOf(group, BLOCKS));
  fs.groups.change(tx, group, (descriptor) => {
    descriptor.flags &= ~flag;
    edit(descriptor);
  });
  return block.bytes;
}

/** The bitmap of the inodes of `group`, for changes: the descriptor is announced as changed, too. */
export function changeInodeBitmap(
  fs: Filesystem,
  tx: Tx,
  group: GroupIndex,
  edit: (descriptor: GroupDescriptor) => void,
): Uint8Array {
  const flag = GroupFlags.INODE_UNINIT;
  if (!isUninit(fs, group, flag)) {
    fs.groups.change(tx, group, edit);
    return tx.modify(verifiedInodeBitmap(fs, group)).bytes;
  }
  const block = tx.create(fs.groups.descriptor(group).inodeBitmap);
  markBehind(block.bytes, fs.superblock.inodesPerGroup);
  block.markVerified(BlockKind.BITMAP, ownerOf(group, INODES));
  fs.groups.change(tx, group, (descriptor) => {
    descriptor.flags &= ~flag;
    descriptor.unusedInodes = fs.superblock.inodesPerGroup;
    edit(descriptor);
  });
  return block.bytes;
}

/** Whether the flags of groups, and their counts of unused inodes, mean anything. */
export function knowsUninit(fs: Filesystem): boolean {
  return fs.superblock.hasRoCompat(RoCompat.GDT_CSUM | RoCompat.METADATA_CSUM);
}

/** Whether `group` has `flag`, where flags mean something. */
export function isUninit(fs: Filesystem, group: GroupIndex, flag: number): boolean {
  return knowsUninit(fs) && (fs.groups.descriptor(group).flags & flag) !== 0;
}

/** The two bitmaps of a group, as marks on their blocks tell them apart. */
const BLOCKS = 0;
const INODES = 1;
const ownerOf = (group: GroupIndex, which: number): number => 2 * group + which;

function verifiedBlockBitmap(fs: Filesystem, group: GroupIndex): Block {
  const { blockBitmap, blockBitmapChecksum } = fs.groups.descriptor(group);
  const block = fs.blocks.get(blockBitmap);
  const { clustersPerGroup } = fs.superblock;
  verify(fs, group, block, BLOCKS, blockBitmapChecksum, clustersPerGroup);
  return block;
}

function verifiedInodeBitmap(fs: Filesystem, group: GroupIndex): Block {
  const { inodeBitmap, inodeBitmapChecksum } = fs.groups.descriptor(group);
  const block = fs.blocks.get(inodeBitmap);
  verify(fs, group, block, INODES, inodeBitmapChecksum, fs.superblock.inodesPerGroup);
  return block;
}

/** Checks a bitmap when it enters the cache: later, its checksum may be behind its changes. */
function verify(
  fs: Filesystem,
  group: GroupIndex,
  block: Block,
  which: number,
  stored: number,
  bits: number,
): void {
  const owner = ownerOf(group, which);
  if (block.isVerifiedAs(BlockKind.BITMAP, owner)) return;
  if (fs.checksums.enabled) {
    const found = fs.groups.bitmapChecksum(block.bytes, bits);
    if (found !== stored) {
      throw new CorruptionError(
        "bitmap-checksum",
        { group, block: block.number },
        `stored ${stored}, computed ${found}`,
      );
    }
  }
  block.markVerified(BlockKind.BITMAP, owner);
}

function markBehind(bytes: Uint8Array, bits: number): void {
  setBits(bytes, bits, bytes.length * 8 - bits);
}

/** What the bitmap of a group would say in which only the filesystem's own structures lie. */
function computeBlockBitmap(fs: Filesystem, group: GroupIndex): Uint8Array {
  const { superblock, groups } = fs;
  const { blocksPerGroup, clusterBlocks, clustersPerGroup } = superblock;
  const bitmap = new Uint8Array(Math.ceil(clustersPerGroup / 8));
  const first = groups.firstBlock(group);
  const setBlocks = (from: number, count: number): void => {
    const start = Math.max(from, first) - first;
    const end = Math.min(from + count, first + blocksPerGroup) - first;
    if (start >= end) return;
    const bit = Math.floor(start / clusterBlocks);
    setBits(bitmap, bit, Math.ceil(end / clusterBlocks) - bit);
  };
  setBlocks(first, superblockAndDescriptors(superblock, group));
  const descriptor = groups.descriptor(group);
  setBlocks(descriptor.blockBitmap, 1);
  setBlocks(descriptor.inodeBitmap, 1);
  setBlocks(descriptor.inodeTable, inodeTableBlocks(superblock));
  setBlocks(superblock.blockCount, Number.POSITIVE_INFINITY);
  return bitmap;
}
