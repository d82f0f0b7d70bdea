/**
 * Allocates, frees, commits and rolls back at random on new filesystems of several kinds, and asks
 * e2fsck and debugfs what became of bitmaps, counts and checksums. In the end everything is freed:
 * a block that belongs to nothing would be an error of its own.
 */
import { describe, expect, test } from "vitest";
import type { FsBlock, InodeNumber } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  allocateBlocks,
  type BlockRun,
  discardPreallocation,
  freeBlocks,
  goalFor,
} from "../../src/ext4/alloc/blocks.ts";
import { allocateInode, freeInode } from "../../src/ext4/alloc/inodes.ts";
import type { Filesystem } from "../../src/ext4/filesystem.ts";
import { Inode } from "../../src/ext4/format/inode.ts";
import {
  closeFilesystem,
  FileType,
  FsError,
  openWritableFilesystem,
  ROOT_INODE,
} from "../../src/ext4/index.ts";
import { type Random, randomFrom, seedOfRun } from "../support/random.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import {
  askDebugfs,
  complaintsAbout,
  freshImage,
  freshImageOverOld,
} from "../support/writable-image.ts";

const LAYOUTS: readonly (readonly [name: string, size: string, args: readonly string[]])[] = [
  ["1 KiB blocks", "40M", ["-t", "ext4", "-b", "1024"]],
  ["4 KiB blocks", "300M", ["-t", "ext4", "-b", "4096"]],
  ["64 KiB blocks", "100M", ["-t", "ext4", "-b", "65536"]],
  ["bigalloc", "100M", ["-t", "ext4", "-b", "1024", "-O", "bigalloc", "-C", "8192"]],
  ["meta_bg", "90M", ["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"]],
  ["gdt_csum", "90M", ["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg"]],
  ["no checksums", "40M", ["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^uninit_bg"]],
  ["no 64bit", "90M", ["-t", "ext4", "-b", "1024", "-O", "^64bit"]],
  ["no flex_bg", "90M", ["-t", "ext4", "-b", "1024", "-O", "^flex_bg"]],
  ["sparse_super2", "40M", ["-t", "ext4", "-b", "1024", "-O", "sparse_super2,^resize_inode"]],
  ["ext2", "40M", ["-t", "ext2", "-b", "1024"]],
];

const OLD_DEVICE_BYTES = 64 * 1024 * 1024;
const OLD_DEVICES: readonly (readonly [name: string, args: readonly string[]])[] = [
  ["metadata_csum", ["-t", "ext4", "-b", "1024"]],
  ["gdt_csum", ["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg"]],
  ["bigalloc", ["-t", "ext4", "-b", "1024", "-O", "bigalloc,^has_journal"]],
  ["no flex_bg", ["-t", "ext4", "-b", "1024", "-O", "^flex_bg"]],
];

const CREDITS = 400;
const STEPS = 1000;

class Rollback extends Error {}

/** What is allocated: the filesystem under test, and a model of who has what. */
class Run {
  readonly fs: Filesystem;
  readonly blocks: BlockRun[] = [];
  readonly inodes: Inode[] = [];
  readonly #random: Random;
  readonly #owners = new Set<number>();

  constructor(fs: Filesystem, random: Random) {
    this.fs = fs;
    this.#random = random;
  }

  step(): void {
    const kind = this.#random.below(20);
    if (kind === 0) this.fs.writer.transactions.commit();
    else if (kind === 1) discardPreallocation(this.fs, this.#file());
    else if (kind < 4) this.#rollBack();
    else this.#handle();
  }

  freeAll(): void {
    for (const run of this.blocks.splice(0)) {
      this.fs.transact(CREDITS, (tx) => freeBlocks(this.fs, tx, run.start, run.count, false));
    }
    for (const inode of this.inodes.splice(0)) this.#freeInode(inode);
  }

  #handle(): void {
    const kind = this.#random.below(10);
    if (kind < 5) this.#allocate();
    else if (kind < 7) this.#free();
    else if (kind < 9) this.#allocateInode();
    else this.#freeRandomInode();
  }

