/**
 * The orphan file: a fixed number of blocks of inode numbers, which many operations can change
 * without meeting at one list. Its blocks are found and checked when the filesystem is opened; in
 * memory there is a count of free entries for each, so that a free one is found without a search.
 *
 * @see fs/ext4/orphan.c, ext4_init_orphan_info and ext4_orphan_file_add
 */
import type { FileBlock, FsBlock, InodeNumber } from "../base/numbers.ts";
import { type Block, BlockKind } from "./cache/block-cache.ts";
import { CorruptionError } from "./errors.ts";
import type { Filesystem } from "./filesystem.ts";
import type { Inode } from "./format/inode.ts";
import {
  orphanAt,
  orphanEntries,
  sealOrphanBlock,
  setOrphanAt,
  verifyOrphanBlock,
} from "./format/orphan.ts";
import type { Tx } from "./journal/transaction.ts";
import { findRun } from "./map/iomap.ts";
import { HOLE, newRun } from "./map/run.ts";

/** The kernel refuses a larger file, which every mount would have to read. */
const ORPHAN_FILE_BYTES_MAX = 8 * 1024 * 1024;

export class OrphanFile {
  readonly #fs: Filesystem;
  readonly #file: Inode;
  readonly #blocks: FsBlock[] = [];
  /** Free entries by block. */
  readonly #free: number[] = [];
  readonly #perBlock: number;

  /** @throws CorruptionError when the file cannot be what it should. */
  constructor(fs: Filesystem) {
    this.#fs = fs;
    this.#file = fs.internalInode(fs.superblock.orphanFileInode);
    this.#perBlock = orphanEntries(fs.superblock.blockSize);
    const { number, sizeBytes, isRegular } = this.#file;
    if (!isRegular || sizeBytes > ORPHAN_FILE_BYTES_MAX) {
      const found = isRegular ? `${sizeBytes} bytes` : "not a regular file";
      throw new CorruptionError("orphan-file", { inode: number }, found);
    }
    const count = Math.floor(sizeBytes / fs.superblock.blockSize);
    for (let index = 0; index < count; index++) this.#blocks.push(this.#locate(index));
    for (let index = 0; index < count; index++) this.#free.push(this.#countFree(index));
  }

  get isEmpty(): boolean {
    return this.#free.every((free) => free === this.#perBlock);
  }

  /** Every slot in use with the number in it; slots count through all blocks. */
  *entries(): Generator<readonly [slot: number, number: InodeNumber]> {
    for (let index = 0; index < this.#blocks.length; index++) {
      for (let entry = 0; entry < this.#perBlock; entry++) {
        if (this.#free[index] === this.#perBlock) break;
        const number = orphanAt(this.#block(index), entry);
        if (number !== 0) yield [index * this.#perBlock + entry, number as InodeNumber];
      }
    }
  }

  /** Puts `number` into a free slot. @returns the slot, or -1 when the file is full. */
  add(tx: Tx, number: InodeNumber): number {
    const index = this.#free.findIndex((free) => free > 0);
    if (index < 0) return -1;
    const block = this.#block(index);
    let entry = 0;
    while (orphanAt(block, entry) !== 0) entry++;
    this.#store(tx, index, entry, number);
    return index * this.#perBlock + entry;
  }

  /** Makes `slot` free again. */
  clear(tx: Tx, slot: number): void {
    this.#store(tx, Math.floor(slot / this.#perBlock), slot % this.#perBlock, 0);
  }

  #store(tx: Tx, index: number, entry: number, number: number): void {
    const block = tx.modify(this.#block(index), this.#seal);
    setOrphanAt(block, entry, number);
    const change = number === 0 ? 1 : -1;
    this.#free[index] = (this.#free[index] as number) + change;
    tx.onRollback(() => {
      this.#free[index] = (this.#free[index] as number) - change;
    });
  }

  readonly #seal = (block: Block): void =>
    sealOrphanBlock(block, this.#file.checksumSeed, this.#fs.checksums);

  #block(index: number): Block {
    const block = this.#fs.blocks.get(this.#blocks[index] as FsBlock);
    const { number, checksumSeed } = this.#file;
    if (!block.isVerifiedAs(BlockKind.ORPHANS, number)) {
      verifyOrphanBlock(block, checksumSeed, this.#fs.checksums);
      block.markVerified(BlockKind.ORPHANS, number);
    }
    return block;
  }

  #locate(index: number): FsBlock {
    const run = findRun(this.#fs, this.#file, index as FileBlock, newRun());
    if (run.fsBlock !== HOLE && !run.unwritten) return run.fsBlock as FsBlock;
    const place = { inode: this.#file.number };
    throw new CorruptionError("orphan-file", place, `block ${index} is not there`);
  }

  #countFree(index: number): number {
    const block = this.#block(index);
    let free = 0;
    for (let entry = 0; entry < this.#perBlock; entry++) {
      if (orphanAt(block, entry) === 0) free++;
    }
    return free;
  }
}
