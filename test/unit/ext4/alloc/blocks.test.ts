/** Who gets which blocks: goals, files that grow side by side, the reserve, and the very last block. */
import { describe, expect, test } from "vitest";
import type { FsBlock, InodeNumber } from "../../../../src/base/numbers.ts";
import { MemoryDevice } from "../../../../src/device/memory-device.ts";
import {
  allocateBlocks,
  type BlockRequest,
  type BlockRun,
  discardPreallocation,
  freeBlocks,
} from "../../../../src/ext4/alloc/blocks.ts";
import { retryAfterCommit } from "../../../../src/ext4/alloc/retry.ts";
import { trimFree } from "../../../../src/ext4/alloc/trim.ts";
import {
  type Filesystem,
  openWritableFilesystem,
  statFilesystem,
  type WriteOptions,
} from "../../../../src/ext4/index.ts";
import { image } from "../../../support/images.ts";

const CREDITS = 20;
const GOAL = 1000 as FsBlock;
const LAST = { mayTakeLast: true };
const [A, B] = [20 as InodeNumber, 21 as InodeNumber];

function open(name = "no-checksums", options: WriteOptions = {}): Filesystem {
  return openWritableFilesystem(new MemoryDevice(image(name)), options);
}
const allocate = (fs: Filesystem, request: Partial<BlockRequest> = {}): BlockRun =>
  fs.transact(CREDITS, (tx) => allocateBlocks(fs, tx, { goal: GOAL, count: 1, ...request }));
const free = (fs: Filesystem, { start, count }: BlockRun): void =>
  fs.transact(CREDITS, (tx) => freeBlocks(fs, tx, start, count, false));
const freeCount = (fs: Filesystem): number => fs.groups.countFree().clusters;

/** Allocates until there is nothing left for `request`. @returns how many blocks that were. */
function fill(fs: Filesystem, request: Partial<BlockRequest> = {}): number {
  let blocks = 0;
  try {
    for (;;) blocks += allocate(fs, { count: 100, ...request }).count;
  } catch (error) {
    expect(error).toMatchObject({ name: "FsError", errno: 28 });
  }
  return blocks;
}

describe("allocateBlocks", () => {
  test("gives what is free at the goal, and then what follows", () => {
    const fs = open();
    expect(allocate(fs, { count: 10 })).toEqual({ start: GOAL, count: 10 });
    expect(allocate(fs, { count: 5 })).toEqual({ start: GOAL + 10, count: 5 });
    expect(allocate(fs, { goal: (GOAL - 2) as FsBlock, count: 9 })).toEqual({
      start: GOAL - 2,
      count: 2,
    });
  });

  test("takes any number for a goal", () => {
    const fs = open();
    for (const goal of [0, -1, 1e9, 2 ** 50]) {
      expect(allocate(fs, { goal: goal as FsBlock }).count).toBe(1);
    }
  });

  test("gives whole clusters", () => {
    const fs = open("bigalloc");
    const run = allocate(fs, { count: 17 });
    expect(run.count).toBe(32);
    expect(run.start % 16).toBe(0);
  });

  test("keeps files apart that grow side by side, once they are known to grow", () => {
    const fs = open();
    const next = new Map<InodeNumber, FsBlock>();
    let pieces = 0;
    for (let step = 0; step < 60; step++) {
      const inode = step % 2 === 0 ? A : B;
      const goal = next.get(inode) ?? GOAL;
      const { start } = allocate(fs, { inode, goal });
      if (start !== goal) pieces++;
      next.set(inode, (start + 1) as FsBlock);
    }
    expect(pieces).toBeLessThanOrEqual(3);
  });

  test("gives others what was held for a file when nobody writes to it any more", () => {
    const fs = open();
    allocate(fs, { inode: A });
    allocate(fs, { inode: A, goal: (GOAL + 1) as FsBlock });
    const held = (GOAL + 2) as FsBlock;
    expect(allocate(fs, { goal: held }).start).not.toBe(held);
    discardPreallocation(fs, A);
    expect(allocate(fs, { goal: held }).start).toBe(held);
  });

  test("gives every last block, held or not, and not one more", () => {
    const fs = open();
    const before = freeCount(fs);
    const first = allocate(fs, { inode: A });
    allocate(fs, { inode: A, goal: (first.start + 1) as FsBlock });
    expect(fill(fs, LAST)).toBe(before - 2);
    expect(freeCount(fs)).toBe(0);
  });

  test("leaves the reserve to root, and what is kept back to what must not fail", () => {
    const fs = open();
    fs.writer.mayUseReserve = () => false;
    const { blocksAvailable } = statFilesystem(fs, { minixdf: false });
    expect(fill(fs)).toBe(blocksAvailable);
    fs.writer.mayUseReserve = () => true;
    expect(fill(fs)).toBeGreaterThan(0);
    expect(freeCount(fs)).toBe(fs.superblock.keptBackClusters);
    expect(fill(fs, LAST)).toBe(fs.superblock.keptBackClusters);
  });
});

