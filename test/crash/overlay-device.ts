/**
 * A device whose writes are kept beside the image that it shows, so that one image can be recovered
 * over and over without a copy.
 */
import type { WritableDevice } from "../../src/base/block-device.ts";

export const PAGE_SIZE = 4096;

export class OverlayDevice implements WritableDevice {
  readonly sizeBytes: number;
  readonly #image: Uint8Array;
  /** The pages that were written, by number. */
  readonly pages = new Map<number, Uint8Array>();
  /** Writes that are still carried out; all later ones fail, and change nothing. */
  writesLeft = Number.POSITIVE_INFINITY;
  writeCount = 0;

  constructor(image: Uint8Array) {
    this.sizeBytes = image.length;
    this.#image = image;
  }

  read(offset: number, into: Uint8Array): void {
    if (offset + into.length > this.sizeBytes) throw new RangeError(`nothing at byte ${offset}`);
    this.#forEachPage(offset, into.length, (page, within, at, length) => {
      const bytes = this.pages.get(page);
      const from = page * PAGE_SIZE + within;
      into.set(
        bytes?.subarray(within, within + length) ?? this.#image.subarray(from, from + length),
        at,
      );
    });
  }

  write(offset: number, bytes: Uint8Array): void {
    if (offset + bytes.length > this.sizeBytes) throw new RangeError(`nothing at byte ${offset}`);
    this.writeCount++;
    if (this.writeCount > this.writesLeft) throw new Error("the power is off");
    this.#forEachPage(offset, bytes.length, (page, within, at, length) => {
      let copy = this.pages.get(page);
      if (copy === undefined) {
        copy = this.#image.slice(page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
        this.pages.set(page, copy);
      }
      copy.set(bytes.subarray(at, at + length), within);
    });
  }

  flush(): void {}

  discard(): void {}

  zero(offset: number, length: number): void {
    this.write(offset, new Uint8Array(length));
  }

  #forEachPage(
    offset: number,
    length: number,
    visit: (page: number, within: number, at: number, length: number) => void,
  ): void {
    for (let at = 0; at < length; ) {
      const page = Math.floor((offset + at) / PAGE_SIZE);
      const within = offset + at - page * PAGE_SIZE;
      const part = Math.min(PAGE_SIZE - within, length - at);
      visit(page, within, at, part);
      at += part;
    }
  }
}
