/**
 * Allocates and frees blocks, in whole clusters.
 *
 *     the goal                                    free: as much as is free there
 *     behind the goal, then in the groups behind  the first run that is long enough, or nearly
 *
 * What is freed can be allocated again only when the transaction that freed it is durable: until
 * then, a crash brings back whoever had it.
 *
 * @see fs/ext4/mballoc.c
 */
import { Errno } from "../../base/errno.ts";
import type { FsBlock, GroupIndex, InodeNumber } from "../../base/numbers.ts";
import { CorruptionError, FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Inode } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { changeBlockBitmap } from "./bitmaps.ts";
import { areSet, clearBits, setBits } from "./bits.ts";
import type { Run } from "./free-maps.ts";

export interface BlockRequest {
  /** Where the first block should be; any number will do. */
  readonly goal: FsBlock;
  /** Blocks wanted: 1 or more. */
  readonly count: number;
  /** The file whose data they are for: while it grows, what follows is held for it. */
  readonly inode?: InodeNumber;
  /** For a block of an inode's own structure: it is not taken from what is held for the file. */
  readonly isMetadata?: boolean;
  /** Take what is kept back from everybody, too: for a map of what is allocated already. */
  readonly mayTakeLast?: boolean;
}

/** Blocks in a row: whole clusters. */
export interface BlockRun {
  readonly start: FsBlock;
  readonly count: number;
}

/** Blocks that one allocation changes: a bitmap, and a block of descriptors. */
export const ALLOCATE_CREDITS = 2;

/**
 * Allocates blocks in a row: as many as wanted, rounded up to whole clusters, or fewer.
 *
 * @throws FsError ENOSPC when there is none that the operation in hand may use.
 */
export function allocateBlocks(fs: Filesystem, tx: Tx, request: BlockRequest): BlockRun {
  const { clusterBlocks } = fs.superblock;
  const wanted = Math.min(Math.ceil(request.count / clusterBlocks), usableClusters(fs, request));
  const found = wanted > 0 ? findClusters(fs, request, wanted) : undefined;
  if (found === undefined) throw new FsError(Errno.ENOSPC, "no block is free");
  takeClusters(fs, tx, found);
  const { inode, isMetadata } = request;
  if (inode !== undefined && isMetadata !== true) {
    fs.writer.allocator.windows.close(inode, found.start + found.count);
  }
  return { start: blockOf(fs, found.start), count: found.count * clusterBlocks };
}

/**
 * Clusters that the operation in hand may take: the reserve is for root, and what is kept back is for
 * those that must not fail.
 *
 * @see fs/ext4/balloc.c, ext4_has_free_clusters
 */
function usableClusters(fs: Filesystem, { mayTakeLast, count }: BlockRequest): number {
  const { superblock } = fs;
  const { clusters } = fs.groups.countFree();
  if (mayTakeLast === true) return clusters;
  const usable = clusters - superblock.keptBackClusters;
  const forAll = usable - Math.floor(superblock.reservedBlockCount / superblock.clusterBlocks);
  const isEnough = forAll * superblock.clusterBlocks >= count;
  return isEnough || !fs.writer.mayUseReserve() ? forAll : usable;
}

/** At most `wanted` clusters; what is held for files does not count when nothing else is left. */
function findClusters(fs: Filesystem, request: BlockRequest, wanted: number): Run | undefined {
  const { clusters, windows } = fs.writer.allocator;
  const goal = goalCluster(fs, request.goal);
  const { inode, isMetadata } = request;
  const more = inode === undefined || isMetadata === true ? 0 : windows.open(inode, goal, wanted);
  const count = clusters.freeFrom(goal, wanted);
  if (count > 0) return { start: goal, count };
  let found = clusters.search(goal, wanted + more);
  if (found === undefined && windows.discardAll()) found = clusters.search(goal, wanted);
  if (found === undefined) return undefined;
  return { start: found.start, count: Math.min(found.count, wanted) };
}

