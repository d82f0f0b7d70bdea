/** Writes fast commits behind the log of a journal in memory, tag by tag. */
import { crc32cScript } from "../../../../src/ext4/format/checksum.ts";
import { FcTagType } from "../../../../src/ext4/format/fast-commit.ts";
import { BLOCK_SIZE, type JournalBuilder } from "./journal-builder.ts";

const TAG_SIZE = 4;
const TAIL_SIZE = 8;

/** Little-endian words, and bytes behind them. */
export function value(words: readonly number[], bytes: Uint8Array = new Uint8Array()): Uint8Array {
  const all = new Uint8Array(words.length * 4 + bytes.length);
  const view = new DataView(all.buffer);
  words.forEach((word, index) => {
    view.setUint32(index * 4, word, true);
  });
  all.set(bytes, words.length * 4);
  return all;
}

export class FastCommitBuilder {
  readonly #builder: JournalBuilder;
  /** The block that is written to, and the place in it. */
  index: number;
  at = 0;
  #crc = 0;

  /** Begins the area with a HEAD of the transaction that is due next. */
  constructor(builder: JournalBuilder, tid = builder.sequence, features = 0) {
    this.#builder = builder;
    this.index = builder.superblock().fastCommitFirst;
    this.tag(FcTagType.HEAD, value([features, tid]));
  }

  tag(type: number, bytes: Uint8Array): this {
    const room = BLOCK_SIZE - this.at;
    if (TAG_SIZE + bytes.length > room - TAG_SIZE) {
      this.#write(FcTagType.PAD, new Uint8Array(room - TAG_SIZE));
      this.#nextBlock();
    }
    this.#write(type, bytes);
    return this;
  }

  inode(number: number, raw: Uint8Array): this {
    return this.tag(FcTagType.INODE, value([number], raw));
  }
  create(parent: number, number: number, name: string): this {
    return this.#entry(FcTagType.CREAT, parent, number, name);
  }
  link(parent: number, number: number, name: string): this {
    return this.#entry(FcTagType.LINK, parent, number, name);
  }
  unlink(parent: number, number: number, name: string): this {
    return this.#entry(FcTagType.UNLINK, parent, number, name);
  }
  addRange(number: number, fileBlock: number, fsBlock: number, length: number): this {
    const high = Math.floor(fsBlock / 2 ** 32);
    const words = [number, fileBlock, length + high * 0x1_0000, fsBlock % 2 ** 32];
    return this.tag(FcTagType.ADD_RANGE, value(words));
  }
  deleteRange(number: number, fileBlock: number, length: number): this {
    return this.tag(FcTagType.DEL_RANGE, value([number, fileBlock, length]));
  }

  /** Ends the fast commit; the next one starts with the next block. */
  tail(tid = this.#builder.sequence, crcFlip = 0): this {
    if (BLOCK_SIZE - this.at < TAG_SIZE + TAIL_SIZE) {
      this.#write(FcTagType.PAD, new Uint8Array(BLOCK_SIZE - this.at - TAG_SIZE));
      this.#nextBlock();
    }
    const start = this.at;
    const bytes = new Uint8Array(BLOCK_SIZE - start - TAG_SIZE);
    const before = this.#crc;
    this.#write(FcTagType.TAIL, bytes);
    const block = this.#builder.journal.block(this.index);
    const view = new DataView(block.buffer);
    view.setUint32(start + TAG_SIZE, tid, true);
    const crc = crc32cScript(before, block.subarray(start, start + TAG_SIZE + 4));
    view.setUint32(start + TAG_SIZE + 4, (crc ^ crcFlip) >>> 0, true);
    this.#crc = 0;
    this.#nextBlock();
    return this;
  }

  #entry(type: number, parent: number, number: number, name: string): this {
    return this.tag(type, value([parent, number], new TextEncoder().encode(name)));
  }

  #write(type: number, bytes: Uint8Array): void {
    const block = this.#builder.journal.block(this.index);
    const view = new DataView(block.buffer);
    const end = this.at + TAG_SIZE + bytes.length;
    view.setUint16(this.at, type, true);
    view.setUint16(this.at + 2, bytes.length, true);
    block.set(bytes, this.at + TAG_SIZE);
    this.#crc = crc32cScript(this.#crc, block.subarray(this.at, end));
    this.at = end;
  }

  #nextBlock(): void {
    this.index++;
    this.at = 0;
  }
}
