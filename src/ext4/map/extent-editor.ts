/**
 * Changes extent trees, in the handle of one operation.
 *
 *     insert    joins the neighbours where it can; otherwise takes an entry of the leaf, and makes
 *               room for it by splitting the topmost full node, or by growing the root
 *     cut       takes file blocks out; a leaf that becomes empty goes, and its parents with it
 *     move      shifts all entries of a leaf
 *
 * The first key of a node is always what its parent says. Nodes are split where the new entry goes,
 * not in the middle, so that files written from the front have full leaves.
 *
 * Under bigalloc a file block and its block on the device have the same place in their clusters, so
 * that all file blocks of one cluster share one cluster of the device; it is free when the last
 * extent in it goes.
 *
 * @see fs/ext4/extents.c, ext4_ext_insert_extent and ext4_ext_remove_space
 */
import { setLe32 } from "../../base/layout.ts";
import type { FileBlock, FsBlock } from "../../base/numbers.ts";
import { type BlockRun, goalFor } from "../alloc/blocks.ts";
import { type Block, BlockKind, type Seal } from "../cache/block-cache.ts";
import { CorruptionError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import {
  EXT_DEPTH_MAX,
  ExtentNode,
  ExtentTail,
  extentEntryMax,
  extentLengthMax,
  extentTailOffset,
  FILE_BLOCK_END,
} from "../format/extent.ts";
import { I_BLOCK_SIZE, type Inode } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import type { Budget } from "./budget.ts";
import { extentRoot, loadExtentNode } from "./extent-tree.ts";
import { holdsMetadata } from "./iomap.ts";
import { giveBlocks, giveMapBlock, takeBlocks, takeMapBlock } from "./space.ts";

/** One node on the way from the root to a leaf. */
interface Level {
  readonly node: ExtentNode;
  /** What the node lies in; undefined for the root, which lies in the inode. */
  readonly block: Block | undefined;
  /** The entry that leads to the file block in question; in a leaf the last one up to it, or -1. */
  readonly index: number;
}

const ROOT_ENTRIES_MAX = extentEntryMax(I_BLOCK_SIZE);

export class ExtentEditor {
  readonly #fs: Filesystem;
  readonly #tx: Tx;
  readonly #inode: Inode;
  readonly #seal: Seal | undefined;
  readonly #clusterBlocks: number;
  /** An extent was taken apart: that must not fail because there is no block for another node. */
  #tookApart = false;

  constructor(fs: Filesystem, tx: Tx, inode: Inode) {
    this.#fs = fs;
    this.#tx = tx;
    this.#inode = inode;
    this.#seal = extentSeal(fs, inode);
    this.#clusterBlocks = fs.superblock.clusterBlocks;
  }

  /**
   * Allocates blocks for the hole at `block`: as many of `count` as there are in one piece.
   *
   * @param count file blocks that are all in the hole.
   * @throws FsError ENOSPC
   */
  allocate(block: FileBlock, count: number, unwritten: boolean): BlockRun {
    const most = Math.min(count, extentLengthMax(unwritten));
    const found =
      this.#clusterBlocks === 1
        ? takeBlocks(this.#fs, this.#tx, this.#inode, this.#goal(block), most)
        : this.#takeClusters(block, most);
    this.insert(block, found.count, found.start, unwritten);
    return found;
  }

  /** Maps file blocks that are in a hole. */
  insert(block: number, count: number, start: number, unwritten: boolean): void {
    for (;;) {
      const levels = this.#descend(block as FileBlock);
      const leaf = lastOf(levels);
      const { node, index } = leaf;
      if (index >= 0 && joins(node, index, block, count, start, unwritten)) {
        this.#modify(leaf);
        node.setLength(index, node.length(index) + count, unwritten);
        this.#join(node, index);
        this.#mergeUp(levels);
        return;
      }
      const next = index + 1;
      if (next < node.entryCount && joinsBefore(node, next, block, count, start, unwritten)) {
        this.#modify(leaf);
        node.setLength(next, node.length(next) + count, unwritten);
        node.setFileBlock(next, block);
        node.setStart(next, start);
        if (next === 0) this.#fixKeys(levels, levels.length - 1);
        return;
      }
      if (node.entryCount < node.entryMax) {
        this.#modify(leaf);
        node.insertExtent(next, block, count, start, unwritten);
        if (next === 0) this.#fixKeys(levels, levels.length - 1);
        return;
      }
      this.#makeRoom(levels, block as FileBlock);
    }
  }

  /** Makes file blocks that all lie within one extent written, or unwritten. */
  convert(block: FileBlock, count: number, unwritten: boolean): void {
    const levels = this.#descend(block);
    const leaf = lastOf(levels);
    const { node, index } = leaf;
    const first = node.fileBlock(index);
    const whole = first === block && node.length(index) === count;
    if (!whole || count > extentLengthMax(unwritten)) {
      const start = node.start(index) + (block - first);
      this.#cut(levels, block, block + count);
      const most = extentLengthMax(unwritten);
      for (let done = 0; done < count; done += most) {
        this.insert(block + done, Math.min(most, count - done), start + done, unwritten);
      }
      return;
    }
    this.#modify(leaf);
    node.setLength(index, count, unwritten);
    this.#join(node, index);
    if (index > 0) this.#join(node, index - 1);
    this.#mergeUp(levels);
  }

  /**
   * Unmaps and frees file blocks up to `end`, the last ones first, as far as `budget` allows.
   *
   * @returns the first file block from which on all are gone; `from` when it is done.
   */
  remove(from: FileBlock, end: number, budget: Budget): number {
    let at = end;
    while (at > from) {
      if (budget.isUsedUp) return at;
      const levels = this.#descend((at - 1) as FileBlock);
      const { node, index } = lastOf(levels);
      if (index < 0 || node.end(index) <= from) break;
      const first = Math.max(node.fileBlock(index), from);
      const count = Math.min(node.end(index), at) - first;
      if (count > 0) {
        const start = node.start(index) + (first - node.fileBlock(index));
        this.#cut(levels, first, first + count);
        this.#free(first, count, start);
        budget.chargePiece(count);
        if (node.entryCount === 0) budget.chargePiece(this.#clusterBlocks);
      }
      at = Math.min(at, first);
    }
    return from;
  }

  /** Makes `block` the first of an extent, if it lies within one. */
  split(block: FileBlock): void {
    const levels = this.#descend(block);
    const { node, index } = lastOf(levels);
    if (index >= 0 && node.fileBlock(index) < block && block < node.end(index)) {
      this.#cut(levels, block, block);
    }
  }

  /**
   * Moves the extents from `from` on towards the front by `distance` file blocks, where there is a
   * hole, leaf by leaf as far as `budget` allows.
   *
   * @returns the first file block from which on they have not moved; `FILE_BLOCK_END` when all have.
   */
  moveDown(from: FileBlock, distance: number, budget: Budget): number {
    let at: number = from;
    while (at < FILE_BLOCK_END && !budget.isUsedUp) {
      const levels = this.#descend(at as FileBlock);
      const next = nextKey(levels);
      this.#shift(levels, at, -distance);
      budget.charge(1);
      at = next;
    }
    return at;
  }

  /**
   * Moves the extents from `from` on away from the front by `distance` file blocks, the last ones
   * first; `from` lies within none of them.
   *
   * @param end those from here on have moved already.
   * @returns the first file block from which on they have moved; `from` when all have.
   */
  moveUp(from: FileBlock, end: number, distance: number, budget: Budget): number {
    let at = end;
    while (at > from && !budget.isUsedUp) {
      const levels = this.#descend((at - 1) as FileBlock);
      const { node, index } = lastOf(levels);
      if (index < 0) break;
      const key = node.fileBlock(0);
      this.#shift(levels, from, distance, index + 1);
      budget.charge(1);
      at = key;
    }
    return at > from && budget.isUsedUp ? at : from;
  }

  /** Joins the extents on both sides of `block`, if they continue each other. */
  joinAt(block: FileBlock): void {
    const levels = this.#descend(block);
    const leaf = lastOf(levels);
    if (leaf.index < 1) return;
    this.#modify(leaf);
    this.#join(leaf.node, leaf.index - 1);
    this.#mergeUp(levels);
  }

  /** Where the contents at `block` would best lie. @see fs/ext4/extents.c, ext4_ext_find_goal */
  #goal(block: FileBlock): FsBlock {
    const { node, index } = lastOf(this.#descend(block));
    if (index >= 0) return (node.start(index) + (block - node.fileBlock(index))) as FsBlock;
    if (node.entryCount > 0) {
      const before = node.start(0) - (node.fileBlock(0) - block);
      if (before > this.#fs.superblock.firstDataBlock) return before as FsBlock;
    }
    return goalFor(this.#fs, this.#inode);
  }

  #takeClusters(block: FileBlock, count: number): BlockRun {
    const into = block % this.#clusterBlocks;
    const shared = this.#clusterAt(block);
    if (shared >= 0) {
      const start = (shared + into) as FsBlock;
      const shares = Math.min(count, this.#clusterBlocks - into);
      this.#fs.verifyOwner(this.#inode.number, start, shares);
      return { start, count: shares };
    }
    let end = block + count;
    const lastCluster = end - 1 - ((end - 1) % this.#clusterBlocks);
    if (lastCluster > block && this.#clusterAt(lastCluster as FileBlock) >= 0) end = lastCluster;
    const wanted = Math.ceil((into + end - block) / this.#clusterBlocks) * this.#clusterBlocks;
    const goal = this.#goal(block);
    const taken = takeBlocks(this.#fs, this.#tx, this.#inode, goal, wanted);
    return {
      start: (taken.start + into) as FsBlock,
      count: Math.min(end - block, taken.count - into),
    };
  }

  /** Where on the device the cluster begins that `block` shares with some extent, or -1. */
  #clusterAt(block: FileBlock): number {
    const first = block - (block % this.#clusterBlocks);
    const last = Math.min(first + this.#clusterBlocks, FILE_BLOCK_END) - 1;
    const { node, index } = lastOf(this.#descend(last as FileBlock));
    if (index < 0 || node.end(index) <= first) return -1;
    const from = node.fileBlock(index);
    const start = node.start(index) + Math.max(0, first - from);
    return start - (start % this.#clusterBlocks);
  }

  /** Frees what served file blocks that are in a hole now. */
  #free(block: number, count: number, start: number): void {
    const size = this.#clusterBlocks;
    let from = start - (start % size);
    let end = Math.ceil((start + count) / size) * size;
    if (size > 1) {
      if (holdsMetadata(this.#inode)) {
        for (let each = 0; each < count; each++) this.#tx.forget((start + each) as FsBlock);
      }
      if (this.#clusterAt(block as FileBlock) >= 0) from += size;
      const last = block + count - 1;
      if (end > from && this.#clusterAt(last as FileBlock) >= 0) end -= size;
      if (end <= from) return;
    }
    giveBlocks(this.#fs, this.#tx, this.#inode, from, end - from);
  }

  /** The nodes that lead to `block`. */
  #descend(block: FileBlock): Level[] {
    const levels: Level[] = [];
    let node = extentRoot(this.#fs, this.#inode);
    let holder: Block | undefined;
    let end: number = FILE_BLOCK_END;
    for (let depth = node.depth; depth > 0; depth--) {
      const index = Math.max(0, node.find(block));
      levels.push({ node, block: holder, index });
      if (index + 1 < node.entryCount) end = node.fileBlock(index + 1);
      const from = node.fileBlock(index);
      holder = loadExtentNode(this.#fs, this.#inode, node.child(index), depth - 1, from, end);
      node = new ExtentNode(holder.view);
    }
    levels.push({ node, block: holder, index: node.find(block) });
    return levels;
  }

  #modify({ block }: Level): void {
    if (block === undefined) this.#tx.edit(this.#inode);
    else this.#tx.modify(block, this.#seal);
  }

  /** Takes the file blocks from `from` up to `end`, within one extent, out of it. */
  #cut(levels: Level[], from: number, end: number): void {
    const leaf = lastOf(levels);
    const { node, index } = leaf;
    const first = node.fileBlock(index);
    const behind = node.end(index) - end;
    const unwritten = node.isUnwritten(index);
    const start = node.start(index) + (end - first);
    if (from === first && behind === 0) {
      this.#removeEntry(levels, levels.length - 1);
      return;
    }
    this.#tookApart = true;
    this.#modify(leaf);
    if (from === first) {
      node.setFileBlock(index, end);
      node.setStart(index, start);
      node.setLength(index, behind, unwritten);
      if (index === 0) this.#fixKeys(levels, levels.length - 1);
      return;
    }
    node.setLength(index, from - first, unwritten);
    if (behind > 0) this.#insertApart(end as FileBlock, behind, start, unwritten);
  }

  /** As `insert`, but takes an entry of its own. */
  #insertApart(block: FileBlock, count: number, start: number, unwritten: boolean): void {
    let levels = this.#descend(block);
    for (; isFull(lastOf(levels)); levels = this.#descend(block)) this.#makeRoom(levels, block);
    const leaf = lastOf(levels);
    this.#modify(leaf);
    leaf.node.insertExtent(leaf.index + 1, block, count, start, unwritten);
    if (leaf.index < 0) this.#fixKeys(levels, levels.length - 1);
  }

  /** Takes out the entry in question of the node at `level`, and the node if it was the last one. */
  #removeEntry(levels: readonly Level[], level: number): void {
    const here = levels[level] as Level;
    const { node, block, index } = here;
    this.#modify(here);
    node.removeEntry(index);
    if (node.entryCount > 0) {
      if (index === 0) this.#fixKeys(levels, level);
    } else if (block === undefined) {
      node.format(0, ROOT_ENTRIES_MAX);
    } else {
      giveMapBlock(this.#fs, this.#tx, this.#inode, block.number);
      this.#removeEntry(levels, level - 1);
    }
  }

  /** Tells the parents of the node at `level` what its first key is now. */
  #fixKeys(levels: readonly Level[], level: number): void {
    const key = (levels[level] as Level).node.fileBlock(0);
    for (let above = level - 1; above >= 0; above--) {
      const parent = levels[above] as Level;
      if (parent.node.fileBlock(parent.index) === key) return;
      this.#modify(parent);
      parent.node.setFileBlock(parent.index, key);
      if (parent.index > 0) return;
    }
  }

  /** Moves the entries of the leaf from file block `from` on, up to entry `end`. */
  #shift(
    levels: readonly Level[],
    from: number,
    distance: number,
    end = lastOf(levels).node.entryCount,
  ): void {
    const leaf = lastOf(levels);
    const { node } = leaf;
    let first = end;
    while (first > 0 && node.fileBlock(first - 1) >= from) first--;
    if (first === end) return;
    this.#modify(leaf);
    for (let index = first; index < end; index++) {
      node.setFileBlock(index, node.fileBlock(index) + distance);
    }
    if (first === 0) this.#fixKeys(levels, levels.length - 1);
  }

  /** Joins entry `index` of a leaf with the one after it, if that continues it. */
  #join(node: ExtentNode, index: number): void {
    const next = index + 1;
    if (next >= node.entryCount) return;
    const count = node.length(next);
    const unwritten = node.isUnwritten(next);
    if (!joins(node, index, node.fileBlock(next), count, node.start(next), unwritten)) return;
    node.setLength(index, node.length(index) + count, unwritten);
    node.removeEntry(next);
  }

  /** Moves the entries of an only leaf into the root, where they fit. */
  #mergeUp(levels: readonly Level[]): void {
    const [root, leaf] = levels;
    if (levels.length !== 2 || root === undefined || leaf?.block === undefined) return;
    if (root.node.entryCount > 1 || leaf.node.entryCount > ROOT_ENTRIES_MAX) return;
    this.#modify(root);
    this.#modify(leaf);
    root.node.format(0, ROOT_ENTRIES_MAX);
    leaf.node.moveEntries(0, root.node);
    giveMapBlock(this.#fs, this.#tx, this.#inode, leaf.block.number);
  }

  /** Splits the topmost full node on the way to the leaf, which is full. */
  #makeRoom(levels: readonly Level[], block: FileBlock): void {
    let level = levels.length - 1;
    while (level > 0 && isFull(levels[level - 1] as Level)) level--;
    if (level === 0) this.#growRoot(levels, block);
    else this.#splitNode(levels, level, block);
  }

  #growRoot(levels: readonly Level[], block: FileBlock): void {
    const root = levels[0] as Level;
    const { node } = root;
    const { depth } = node;
    if (depth === EXT_DEPTH_MAX) {
      throw new CorruptionError(
        "extent-depth",
        { inode: this.#inode.number },
        "full at its deepest",
      );
    }
    const key = node.fileBlock(0);
    const [holder, below] = this.#newNode(depth, block);
    this.#modify(root);
    node.moveEntries(0, below);
    node.format(depth + 1, ROOT_ENTRIES_MAX);
    node.insertChild(0, key, holder.number);
  }

  #splitNode(levels: readonly Level[], level: number, block: FileBlock): void {
    const here = levels[level] as Level;
    const parent = levels[level - 1] as Level;
    const { node, index } = here;
    const { depth, entryCount } = node;
    // An index node must not be empty, a leaf is about to get an extent.
    const at = depth === 0 ? index + 1 : Math.min(index + 1, entryCount - 1);
    const key = at < entryCount ? node.fileBlock(at) : block;
    const [holder, added] = this.#newNode(depth, block);
    this.#modify(here);
    this.#modify(parent);
    node.moveEntries(at, added);
    parent.node.insertChild(parent.index + 1, key, holder.number);
  }

  /** An empty node, near what it is going to map. */
  #newNode(depth: number, block: FileBlock): [Block, ExtentNode] {
    const goal = this.#goal(block);
    const number = takeMapBlock(this.#fs, this.#tx, this.#inode, goal, this.#tookApart);
    const holder = this.#tx.create(number, this.#seal);
    const node = new ExtentNode(holder.view);
    node.format(depth, extentEntryMax(holder.bytes.length));
    holder.markVerified(BlockKind.EXTENTS, this.#inode.number);
    return [holder, node];
  }
}

/** What keeps the checksums of the nodes of `inode` right; undefined where they have none. */
export function extentSeal(fs: Filesystem, inode: Inode): Seal | undefined {
  if (!fs.checksums.enabled) return undefined;
  return ({ view, bytes }) => {
    const at = extentTailOffset(view);
    const checksum = fs.checksums.over(inode.checksumSeed, bytes, 0, at);
    setLe32(view, at, ExtentTail.checksum, checksum);
  };
}

/** Whether file blocks from `block` on continue extent `index`, and may be added to it. */
function joins(
  node: ExtentNode,
  index: number,
  block: number,
  count: number,
  start: number,
  unwritten: boolean,
): boolean {
  const length = node.length(index);
  return (
    node.fileBlock(index) + length === block &&
    node.start(index) + length === start &&
    node.isUnwritten(index) === unwritten &&
    length + count <= extentLengthMax(unwritten)
  );
}

/** Whether extent `index` continues the file blocks from `block` on, and may be added to. */
function joinsBefore(
  node: ExtentNode,
  index: number,
  block: number,
  count: number,
  start: number,
  unwritten: boolean,
): boolean {
  return (
    block + count === node.fileBlock(index) &&
    start + count === node.start(index) &&
    node.isUnwritten(index) === unwritten &&
    node.length(index) + count <= extentLengthMax(unwritten)
  );
}

/** The first key of the leaf after the one that `levels` lead to. */
function nextKey(levels: readonly Level[]): number {
  for (let level = levels.length - 2; level >= 0; level--) {
    const { node, index } = levels[level] as Level;
    if (index + 1 < node.entryCount) return node.fileBlock(index + 1);
  }
  return FILE_BLOCK_END;
}

function isFull({ node }: Level): boolean {
  return node.entryCount >= node.entryMax;
}

function lastOf(levels: readonly Level[]): Level {
  return levels[levels.length - 1] as Level;
}
