/**
 * A device in memory that remembers, in order, everything that was done to it. Marks of the test
 * stand between, so that what was on the device at any moment can be related to the calls that had
 * returned by then.
 */
import type { WritableDevice } from "../../src/base/block-device.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";

export type DeviceEvent =
  | { readonly kind: "write"; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: "discard"; readonly offset: number; readonly length: number }
  | { readonly kind: "flush" }
  /** An operation begins or has returned. */
  | { readonly kind: "begin" | "end" };

/** What a disk writes at once, or not at all. */
export const SECTOR_SIZE = 512;
/** What discarded bytes read as: a device may return anything. */
export const DISCARDED = 0xd5;

export class RecordingDevice implements WritableDevice {
  readonly #device: MemoryDevice;
  readonly log: DeviceEvent[] = [];

  /** @param bytes the image; it is changed by what is written. */
  constructor(bytes: Uint8Array) {
    this.#device = new MemoryDevice(bytes);
  }

  get sizeBytes(): number {
    return this.#device.sizeBytes;
  }

  read(offset: number, into: Uint8Array): void {
    this.#device.read(offset, into);
  }

  /** A disk takes whole sectors: what lies around the bytes in theirs is written again. */
  write(offset: number, bytes: Uint8Array): void {
    this.#device.write(offset, bytes);
    const start = offset - (offset % SECTOR_SIZE);
    const end = Math.ceil((offset + bytes.length) / SECTOR_SIZE) * SECTOR_SIZE;
    const sectors = new Uint8Array(end - start);
    this.#device.read(start, sectors);
    this.log.push({ kind: "write", offset: start, bytes: sectors });
  }

  flush(): void {
    this.log.push({ kind: "flush" });
  }

  discard(offset: number, length: number): void {
    this.#device.write(offset, new Uint8Array(length).fill(DISCARDED));
    this.log.push({ kind: "discard", offset, length });
  }

  zero(offset: number, length: number): void {
    this.write(offset, new Uint8Array(length));
  }

  /** Notes that an operation begins, or has returned. */
  mark(kind: "begin" | "end"): void {
    this.log.push({ kind });
  }
}
