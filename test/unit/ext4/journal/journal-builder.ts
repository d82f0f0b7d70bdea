/**
 * Writes journals in memory, block by block, the way jbd2 lays them out. Everything can be made
 * wrong afterwards: the blocks are there to be changed.
 */
import { setBe16, setBe32, setU8, sizeOf } from "../../../../src/base/layout.ts";
import { Checksums, crc32cScript } from "../../../../src/ext4/format/checksum.ts";
import {
  BlockTag,
  BlockTag3,
  CommitHeader,
  crc32Be,
  JOURNAL_MAGIC,
  JournalBlockType,
  JournalCompat,
  JournalHeader,
  JournalIncompat,
  JournalSuperblock,
  JournalSuperblockLayout,
  RevokeHeader,
  TagFlags,
} from "../../../../src/ext4/format/jbd2.ts";
import type { JournalSource } from "../../../../src/ext4/journal/source.ts";

export const BLOCK_SIZE = 1024;
export const BLOCK_COUNT = 1400;
export const checksums = new Checksums(false, 0, crc32cScript);

/** A journal in memory. Blocks that nobody wrote are zeros. */
class MemoryJournal implements JournalSource {
  readonly blockSize = BLOCK_SIZE;
  readonly blockCount = BLOCK_COUNT;
  readonly superblockIndex = 0;
  readonly blocks = new Map<number, Uint8Array>();
  /** How often a block was read. */
  readCount = 0;

  readBlock(index: number): Uint8Array {
    this.readCount++;
    return this.blocks.get(index)?.slice() ?? new Uint8Array(BLOCK_SIZE);
  }

  /** The block `index`, to be changed. */
  block(index: number): Uint8Array {
    const known = this.blocks.get(index) ?? new Uint8Array(BLOCK_SIZE);
    this.blocks.set(index, known);
    return known;
  }

  view(index: number): DataView {
    return new DataView(this.block(index).buffer);
  }
}

export interface JournalOptions {
  readonly version?: 0 | 1 | 2 | 3;
  readonly is64Bit?: boolean;
  readonly asyncCommit?: boolean;
  readonly start?: number;
  readonly sequence?: number;
  /** With the feature, and this many blocks for them. */
  readonly fastCommitBlocks?: number;
}

export interface Logged {
  readonly block: number;
  readonly data: Uint8Array;
  /** Bits to be set besides those that follow from the place of the tag. */
  readonly flags?: number;
  /** The tag has a UUID behind it. */
  readonly withUuid?: boolean;
}

/** A block of `BLOCK_SIZE` bytes, all `value`. */
export function filled(value: number): Uint8Array {
  return new Uint8Array(BLOCK_SIZE).fill(value);
}

export class JournalBuilder {
  readonly journal = new MemoryJournal();
  readonly #version: 0 | 1 | 2 | 3;
  readonly #is64Bit: boolean;
  readonly #end: number;
  readonly #seed: number;
  /** Where the next block goes, and the number of the transaction that it belongs to. */
  next: number;
  sequence: number;
  #crc = 0xffff_ffff;

  constructor(options: JournalOptions = {}) {
    const S = JournalSuperblockLayout;
    const { version = 0, is64Bit = false, asyncCommit = false, fastCommitBlocks = 0 } = options;
    this.#version = version;
    this.#is64Bit = is64Bit;
    this.#end = BLOCK_COUNT - fastCommitBlocks;
    this.next = options.start ?? 1;
    this.sequence = options.sequence ?? 7;
    const view = this.journal.view(0);
    setBe32(view, 0, S.magic, JOURNAL_MAGIC);
    setBe32(view, 0, S.blocktype, JournalBlockType.SUPERBLOCK_V2);
    setBe32(view, 0, S.blocksize, BLOCK_SIZE);
    setBe32(view, 0, S.maxlen, BLOCK_COUNT);
    setBe32(view, 0, S.first, 1);
    setBe32(view, 0, S.sequence, this.sequence);
    setBe32(view, 0, S.start, this.next);
    setBe32(view, 0, S.featureCompat, version === 1 ? JournalCompat.CHECKSUM : 0);
    const incompat =
      JournalIncompat.REVOKE |
      (is64Bit ? JournalIncompat["64BIT"] : 0) |
      (asyncCommit ? JournalIncompat.ASYNC_COMMIT : 0) |
      (version === 2 ? JournalIncompat.CSUM_V2 : 0) |
      (version === 3 ? JournalIncompat.CSUM_V3 : 0) |
      (fastCommitBlocks > 0 ? JournalIncompat.FAST_COMMIT : 0);
    setBe32(view, 0, S.featureIncompat, incompat);
    setBe32(view, 0, S.nrUsers, 1);
    setBe32(view, 0, S.numFcBlks, fastCommitBlocks);
    setU8(view, 0, S.checksumType, version >= 2 ? 4 : 0);
    const uuid = this.journal.block(0).subarray(S.uuid, S.uuid + 16);
    uuid.forEach((_, index) => {
      uuid[index] = index + 1;
    });
    this.#seed = crc32cScript(0xffff_ffff, uuid);
    this.sumSuperblock();
  }

