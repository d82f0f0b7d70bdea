/**
 * Metadata blocks in memory, bounded in bytes.
 *
 * A block enters through `get`, which reads it from the device, or through `create`, which does
 * not. Whoever interprets a block verifies it once and marks it (`Block.markVerified`); from then on
 * accessors trust its bytes.
 *
 *     clean     in the ring; may be evicted
 *     pinned    changed by the running transaction, or committed and not yet written to its place:
 *               stays until the journal has written it
 *
 * Only the journal (`journal/`) pins, unpins and writes.
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
  EXTENTS: 1, DIRECTORY: 2, HTREE_ROOT: 3, HTREE_NODE: 4, XATTR: 5, BITMAP: 6,
  ORPHANS: 7,
} as const;

/** Brings a block's checksum up to date; called once before a changed block is written. */
export type Seal = (block: Block) => void;

/** One cached block. Its bytes change only under a transaction (`Tx.modify`). */
export class Block {
  readonly number: FsBlock;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** The running transaction has changed it. The journal's. */
  isChanged = false;
  /** A committed transaction has changed it and it was not written to its place yet. The journal's. */
  awaitsCheckpoint = false;
  /** The handle that saved its bytes for a rollback last. The journal's. */
  savedBy = 0;
  seal: Seal | undefined;
  /** What `markVerified` noted. A rollback puts it back. */
  verifiedAs = 0;

  constructor(number: FsBlock, bytes: Uint8Array) {
    this.number = number;
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** True when `markVerified` was last called with the same kind and owner. */
  isVerifiedAs(kind: number, owner: number): boolean {
    return this.verifiedAs === kind * 0x1_0000_0000 + owner;
  }
  markVerified(kind: number, owner: number): void {
    this.verifiedAs = kind * 0x1_0000_0000 + owner;
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
  readonly #clean: ClockRing<Block>;
  readonly #pinned = new Map<FsBlock, Block>();

  constructor(device: BlockDevice, blockSize: number, blockCount: number, capacityBytes: number) {
    this.#device = device;
    this.#blockSize = blockSize;
    this.#blockCount = blockCount;
    this.#arena = new Arena(blockSize, ARENA_CHUNK_BYTES);
    this.#clean = new ClockRing(Math.max(BLOCKS_MIN, Math.floor(capacityBytes / blockSize)));
  }

  /**
   * The block `number`, from memory or from the device.
   *
   * @throws CorruptionError `block-range` when there is no such block.
   * @throws FsError EIO when the device cannot read it.
   */
  get(number: FsBlock): Block {
    const cached = this.#clean.get(number) ?? this.#pinned.get(number);
    if (cached !== undefined) return cached;
    this.#verifyRange(number);
    const bytes = this.#arena.take();
    readDevice(this.#device, number * this.#blockSize, bytes);
    const block = new Block(number, bytes);
    this.#clean.add(number, block);
    return block;
  }

  /**
   * A zeroed block `number` that takes the place of what the cache knew under this number. For a
   * block that was just allocated; `Tx.create` is what everybody but the journal calls.
   */
  create(number: FsBlock): Block {
    this.#verifyRange(number);
    this.drop(number);
    const block = new Block(number, this.#arena.take());
    this.#clean.add(number, block);
    return block;
  }

  /** Forgets block `number`, pinned or not. */
  drop(number: FsBlock): void {
    this.#pinned.delete(number);
    this.#clean.delete(number);
  }

  /** Keeps `block` in memory until `unpin`. */
  pin(block: Block): void {
    if (this.#pinned.has(block.number)) return;
    this.#clean.delete(block.number);
    this.#pinned.set(block.number, block);
  }

  /** Lets `block` be evicted again. */
  unpin(block: Block): void {
    if (this.#pinned.delete(block.number)) this.#clean.add(block.number, block);
  }

  isPinned(number: FsBlock): boolean {
    return this.#pinned.has(number);
  }
  /** The blocks that are pinned, in no order. */
  get pinned(): Iterable<Block> {
    return this.#pinned.values();
  }
  get pinnedCount(): number {
    return this.#pinned.size;
  }

  #verifyRange(number: FsBlock): void {
    if (number >= 0 && number < this.#blockCount) return;
    const found = `the last block is ${this.#blockCount - 1}`;
    throw new CorruptionError("block-range", { block: number }, found);
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
