/** A device in memory: an image that was read whole, or made by a test. */
import type { WritableDevice } from "../base/block-device.ts";

export class MemoryDevice implements WritableDevice {
  readonly sizeBytes: number;
  readonly #bytes: Uint8Array;

  /** @param bytes the image; later changes to it show, and it shows what is written. */
  constructor(bytes: Uint8Array) {
    this.sizeBytes = bytes.length;
    this.#bytes = bytes;
  }

  read(offset: number, into: Uint8Array): void {
    this.#verifyRange(offset, into.length);
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#verifyRange(offset, bytes.length);
    this.#bytes.set(bytes, offset);
  }

  flush(): void {}

  discard(offset: number, length: number): void {
    this.#verifyRange(offset, length);
  }

  zero(offset: number, length: number): void {
    this.#verifyRange(offset, length);
    this.#bytes.fill(0, offset, offset + length);
  }

  #verifyRange(offset: number, length: number): void {
    if (offset < 0 || offset + length > this.sizeBytes)
      throw new RangeError(`${length} bytes at byte ${offset} are not all there`);
  }
}
