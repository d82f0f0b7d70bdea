/**
 * Hard work on a few files while a kernel moves their contents: one file changed in all ways and
 * compared byte by byte with a copy in memory, as fsx does it; and a disk that becomes full again and
 * again. `SEED=n` in front replays, `CALLS=n` makes it longer.
 */
import { describe, expect, test } from "vitest";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import { Errno } from "../support/iomap-kernel/abi.ts";
import type { OpenFile } from "../support/iomap-kernel/files.ts";
import { SystemError } from "../support/iomap-kernel/rules.ts";
import { ServedKernel } from "../support/iomap-kernel/served.ts";
import { pattern } from "../support/posix/operation.ts";
import { type Random, randomFrom, seedOfRun } from "../support/random.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { complaintsAbout, freshImage } from "../support/writable-image.ts";

const CALLS = Number(process.env["CALLS"] ?? 4000);
const FILE_BYTES_MAX = 256 * 1024;
const SECTOR = 512;
const FILE = { mode: 0o100644 };
/** One call in so many is followed by a look at the whole file, or by an unmount. */
const LOOK_EVERY = 50;
const UNMOUNT_EVERY = 400;
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const ZERO_RANGE = 16;

// biome-ignore format: a table
const KINDS: readonly (readonly [name: string, mke2fs: readonly string[]])[] = [
  ["4 KiB blocks", ["-b", "4096"]],
  ["1 KiB blocks", ["-b", "1024"]],
  ["inline data",  ["-b", "4096", "-O", "inline_data"]],
  ["bigalloc",     ["-b", "1024", "-O", "bigalloc", "-C", "16384"]],
  ["block maps",   ["-b", "1024", "-O", "^extent,^64bit"]],
  ["no journal",   ["-b", "4096", "-O", "^has_journal"]],
];

/** A mount that can be made again. */
class Rig {
  readonly bytes: Uint8Array;
  readonly #random: Random;
  served: ServedKernel;

  constructor(size: string, mke2fs: readonly string[], random: Random) {
    this.bytes = freshImage(size, ["-t", "ext4", "-N", "256", "-m", "0", ...mke2fs]);
    this.#random = random;
    this.served = this.#mount();
  }

  get kernel() {
    return this.served.kernel;
  }

  #mount(): ServedKernel {
    const random = this.#random;
    const seed = random.below(1 << 30);
    const usesCache = random.below(3) > 0;
    const generation = random.below(4) === 0 ? "post" : "v7";
    return new ServedKernel(new MemoryDevice(this.bytes), { seed, usesCache, generation });
  }

  unmount(): void {
    this.served.unmount();
    expect(this.kernel.violations.map(({ rule, detail }) => `${rule}: ${detail}`)).toEqual([]);
    expect(this.served.log).toEqual([]);
    expect(this.kernel.state.ioendRefusals).toEqual([]);
  }

  remount(): void {
    this.unmount();
    this.served = this.#mount();
  }

  open(name: string): OpenFile {
    const { kernel } = this;
    return kernel.open(kernel.lookup(kernel.root, name) ?? kernel.create(kernel.root, name, FILE));
  }
}

/** What a file should hold. */
class Copy {
  bytes = new Uint8Array();

  resize(size: number): void {
    const next = new Uint8Array(size);
    next.set(this.bytes.subarray(0, size));
    this.bytes = next;
  }

  write(at: number, data: Uint8Array): void {
    if (at + data.length > this.bytes.length) this.resize(at + data.length);
    this.bytes.set(data, at);
  }

  zero(at: number, length: number): void {
    this.bytes.fill(0, at, Math.min(at + length, this.bytes.length));
  }
}

