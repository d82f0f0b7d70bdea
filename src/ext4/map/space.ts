/**
 * The blocks of one inode, as the allocator sees them: taken and given back in whole clusters, and
 * counted in `i_blocks`. Which file blocks they serve is not known here.
 *
 * Without bigalloc a cluster is a block.
 *
 * @see ext4/bigalloc.rst
 */
import type { FsBlock } from "../../base/numbers.ts";
import { allocateBlocks, type BlockRun, freeBlocks } from "../alloc/blocks.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Inode } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { holdsMetadata } from "./iomap.ts";

const SECTOR_SIZE = 512;

/**
 * Allocates up to `count` blocks for the contents of `inode`, and at least one cluster.
 *
 * @param count whole clusters.
 * @throws FsError ENOSPC when there are none.
 */
export function takeBlocks(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  goal: FsBlock,
  count: number,
): BlockRun {
  const isMetadata = holdsMetadata(inode);
  const taken = allocateBlocks(fs, tx, { goal, count, inode: inode.number, isMetadata });
  countBlocks(fs, tx, inode, taken.count);
  return taken;
}

/**
 * Allocates one block for the map of `inode`; under bigalloc the rest of its cluster is idle.
 *
 * @param mayTakeLast it maps what is allocated already: there is nearly always a block for that.
 */
export function takeMapBlock(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  goal: FsBlock,
  mayTakeLast = false,
): FsBlock {
  const count = fs.superblock.clusterBlocks;
  const { start } = allocateBlocks(fs, tx, {
    goal,
    count,
    inode: inode.number,
    isMetadata: true,
    mayTakeLast,
  });
  countBlocks(fs, tx, inode, count);
  return start;
}

/** Gives clusters of the contents of `inode` back. */
export function giveBlocks(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  start: number,
  count: number,
): void {
  freeBlocks(fs, tx, start as FsBlock, count, holdsMetadata(inode));
  countBlocks(fs, tx, inode, -count);
}

/** Gives back what `takeMapBlock` took. */
export function giveMapBlock(fs: Filesystem, tx: Tx, inode: Inode, block: FsBlock): void {
  const { clusterBlocks } = fs.superblock;
  const start = (block - (block % clusterBlocks)) as FsBlock;
  freeBlocks(fs, tx, start, clusterBlocks, true);
  countBlocks(fs, tx, inode, -clusterBlocks);
}

function countBlocks(fs: Filesystem, tx: Tx, inode: Inode, count: number): void {
  tx.edit(inode).blocks512 += count * (fs.superblock.blockSize / SECTOR_SIZE);
}
