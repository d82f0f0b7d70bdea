/**
 * What the library does for a kernel that moves file contents by itself, judged by e2fsck and debugfs:
 * blocks before a write, conversion after it, ends of files that only the kernel knows, what a growing
 * file gets besides, and freezing.
 */
import { beforeEach, describe, expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import type { InodeNumber } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  closeFilesystem,
  copyFileRange,
  createFile,
  type Filesystem,
  FileType,
  FsError,
  fallocate,
  finishKernelUse,
  finishKernelWrite,
  freeze,
  giveReserveBack,
  type Inode,
  IomapType,
  iomapForKernel,
  iomapForKernelWrite,
  leaveDataToKernel,
  lookup,
  newIomap,
  noteKernelEnd,
  openWritableFilesystem,
  ROOT_INODE,
  readFile,
  release,
  setSize,
  settleKernelEnds,
  sizeForStat,
  syncFile,
  syncFilesystem,
  unlink,
  writeFile,
} from "../../src/ext4/index.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { askDebugfs, complaintsAbout, freshImage } from "../support/writable-image.ts";

const MiB = 1024 * 1024;
const NAME = new TextEncoder().encode("file");
const OTHER = new TextEncoder().encode("other");
const BLOCK = 4096;

/** A filesystem whose contents a kernel moves, and what that kernel may do to its device. */
class Moved {
  readonly bytes: Uint8Array;
  readonly device: MemoryDevice;
  readonly fs: Filesystem;
  readonly freed: (readonly [number, number])[] = [];
  clock = 1_700_000_000;

  constructor(image: Uint8Array) {
    this.bytes = image.slice();
    this.device = new MemoryDevice(this.bytes);
    this.fs = openWritableFilesystem(this.device, {
      now: () => ({ seconds: this.clock, nanoseconds: 0 }),
      onFreed: (start, count) => this.freed.push([start, count]),
    });
    leaveDataToKernel(this.fs, this.device);
  }

  create(name = NAME): Inode {
    const attributes = { mode: FileType.REGULAR | 0o644, uid: 0, gid: 0, umask: 0 };
    return createFile(this.fs, ROOT_INODE, name, { ...attributes, ignoresAcl: false });
  }

  /** Writes as a kernel does with O_DIRECT: asks, stores, says so. */
  write(inode: Inode, offset: number, bytes: Uint8Array): void {
    const answer = newIomap();
    for (let at = offset; at < offset + bytes.length; ) {
      iomapForKernelWrite(this.fs, inode, at, offset + bytes.length - at, answer);
      const end = Math.min(answer.offset + answer.length, offset + bytes.length);
      const place = answer.addr + (at - answer.offset);
      this.device.write(place, bytes.subarray(at - offset, end - offset));
      at = end;
    }
    finishKernelWrite(this.fs, inode.number, offset, bytes.length, true);
  }

  find(inode: Inode, offset: number, length = BLOCK): ReturnType<typeof newIomap> {
    return iomapForKernel(this.fs, inode, offset, length, newIomap());
  }

  read(inode: Inode): Uint8Array {
    const into = new Uint8Array(inode.sizeBytes);
    readFile(this.fs, inode, 0, into);
    return into;
  }

  close(): string {
    closeFilesystem(this.fs);
    return complaintsAbout(this.bytes);
  }

  /** What the next mount finds of a file after a power cut now. */
  afterPowerCut(): { readonly size: number; readonly content: Uint8Array } {
    const fs = openWritableFilesystem(new MemoryDevice(this.bytes.slice()));
    const inode = fs.inode(lookup(fs, ROOT_INODE, NAME) as InodeNumber);
    const content = new Uint8Array(inode.sizeBytes);
    readFile(fs, inode, 0, content);
    return { size: inode.sizeBytes, content };
  }
}

function errnoOf(action: () => void): number | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    if (error instanceof FsError) return error.errno;
    throw error;
  }
}

const some = (length: number, seed = 7): Uint8Array =>
  new Uint8Array(length).map((_, index) => 1 + ((index * seed) % 251));

