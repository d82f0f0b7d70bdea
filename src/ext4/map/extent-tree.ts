/**
 * Searches extent trees. Every node is checked before it is believed: once when its block enters
 * the cache, and the root, which lies in the inode, once per inode in memory. A change
 * (extent-editor.ts) leaves checked nodes as right as they were, and so does its rollback.
 */

import { le16, le32 } from "../../base/layout.ts";
import type { FileBlock, FsBlock } from "../../base/numbers.ts";
import { type Block, BlockKind } from "../cache/block-cache.ts";
import { CorruptionError, type Place } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import {
  checkExtentNode,
  EXT_DEPTH_MAX,
  ExtentHeader,
  ExtentNode,
  ExtentTail,
  extentEntryMax,
  extentTailOffset,
  FILE_BLOCK_END,
} from "../format/extent.ts";
import { I_BLOCK_SIZE, type Inode, InodeLayout } from "../format/inode.ts";
import { HOLE, type Run } from "./run.ts";

/** The root of the tree of `inode`, checked. */
export function extentRoot(fs: Filesystem, inode: Inode): ExtentNode {
  if (inode.extentRoot !== undefined) return inode.extentRoot;
  const view = rootView(inode);
  const depth = Math.min(le16(view, 0, ExtentHeader.depth), EXT_DEPTH_MAX);
  const bounds = boundsOf(fs, depth, 0, FILE_BLOCK_END, false);
  checkExtentNode(view, bounds, { inode: inode.number });
  inode.extentRoot = new ExtentNode(view);
  return inode.extentRoot;
}

/** Makes `i_block` of `inode`, which a transaction has, the root of a tree without extents. */
export function formatExtentRoot(inode: Inode): void {
  inode.iBlock.fill(0);
  const view = rootView(inode);
  inode.extentRoot = new ExtentNode(view);
  inode.extentRoot.format(0, extentEntryMax(view.byteLength));
}

function rootView({ raw }: Inode): DataView {
  return new DataView(raw.buffer, raw.byteOffset + InodeLayout.block, I_BLOCK_SIZE);
}

function boundsOf(fs: Filesystem, depth: number, from: number, end: number, exactStart: boolean) {
  const { firstDataBlock, blockCount } = fs.superblock;
  return { depth, from, end, exactStart, firstFsBlock: firstDataBlock + 1, endFsBlock: blockCount };
}

/** Loads and checks the node at `number`, whose parent says that it covers `from` to `end`. */
export function loadExtentNode(
  fs: Filesystem,
  inode: Inode,
  number: FsBlock,
  depth: number,
  from: number,
  end: number,
): Block {
  const block = fs.blocks.get(number);
  if (!block.isVerifiedAs(BlockKind.EXTENTS, inode.number)) {
    checkExtentNode(block.view, boundsOf(fs, depth, from, end, true), {
      inode: inode.number,
      block: number,
    });
    verifyTail(fs, inode, block);
    fs.verifyOwner(inode.number, number, 1);
    block.markVerified(BlockKind.EXTENTS, inode.number);
  } else {
    verifyPlace(new ExtentNode(block.view), depth, from, end, {
      inode: inode.number,
      block: number,
    });
  }
  return block;
}

/** Verifies that a node which is known already is met in its one place of the tree. */
function verifyPlace(
  node: ExtentNode,
  depth: number,
  from: number,
  end: number,
  place: Place,
): void {
  if (node.depth !== depth) throw new CorruptionError("extent-depth", place, "a loop");
  const { entryCount } = node;
  if (entryCount === 0) return;
  const last = entryCount - 1;
  const isWithin = depth > 0 ? node.fileBlock(last) < end : node.end(last) <= end;
  if (node.fileBlock(0) === from && isWithin) return;
  throw new CorruptionError("extent-order", place, `covers other file blocks than from ${from}`);
}

function verifyTail(fs: Filesystem, inode: Inode, block: Block): void {
  if (!fs.checksums.enabled) return;
  const at = extentTailOffset(block.view);
  const stored = at + 4 <= block.bytes.length ? le32(block.view, at, ExtentTail.checksum) : -1;
  const found = fs.checksums.over(inode.checksumSeed, block.bytes.subarray(0, at));
  if (stored === found) return;
  throw new CorruptionError(
    "extent-checksum",
    { inode: inode.number, block: block.number },
    `stored ${stored}, computed ${found}`,
  );
}

/**
 * Answers where `fileBlock` of a file with an extent tree lies, and how far that goes on.
 *
 * @throws CorruptionError when the tree cannot be trusted.
 */
export function findExtentRun(fs: Filesystem, inode: Inode, fileBlock: FileBlock, run: Run): Run {
  let node = extentRoot(fs, inode);
  let end: number = FILE_BLOCK_END;
  for (let depth = node.depth; depth > 0; depth--) {
    const index = node.find(fileBlock);
    if (index + 1 < node.entryCount) end = node.fileBlock(index + 1);
    if (index < 0) return hole(run, fileBlock, end);
    const from = node.fileBlock(index);
    node = new ExtentNode(loadExtentNode(fs, inode, node.child(index), depth - 1, from, end).view);
  }
  const index = node.find(fileBlock);
  if (index >= 0) {
    const into = fileBlock - node.fileBlock(index);
    const length = node.length(index);
    if (into < length) {
      run.fsBlock = node.start(index) + into;
      run.count = length - into;
      run.unwritten = node.isUnwritten(index);
      return run;
    }
  }
  if (index + 1 < node.entryCount) end = node.fileBlock(index + 1);
  return hole(run, fileBlock, end);
}

function hole(run: Run, from: number, end: number): Run {
  run.fsBlock = HOLE;
  run.count = Math.max(1, end - from);
  run.unwritten = false;
  return run;
}
