/**
 * Metadata blocks in memory, bounded in bytes.
 *
 * A block enters through `get`, which reads it from the device. Whoever interprets a block verifies
 * it once and marks it (`Block.verifiedAs`); from then on accessors trust its bytes. Eviction is by
 * second chance: a hit only sets a bit, and the oldest block without the bit goes first.
 */

import type { BlockDevice } from "../../base/block-device.ts";
import { Errno } from "../../base/errno.ts";
import type { FsBlock } from "../../base/numbers.ts";
import { CorruptionError, FsError } from "../errors.ts";

/** What a block was verified as; together with an inode number it makes the mark on the block. */
// biome-ignore format: a table
export const BlockKind = {
  EXTENTS: 1, DIRECTORY: 2, HTREE_ROOT: 3, HTREE_NODE: 4, XATTR: 5,
} as const;

/** One cached block. Its bytes stay as they are for as long as somebody holds it. */
export class Block {
  readonly number: FsBlock;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** For the eviction only. */
  referenced = false;
  #verifiedAs = 0;

  constructor(number: FsBlock, bytes: Uint8Array) {
    this.number = number;
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** True when `markVerified` was last called with the same kind and owner. */
  isVerifiedAs(kind: number, owner: number): boolean {
    return this.#verifiedAs === kind * 0x1_0000_0000 + owner;
  }
  markVerified(kind: number, owner: number): void {
    this.#verifiedAs = kind * 0x1_0000_0000 + owner;
  }
}

/** Enough to hold one path through the deepest trees, however small the budget. */
const BLOCKS_MIN = 32;

export class BlockCache {
  readonly #device: BlockDevice;
  readonly #blockSize: number;
  readonly #blockCount: number;
  readonly #capacity: number;
  readonly #blocks = new Map<number, Block>();

  constructor(device: BlockDevice, blockSize: number, blockCount: number, capacityBytes: number) {
    this.#device = device;
    this.#blockSize = blockSize;
    this.#blockCount = blockCount;
    this.#capacity = Math.max(BLOCKS_MIN, Math.floor(capacityBytes / blockSize));
  }

  /**
   * The block `number`, from memory or from the device.
   *
   * @throws CorruptionError `block-range` when there is no such block.
   * @throws FsError EIO when the device cannot read it.
   */
  get(number: FsBlock): Block {
    const cached = this.#blocks.get(number);
    if (cached !== undefined) {
      cached.referenced = true;
      return cached;
    }
    if (!(number >= 0 && number < this.#blockCount)) {
      throw new CorruptionError(
        "block-range",
        { block: number },
        `the last block is ${this.#blockCount - 1}`,
      );
    }
    const bytes = new Uint8Array(this.#blockSize);
    readDevice(this.#device, number * this.#blockSize, bytes);
    const block = new Block(number, bytes);
    if (this.#blocks.size >= this.#capacity) this.#evict();
    this.#blocks.set(number, block);
    return block;
  }

  #evict(): void {
    for (const [number, block] of this.#blocks) {
      this.#blocks.delete(number);
      if (!block.referenced) return;
      block.referenced = false;
      this.#blocks.set(number, block);
    }
  }
}

/** Reads all of `into` at byte `offset`. @throws FsError EIO with the device's error as its cause. */
export function readDevice(device: BlockDevice, offset: number, into: Uint8Array): void {
  try {
    device.read(offset, into);
  } catch (cause) {
    throw new FsError(Errno.EIO, `cannot read ${into.length} bytes at ${offset}`, { cause });
  }
}
