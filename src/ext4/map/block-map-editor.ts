/**
 * Changes the block maps of ext2 and ext3, in the handle of one operation. Indirect blocks come when
 * the first block below them does, and go when the last one goes.
 *
 * @see block-map.ts; fs/ext4/indirect.c
 */
import { Errno } from "../../base/errno.ts";
import type { FileBlock, FsBlock } from "../../base/numbers.ts";
import { type BlockRun, goalFor } from "../alloc/blocks.ts";
import type { Block } from "../cache/block-cache.ts";
import { CorruptionError, FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { type Inode, InodeLayout } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { checkedPointer, DIRECT_COUNT, indirectBlock, LEVELS, POINTER_SIZE } from "./block-map.ts";
import type { Budget } from "./budget.ts";
import { giveBlocks, giveMapBlock, takeBlocks, takeMapBlock } from "./space.ts";

/** No pointer can say more. */
const FS_BLOCK_END = 0x1_0000_0000;

/** Block numbers in a row: some of `i_block`, or an indirect block. */
interface Pointers {
  /** What they lie in; undefined for the inode. */
  readonly block: Block | undefined;
  readonly view: DataView;
  readonly at: number;
  readonly count: number;
  /** The first file block below them, and how many each of them covers. */
  readonly from: number;
  readonly span: number;
}

export class BlockMapEditor {
  readonly #fs: Filesystem;
  readonly #tx: Tx;
  readonly #inode: Inode;
  readonly #perBlock: number;

  constructor(fs: Filesystem, tx: Tx, inode: Inode) {
    this.#fs = fs;
    this.#tx = tx;
    this.#inode = inode;
    this.#perBlock = fs.superblock.blockSize / POINTER_SIZE;
    if (fs.superblock.clusterBlocks > 1) {
      const found = "a block map on a filesystem with clusters";
      throw new CorruptionError("block-range", { inode: inode.number }, found);
    }
  }

  /**
   * Allocates blocks for the hole at `block`: as many of `count` as there are in one piece and fit
   * next to each other in the map.
   *
   * @param count file blocks that are all in the hole.
   * @throws FsError ENOSPC
   */
  allocate(block: FileBlock, count: number): BlockRun {
    let pointers = this.#topOf(block);
    while (pointers.span > 1) pointers = this.#below(pointers, this.#indexIn(pointers, block));
    const index = this.#indexIn(pointers, block);
    const most = Math.min(count, pointers.count - index);
    const goal = this.#goal(pointers, index);
    const taken = takeBlocks(this.#fs, this.#tx, this.#inode, goal, most);
    if (taken.start + taken.count > FS_BLOCK_END) {
      throw new FsError(Errno.ENOSPC, "free blocks lie beyond what a block map can name");
    }
    for (let each = 0; each < taken.count; each++) {
      this.#set(pointers, index + each, taken.start + each);
    }
    return taken;
  }

  /** As `ExtentEditor.remove`. */
  remove(from: FileBlock, end: number, budget: Budget): number {
    let at = end;
    for (const top of this.#tops().reverse()) {
      const topEnd = top.from + top.span * top.count;
      if (topEnd <= from || top.from >= at) continue;
      at = this.#removeBelow(top, from, Math.min(at, topEnd), budget);
      if (at > Math.max(from, top.from)) return at;
    }
    return from;
  }

  /** @returns from where on all of `pointers` up to `end` are gone. */
  #removeBelow(pointers: Pointers, from: number, end: number, budget: Budget): number {
    const first = Math.max(0, this.#indexIn(pointers, from));
    let at = end;
    for (let index = this.#indexIn(pointers, end - 1); index >= first; index--) {
      const lowest = Math.max(from, pointers.from + index * pointers.span);
      if (this.#get(pointers, index) !== 0) {
        if (budget.isUsedUp) return at;
        if (pointers.span === 1) {
          index = this.#freeRun(pointers, first, index, budget);
        } else {
          const below = this.#below(pointers, index);
          at = this.#removeBelow(below, lowest, at, budget);
          if (at > lowest) return at;
          this.#dropIfEmpty(pointers, index, below, budget);
        }
      }
      at = Math.max(from, pointers.from + index * pointers.span);
    }
    return at;
  }

  /** Frees the block of `last` and those before it that precede it on the device. @returns the first. */
  #freeRun(pointers: Pointers, first: number, last: number, budget: Budget): number {
    const end = checkedPointer(this.#fs, this.#inode, this.#get(pointers, last)) + 1;
    let index = last;
    while (index > first && this.#get(pointers, index - 1) === end - 1 - (last - index + 1))
      index--;
    for (let each = index; each <= last; each++) this.#set(pointers, each, 0);
    const count = last - index + 1;
    const start = checkedPointer(this.#fs, this.#inode, end - count);
    giveBlocks(this.#fs, this.#tx, this.#inode, start, count);
    budget.chargePiece(count);
    return index;
  }

  #dropIfEmpty(parent: Pointers, index: number, below: Pointers, budget: Budget): void {
    if (below.block === undefined || !below.block.bytes.every((byte) => byte === 0)) return;
    this.#set(parent, index, 0);
    giveMapBlock(this.#fs, this.#tx, this.#inode, below.block.number);
    budget.chargePiece(1);
  }

  /** Behind the blocks before it, or else behind their indirect block. @see ext4_find_near */
  #goal({ block, view, at }: Pointers, index: number): FsBlock {
    for (let before = index - 1; before >= 0; before--) {
      const pointer = view.getUint32(at + POINTER_SIZE * before, true);
      if (pointer !== 0) return (pointer + index - before) as FsBlock;
    }
    return block?.number ?? goalFor(this.#fs, this.#inode);
  }

  /** The indirect block that pointer `index` leads to; a new one if there is none yet. */
  #below(pointers: Pointers, index: number): Pointers {
    const from = pointers.from + index * pointers.span;
    const span = pointers.span / this.#perBlock;
    const number = this.#get(pointers, index);
    const block =
      number === 0 ? this.#add(pointers, index) : indirectBlock(this.#fs, this.#inode, number);
    return { block, view: block.view, at: 0, count: this.#perBlock, from, span };
  }

  #add(pointers: Pointers, index: number): Block {
    const goal = this.#goal(pointers, index);
    const number = takeMapBlock(this.#fs, this.#tx, this.#inode, goal);
    if (number >= FS_BLOCK_END) {
      throw new FsError(Errno.ENOSPC, "free blocks lie beyond what a block map can name");
    }
    this.#set(pointers, index, number);
    return this.#tx.create(number);
  }

  #topOf(block: FileBlock): Pointers {
    const found = this.#tops().find((top) => block < top.from + top.span * top.count);
    if (found !== undefined) return found;
    throw new FsError(Errno.EFBIG, `a block map cannot have file block ${block}`);
  }

  /** What `i_block` holds: pointers to blocks, and one each to the trees of three depths. */
  #tops(): Pointers[] {
    const { raw } = this.#inode;
    const top = (slot: number, count: number, from: number, span: number): Pointers => {
      const at = InodeLayout.block + POINTER_SIZE * slot;
      return { block: undefined, view: raw, at, count, from, span };
    };
    const tops = [top(0, DIRECT_COUNT, 0, 1)];
    let from = DIRECT_COUNT;
    let span = this.#perBlock;
    for (let level = 0; level < LEVELS; level++) {
      tops.push(top(DIRECT_COUNT + level, 1, from, span));
      from += span;
      span *= this.#perBlock;
    }
    return tops;
  }

  #indexIn({ from, span }: Pointers, block: number): number {
    return Math.floor((block - from) / span);
  }
  #get({ view, at }: Pointers, index: number): number {
    return view.getUint32(at + POINTER_SIZE * index, true);
  }
  #set({ block, view, at }: Pointers, index: number, value: number): void {
    if (block === undefined) this.#tx.edit(this.#inode);
    else this.#tx.modify(block);
    view.setUint32(at + POINTER_SIZE * index, value, true);
  }
}
