/**
 * The block devices that the server has registered, and the kernel's own I/O on them. All ids stand
 * for one device here: the filesystem's, which may begin somewhere behind the start of the disk.
 */
import type { WritableDevice } from "../../../src/base/block-device.ts";
import { Errno } from "./abi.ts";
import { SystemError, type Violations } from "./rules.ts";

const IDS_MAX = 1024;
const SECTOR_BYTES = 512;

/** What the device does to I/O of the kernel: throw to have it fail. */
export type FaultHook = (what: "read" | "write", addr: number, length: number) => void;

export interface DeviceOptions {
  readonly device: WritableDevice;
  readonly deviceOffsetBytes: number;
  /** The server has opened it for reading only. */
  readonly readOnly: boolean;
}

export class Devices {
  readonly #options: DeviceOptions;
  readonly #violations: Violations;
  readonly #ids = new Set<number>();
  #lastId = 0;
  fault: FaultHook | undefined;
  blockSizes: number[] = [];

  constructor(options: DeviceOptions, violations: Violations) {
    this.#options = options;
    this.#violations = violations;
  }

  get isWritable(): boolean {
    return !this.#options.readOnly;
  }

  get offsetBytes(): number {
    return this.#options.deviceOffsetBytes;
  }

  /** Of the whole disk. */
  get sizeBytes(): number {
    return this.offsetBytes + this.#options.device.sizeBytes;
  }

  has(id: number): boolean {
    return this.#ids.has(id);
  }

  /** @returns the new id, from 1 to 1024. */
  register(): number {
    for (let tried = 0; tried < IDS_MAX; tried++) {
      this.#lastId = (this.#lastId % IDS_MAX) + 1;
      if (this.#ids.has(this.#lastId)) continue;
      this.#ids.add(this.#lastId);
      return this.#lastId;
    }
    return -Errno.ENOSPC;
  }

  releaseAll(): void {
    this.#ids.clear();
  }

  /** @throws SystemError EIO */
  read(addr: number, into: Uint8Array): void {
    this.#transfer("read", addr, into.length, (at) => this.#options.device.read(at, into));
  }

  /** @throws SystemError EIO */
  write(addr: number, bytes: Uint8Array): void {
    this.#transfer("write", addr, bytes.length, (at) => this.#options.device.write(at, bytes));
  }

  #transfer(what: "read" | "write", addr: number, length: number, how: (at: number) => void): void {
    const at = addr - this.offsetBytes;
    const isOutside = at < 0 || at + length > this.#options.device.sizeBytes;
    if (isOutside || addr % SECTOR_BYTES !== 0)
      this.#violations.fail("io-beyond-device", `${what} of ${length} bytes at ${addr}`, Errno.EIO);
    try {
      this.fault?.(what, addr, length);
      how(at);
    } catch (error) {
      throw new SystemError(Errno.EIO, `${what} of ${length} bytes at ${addr}: ${error}`);
    }
  }
}
