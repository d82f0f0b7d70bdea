/**
 * Takes given blocks and inodes, where the allocator would choose: fast commits say which ones a
 * file got before a crash, and the bitmaps do not know of it.
 */
import type { FsBlock, GroupIndex, InodeNumber } from "../../base/numbers.ts";
import { CorruptionError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Tx } from "../journal/transaction.ts";
import { loadBlockBitmap, loadInodeBitmap } from "./bitmaps.ts";
import { areSet } from "./bits.ts";
import { takeClusters } from "./blocks.ts";
import { takeInode } from "./inodes.ts";

/**
 * Marks every cluster that the `count` blocks from `start` on lie in as in use, if it is not.
 *
 * @throws CorruptionError `block-system` when no file may have them.
 */
export function claimBlocks(fs: Filesystem, tx: Tx, start: FsBlock, count: number): void {
  const { firstDataBlock, clusterBlocks, clustersPerGroup } = fs.superblock;
  if (fs.writer.allocator.system.overlaps(start, count)) {
    throw new CorruptionError("block-system", { block: start }, `${count} blocks of a file`);
  }
  const end = Math.ceil((start + count - firstDataBlock) / clusterBlocks);
  for (let from = Math.floor((start - firstDataBlock) / clusterBlocks); from < end; ) {
    const group = Math.floor(from / clustersPerGroup) as GroupIndex;
    const groupFirst = group * clustersPerGroup;
    const to = Math.min(end, groupFirst + clustersPerGroup);
    const bitmap = loadBlockBitmap(fs, group);
    const isFree = (cluster: number): boolean => !areSet(bitmap, cluster - groupFirst, 1);
    while (from < to) {
      const run = { start: from, count: 0 };
      while (from < to && isFree(from)) from++;
      run.count = from - run.start;
      if (run.count > 0) takeClusters(fs, tx, run);
      while (from < to && !isFree(from)) from++;
    }
  }
}

/** Marks the inode `number` as in use, if it is not. */
export function claimInode(
  fs: Filesystem,
  tx: Tx,
  number: InodeNumber,
  isDirectory: boolean,
): void {
  const index = number - 1;
  const group = Math.floor(index / fs.superblock.inodesPerGroup) as GroupIndex;
  const bit = index % fs.superblock.inodesPerGroup;
  if (!areSet(loadInodeBitmap(fs, group), bit, 1)) takeInode(fs, tx, index, isDirectory);
}
