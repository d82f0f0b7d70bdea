/**
 * A way through a hash index: from the root down to one block of entries, and from that to the
 * next. Every hash leads to exactly one block; the blocks of a continuation follow it.
 */
import type { FileBlock } from "../../base/numbers.ts";
import type { Block } from "../cache/block-cache.ts";
import {
  checkHtreeRange,
  HASH_END,
  HtreeNode,
  indirectLevels,
  NODE_ENTRIES_AT,
  ROOT_ENTRIES_AT,
} from "../format/htree.ts";
import type { Directory } from "./contents.ts";

/** One node on the way, and the entry of it that was followed. */
export class Step {
  readonly block: Block;
  /** Where the entries of the node begin. */
  readonly entriesAt: number;
  readonly node: HtreeNode;
  index: number;
  /** The hashes that the node covers. */
  readonly key: number;
  readonly endKey: number;

  /** @param hash of the entry to be followed. */
  constructor(block: Block, entriesAt: number, hash: number, key: number, endKey: number) {
    this.block = block;
    this.entriesAt = entriesAt;
    this.node = new HtreeNode(block.view, entriesAt);
    this.index = this.node.find(hash);
    this.key = key;
    this.endKey = endKey;
  }
}

export class HtreePath {
  readonly #directory: Directory;
  readonly #steps: Step[] = [];
  /** Blocks seen so far. A sound index leads to each block once. */
  #visited = 0;

  /** Leads to the block where names with this major hash begin. */
  constructor(directory: Directory, hash: number) {
    this.#directory = directory;
    const root = directory.indexRoot();
    this.#steps.push(new Step(root, ROOT_ENTRIES_AT, hash, 0, HASH_END));
    this.#descend(indirectLevels(root.view), hash);
  }

  /** From the root down. */
  get steps(): readonly Step[] {
    return this.#steps;
  }
  /** The block of entries. */
  get block(): FileBlock {
    const { node, index } = this.#last;
    return node.block(index);
  }
  /** The least hash in it; odd when names of the hash before lie in the block before as well. */
  get key(): number {
    return keyOf(this.#last);
  }
  /** The least hash of the block after it, in the same way. */
  get endKey(): number {
    return endKeyOf(this.#last);
  }

  /** The first and the last hash that names in the block should have. */
  get firstHash(): number {
    return (this.key & ~1) >>> 0;
  }
  get lastHash(): number {
    const { endKey } = this;
    return (endKey & 1) === 1 ? endKey - 1 : endKey - 2;
  }

  /** Goes on to the next block. @returns false when this was the last. */
  next(): boolean {
    const steps = this.#steps;
    let level = steps.length - 1;
    while (level >= 0) {
      const step = steps[level] as Step;
      if (step.index + 1 < step.node.count) break;
      level--;
    }
    if (level < 0) return false;
    (steps[level] as Step).index++;
    const below = steps.length - 1 - level;
    steps.length = level + 1;
    this.#descend(below, 0);
    return true;
  }

  get #last(): Step {
    return this.#steps[this.#steps.length - 1] as Step;
  }

  #descend(levels: number, hash: number): void {
    const directory = this.#directory;
    for (let level = 0; level < levels; level++) {
      const above = this.#last;
      const key = keyOf(above);
      const endKey = endKeyOf(above);
      const block = directory.indexNode(above.node.block(above.index));
      const step = new Step(block, NODE_ENTRIES_AT, hash, key, endKey);
      checkHtreeRange(step.node, key, endKey, { inode: directory.number, block: block.number });
      this.#steps.push(step);
    }
    if (++this.#visited > directory.partCount) {
      throw directory.corruption("htree-block", "the index leads to a block more than once");
    }
  }
}

function keyOf({ node, index, key }: Step): number {
  return index === 0 ? key : node.hash(index);
}
function endKeyOf({ node, index, endKey }: Step): number {
  return index + 1 < node.count ? node.hash(index + 1) : endKey;
}
