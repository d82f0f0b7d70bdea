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
