/**
 * Gives file blocks their place on the device, and takes it away, whatever kind of map the file has.
 *
 * What takes `tx` works within the handle of its caller. `MAP_CREDITS` is what one piece needs.
 */
import type { FileBlock } from "../../base/numbers.ts";
import { type BlockRun, discardPreallocation } from "../alloc/blocks.ts";
import type { Block, Seal } from "../cache/block-cache.ts";
import type { Filesystem } from "../filesystem.ts";
import { FILE_BLOCK_END } from "../format/extent.ts";
import { Incompat } from "../format/features.ts";
import { type Inode, InodeFlags } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { isFastSymlink } from "../ops/read-link.ts";
import { BlockMapEditor } from "./block-map-editor.ts";
import { Budget, STEP_CREDITS } from "./budget.ts";
import { ExtentEditor } from "./extent-editor.ts";
import { formatExtentRoot } from "./extent-tree.ts";

/**
 * Blocks that mapping one piece changes at the most: on each of the 6 levels of a tree a node, a new
 * one next to it, and a bitmap and a descriptor for that; then a bitmap and a descriptor for the
 * piece itself, the inode, the superblock, and what quotas need.
 */
export const MAP_CREDITS = 6 * 4 + 2 + 1 + 1 + 6;

/** Gives a new inode the map that its filesystem wants for it: without blocks. */
export function initBlockMap(fs: Filesystem, inode: Inode): void {
  if (!fs.superblock.hasIncompat(Incompat.EXTENTS)) {
    inode.iBlock.fill(0);
    return;
  }
  inode.flags |= InodeFlags.EXTENTS;
  formatExtentRoot(inode);
}

/**
 * Allocates blocks for the hole at `block`: as many of `count` as there are in one piece.
 *
 * @param count file blocks that are all in the hole.
 * @param unwritten they read as zeros; for files with extents only.
 * @throws FsError ENOSPC
 */
export function allocateRun(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  block: FileBlock,
  count: number,
  unwritten: boolean,
): BlockRun {
  return inode.hasFlag(InodeFlags.EXTENTS)
    ? new ExtentEditor(fs, tx, inode).allocate(block, count, unwritten)
    : new BlockMapEditor(fs, tx, inode).allocate(block, count);
}

/**
 * Frees the file blocks from `from` up to `end`, the last ones first, as far as `budget` allows.
 *
 * @returns the first file block from which on all are gone; `from` when it is done.
 */
export function freeRuns(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  from: FileBlock,
  end: number,
  budget: Budget,
): number {
  fs.writer.kernelData?.forgetUnconverted(tx, inode.number, from, end);
  return inode.hasFlag(InodeFlags.EXTENTS)
    ? new ExtentEditor(fs, tx, inode).remove(from, end, budget)
    : new BlockMapEditor(fs, tx, inode).remove(from, end, budget);
}

/**
 * A zeroed block `fileBlock` of an inode whose contents are metadata (a directory, a long symlink,
 * the value of an xattr), which has none there yet. The size is left to the caller.
 *
 * @throws FsError ENOSPC
 */
export function createFileBlock(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  fileBlock: FileBlock,
  seal?: Seal,
): Block {
  const { start } = allocateRun(fs, tx, inode, fileBlock, 1, false);
  return tx.create(start, seal);
}

/** Frees the file blocks from `from` up to `end` all in this handle: few enough for its credits. */
export function freeFileBlocks(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  from: FileBlock,
  end: FileBlock,
): void {
  for (let at: number = end; at > from; ) at = freeRuns(fs, tx, inode, from, at, new Budget(fs));
}

/**
 * Frees the file blocks from `from` up to `end` in as many handles as it takes.
 *
 * @param last runs in the last one of them, and changes up to `lastCredits` blocks there.
 */
export function freeInSteps(
  fs: Filesystem,
  inode: Inode,
  from: FileBlock,
  end: number,
  lastCredits: number,
  last: (tx: Tx) => void,
): void {
  let at = end;
  do {
    fs.transact(STEP_CREDITS + lastCredits, (tx) => {
      at = freeRuns(fs, tx, inode, from, at, new Budget(fs));
      if (at <= from) last(tx);
    });
  } while (at > from);
}

/** Whether `i_block` says where blocks are, and not something else: a target, a device, contents. */
export function hasBlockMap(fs: Filesystem, inode: Inode): boolean {
  if (inode.hasFlag(InodeFlags.INLINE_DATA)) return false;
  if (inode.isSymlink) return !isFastSymlink(fs, inode);
  return inode.isRegular || inode.isDirectory;
}

/**
 * Frees all blocks of the contents of `inode`, which nobody needs any more.
 *
 * @param last runs in the last handle of those that it takes, and changes up to `lastCredits` blocks.
 */
export function releaseBlocks(
  fs: Filesystem,
  inode: Inode,
  lastCredits: number,
  last: (tx: Tx) => void,
): void {
  if (!hasBlockMap(fs, inode)) {
    fs.transact(lastCredits, last);
    return;
  }
  fs.writer.invalidateMappings(inode.number, 0, Number.MAX_SAFE_INTEGER);
  discardPreallocation(fs, inode.number);
  freeInSteps(fs, inode, 0 as FileBlock, FILE_BLOCK_END, lastCredits, last);
}