  /** The same as a handle, but for nothing. */
  #rollBack(): void {
    const before = { ...this.fs.groups.countFree() };
    const owners = [...this.#owners];
    const operation = (): void => {
      this.fs.transact(CREDITS, (tx) => {
        for (let times = this.#random.below(3) + 1; times > 0; times--) {
          this.#allocateIn(tx);
        }
        const freed = this.blocks[this.#random.below(Math.max(1, this.blocks.length))];
        if (freed !== undefined) freeBlocks(this.fs, tx, freed.start, freed.count, true);
        allocateInode(this.fs, tx, this.fs.inode(ROOT_INODE), this.#random.below(2) === 0);
        throw new Rollback();
      });
    };
    expect(operation).toThrow(Rollback);
    this.#owners.clear();
    for (const block of owners) this.#owners.add(block);
    expect(this.fs.groups.countFree()).toEqual(before);
  }

  #file(): InodeNumber {
    return (20 + this.#random.below(4)) as InodeNumber;
  }

  #allocateIn(tx: Parameters<typeof allocateBlocks>[1]): BlockRun | undefined {
    const random = this.#random;
    const isAppend = random.below(2) === 0 && this.blocks.length > 0;
    const last = this.blocks.at(-1) as BlockRun;
    const goal = isAppend ? last.start + last.count : random.below(this.fs.superblock.blockCount);
    const count = random.below(10) === 0 ? 1 + random.below(3000) : 1 + random.below(20);
    try {
      const run = allocateBlocks(this.fs, tx, {
        goal: goal as FsBlock,
        count,
        ...(random.below(3) > 0 && { inode: this.#file() }),
        isMetadata: random.below(4) === 0,
      });
      const { clusterBlocks } = this.fs.superblock;
      expect(run.count).toBeGreaterThan(0);
      expect(run.count).toBeLessThanOrEqual(Math.ceil(count / clusterBlocks) * clusterBlocks);
      expect(run.start % clusterBlocks).toBe(this.fs.superblock.firstDataBlock % clusterBlocks);
      for (let block = run.start; block < run.start + run.count; block++) {
        expect(this.#owners.has(block), `block ${block} twice`).toBe(false);
        this.#owners.add(block);
      }
      return run;
    } catch (error) {
      if (error instanceof FsError && error.message === "no block is free") return undefined;
      throw error;
    }
  }

  #allocate(): void {
    const run = this.fs.transact(CREDITS, (tx) => this.#allocateIn(tx));
    if (run !== undefined) this.blocks.push(run);
  }

  #free(): void {
    if (this.blocks.length === 0) return;
    const [run] = this.blocks.splice(this.#random.below(this.blocks.length), 1) as [BlockRun];
    const { transactions } = this.fs.writer;
    this.fs.transact(CREDITS, (tx) => {
      freeBlocks(this.fs, tx, run.start, run.count, this.#random.below(2) === 0);
      // Nobody else may have them before the transaction has committed.
      tx.afterCommit(() => {
        for (let index = 0; index < run.count; index++) this.#owners.delete(run.start + index);
      });
    });
    if (this.#random.below(4) === 0) transactions.commit();
  }

  #allocateInode(): void {
    const parent = this.inodes[this.#random.below(this.inodes.length * 2 + 1)];
    const isDirectory = this.#random.below(3) === 0;
    this.fs.transact(CREDITS, (tx) => {
      const near = parent ?? this.fs.inode(ROOT_INODE);
      const number = allocateInode(this.fs, tx, near, isDirectory);
      expect(this.inodes.some((each) => each.number === number)).toBe(false);
      const type = isDirectory ? FileType.DIRECTORY : FileType.REGULAR;
      const inode = newInode(this.fs, number, type);
      this.inodes.push(tx.createInode(inode));
      goalFor(this.fs, inode);
    });
  }

  #freeRandomInode(): void {
    if (this.inodes.length === 0) return;
    const [inode] = this.inodes.splice(this.#random.below(this.inodes.length), 1) as [Inode];
    this.#freeInode(inode);
  }

  #freeInode(inode: Inode): void {
    this.fs.transact(CREDITS, (tx) => {
      tx.edit(inode).linkCount = 0;
      freeInode(this.fs, tx, inode);
    });
  }
}

function newInode(fs: Filesystem, number: InodeNumber, type: number): Inode {
  const { superblock, checksums } = fs;
  return Inode.blank(number, fs.takeInodeBytes(), superblock, checksums, {
    mode: type | 0o644,
    generation: number,
    extraSize: superblock.inodeSize > 128 ? 32 : 0,
  });
}

/** What debugfs counts as free, from the group descriptors. */
function freeBlocksSaid(image: Uint8Array): number {
  return Number(/^Free blocks:\s+(\d+)$/m.exec(askDebugfs(image, "show_super_stats -h"))?.[1]);
}

const skipped = skipBecause("allocation", whyNoE2fsprogs());

describe.skipIf(skipped)("random allocation and freeing leaves nothing for e2fsck", () => {
  test.each(LAYOUTS)("with %s", (_, size, args) => judge(freshImage(size, args)));

  test.each(OLD_DEVICES)("where inode tables and bitmaps were never written, with %s", (_, args) =>
    judge(freshImageOverOld(OLD_DEVICE_BYTES, args)),
  );
});

test.skipIf(skipped)("an inode from the unwritten part of a table has zeros beside it", () => {
  const image = freshImageOverOld(OLD_DEVICE_BYTES, ["-t", "ext4", "-b", "1024"]);
  const fs = openWritableFilesystem(new MemoryDevice(image));
  const { inodesPerGroup, blockSize, inodeSize } = fs.superblock;
  const parent = newInode(fs, (inodesPerGroup + 1) as InodeNumber, FileType.DIRECTORY);
  const number = fs.transact(CREDITS, (tx) => {
    const allocated = allocateInode(fs, tx, parent, false);
    tx.createInode(newInode(fs, allocated, FileType.REGULAR));
    return allocated;
  });
  expect(number).toBe(inodesPerGroup + 1);
  const { block, at } = fs.groups.locateInode(number);
  closeFilesystem(fs);
  expect(at).toBe(0);
  const behind = image.subarray(block * blockSize + inodeSize, (block + 1) * blockSize);
  expect(behind.every((byte) => byte === 0)).toBe(true);
});

function judge(image: Uint8Array): void {
  const seed = seedOfRun();
  const before = freeBlocksSaid(image);
  const fs = openWritableFilesystem(new MemoryDevice(image), { random: () => 0.5 });
  const run = new Run(fs, randomFrom(seed));
  for (let step = 0; step < STEPS; step++) run.step();
  const taken = run.blocks.reduce((sum, { count }) => sum + count, 0);
  expect(fs.groups.countFree().clusters * fs.superblock.clusterBlocks).toBe(before - taken);
  run.freeAll();
  closeFilesystem(fs);
  expect(complaintsAbout(image), `SEED=${seed}`).toBe("");
  expect(freeBlocksSaid(image)).toBe(before);
}
