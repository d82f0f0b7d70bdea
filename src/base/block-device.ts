/**
 * What the filesystem asks of its storage: bytes at offsets, synchronously. A device does not know
 * what the bytes mean, and the filesystem does not know what the device is.
 */

/** A device that can be read. Offsets and sizes are in bytes. */
export interface BlockDevice {
  readonly sizeBytes: number;

  /**
   * Fills all of `into` from `offset` on.
   *
   * @throws any Error when not every byte could be read; the filesystem makes EIO of it.
   */
  read(offset: number, into: Uint8Array): void;
}

/** A device that can be written, too. What was written is read back at once, and safe after `flush`. */
export interface WritableDevice extends BlockDevice {
  /**
   * Stores all of `bytes` from `offset` on. The caller may change them as soon as this returns.
   *
   * @throws any Error when not every byte could be stored.
   */
  write(offset: number, bytes: Uint8Array): void;

  /**
   * Returns when all that was written before is on stable storage: device caches included, and
   * writes of file data that others make on this device (the shim's) as well.
   *
   * @throws any Error when something was lost.
   */
  flush(): void;

  /** Says that `length` bytes at `offset` are not needed any more. May do nothing. */
  discard(offset: number, length: number): void;

  /** Makes `length` bytes at `offset` read as zeros. */
  zero(offset: number, length: number): void;
}
