/**
 * What the session asks of whoever made the mount, where the kernel may move file data by itself: to
 * register the device, and to give it the block size of the filesystem.
 */
import { Errno } from "../base/errno.ts";
import { FsError } from "../ext4/index.ts";

export interface IomapHost {
  /**
   * Registers the device with the connection, read-write unless the mount is read-only. To be called while
   * IOMAP_CONFIG is handled. @returns a number above zero that mappings name it by, or a negative errno.
   */
  registerDevice(): number;
  /**
   * Sets the block size of the device's own page cache; a smaller one that it has already is tolerated.
   *
   * @returns zero or a negative errno.
   */
  setBlockSize(deviceId: number, bytes: number): number;
  /** To be called when iomap was agreed on in INIT. */
  onAgreed?(): void;
  /** Which writes the device carries out in one piece or not at all. */
  readonly atomicWriteBytes?: { readonly min: number; readonly max: number };
  /** Where the filesystem starts on the device that is registered. */
  readonly deviceOffsetBytes: number;
  /** No mount is better than one without iomap. */
  readonly required: boolean;
  /** Mappings are put into the kernel's cache. */
  readonly usesCache: boolean;
}

/** The kernel does not offer iomap in INIT although the mount needs it. */
export class IomapRequiredError extends FsError {
  override readonly name = "IomapRequiredError";

  constructor() {
    super(Errno.EOPNOTSUPP, "needs iomap, which the kernel does not offer to this mount");
  }
}