describe("freeBlocks", () => {
  test("makes blocks free for others with the commit, not before", () => {
    const fs = open();
    const run = allocate(fs, { count: 4 });
    free(fs, run);
    expect(allocate(fs, { count: 4 }).start).not.toBe(run.start);
    fs.writer.transactions.commit();
    expect(allocate(fs, { count: 4 })).toEqual(run);
  });

  test("counts blocks as free at once, and retryAfterCommit finds them on a full filesystem", () => {
    const fs = open();
    const run = allocate(fs, { count: 4 });
    fill(fs, LAST);
    free(fs, run);
    expect(freeCount(fs)).toBe(4);
    expect(() => allocate(fs, LAST)).toThrow("no block is free");
    expect(retryAfterCommit(fs, () => allocate(fs, { ...LAST, count: 4 }))).toEqual(run);
    expect(() => retryAfterCommit(fs, () => allocate(fs, LAST))).toThrow("no block is free");
  });

  test("does nothing when the handle fails", () => {
    const fs = open();
    const run = allocate(fs, { count: 4 });
    const before = freeCount(fs);
    const failing = (): void =>
      fs.transact(CREDITS, (tx) => {
        freeBlocks(fs, tx, run.start, run.count, true);
        allocateBlocks(fs, tx, { goal: GOAL, count: 8 });
        throw new Error("changed its mind");
      });
    expect(failing).toThrow("changed its mind");
    expect(freeCount(fs)).toBe(before);
    fs.writer.transactions.commit();
    expect(allocate(fs, { count: 4 }).start).toBe(run.start + 4);
    free(fs, run);
  });

  test("tells the device when the commit has made blocks free, if that is wanted", () => {
    const discarded: [number, number][] = [];
    class Device extends MemoryDevice {
      override discard(offset: number, length: number): void {
        discarded.push([offset, length]);
      }
    }
    const fs = openWritableFilesystem(new Device(image("no-checksums")), { discard: true });
    const run = allocate(fs, { count: 4 });
    free(fs, run);
    expect(discarded).toEqual([]);
    fs.writer.transactions.commit();
    expect(discarded).toEqual([[run.start * 1024, 4096]]);
  });
});

describe("trimFree", () => {
  const trimmed: [number, number][] = [];
  class Device extends MemoryDevice {
    override discard(offset: number, length: number): void {
      trimmed.push([offset / 1024, length / 1024]);
    }
  }

  test("discards the free runs that lie in the range and are long enough", () => {
    const fs = openWritableFilesystem(new Device(image("no-checksums")));
    const all = trimFree(fs, 0, 2 ** 40, 0);
    expect(all).toBe(freeCount(fs) * 1024);
    trimmed.length = 0;
    allocate(fs, { goal: 1003 as FsBlock });
    expect(trimFree(fs, 1000 * 1024, 20 * 1024, 4 * 1024)).toBe(16 * 1024);
    expect(trimmed).toEqual([[1004, 16]]);
  });

  test("leaves alone what a transaction has freed that is not durable", () => {
    const fs = openWritableFilesystem(new Device(image("no-checksums")));
    const run = allocate(fs, { count: 4 });
    free(fs, run);
    trimmed.length = 0;
    trimFree(fs, 0, 2 ** 40, 0);
    expect(trimmed.every(([start, count]) => start + count <= GOAL || start >= GOAL + 4)).toBe(
      true,
    );
  });

  test("refuses a range with nothing in it", () => {
    const fs = open();
    expect(() => trimFree(fs, 2 ** 40, 1024, 0)).toThrow("cannot trim");
    expect(() => trimFree(fs, 0, 1023, 0)).toThrow("cannot trim");
    expect(() => trimFree(fs, 0, 2 ** 40, 2 ** 30)).toThrow("cannot trim");
  });
});
