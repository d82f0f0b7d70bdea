/**
 * How large files may be, and what changing `i_size` entails.
 *
 * @see fs/ext4/super.c, ext4_max_size and ext4_max_bitmap_size
 */
import type { Filesystem } from "../filesystem.ts";
import { FILE_BLOCK_END } from "../format/extent.ts";
import { RoCompat } from "../format/features.ts";
import { type Inode, InodeFlags } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { DIRECT_COUNT, POINTER_SIZE } from "./block-map.ts";

const SECTOR_SIZE = 512;
/** What `i_blocks` can count without huge_file, in sectors, and with it, in blocks. */
const BLOCKS_MAX = 0xffff_ffff;
const BLOCKS_MAX_HUGE = 0xffff_ffff_ffff;
/** A larger size needs the feature large_file. */
const SMALL_SIZE_MAX = 0x7fff_ffff;

/** The most bytes that the file `inode` may have. */
export function maxFileSize(fs: Filesystem, inode: Inode): number {
  const { blockSize } = fs.superblock;
  const isHuge = fs.superblock.hasRoCompat(RoCompat.HUGE_FILE);
  const countable = isHuge ? BLOCKS_MAX_HUGE : Math.floor((BLOCKS_MAX * SECTOR_SIZE) / blockSize);
  const blocks = inode.hasFlag(InodeFlags.EXTENTS)
    ? Math.min(FILE_BLOCK_END, countable)
    : Math.min(FILE_BLOCK_END, maxMappedBlocks(blockSize / POINTER_SIZE, countable));
  return blocks * blockSize;
}

/** The most blocks of a file with a block map, if `countable` includes its indirect blocks. */
function maxMappedBlocks(perBlock: number, countable: number): number {
  const double = perBlock * perBlock;
  const triple = double * perBlock;
  const all = DIRECT_COUNT + perBlock + double + triple;
  const mapBlocks = 1 + (1 + perBlock) + (1 + perBlock + double);
  if (all + mapBlocks <= countable) return all;
  const behindSingle = countable - DIRECT_COUNT - perBlock;
  if (behindSingle < double) return countable - (2 + Math.ceil(behindSingle / perBlock));
  const behindDouble = behindSingle - double;
  const triples = Math.ceil(behindDouble / perBlock) + Math.ceil(behindDouble / double);
  return countable - (1 + (1 + perBlock) + 1 + triples);
}

/** Sets `i_size`, and the feature that a size above 2 GiB needs. */
export function setFileSize(fs: Filesystem, tx: Tx, inode: Inode, sizeBytes: number): void {
  tx.edit(inode).sizeBytes = sizeBytes;
  if (sizeBytes > SMALL_SIZE_MAX) {
    fs.writer.superblock.setFeature(tx, "roCompat", RoCompat.LARGE_FILE, true);
  }
}

/** The contents of `inode` change now. */
export function touch(tx: Tx, inode: Inode): void {
  tx.edit(inode);
  inode.modifiedAt = tx.now;
  inode.changedAt = tx.now;
}
