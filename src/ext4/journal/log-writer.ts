/**
 * Writes the log of a journal, block after block: it gathers them in memory, and stores what lies
 * together with one call of the device. The log is a ring.
 */
import type { Journal } from "./journal.ts";

/** What is gathered: a full descriptor of blocks up to 4 KiB and the data behind it, or more. */
const GATHERED_BYTES = 1024 * 1024;
const GATHERED_BLOCKS_MIN = 64;

export class LogWriter {
  readonly #journal: Journal;
  readonly #blockSize: number;
  readonly #first: number;
  readonly #end: number;
  /** The most blocks that are gathered. */
  readonly capacity: number;
  /** Made when the first block comes. */
  #gathered: Uint8Array | undefined;
  #count = 0;
  #stored: number;

  /** @param next the index of the first block to be written. */
  constructor(journal: Journal, next: number) {
    this.#journal = journal;
    this.#blockSize = journal.source.blockSize;
    this.#first = journal.superblock.logFirst;
    this.#end = journal.superblock.logEnd;
    this.capacity = Math.max(GATHERED_BLOCKS_MIN, Math.floor(GATHERED_BYTES / this.#blockSize));
    this.#stored = next;
  }

  /** The index of the next block. */
  get next(): number {
    return this.#after(this.#stored, this.#count);
  }

  /**
   * The next block of the log, for the caller to fill: all of it, as it holds older bytes. It must
   * be done with it when it asks for more than are sure to fit (`reserve`), or stores them.
   */
  take(): Uint8Array {
    this.reserve(1);
    const size = this.#blockSize;
    this.#gathered ??= new Uint8Array(this.capacity * size);
    return this.#gathered.subarray(this.#count * size, ++this.#count * size);
  }

  /** Makes sure that the next `count` blocks are in memory together. At most `capacity`. */
  reserve(count: number): void {
    if (this.#count + count > this.capacity) this.store();
  }

  /** Hands to the device what was gathered. */
  store(): void {
    const size = this.#blockSize;
    for (let from = 0; from < this.#count; ) {
      const count = Math.min(this.#count - from, this.#end - this.#stored);
      const bytes = this.#gathered?.subarray(from * size, (from + count) * size) as Uint8Array;
      this.#journal.write(this.#stored, bytes);
      this.#stored = this.#after(this.#stored, count);
      from += count;
    }
    this.#count = 0;
  }

  #after(index: number, count: number): number {
    const after = index + count;
    return after < this.#end ? after : after - this.#end + this.#first;
  }
}
