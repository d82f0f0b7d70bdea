/**
 * Walks the log of a journal, record by record: a record is a block with a header of its own. The
 * log is a ring, and nothing in it says where it ends: it ends where the next block is no record of
 * the sequence number that is due.
 */
import { be32 } from "../../base/layout.ts";
import { CorruptionError } from "../errors.ts";
import { JOURNAL_MAGIC, JournalHeader, type JournalSuperblock } from "../format/jbd2.ts";
import type { JournalSource } from "./source.ts";

export interface LogRecord {
  /** One of `JournalBlockType`, or anything else that the block says. */
  readonly type: number;
  readonly view: DataView;
  /** Its place in the journal. */
  readonly index: number;
}

export class LogWalk {
  readonly #source: JournalSource;
  readonly #first: number;
  readonly #end: number;
  #next: number;
  /** A log of n blocks has at most n, and one more may be looked at to see that it ends. */
  #left: number;

  constructor(source: JournalSource, superblock: JournalSuperblock) {
    this.#source = source;
    this.#first = superblock.logFirst;
    this.#end = superblock.logEnd;
    this.#next = superblock.start;
    this.#left = this.#end - this.#first + 1;
  }

  /** The index of the block that comes next. */
  get next(): number {
    return this.#next;
  }

  /** The next record if it belongs to transaction `sequence`, or undefined at the end of the log. */
  record(sequence: number): LogRecord | undefined {
    const index = this.take();
    const bytes = this.#source.readBlock(index);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (be32(view, 0, JournalHeader.magic) !== JOURNAL_MAGIC) return undefined;
    if (be32(view, 0, JournalHeader.sequence) !== sequence) return undefined;
    return { type: be32(view, 0, JournalHeader.blocktype), view, index };
  }

  /**
   * The index of the next block, whatever it is; the walk goes on behind it.
   *
   * @throws CorruptionError `journal-sequence` when the log bites its own tail.
   */
  take(): number {
    if (this.#left-- === 0) {
      throw new CorruptionError("journal-sequence", {}, "the log goes round without an end");
    }
    const index = this.#next++;
    if (this.#next === this.#end) this.#next = this.#first;
    return index;
  }
}
