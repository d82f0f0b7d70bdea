/**
 * Commits transactions to a journal, from where they go to their places later.
 *
 *     commit        | revokes | descriptor | data ... | descriptor | data ... |   flush
 *                   | commit block |                                              flush
 *     checkpoint    data blocks to their places   flush   superblock: where the log begins now
 *
 * Invariants:
 *  - A commit block is written when all that it speaks for is durable: the blocks of its
 *    transaction, and the file data that its inodes point to.
 *  - Until a flush has followed the superblock that lets go of a part of the log, that part is not
 *    written over: a recovery that starts from the older superblock finds every transaction whole.
 *  - A checkpoint writes committed contents only. It happens right behind a commit, when no block
 *    has been changed again, and takes all blocks, so that the log is empty after it.
 *  - After each commit more than half the log is free: room for the largest transaction.
 *
 * @see fs/jbd2/commit.c, jbd2_journal_commit_transaction; fs/jbd2/checkpoint.c
 */
import type { WritableDevice } from "../../base/block-device.ts";
import { Errno } from "../../base/errno.ts";
import type { FsBlock } from "../../base/numbers.ts";
import type { Block, BlockCache } from "../cache/block-cache.ts";
import { FsError } from "../errors.ts";
import type { Timestamp } from "../format/inode.ts";
import { CRC32_START, crc32Be, JOURNAL_MAGIC, nextSequence, TagFlags } from "../format/jbd2.ts";
import {
  beginDescriptor,
  fillCommit,
  fillRevoke,
  putTag,
  revokesPerBlock,
  tagsPerDescriptor,
} from "../format/jbd2-records.ts";
import { writeInPlace } from "./in-place.ts";
import type { Journal } from "./journal.ts";
import { LogWriter } from "./log-writer.ts";
import type { CommitTarget, LogErasure, Transaction } from "./transaction.ts";

/** The share of the log that one transaction may fill. @see fs/jbd2/journal.c, journal_reset */
const TRANSACTION_SHARE = 4;
/** A checkpoint is due when blocks of this size wait for one. */
const PINNED_BYTES_MAX = 32 * 1024 * 1024;

export interface Jbd2TargetOptions {
  readonly journal: Journal;
  /** Where blocks have their places. */
  readonly device: WritableDevice;
  readonly blocks: BlockCache;
  readonly now: () => Timestamp;
}

export class Jbd2Target implements CommitTarget {
  readonly blocksMax: number;
  readonly #journal: Journal;
  readonly #device: WritableDevice;
  readonly #blocks: BlockCache;
  readonly #now: () => Timestamp;
  readonly #log: LogWriter;
  readonly #logBlocks: number;
  readonly #tagsMax: number;
  readonly #revokesMax: number;
  #sequence: number;
  /** Where the log begins by the superblock that was written last; 0 when it is empty. */
  #tail: number;
  /** Where it begins by the oldest superblock that a crash may leave. */
  #durableTail: number;

