/**
 * A filesystem's device in a file or block device that is already open, from a byte offset to its
 * end. The descriptor stays the caller's, and may be an O_DIRECT one: the shim aligns.
 */
import type { WritableDevice } from "../base/block-device.ts";
import { Errno, errnoName } from "../base/errno.ts";
import type { Addon, DeviceInfo } from "../native/binding.ts";

/** What is needed of the addon. */
interface DeviceCalls
  extends Pick<
    Addon,
    "readDevice" | "writeDevice" | "flushDevice" | "discardDevice" | "zeroDevice"
  > {
  deviceInfo(fd: number): Pick<DeviceInfo, "sizeBytes" | "isBlockDevice"> | number;
}

export class FileDevice implements WritableDevice {
  /** What follows the offset; negative when the offset is past the end. */
  readonly sizeBytes: number;
  readonly isBlockDevice: boolean;
  readonly #calls: DeviceCalls;
  readonly #fd: number;
  readonly #startBytes: number;
  readonly #path: string;
  #settle = (): void => {};

  /**
   * @param startBytes where the filesystem begins on the device.
   * @param path what messages call the device.
   * @throws Error when `fd` is neither a file nor a block device.
   */
  constructor(calls: DeviceCalls, fd: number, startBytes: number, path = `descriptor ${fd}`) {
    const info = calls.deviceInfo(fd);
    if (typeof info === "number") throw new Error(`${path} has no size: ${errnoName(-info)}`);
    this.isBlockDevice = info.isBlockDevice;
    this.sizeBytes = info.sizeBytes - startBytes;
    this.#calls = calls;
    this.#fd = fd;
    this.#startBytes = startBytes;
    this.#path = path;
  }

  /** `settle` is called before every flush: whoever else writes to the device finishes there. */
  beforeFlush(settle: () => void): void {
    this.#settle = settle;
  }

  read(offset: number, into: Uint8Array): void {
    const at = this.#locate(offset, into.length);
    const got = this.#calls.readDevice(this.#fd, at, into);
    if (got < 0) throw this.#failure(at, into.length, "read", -got);
    if (got < into.length) {
      throw new Error(`${this.#place(at, into.length)} end after ${got}: was it truncated?`);
    }
  }

  write(offset: number, bytes: Uint8Array): void {
    const at = this.#locate(offset, bytes.length);
    const error = this.#calls.writeDevice(this.#fd, at, bytes);
    if (error < 0) throw this.#failure(at, bytes.length, "written", -error);
  }

  flush(): void {
    this.#settle();
    const error = this.#calls.flushDevice(this.#fd);
    if (error < 0) throw new Error(`${this.#path} cannot be flushed: ${errnoName(-error)}`);
  }

  /** @throws Error as all others, but not where the device knows no discard. */
  discard(offset: number, length: number): void {
    const at = this.#locate(offset, length);
    const error = this.#calls.discardDevice(this.#fd, at, length);
    if (error < 0 && -error !== Errno.EOPNOTSUPP) {
      throw this.#failure(at, length, "discarded", -error);
    }
  }

  zero(offset: number, length: number): void {
    const at = this.#locate(offset, length);
    const error = this.#calls.zeroDevice(this.#fd, at, length);
    if (error < 0) throw this.#failure(at, length, "zeroed", -error);
  }

  #locate(offset: number, length: number): number {
    const at = this.#startBytes + offset;
    if (offset < 0 || offset + length > this.sizeBytes) {
      throw new RangeError(`${this.#place(at, length)} are not all there`);
    }
    return at;
  }

  #failure(at: number, length: number, done: string, errno: number): Error {
    return new Error(`${this.#place(at, length)} cannot be ${done}: ${errnoName(errno)}`);
  }

  #place(at: number, length: number): string {
    return `${this.#path}: ${length} bytes at byte ${at}`;
  }
}