  /** Makes the checksum of the superblock right again after a change. */
  sumSuperblock(): void {
    const S = JournalSuperblockLayout;
    if (this.#version < 2) return;
    const view = this.journal.view(0);
    setBe32(view, 0, S.checksum, 0);
    setBe32(view, 0, S.checksum, crc32cScript(0xffff_ffff, this.journal.block(0).slice(0, 1024)));
  }

  superblock(): JournalSuperblock {
    return new JournalSuperblock(this.journal.view(0), BLOCK_SIZE, BLOCK_COUNT, checksums);
  }

  /** A descriptor block and the data blocks behind it. @returns the index of the descriptor. */
  descriptor(logged: readonly Logged[]): number {
    const index = this.#take(JournalBlockType.DESCRIPTOR);
    const view = this.journal.view(index);
    let at = sizeOf(JournalHeader);
    logged.forEach((each, order) => {
      const escaped = new DataView(each.data.buffer).getUint32(0) === JOURNAL_MAGIC;
      const data = each.data.slice();
      if (escaped) data.fill(0, 0, 4);
      const isLast = order === logged.length - 1;
      const flags =
        (each.flags ?? 0) |
        (escaped ? TagFlags.ESCAPE : 0) |
        (each.withUuid === true ? 0 : TagFlags.SAME_UUID) |
        (isLast ? TagFlags.LAST_TAG : 0);
      this.#tag(view, at, each.block, flags, this.#dataChecksum(data));
      at += this.#tagSize() + (each.withUuid === true ? 16 : 0);
      this.journal.block(this.#advance()).set(data);
    });
    this.#sumTail(index);
    this.#crc = crc32Be(this.#crc, this.journal.block(index));
    for (let order = 1; order <= logged.length; order++) {
      const wrapped = index + order >= this.#end ? index + order - this.#end + 1 : index + order;
      this.#crc = crc32Be(this.#crc, this.journal.block(wrapped));
    }
    return index;
  }

  revoke(blocks: readonly number[]): number {
    const index = this.#take(JournalBlockType.REVOKE);
    const view = this.journal.view(index);
    let at = sizeOf(RevokeHeader);
    for (const block of blocks) {
      if (this.#is64Bit) {
        view.setUint32(at, Math.floor(block / 2 ** 32));
        at += 4;
      }
      view.setUint32(at, block % 2 ** 32);
      at += 4;
    }
    setBe32(view, 0, RevokeHeader.count, at);
    this.#sumTail(index);
    return index;
  }

  /** Ends the transaction. @returns the index of the commit block. */
  commit(seconds = 1000): number {
    const index = this.#take(JournalBlockType.COMMIT);
    const view = this.journal.view(index);
    setBe32(view, 0, CommitHeader.commitSecLo, seconds);
    if (this.#version === 1) {
      setU8(view, 0, CommitHeader.chksumType, 1);
      setU8(view, 0, CommitHeader.chksumSize, 4);
      setBe32(view, 0, CommitHeader.chksum, this.#crc);
    } else if (this.#version >= 2) {
      this.sumCommit(index);
    }
    this.#crc = 0xffff_ffff;
    this.sequence = (this.sequence + 1) >>> 0;
    return index;
  }

  /** Makes the checksum of a commit block right again after a change. */
  sumCommit(index: number): void {
    const view = this.journal.view(index);
    setBe32(view, 0, CommitHeader.chksum, 0);
    setBe32(view, 0, CommitHeader.chksum, crc32cScript(this.#seed, this.journal.block(index)));
  }

  /** One transaction that logs `logged` and nothing else. */
  transaction(logged: readonly Logged[], seconds?: number): void {
    this.descriptor(logged);
    this.commit(seconds);
  }

  #take(type: number): number {
    const index = this.#advance();
    const view = this.journal.view(index);
    setBe32(view, 0, JournalHeader.magic, JOURNAL_MAGIC);
    setBe32(view, 0, JournalHeader.blocktype, type);
    setBe32(view, 0, JournalHeader.sequence, this.sequence);
    return index;
  }

  #advance(): number {
    const index = this.next++;
    if (this.next === this.#end) this.next = 1;
    return index;
  }

  #tagSize(): number {
    if (this.#version === 3) return 16;
    return (this.#is64Bit ? 12 : 8) + (this.#version === 2 ? 2 : 0);
  }

  #tag(view: DataView, at: number, block: number, flags: number, checksum: number): void {
    setBe32(view, at, BlockTag.blocknr, block % 2 ** 32);
    if (this.#version === 3) {
      setBe32(view, at, BlockTag3.flags, flags);
      setBe32(view, at, BlockTag3.checksum, checksum);
      // Without 64-bit block numbers this field is garbage, as debugfs leaves it.
      const high = this.#is64Bit ? Math.floor(block / 2 ** 32) : 0xdead_beef;
      setBe32(view, at, BlockTag3.blocknrHigh, high);
    } else {
      setBe16(view, at, BlockTag.flags, flags);
      setBe16(view, at, BlockTag.checksum, this.#version === 2 ? checksum & 0xffff : 0);
      if (this.#is64Bit) setBe32(view, at, BlockTag.blocknrHigh, Math.floor(block / 2 ** 32));
    }
  }

  #dataChecksum(data: Uint8Array): number {
    const sequence = new Uint8Array(4);
    new DataView(sequence.buffer).setUint32(0, this.sequence);
    return crc32cScript(crc32cScript(this.#seed, sequence), data);
  }

  #sumTail(index: number): void {
    if (this.#version < 2) return;
    const view = this.journal.view(index);
    view.setUint32(BLOCK_SIZE - 4, 0);
    view.setUint32(BLOCK_SIZE - 4, crc32cScript(this.#seed, this.journal.block(index)));
  }
}
