/**
 * What a session needs besides its channel where a kernel with fuse+iomap is to move file contents:
 * the calls on the descriptors of the connection and of the device, which belong to whoever made the
 * mount.
 */
import type { WritableDevice } from "../base/block-device.ts";

export interface IomapHost {
  /** A mount without it is of no use. */
  readonly required: boolean;
  /** Let the kernel keep mappings. */
  readonly usesCache: boolean;
  /** Where the filesystem starts on the device that is registered: a multiple of its block size. */
  readonly deviceOffsetBytes: number;
  /** Alignment that direct I/O on the device wants of addresses, and of offsets and lengths. */
  readonly directMemoryBytes: number;
  readonly directOffsetBytes: number;
  /** The least and the most that the device writes wholly or not at all; absent when it does not say. */
  readonly atomicWriteBytes?: { readonly min: number; readonly max: number };
  /** Reads and writes file contents past the page cache of the device; absent from a read-only mount. */
  readonly contents: WritableDevice | undefined;

  /** It was agreed on in INIT. */
  onAgreed(): void;
  /**
   * Registers the device that the contents lie on; to be called while IOMAP_CONFIG is answered.
   *
   * @returns its number on the wire, from 1 on, or a negative errno.
   */
  registerDevice(): number;
  /**
   * Has the page cache of the device work in units of `bytes`, so that no page of it holds metadata and
   * contents.
   *
   * @returns zero or a negative errno.
   */
  setBlockSize(device: number, bytes: number): number;
}