/** Marks clusters as in use that are all free, and in one group. */
export function takeClusters(fs: Filesystem, tx: Tx, run: Run): void {
  const { clustersPerGroup } = fs.superblock;
  const group = Math.floor(run.start / clustersPerGroup) as GroupIndex;
  const bitmap = changeBlockBitmap(fs, tx, group, (descriptor) => {
    descriptor.freeClusters -= run.count;
  });
  setBits(bitmap, run.start % clustersPerGroup, run.count);
  fs.writer.allocator.clusters.take(tx, run);
}

/**
 * Frees every cluster that the `count` blocks from `start` on lie in.
 *
 * @param isMetadata they held structures of the filesystem, which the journal may have written.
 * @throws CorruptionError when one of them is free already, is the filesystem's own, or is not there.
 */
export function freeBlocks(
  fs: Filesystem,
  tx: Tx,
  start: FsBlock,
  count: number,
  isMetadata: boolean,
): void {
  const { blockCount, firstDataBlock, clusterBlocks, clustersPerGroup } = fs.superblock;
  if (start < firstDataBlock || start + count > blockCount) {
    throw new CorruptionError("block-range", { block: start }, `${count} blocks to be freed`);
  }
  const first = Math.floor((start - firstDataBlock) / clusterBlocks);
  const end = Math.ceil((start + count - firstDataBlock) / clusterBlocks);
  const whole = (end - first) * clusterBlocks;
  if (fs.writer.allocator.system.overlaps(blockOf(fs, first), whole)) {
    throw new CorruptionError("block-system", { block: start }, `${count} blocks to be freed`);
  }
  for (let from = first; from < end; ) {
    const groupEnd = from - (from % clustersPerGroup) + clustersPerGroup;
    const to = Math.min(end, groupEnd);
    freeClusters(fs, tx, { start: from, count: to - from });
    from = to;
  }
  if (!isMetadata) return;
  for (let index = 0; index < count; index++) tx.forget((start + index) as FsBlock);
}

function freeClusters(fs: Filesystem, tx: Tx, run: Run): void {
  const { clustersPerGroup } = fs.superblock;
  const { clusters } = fs.writer.allocator;
  const group = Math.floor(run.start / clustersPerGroup) as GroupIndex;
  if (clusters.isDamaged(group)) return;
  const bit = run.start % clustersPerGroup;
  const bitmap = changeBlockBitmap(fs, tx, group, (descriptor) => {
    descriptor.freeClusters += run.count;
  });
  if (!areSet(bitmap, bit, run.count)) {
    const place = { group, block: blockOf(fs, run.start) };
    throw new CorruptionError("bitmap-free", place, `${run.count} clusters to be freed`);
  }
  clearBits(bitmap, bit, run.count);
  clusters.free(tx, run);
}

/** Where a file's first blocks should be when nothing else says so. @see ext4_inode_to_goal_block */
export function goalFor(fs: Filesystem, inode: Inode): FsBlock {
  const { inodesPerGroup, groupsPerFlex, groupCount } = fs.superblock;
  let group = Math.floor((inode.number - 1) / inodesPerGroup);
  if (groupsPerFlex >= FLEX_SIZE_SPLIT) {
    // The first group of a flex group is left to directories.
    group -= group % groupsPerFlex;
    if (!inode.isDirectory && group + 1 < groupCount) group++;
  }
  return fs.groups.firstBlock(group as GroupIndex);
}

/** From this size on, a flex group keeps directories and files apart. */
const FLEX_SIZE_SPLIT = 4;

/** Gives back what is held for `inode` to grow into: nobody writes to it any more. */
export function discardPreallocation(fs: Filesystem, inode: InodeNumber): void {
  fs.writer.allocator.windows.discard(inode);
}

function goalCluster(fs: Filesystem, goal: FsBlock): number {
  const { blockCount, firstDataBlock, clusterBlocks } = fs.superblock;
  const isInside = goal >= firstDataBlock && goal < blockCount;
  return isInside ? Math.floor((goal - firstDataBlock) / clusterBlocks) : 0;
}

/** The first block of a cluster, counted over all groups. */
export function blockOf(fs: Filesystem, cluster: number): FsBlock {
  const { firstDataBlock, clusterBlocks } = fs.superblock;
  return (cluster * clusterBlocks + firstDataBlock) as FsBlock;
}