describe.skipIf(skipBecause("kernel-data", whyNoE2fsprogs()))(
  "contents that a kernel moves",
  () => {
    let moved: Moved;
    const plain = freshImage("64M", ["-t", "ext4", "-b", "4096"]);

    beforeEach(() => {
      moved = new Moved(plain);
    });

    test("blocks are unwritten until their bytes are there, and then written", () => {
      const inode = moved.create();
      const answer = iomapForKernelWrite(moved.fs, inode, 5000, 10_000, newIomap());
      expect(answer).toMatchObject({ type: IomapType.UNWRITTEN, offset: 4096, length: 3 * BLOCK });
      expect(inode.sizeBytes).toBe(0);
      expect(finishKernelWrite(moved.fs, inode.number, 5000, 10_000, true)).toBe(15_000);
      expect(moved.find(inode, 5000)).toMatchObject({ type: IomapType.MAPPED, offset: 4096 });
      expect(moved.find(inode, 0)).toMatchObject({ type: IomapType.HOLE, length: 4096 });
      expect(moved.close()).toBe("");
    });

    test("a crash before the bytes were there shows zeros, not what the blocks held before", () => {
      const before = moved.create();
      moved.write(before, 0, some(8 * MiB));
      unlink(moved.fs, ROOT_INODE, NAME);
      release(moved.fs, before.number);
      syncFilesystem(moved.fs);
      const inode = moved.create();
      iomapForKernelWrite(moved.fs, inode, 0, 8 * MiB, newIomap());
      noteKernelEnd(moved.fs, inode.number, 8 * MiB);
      syncFile(moved.fs, inode.number, false);
      const { size, content } = moved.afterPowerCut();
      expect(size).toBe(8 * MiB);
      expect(content.every((byte) => byte === 0)).toBe(true);
    });

    test("a file has its new size on the device when its bytes are there, not when it is told", () => {
      const inode = moved.create();
      moved.write(inode, 0, some(100));
      noteKernelEnd(moved.fs, inode.number, 200);
      expect(inode.sizeBytes).toBe(100);
      // The kernel may ask when it has written and forgotten everything, and we have not heard of it yet.
      expect(sizeForStat(moved.fs, inode)).toBe(200);
      moved.fs.writer.transactions.commit();
      expect(moved.afterPowerCut().size).toBe(100);
      finishKernelWrite(moved.fs, inode.number, 0, 200, false);
      expect(inode.sizeBytes).toBe(200);
    });

    test.each([
      ["fsync", (fs: Filesystem, inode: Inode) => syncFile(fs, inode.number, true)],
      ["sync", (fs: Filesystem) => syncFilesystem(fs)],
      ["the end of its use", (fs: Filesystem, inode: Inode) => finishKernelUse(fs, inode.number)],
      [
        "copy",
        (fs: Filesystem, inode: Inode) => {
          const target = createFile(fs, ROOT_INODE, OTHER, {
            ...{ mode: FileType.REGULAR | 0o644, uid: 0, gid: 0, umask: 0, ignoresAcl: false },
          });
          expect(copyFileRange(fs, inode.number, 0, target.number, 0, 1000)).toBe(200);
        },
      ],
    ] as const)("or when somebody wants it as it is: %s", (_, action) => {
      const inode = moved.create();
      moved.write(inode, 0, some(100));
      noteKernelEnd(moved.fs, inode.number, 200);
      action(moved.fs, inode);
      expect(inode.sizeBytes).toBe(200);
      expect(moved.close()).toBe("");
    });

    test("or after a while, for kernels that do not say when", () => {
      const inode = moved.create();
      moved.write(inode, 0, some(100));
      noteKernelEnd(moved.fs, inode.number, 200);
      settleKernelEnds(moved.fs, 40);
      expect(inode.sizeBytes).toBe(100);
      moved.clock += 40;
      settleKernelEnds(moved.fs, 40);
      expect(inode.sizeBytes).toBe(200);
    });

    test("only a file that grows on gets more than it asks for, and gives back what it did not use", () => {
      const inode = moved.create();
      moved.write(inode, 0, some(10_000));
      expect(inode.blocks512).toBe(24);
      moved.write(inode, 10_000, some(10_000));
      expect(inode.blocks512).toBeGreaterThan(40);
      giveReserveBack(moved.fs, inode.number);
      expect(inode.blocks512).toBe(40);
      expect(moved.read(inode)).toEqual(Uint8Array.from([...some(10_000), ...some(10_000)]));
      expect(moved.close()).toBe("");
    });

    test("what was promised by fallocate stays", () => {
      const inode = moved.create();
      moved.write(inode, 0, some(10_000));
      moved.write(inode, 10_000, some(10_000));
      fallocate(moved.fs, inode.number, 1, 0, MiB);
      giveReserveBack(moved.fs, inode.number);
      expect(inode.blocks512).toBe(MiB / 512);
      expect(moved.close()).toBe("");
    });

    test("an unmount gives back all of them, and lets files be as long as they are", () => {
      const inode = moved.create();
      moved.write(inode, 0, some(10_000));
      moved.write(inode, 10_000, some(10_000));
      noteKernelEnd(moved.fs, inode.number, 20_100);
      expect(moved.close()).toBe("");
      expect(askDebugfs(moved.bytes, "stat /file")).toMatch(
        /Size: 20100\b(?:.|\n)*Blockcount: 40\b/,
      );
    });

    test("what a file holds is its own until it is closed, and nothing is held of the last space", () => {
      const inode = moved.create();
      moved.write(inode, 0, some(MiB));
      moved.write(inode, MiB, some(MiB));
      const held = inode.blocks512;
      expect(held).toBeGreaterThan((2 * MiB) / 512);
      const other = moved.create(OTHER);
      const fill = (): void => {
        for (let at = other.sizeBytes; ; at += MiB) moved.write(other, at, some(MiB));
      };
      expect(errnoOf(fill)).toBe(Errno.ENOSPC);
      expect(inode.blocks512).toBe(held);
      expect(other.blocks512 * 512 - other.sizeBytes).toBeLessThanOrEqual(MiB);
      const before = other.blocks512;
      giveReserveBack(moved.fs, inode.number);
      expect(errnoOf(fill)).toBe(Errno.ENOSPC);
      expect(other.blocks512).toBeGreaterThan(before);
      expect(moved.close()).toBe("");
    });

    test("a fallocate that finds no space leaves the size as it was, which the kernel takes it for", () => {
      const inode = moved.create();
      const tooMuch = (): void => fallocate(moved.fs, inode.number, 0, 0, 100 * MiB);
      expect(errnoOf(tooMuch)).toBe(Errno.ENOSPC);
      expect(inode.sizeBytes).toBe(0);
      moved.write(inode, 0, some(5000));
      expect(inode.sizeBytes).toBe(5000);
      expect(moved.close()).toBe("");
    });

    test("a copy that finds no space ends where it says, behind a hole too", () => {
      const source = moved.create();
      setSize(moved.fs, source.number, MiB);
      moved.write(source, MiB, some(5000));
      const filler = moved.create(new TextEncoder().encode("filler"));
      for (let at = 0; errnoOf(() => moved.write(filler, at, some(BLOCK))) === undefined; )
        at += BLOCK;
      const target = moved.create(OTHER);
      const { fs } = moved;
      expect(copyFileRange(fs, source.number, 0, target.number, 0, 2 * MiB)).toBe(MiB);
      expect(fs.inode(target.number).sizeBytes).toBe(MiB);
      expect(moved.close()).toBe("");
    });

    test("truncation and fallocate leave the zeros in partial blocks to the kernel", () => {
      const inode = moved.create();
      moved.write(inode, 0, some(3 * BLOCK));
      const { addr } = moved.find(inode, 0);
      setSize(moved.fs, inode.number, BLOCK + 100);
      syncFilesystem(moved.fs);
      fallocate(moved.fs, inode.number, 3, 50, 100);
      setSize(moved.fs, inode.number, 2 * BLOCK);
      const there = moved.bytes.subarray(addr, addr + 2 * BLOCK);
      expect(there).toEqual(some(3 * BLOCK).subarray(0, 2 * BLOCK));
      expect(moved.close()).toBe("");
    });

    test("blocks are announced when they have another use from then on, not before that is durable", () => {
      const inode = moved.create();
      moved.write(inode, 0, some(4 * BLOCK));
      const { addr } = moved.find(inode, 0);
      syncFilesystem(moved.fs);
      moved.freed.length = 0;
      setSize(moved.fs, inode.number, 0);
      expect(moved.freed).toEqual([]);
      syncFilesystem(moved.fs);
      expect(moved.freed).toEqual([[addr / BLOCK, 4]]);
    });

    test("the kernel is refused what cannot be", () => {
      const inode = moved.create();
      const finish = (offset: number, length: number) => () =>
        void finishKernelWrite(moved.fs, inode.number, offset, length, true);
      expect(errnoOf(finish(0, 100))).toBe(Errno.EINVAL);
      expect(errnoOf(finish(2 ** 50, 100))).toBe(Errno.EFBIG);
      expect(errnoOf(() => noteKernelEnd(moved.fs, inode.number, 2 ** 50))).toBe(Errno.EFBIG);
      const beyond = (): unknown => iomapForKernelWrite(moved.fs, inode, 2 ** 50, 1, newIomap());
      expect(errnoOf(beyond)).toBe(Errno.EFBIG);
      expect(moved.find(inode, 2 ** 50)).toMatchObject({ type: IomapType.HOLE, offset: 2 ** 50 });
      expect(errnoOf(() => moved.find(moved.fs.inode(ROOT_INODE), 0))).toBe(Errno.EISDIR);
      expect(inode.sizeBytes).toBe(0);
      expect(moved.close()).toBe("");
    });

    test("said twice is as good as once", () => {
      const inode = moved.create();
      moved.write(inode, 0, some(20_000));
      for (const [offset, length] of [
        [4096, 8192],
        [0, 20_000],
        [0, 100],
      ] as const) {
        expect(finishKernelWrite(moved.fs, inode.number, offset, length, true)).toBe(20_000);
      }
      expect(moved.read(inode)).toEqual(some(20_000));
      expect(moved.close()).toBe("");
    });

    test("a frozen image is clean as it lies; it can be changed again once it is thawed", () => {
      const inode = moved.create();
      moved.write(inode, 0, some(10_000));
      noteKernelEnd(moved.fs, inode.number, 11_000);
      const thaw = freeze(moved.fs);
      expect(complaintsAbout(moved.bytes)).toBe("");
      expect(askDebugfs(moved.bytes, "stats -h")).not.toContain("needs_recovery");
      expect(askDebugfs(moved.bytes, "stat /file")).toMatch(/Size: 11000\b/);
      const before = moved.bytes.slice();
      expect(errnoOf(() => moved.create(OTHER))).toBe(Errno.EROFS);
      moved.fs.writer.times.noteAccess(moved.fs.inode(ROOT_INODE));
      moved.fs.writer.transactions.commit();
      expect(moved.bytes.findIndex((byte, at) => byte !== before[at])).toBe(-1);
      thaw();
      moved.create(OTHER);
      syncFilesystem(moved.fs);
      expect(askDebugfs(moved.bytes, "stats -h")).toContain("needs_recovery");
      expect(lookup(moved.fs, ROOT_INODE, OTHER)).not.toBe(0);
      expect(moved.close()).toBe("");
    });

    test("a file with a block map gets blocks full of zeros", () => {
      const old = new Moved(
        freshImage("32M", ["-t", "ext4", "-b", "1024", "-O", "^extent,^64bit"]),
      );
      const before = old.create();
      writeFile(old.fs, before, 0, some(MiB));
      unlink(old.fs, ROOT_INODE, NAME);
      release(old.fs, before.number);
      syncFilesystem(old.fs);
      const inode = old.create();
      const answer = iomapForKernelWrite(old.fs, inode, 0, 5000, newIomap());
      expect(answer.type).toBe(IomapType.MAPPED);
      const there = old.bytes.subarray(answer.addr, answer.addr + answer.length);
      expect(there.every((byte) => byte === 0)).toBe(true);
      old.write(inode, 0, some(20_000));
      expect(old.read(inode)).toEqual(some(20_000));
      expect(old.close()).toBe("");
    });

    test("contents within the inode move out for a write, and are read as they were", () => {
      const small = new Moved(freshImage("32M", ["-t", "ext4", "-b", "4096", "-O", "inline_data"]));
      const inode = small.create();
      writeFile(small.fs, inode, 0, some(50));
      expect(small.find(inode, 10)).toMatchObject({
        type: IomapType.INLINE,
        offset: 0,
        length: BLOCK,
      });
      const answer = iomapForKernelWrite(small.fs, inode, 10, 5, newIomap());
      expect(answer).toMatchObject({ type: IomapType.MAPPED, offset: 0 });
      expect(small.bytes.slice(answer.addr, answer.addr + 50)).toEqual(some(50));
      expect(inode.sizeBytes).toBe(50);
      expect(small.close()).toBe("");
    });
  },
);