/** Does one thing to the file and its copy. @returns what it was, in words. */
function exercise(
  rig: Rig,
  file: OpenFile,
  copy: Copy,
  random: Random,
  hasExtents: boolean,
): string {
  const { kernel } = rig;
  const { inode } = file;
  const at = random.below(FILE_BYTES_MAX - 1);
  const length = 1 + random.below(Math.min(40_000, FILE_BYTES_MAX - at));
  const data = pattern(random.below(1 << 24), at, length);
  const what = `${at}+${length}`;
  switch (random.below(11)) {
    case 0:
    case 1: {
      // Some of them end early.
      const written = file.write(at, data);
      expect(written).toBeGreaterThan(0);
      copy.write(at, data.subarray(0, written));
      return `write ${what}: ${written}`;
    }
    case 2: {
      const start = at - (at % SECTOR);
      const whole = pattern(random.below(1 << 24), start, Math.ceil(length / SECTOR) * SECTOR);
      expect(file.write(start, whole, {})).toBe(whole.length);
      copy.write(start, whole);
      return `write past the cache ${start}+${whole.length}`;
    }
    case 3: {
      const part = data.subarray(0, Math.max(0, copy.bytes.length - at));
      if (part.length > 0) kernel.writeMapped(inode, at, part);
      copy.write(Math.min(at, copy.bytes.length), part);
      return `write through a mapping ${at}+${part.length}`;
    }
    case 4: {
      const size = random.below(2) === 0 ? at : Math.floor(copy.bytes.length / 2);
      kernel.truncate(inode, size, true);
      copy.resize(size);
      return `truncate ${size}`;
    }
    case 5:
      kernel.fallocate(inode, KEEP_SIZE | PUNCH_HOLE, at, length);
      copy.zero(at, length);
      return `punch ${what}`;
    case 6:
      if (!hasExtents) return "nothing";
      kernel.fallocate(inode, KEEP_SIZE | ZERO_RANGE, at, length);
      copy.zero(at, length);
      return `zero ${what}`;
    case 7:
      if (!hasExtents) return "nothing";
      kernel.fallocate(inode, random.below(2) === 0 ? 0 : KEEP_SIZE, at, length);
      if (inode.size > copy.bytes.length) copy.resize(inode.size);
      return `allocate ${what}`;
    case 8: {
      const direct = random.below(2) === 0 ? {} : undefined;
      const start = direct === undefined ? at : at - (at % SECTOR);
      const asked = direct === undefined ? length : Math.ceil(length / SECTOR) * SECTOR;
      const wanted = copy.bytes.subarray(start, start + asked);
      expect(Buffer.compare(file.read(start, asked, direct), wanted), `read ${what}`).toBe(0);
      return `read ${what}`;
    }
    case 9:
      if (random.below(2) === 0) kernel.fsync(inode);
      else kernel.dropCaches();
      return "fsync, or caches dropped";
    default:
      kernel.idle(1 + random.below(8));
      return "idle";
  }
}

describe.skipIf(skipBecause("iomap files", whyNoE2fsprogs()))(
  "while the kernel moves contents",
  () => {
    test.each(KINDS)("one file is right after all calls with %s", (name, mke2fs) => {
      const seed = seedOfRun();
      console.log(`SEED=${seed} ${name}`);
      const random = randomFrom(seed);
      const rig = new Rig("16M", mke2fs, random);
      const copy = new Copy();
      let file = rig.open("file");
      const done: string[] = [];
      for (let call = 0; call < CALLS; call++) {
        done.push(exercise(rig, file, copy, random, name !== "block maps"));
        if (random.below(UNMOUNT_EVERY) === 0) {
          file.close();
          rig.remount();
          file = rig.open("file");
        }
        if (random.below(LOOK_EVERY) > 0) continue;
        const last = `SEED=${seed} after ${done.slice(-12).join("; ")}`;
        expect(file.inode.size, last).toBe(copy.bytes.length);
        const found = file.read(0, copy.bytes.length);
        expect(
          found.findIndex((byte, at) => byte !== copy.bytes[at]),
          last,
        ).toBe(-1);
      }
      file.close();
      rig.unmount();
      expect(complaintsAbout(rig.bytes), `SEED=${seed}`).toBe("");
    });

    test.each(KINDS)("a disk that becomes full keeps what it has taken with %s", (name, mke2fs) => {
      const seed = seedOfRun();
      console.log(`SEED=${seed} ${name}`);
      const random = randomFrom(seed);
      const rig = new Rig("8M", mke2fs, random);
      for (let round = 0; round < 4; round++) {
        const files = ["a", "b", "c"].map((each) => ({ name: each, file: rig.open(each) }));
        const copies = files.map(() => new Copy());
        let refused = 0;
        while (refused < 20) {
          const index = random.below(files.length);
          const { file } = files[index] as (typeof files)[number];
          const copy = copies[index] as Copy;
          const data = pattern(random.below(1 << 24), copy.bytes.length, 1 + random.below(100_000));
          const written = writeAsMuchAsFits(file, copy.bytes.length, data);
          if (written < data.length) refused += 1;
          copy.write(copy.bytes.length, data.subarray(0, written));
          if (random.below(4) === 0) rig.kernel.idle(4);
        }
        for (const { file } of files) file.close();
        rig.remount();
        for (const [index, { name: each }] of files.entries()) {
          const file = rig.open(each);
          const { bytes } = copies[index] as Copy;
          const what = `SEED=${seed} round ${round} file ${each}`;
          expect(file.inode.size, what).toBe(bytes.length);
          expect(Buffer.compare(file.read(0, bytes.length), bytes), what).toBe(0);
          file.close();
          rig.kernel.unlink(rig.kernel.root, each);
        }
      }
      rig.unmount();
      expect(complaintsAbout(rig.bytes), `SEED=${seed}`).toBe("");
    });
  },
);

/** @returns how many bytes there was space for. */
function writeAsMuchAsFits(file: OpenFile, at: number, data: Uint8Array): number {
  try {
    return file.write(at, data);
  } catch (error) {
    if (error instanceof SystemError && error.errno === Errno.ENOSPC) return 0;
    throw error;
  }
}
