/**
 * A device with newer blocks laid over it: what the journal holds and the device does not have yet.
 *
 *     device       | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | ...
 *     newer blocks |   | 1'|   |   |   | 5'| 6'|   | ...
 *     seen         | 0 | 1'| 2 | 3 | 4 | 5'| 6'| 7 | ...
 *
 * The newer blocks are a sorted array of numbers; their contents are fetched when they are read.
 */
import type { BlockDevice } from "../../base/block-device.ts";

/** Blocks by number, and where to get them. */
export interface NewerBlocks {
  /** Ascending, each once. */
  readonly numbers: Float64Array;
  /** All bytes of the block `numbers[index]`; the caller must not change them. */
  contents(index: number): Uint8Array;
}

export class ReplayedDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly #device: BlockDevice;
  readonly #blockSize: number;
  readonly #newer: NewerBlocks;

  constructor(device: BlockDevice, blockSize: number, newer: NewerBlocks) {
    this.sizeBytes = device.sizeBytes;
    this.#device = device;
    this.#blockSize = blockSize;
    this.#newer = newer;
  }

  /** How many of the `count` blocks from `first` on come before the first newer one. */
  untilReplayed(first: number, count: number): number {
    const { numbers } = this.#newer;
    const nearest = numbers[lowerBound(numbers, first)];
    return nearest === undefined ? count : Math.min(count, nearest - first);
  }

  read(offset: number, into: Uint8Array): void {
    const size = this.#blockSize;
    const { numbers } = this.#newer;
    const end = offset + into.length;
    let at = offset;
    let index = lowerBound(numbers, Math.floor(offset / size));
    for (; at < end; index++) {
      const start = (numbers[index] ?? Number.POSITIVE_INFINITY) * size;
      if (start > at) {
        const older = Math.min(start, end);
        this.#device.read(at, into.subarray(at - offset, older - offset));
        at = older;
      }
      if (at === end) return;
      const part = this.#newer.contents(index).subarray(at - start, end - start);
      into.set(part, at - offset);
      at += part.length;
    }
  }
}

/** The index of the first of `numbers` (ascending) that is not below `number`. */
export function lowerBound(numbers: Float64Array, number: number): number {
  let low = 0;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((numbers[middle] as number) < number) low = middle + 1;
    else high = middle;
  }
  return low;
}
