/**
 * Metadata blocks in memory, bounded in bytes.
 *
 * A block enters through `get`, which reads it from the device. Whoever interprets a block verifies
 * it once and marks it (`Block.markVerified`); from then on accessors trust its bytes.
 */

import type { BlockDevice } from "../../base/block-device.ts";
import { Errno } from "../../base/errno.ts";
import type { FsBlock } from "../../base/numbers.ts";
import { CorruptionError, FsError } from "../errors.ts";
import { Arena } from "./arena.ts";
import { ClockRing } from "./clock-ring.ts";

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
/** Blocks are cut from pieces of this size. */
const ARENA_CHUNK_BYTES = 64 * 1024;

export class BlockCache {
  readonly #device: BlockDevice;
  readonly #blockSize: number;
  readonly #blockCount: number;
  readonly #arena: Arena;
  readonly #blocks: ClockRing<Block>;

  constructor(device: BlockDevice, blockSize: number, blockCount: number, capacityBytes: number) {
    this.#device = device;
    this.#blockSize = blockSize;
    this.#blockCount = blockCount;
    this.#arena = new Arena(blockSize, ARENA_CHUNK_BYTES);
    this.#blocks = new ClockRing(Math.max(BLOCKS_MIN, Math.floor(capacityBytes / blockSize)));
  }

  /**
   * The block `number`, from memory or from the device.
   *
   * @throws CorruptionError `block-range` when there is no such block.
   * @throws FsError EIO when the device cannot read it.
   */
  get(number: FsBlock): Block {
    const cached = this.#blocks.get(number);
    if (cached !== undefined) return cached;
    if (!(number >= 0 && number < this.#blockCount)) {
      const found = `the last block is ${this.#blockCount - 1}`;
      throw new CorruptionError("block-range", { block: number }, found);
    }
    const bytes = this.#arena.take();
    readDevice(this.#device, number * this.#blockSize, bytes);
    const block = new Block(number, bytes);
    this.#blocks.add(number, block);
    return block;
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
