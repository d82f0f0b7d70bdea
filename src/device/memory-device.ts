/** A device in memory: an image that was read whole, or made by a test. */
import type { BlockDevice } from "../base/block-device.ts";

export class MemoryDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly #bytes: Uint8Array;

  /** @param bytes the image; later changes to it show. */
  constructor(bytes: Uint8Array) {
    this.sizeBytes = bytes.length;
    this.#bytes = bytes;
  }

  read(offset: number, into: Uint8Array): void {
    if (offset < 0 || offset + into.length > this.sizeBytes)
      throw new RangeError(`${into.length} bytes at byte ${offset} are not all there`);
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }
}
