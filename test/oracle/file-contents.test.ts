/**
 * Files that we write, truncate, punch and move around, with every kind of block map: their contents
 * compared with a model and as debugfs reads them, the image judged by e2fsck.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { InodeNumber } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  closeFilesystem,
  type Filesystem,
  openFilesystem,
  openWritableFilesystem,
  readFile,
} from "../../src/ext4/index.ts";
import { debugfs, mke2fs } from "../support/e2fsprogs.ts";
import {
  anyFileOperation,
  type FileOperation,
  performOnImage,
  performOnModel,
} from "../support/file-model.ts";
import { seedOfRun } from "../support/random.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { withScope } from "../support/scope.ts";
import { complaintsAbout } from "../support/writable-image.ts";

interface Layout {
  readonly name: string;
  readonly args: readonly string[];
  readonly size?: string;
  readonly blockSize: number;
  readonly clusterBytes?: number;
  /** What positions are in multiples of, if not blocks. */
  readonly unit?: number;
}

const LAYOUTS: readonly Layout[] = [
  { name: "extents, 1 KiB", args: ["-b", "1024"], blockSize: 1024 },
  { name: "extents, 4 KiB", args: ["-b", "4096"], blockSize: 4096 },
  { name: "extents, 64 KiB", args: ["-b", "65536"], blockSize: 65536, size: "64M" },
  {
    name: "no journal, no checksums",
    args: ["-b", "1024", "-O", "^has_journal,^metadata_csum,^64bit"],
    blockSize: 1024,
  },
  {
    name: "clusters of 16 KiB",
    args: ["-b", "1024", "-C", "16384", "-O", "bigalloc"],
    blockSize: 1024,
    clusterBytes: 16384,
  },
  { name: "block maps, 1 KiB", args: ["-b", "1024", "-O", "^extent,^64bit"], blockSize: 1024 },
  {
    name: "inline data, small files",
    args: ["-b", "1024", "-O", "inline_data"],
    blockSize: 1024,
    unit: 8,
  },
  { name: "inline data", args: ["-b", "1024", "-O", "inline_data"], blockSize: 1024 },
  {
    name: "inline data and block maps, inodes of 512 bytes",
    args: ["-b", "1024", "-I", "512", "-O", "inline_data,^extent,^64bit"],
    blockSize: 1024,
  },
  { name: "block maps, 4 KiB", args: ["-b", "4096", "-O", "^extent,^64bit"], blockSize: 4096 },
];

const FILES = 3;
const seed = seedOfRun();

/** An image with `FILES` empty files f0, f1, … */
function imageOf({ args, size = "24M" }: Layout): Uint8Array {
  return withScope((scope) => {
    const image = join(scope.temporaryFolder(), "image");
    mke2fs(image, size, ["-t", "ext4", ...args]);
    debugfs(
      image,
      NAMES.map((name) => `write /dev/null ${name}`),
      true,
    );
    return new Uint8Array(readFileSync(image));
  });
}

const NAMES = Array.from({ length: FILES }, (_, index) => `f${index}`);
/** The first file that debugfs makes, and those after it. lost+found is 11. */
const NUMBERS = NAMES.map((_, index) => (12 + index) as InodeNumber);

function contentsOf(fs: Filesystem, number: InodeNumber): Uint8Array {
  const inode = fs.inode(number);
  const bytes = new Uint8Array(inode.sizeBytes);
  readFile(fs, inode, 0, bytes);
  return bytes;
}

/** What debugfs reads: software that is not ours. */
function dumpOf(image: Uint8Array, name: string): Uint8Array {
  return withScope((scope) => {
    const folder = scope.temporaryFolder();
    const file = join(folder, "image");
    writeFileSync(file, image);
    debugfs(file, [`dump ${name} ${join(folder, "dump")}`]);
    return new Uint8Array(readFileSync(join(folder, "dump")));
  });
}

/** Compares without printing megabytes. */
function expectSame(found: Uint8Array, expected: Uint8Array, what: string): void {
  expect(found.length, `size of ${what}`).toBe(expected.length);
  const differs = Buffer.compare(found, expected) !== 0;
  const at = differs ? found.findIndex((byte, index) => byte !== expected[index]) : -1;
  expect(at, `first wrong byte of ${what}`).toBe(-1);
}

const skip = skipBecause("writing files", whyNoE2fsprogs());

describe.skipIf(skip)(`writing files, SEED=${seed}`, () => {
  describe.each(LAYOUTS)("with $name", (layout) => {
    const { blockSize, clusterBytes = blockSize, unit = blockSize } = layout;
    const pristine = imageOf(layout);

    test("any operations leave what the model has, and nothing for e2fsck", () => {
      const bounds = { files: FILES, blocks: 60, blockSize: unit, clusterBytes };
      fc.assert(
        fc.property(fc.array(anyFileOperation(bounds), { minLength: 5, maxLength: 40 }), (run) => {
          const image = pristine.slice();
          const model = NAMES.map(() => new Uint8Array());
          const fs = openWritableFilesystem(new MemoryDevice(image));
          for (const operation of run) {
            const result = performOnImage(fs, NUMBERS, operation as FileOperation);
            performOnModel(model, operation, result);
            for (const [index, number] of NUMBERS.entries()) {
              expectSame(contentsOf(fs, number), model[index] as Uint8Array, `f${index}`);
            }
          }
          closeFilesystem(fs);
          expect(complaintsAbout(image)).toBe("");
          const again = openFilesystem(new MemoryDevice(image));
          for (const [index, number] of NUMBERS.entries()) {
            expectSame(contentsOf(again, number), model[index] as Uint8Array, `f${index}`);
          }
          const [first = new Uint8Array()] = model;
          // debugfs dumps all the room that inline data has.
          expectSame(dumpOf(image, "f0").subarray(0, first.length), first, "f0 by debugfs");
        }),
        { seed, numRuns: 40 },
      );
    });
  });
});
