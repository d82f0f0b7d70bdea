/**
 * What the session asks of its transport. The native shim has the real one; tests pass their own.
 *
 * One request is in hand at a time. Its bytes lie in `request` until the next call of `next`, and
 * its answer is built in place in `reply`.
 */

/** `next` found the connection closed: unmounted, aborted, or stopped by `interrupt`. */
export const CLOSED = 0;
/** `next` waited as long as it was told to and no request came. */
export const TIMED_OUT = -1;
/** As a reply length: the mappings of this READ are in the cache now; the shim answers it. */
export const SERVE_BY_SHIM = -1;
/** As a reply length: this request gets no reply. */
export const NO_REPLY = 0;

/** Numbers per mapping in `Channel.mappings`: file offset, device offset, length, iomap type. */
export const MAPPING_STRIDE = 4;

export interface Channel {
  /** The request in hand, from its `fuse_in_header` on. */
  readonly request: Uint8Array;
  /** Where its reply is built, from its `fuse_out_header` on. */
  readonly reply: Uint8Array;
  /**
   * Mappings on their way to the shim, `MAPPING_STRIDE` numbers each: file offset in bytes, offset
   * in bytes from the start of the filesystem (-1 for a hole), length in bytes, iomap type.
   */
  readonly mappings: Float64Array;

  /**
   * Answers the request in hand with the first `replyLength` bytes of `reply` (or `NO_REPLY`, or
   * `SERVE_BY_SHIM`) and waits for the next one that the shim does not serve by itself.
   *
   * @param timeoutMs longest time to wait; -1 waits for ever.
   * @returns the length of the request now in hand, `CLOSED`, or `TIMED_OUT`.
   */
  next(replyLength: number, timeoutMs: number): number;

  /**
   * Takes the first `count` entries of `mappings` into the shim's cache for node `nodeId`.
   *
   * @param sizeBytes the size of the file: reads end there.
   */
  map(nodeId: number, sizeBytes: number, count: number): void;
}
