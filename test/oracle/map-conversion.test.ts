/** Files whose map is exchanged for one of the other kind (`chattr +e`, `chattr -e`), by e2fsprogs. */
import { describe, expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import type { InodeNumber } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  closeFilesystem,
  createFile,
  FallocateMode,
  type Filesystem,
  fallocate,
  InodeFlags,
  openWritableFilesystem,
  ROOT_INODE,
  readFile,
  setFlags,
  writeFile,
} from "../../src/ext4/index.ts";
import { randomFrom, seedOfRun } from "../support/random.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { askDebugfs, complaintsAbout, freshImage } from "../support/writable-image.ts";

const BLOCK = 1024;
const { EXTENTS } = InodeFlags;
const ATTRIBUTES = { mode: 0o100644, uid: 0, gid: 0, umask: 0 };

/** A filesystem in memory, and one file on it. */
class Subject {
  readonly image: Uint8Array;
  readonly fs: Filesystem;
  readonly number: InodeNumber;
  readonly expected: Uint8Array;

  constructor(sizeBytes: number, args: readonly string[] = []) {
    this.image = freshImage("48M", ["-t", "ext4", "-b", String(BLOCK), ...args]);
    this.fs = openWritableFilesystem(new MemoryDevice(this.image), { onWarning: () => {} });
    const name = new TextEncoder().encode("file");
    this.number = createFile(this.fs, ROOT_INODE, name, ATTRIBUTES).number;
    this.expected = new Uint8Array(sizeBytes);
  }

  write(offset: number, length: number, value: number): void {
    const bytes = new Uint8Array(length).fill(value);
    writeFile(this.fs, this.fs.inode(this.number), offset, bytes);
    this.expected.set(bytes, offset);
  }

  setExtents(wanted: boolean): void {
    const { flags } = this.fs.inode(this.number);
    setFlags(this.fs, this.number, wanted ? flags | EXTENTS : flags & ~EXTENTS);
  }

  contents(): Uint8Array {
    const bytes = new Uint8Array(this.expected.length);
    readFile(this.fs, this.fs.inode(this.number), 0, bytes);
    return bytes;
  }

  get hasExtents(): boolean {
    return this.fs.inode(this.number).hasFlag(EXTENTS);
  }

  /** Closes it. @returns what debugfs says about the file. */
  close(): string {
    expect(Buffer.compare(this.contents(), this.expected)).toBe(0);
    closeFilesystem(this.fs);
    expect(complaintsAbout(this.image)).toBe("");
    return askDebugfs(this.image, "stat file");
  }
}

const refusal = expect.objectContaining({ errno: Errno.EOPNOTSUPP });

describe.skipIf(skipBecause("map-conversion", whyNoE2fsprogs()))("a conversion of the map", () => {
  test("to a block map keeps a few blocks in one piece", () => {
    const subject = new Subject(12 * BLOCK);
    subject.write(4 * BLOCK, 5 * BLOCK, 7);
    subject.setExtents(false);
    expect(subject.hasExtents).toBe(false);
    subject.write(0, BLOCK, 8);
    subject.write(10 * BLOCK, 2 * BLOCK, 9);
    expect(subject.close()).not.toContain("EXTENTS:");
  });

  test("to a block map and back keeps an empty file empty", () => {
    const subject = new Subject(3 * BLOCK);
    subject.setExtents(false);
    subject.setExtents(true);
    subject.write(0, 3 * BLOCK, 5);
    expect(subject.close()).toContain("EXTENTS:");
  });

  test("to a block map is refused for all else", () => {
    const subject = new Subject(40 * BLOCK);
    subject.write(0, 13 * BLOCK, 1);
    expect(() => subject.setExtents(false)).toThrow(refusal);
    subject.close();
    const pieces = new Subject(12 * BLOCK);
    pieces.write(0, BLOCK, 1);
    pieces.write(2 * BLOCK, BLOCK, 2);
    expect(() => pieces.setExtents(false)).toThrow(refusal);
    pieces.close();
    const unwritten = new Subject(4 * BLOCK);
    fallocate(unwritten.fs, unwritten.number, FallocateMode.ALLOCATE, 0, 4 * BLOCK);
    expect(() => unwritten.setExtents(false)).toThrow(refusal);
    unwritten.close();
    const clusters = new Subject(BLOCK, ["-O", "bigalloc", "-C", "4096"]);
    clusters.write(0, BLOCK, 1);
    expect(() => clusters.setExtents(false)).toThrow(refusal);
    clusters.close();
  });

  test("to extents keeps what lies on all levels, and frees the tables", () => {
    const seed = seedOfRun();
    const random = randomFrom(seed);
    const subject = new Subject(8 << 20);
    subject.setExtents(false);
    for (let piece = 0; piece < 300; piece++) {
      const offset = random.below(8 * 1024 - 8) * BLOCK;
      subject.write(offset, (1 + random.below(8)) * BLOCK, 1 + random.below(255));
    }
    const before = subject.fs.inode(subject.number).blocks512;
    subject.setExtents(true);
    expect(subject.hasExtents).toBe(true);
    expect(subject.fs.inode(subject.number).blocks512).not.toBe(before);
    subject.write(8 * 1024 * BLOCK - 5000, 5000, 3);
    expect(subject.close(), `SEED=${seed}`).toContain("EXTENTS:");
  });

  test("to extents is refused where there are none, or too many for the journal", () => {
    const old = new Subject(BLOCK, ["-O", "^extent,^64bit"]);
    old.write(0, BLOCK, 1);
    expect(() => old.setExtents(true)).toThrow(refusal);
    old.close();
    const scattered = new Subject(40 << 20, ["-J", "size=1"]);
    scattered.setExtents(false);
    for (let at = 0; at < 40 << 20; at += 256 * BLOCK) scattered.write(at, BLOCK, 1);
    expect(() => scattered.setExtents(true)).toThrow(refusal);
    expect(scattered.hasExtents).toBe(false);
    scattered.close();
  });
});
