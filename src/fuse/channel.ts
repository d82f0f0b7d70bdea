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
/**
 * As a reply length: the mappings of this READ or WRITE are in the cache now; the shim answers it.
 * A WRITE is carried out as far as it is mapped, and says so.
 */
export const SERVE_BY_SHIM = -1;
/** As a reply length: this request gets no reply. */
export const NO_REPLY = 0;

/** Numbers per mapping in `Channel.mappings`: file offset, device offset, length, type, flags. */
export const MAPPING_STRIDE = 5;
/**
 * A flag of a mapping, for the WRITE in hand: its blocks hold rubbish. The shim writes zeros to what
 * the WRITE leaves of them, before anybody can read them.
 *
 * @see IOMAP_F_NEW in the kernel's include/linux/iomap.h
 */
export const MAPPING_NEW = 1;

/** Numbers per node in `Channel.written`, behind the count: node id, seconds, nanoseconds. */
export const WRITTEN_STRIDE = 3;

/** What of a node's WRITEs the shim may carry out without asking, where they change bytes in place. */
export const WriteAccess = {
  /** None: the file is not to be changed, or not by everybody, or not everywhere. */
  ASK: 0,
  /** Those that do not take set-id bits or capabilities away. */
  ASK_TO_CLEAR: 1,
  /** All: there is nothing to take away. */
  FREE: 2,
} as const;
export type WriteAccess = (typeof WriteAccess)[keyof typeof WriteAccess];

export interface Channel {
  /** The request in hand, from its `fuse_in_header` on; the data of a WRITE only after `loadData`. */
  readonly request: Uint8Array;
  /** Where its reply is built, from its `fuse_out_header` on. */
  readonly reply: Uint8Array;
  /**
   * Mappings on their way to the shim, `MAPPING_STRIDE` numbers each: file offset in bytes, offset
   * in bytes from the start of the filesystem (-1 for a hole), length in bytes, iomap type, flags.
   */
  readonly mappings: Float64Array;
  /**
   * How many nodes the shim has written to without asking since `takeWritten` (kept up to date at
   * index 0), and behind that what `takeWritten` took: `WRITTEN_STRIDE` numbers each.
   */
  readonly written: Float64Array;

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
   * @param sizeBytes the size of the file: reads end there, and no WRITE beyond it is the shim's
   *   alone. Without mappings, only this is updated, if the node is in the cache.
   */
  map(nodeId: number, sizeBytes: number, count: number, access: WriteAccess): void;

  /** Drops what the shim knows of the bytes of node `nodeId` from `offset` up to `end`. */
  invalidate(nodeId: number, offset: number, end: number): void;

  /** Puts the data of the WRITE in hand behind its struct in `request`. */
  loadData(): void;

  /**
   * Carries the WRITE in hand out as far as it is mapped, before more of it is: what was mapped as new
   * must have its data before anything else changes. The reply comes with `SERVE_BY_SHIM`.
   *
   * @returns zero or a negative errno.
   */
  storeMapped(): number;

  /**
   * Has the kernel ask for the attributes and ACLs of node `nodeId` when it needs them next: the
   * request in hand changes some that its opcode does not make the kernel doubt.
   */
  forgetAttributes(nodeId: number): void;
  /** The same, and for what it keeps of the contents: the listing of a directory. */
  forgetContents(nodeId: number): void;
  /**
   * The kernel has given back all that it knew of node `nodeId`, pages too: until it reads some again, a
   * WRITE that goes past its page cache leaves nothing stale there.
   */
  noteForgotten(nodeId: number): void;

  /**
   * Tells the kernel something that it did not ask for. It answers at once, and takes no lock for that
   * which a request in hand could hold.
   *
   * @param code the `error` field of such a message.
   * @returns zero or a negative errno: ENOENT, ESTALE when the kernel does not know the node any more.
   */
  notify(code: number, payload: Uint8Array): number;

  /** Moves nodes that were written to, and when, into `written`. @returns how many it took. */
  takeWritten(): number;
}