  /** @param options with a journal whose log has no transactions, wherever it begins. */
  constructor({ journal, device, blocks, now }: Jbd2TargetOptions) {
    const { superblock, source } = journal;
    this.#journal = journal;
    this.#device = device;
    this.#blocks = blocks;
    this.#now = now;
    const head = superblock.start === 0 ? superblock.logFirst : superblock.start;
    this.#log = new LogWriter(journal, head);
    this.#logBlocks = superblock.logEnd - superblock.logFirst;
    this.#tagsMax = Math.min(
      tagsPerDescriptor(superblock, source.blockSize),
      this.#log.capacity - 1,
    );
    this.#revokesMax = revokesPerBlock(superblock, source.blockSize);
    this.#sequence =
      superblock.start === 0 ? nextSequence(superblock.sequence) : superblock.sequence;
    this.#tail = superblock.start;
    this.#durableTail = head;
    this.blocksMax = Math.floor(superblock.logEnd / TRANSACTION_SHARE);
  }

  commit(transaction: Transaction): void {
    const { blocks, revoked } = transaction;
    if (blocks.size === 0 && revoked.size === 0) {
      this.#device.flush();
      return;
    }
    this.#makeRoom(this.#blocksFor(transaction));
    if (this.#tail === 0) {
      this.#tail = this.#log.next;
      this.#journal.setStart(this.#tail, this.#sequence);
    }
    this.#writeRevokes([...revoked]);
    const crc = this.#writeBlocks([...blocks.values()]);
    this.#log.store();
    this.#device.flush();
    if (this.#journal.device !== this.#device) this.#journal.device.flush();
    this.#durableTail = this.#tail;

    const block = this.#takeRecord();
    fillCommit(this.#journal.superblock, block, this.#sequence, this.#now(), crc);
    this.#log.store();
    this.#journal.device.flush();
    this.#sequence = nextSequence(this.#sequence);

    for (const block of blocks.values()) {
      block.isChanged = false;
      block.awaitsCheckpoint = true;
    }
    const pinnedBytes = this.#blocks.pinnedCount * this.#journal.source.blockSize;
    if (this.#usedFrom(this.#tail) > this.#logBlocks / 2 || pinnedBytes > PINNED_BYTES_MAX) {
      this.#writeToPlaces();
      this.#tail = this.#log.next;
      this.#journal.setStart(this.#tail, this.#sequence);
    }
  }

  checkpoint(): void {
    if (this.#tail === 0) return;
    this.#writeToPlaces();
    this.#tail = 0;
    this.#journal.setStart(0, this.#sequence);
    this.#journal.device.flush();
    this.#durableTail = this.#log.next;
  }

  eraseLog(how: LogErasure): void {
    this.#journal.erase(how);
    this.#journal.device.flush();
  }

  #writeToPlaces(): void {
    const waiting: Block[] = [];
    for (const block of this.#blocks.pinned) {
      if (block.isChanged) throw new Error(`block ${block.number} was changed and not committed`);
      if (block.awaitsCheckpoint) waiting.push(block);
    }
    writeInPlace(this.#device, this.#journal.source.blockSize, waiting);
    this.#device.flush();
    for (const block of waiting) {
      block.awaitsCheckpoint = false;
      this.#blocks.unpin(block);
    }
  }

  /** Blocks of the log that `transaction` takes. */
  #blocksFor({ blocks, revoked }: Transaction): number {
    const descriptors = Math.ceil(blocks.size / this.#tagsMax);
    return Math.ceil(revoked.size / this.#revokesMax) + descriptors + blocks.size + 1;
  }

  /** @throws FsError EIO when a transaction of `count` blocks does not fit. */
  #makeRoom(count: number): void {
    if (this.#usedFrom(this.#durableTail) + count < this.#logBlocks) return;
    this.#journal.device.flush();
    this.#durableTail = this.#tail === 0 ? this.#log.next : this.#tail;
    if (this.#usedFrom(this.#durableTail) + count < this.#logBlocks) return;
    throw new FsError(Errno.EIO, `a transaction of ${count} blocks does not fit into the journal`);
  }

  /** Blocks of the log from `tail` to its end. */
  #usedFrom(tail: number): number {
    const used = this.#log.next - tail;
    return used < 0 ? used + this.#logBlocks : used;
  }

  #writeRevokes(revoked: readonly FsBlock[]): void {
    for (let from = 0; from < revoked.length; from += this.#revokesMax) {
      const part = revoked.slice(from, from + this.#revokesMax);
      fillRevoke(this.#journal.superblock, this.#takeRecord(), this.#sequence, part);
    }
  }

  /** @returns the crc32 over all that was written, for checksums v1. */
  #writeBlocks(blocks: readonly Block[]): number {
    let crc = CRC32_START;
    for (let from = 0; from < blocks.length; from += this.#tagsMax) {
      const part = blocks.slice(from, from + this.#tagsMax);
      this.#log.reserve(1 + part.length);
      const logged = this.#writePart(part);
      if (this.#journal.superblock.checksumVersion === 1) {
        for (const bytes of logged) crc = crc32Be(crc, bytes);
      }
    }
    return crc;
  }

  /** Writes a descriptor and the blocks that it describes. @returns all of them as they are in the log. */
  #writePart(blocks: readonly Block[]): Uint8Array[] {
    const { superblock } = this.#journal;
    const seed = superblock.dataSeed(this.#sequence);
    const view = this.#takeRecord();
    const logged = [new Uint8Array(view.buffer, view.byteOffset, view.byteLength)];
    let at = beginDescriptor(view, this.#sequence);
    for (const block of blocks) {
      const bytes = this.#log.take();
      bytes.set(block.bytes);
      // A reader takes what begins like this for a block of the journal itself.
      const isEscaped = block.view.getUint32(0, false) === JOURNAL_MAGIC;
      if (isEscaped) bytes.fill(0, 0, 4);
      const flags =
        (isEscaped ? TagFlags.ESCAPE : 0) |
        (logged.length === 1 ? 0 : TagFlags.SAME_UUID) |
        (logged.length === blocks.length ? TagFlags.LAST_TAG : 0);
      const checksum = superblock.dataChecksum(seed, bytes);
      at = putTag(superblock, view, at, { block: block.number, flags, checksum });
      logged.push(bytes);
    }
    superblock.sealTail(view);
    return logged;
  }

  #takeRecord(): DataView {
    const bytes = this.#log.take().fill(0);
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}
