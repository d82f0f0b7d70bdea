/**
 * A filesystem's device in a file or block device that is already open, from a byte offset to its
 * end. The descriptor stays the caller's, and may be an O_DIRECT one: the shim aligns.
 */
import type { BlockDevice } from "../base/block-device.ts";
import { errnoName } from "../base/errno.ts";
import type { Addon } from "../native/binding.ts";

/** What is needed of the addon. */
type DeviceReader = Pick<Addon, "deviceInfo" | "readDevice">;

export class FileDevice implements BlockDevice {
  /** What follows the offset; negative when the offset is past the end. */
  readonly sizeBytes: number;
  readonly #reader: DeviceReader;
  readonly #fd: number;
  readonly #startBytes: number;
  readonly #path: string;

  /**
   * @param startBytes where the filesystem begins on the device.
   * @param path what messages call the device.
   * @throws Error when `fd` is neither a file nor a block device.
   */
  constructor(reader: DeviceReader, fd: number, startBytes: number, path = `descriptor ${fd}`) {
    const info = reader.deviceInfo(fd);
    if (typeof info === "number") throw new Error(`${path} has no size: ${errnoName(-info)}`);
    this.sizeBytes = info.sizeBytes - startBytes;
    this.#reader = reader;
    this.#fd = fd;
    this.#startBytes = startBytes;
    this.#path = path;
  }

  read(offset: number, into: Uint8Array): void {
    const at = this.#startBytes + offset;
    const place = `${this.#path}: ${into.length} bytes at byte ${at}`;
    if (offset < 0 || offset + into.length > this.sizeBytes)
      throw new RangeError(`${place} are not all there`);
    const got = this.#reader.readDevice(this.#fd, at, into);
    if (got < 0) throw new Error(`${place} cannot be read: ${errnoName(-got)}`);
    if (got < into.length) throw new Error(`${place} end after ${got}: was it truncated?`);
  }
}
