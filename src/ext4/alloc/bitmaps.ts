/**
 * The bitmaps of a group: one bit for each cluster and each inode, set when in use.
 *
 * A group flagged uninitialised has no bitmap on the device yet; its own is computed.
 *
 * @see ext4/bitmaps.rst
 */
import type { FsBlock, GroupIndex } from "../../base/numbers.ts";
import { CorruptionError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { RoCompat } from "../format/features.ts";
import { GroupFlags } from "../format/group-descriptor.ts";
import { superblockAndDescriptors } from "./groups.ts";

/** A checksum of 16 bits in a 32-byte descriptor, of 32 bits in a wider one. */
const NARROW_DESCRIPTOR_SIZE = 32;

/** The bits of the clusters of `group`: `clustersPerGroup / 8` bytes, a copy. */
export function loadBlockBitmap(fs: Filesystem, group: GroupIndex): Uint8Array {
  const { clustersPerGroup } = fs.superblock;
  const descriptor = fs.groups.descriptor(group);
  if (isUninit(fs, group, GroupFlags.BLOCK_UNINIT)) return computeBlockBitmap(fs, group);
  return load(fs, group, descriptor.blockBitmap, descriptor.blockBitmapChecksum, clustersPerGroup);
}

/** The bits of the inodes of `group`: `inodesPerGroup / 8` bytes, a copy. */
export function loadInodeBitmap(fs: Filesystem, group: GroupIndex): Uint8Array {
  const { inodesPerGroup } = fs.superblock;
  const descriptor = fs.groups.descriptor(group);
  if (isUninit(fs, group, GroupFlags.INODE_UNINIT))
    return new Uint8Array(Math.ceil(inodesPerGroup / 8));
  return load(fs, group, descriptor.inodeBitmap, descriptor.inodeBitmapChecksum, inodesPerGroup);
}

function isUninit(fs: Filesystem, group: GroupIndex, flag: number): boolean {
  const known = fs.superblock.hasRoCompat(RoCompat.GDT_CSUM | RoCompat.METADATA_CSUM);
  return known && (fs.groups.descriptor(group).flags & flag) !== 0;
}

function load(
  fs: Filesystem,
  group: GroupIndex,
  number: FsBlock,
  stored: number,
  bits: number,
): Uint8Array {
  const bytes = fs.blocks.get(number).bytes.slice(0, Math.ceil(bits / 8));
  if (!fs.checksums.enabled) return bytes;
  const mask = fs.superblock.descriptorSize > NARROW_DESCRIPTOR_SIZE ? 0xffff_ffff : 0xffff;
  const found = (fs.checksums.over(fs.checksums.seed, bytes) & mask) >>> 0;
  if (found !== stored) {
    throw new CorruptionError(
      "bitmap-checksum",
      { group, block: number },
      `stored ${stored}, computed ${found}`,
    );
  }
  return bytes;
}

/** What the bitmap of a group would say in which only the filesystem's own structures lie. */
function computeBlockBitmap(fs: Filesystem, group: GroupIndex): Uint8Array {
  const { superblock, groups } = fs;
  const bitmap = new Uint8Array(Math.ceil(superblock.clustersPerGroup / 8));
  const first = groups.firstBlock(group);
  const setBlocks = (from: number, count: number): void => {
    const end = Math.min(from + count, first + superblock.blocksPerGroup);
    for (let block = Math.max(from, first); block < end; block++) {
      const bit = Math.floor((block - first) / superblock.clusterBlocks);
      bitmap[bit >> 3] = (bitmap[bit >> 3] as number) | (1 << (bit & 7));
    }
  };
  setBlocks(first, superblockAndDescriptors(superblock, group));
  const tableBlocks = Math.ceil(
    (superblock.inodesPerGroup * superblock.inodeSize) / superblock.blockSize,
  );
  const descriptor = groups.descriptor(group);
  setBlocks(descriptor.blockBitmap, 1);
  setBlocks(descriptor.inodeBitmap, 1);
  setBlocks(descriptor.inodeTable, tableBlocks);
  setBlocks(superblock.blockCount, Number.POSITIVE_INFINITY);
  return bitmap;
}
