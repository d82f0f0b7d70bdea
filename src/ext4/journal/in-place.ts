/**
 * Writing without a journal, as ext2 did: a commit writes all changed blocks to their places. A
 * crash in between leaves the filesystem to e2fsck.
 */
import type { WritableDevice } from "../../base/block-device.ts";
import type { Block, BlockCache } from "../cache/block-cache.ts";
import type { CommitTarget, Transaction } from "./transaction.ts";

/** Bounds what waits in memory. */
const BYTES_MAX = 32 * 1024 * 1024;

export class InPlaceTarget implements CommitTarget {
  readonly blocksMax: number;
  readonly #device: WritableDevice;
  readonly #blocks: BlockCache;
  readonly #blockSize: number;

  constructor(device: WritableDevice, blocks: BlockCache, blockSize: number) {
    this.#device = device;
    this.#blocks = blocks;
    this.#blockSize = blockSize;
    this.blocksMax = Math.floor(BYTES_MAX / blockSize);
  }

  commit(transaction: Transaction): void {
    writeInPlace(this.#device, this.#blockSize, [...transaction.blocks.values()]);
    this.#device.flush();
    for (const block of transaction.blocks.values()) {
      block.isChanged = false;
      this.#blocks.unpin(block);
    }
  }

  checkpoint(): void {}
}

/** Blocks next to each other are written together, this many bytes at a time. */
const RUN_BYTES_MAX = 1024 * 1024;

/** Writes `blocks` to their places, in ascending order. */
export function writeInPlace(device: WritableDevice, blockSize: number, blocks: Block[]): void {
  blocks.sort((a, b) => a.number - b.number);
  const runMax = Math.max(1, Math.floor(RUN_BYTES_MAX / blockSize));
  let buffer: Uint8Array | undefined;
  for (let from = 0; from < blocks.length; ) {
    const first = blocks[from] as Block;
    let count = 1;
    while (count < runMax && blocks[from + count]?.number === first.number + count) count++;
    if (count === 1) {
      device.write(first.number * blockSize, first.bytes);
    } else {
      buffer ??= new Uint8Array(runMax * blockSize);
      for (let index = 0; index < count; index++) {
        buffer.set((blocks[from + index] as Block).bytes, index * blockSize);
      }
      device.write(first.number * blockSize, buffer.subarray(0, count * blockSize));
    }
    from += count;
  }
}
