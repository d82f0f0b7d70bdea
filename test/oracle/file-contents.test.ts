/**
 * Files that we write, truncate, punch and move around, with every kind of block map: their contents
 * compared with a model and as debugfs reads them, the image judged by e2fsck.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import { closeFilesystem, openFilesystem, openWritableFilesystem } from "../../src/ext4/index.ts";
import { anyFileOperation, performOnImage, performOnModel } from "../support/file-model.ts";
import {
  contentsOf,
  dumpOf,
  expectSame,
  fileNumber,
  imageWithFiles,
} from "../support/files-on-image.ts";
import { seedOfRun } from "../support/random.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
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

const NUMBERS = Array.from({ length: FILES }, (_, index) => fileNumber(index));

const skip = skipBecause("writing files", whyNoE2fsprogs());

describe.skipIf(skip)(`writing files, SEED=${seed}`, () => {
  describe.each(LAYOUTS)("with $name", (layout) => {
    const { blockSize, clusterBytes = blockSize, unit = blockSize } = layout;
    const pristine = imageWithFiles(FILES, layout.size ?? "24M", layout.args);

    test("any operations leave what the model has, and nothing for e2fsck", () => {
      const bounds = { files: FILES, blocks: 60, blockSize: unit, clusterBytes };
      fc.assert(
        fc.property(fc.array(anyFileOperation(bounds), { minLength: 5, maxLength: 40 }), (run) => {
          const image = pristine.slice();
          const model = NUMBERS.map(() => new Uint8Array());
          const fs = openWritableFilesystem(new MemoryDevice(image));
          for (const operation of run) {
            const result = performOnImage(fs, NUMBERS, operation);
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
        { seed, numRuns: 12 },
      );
    });
  });
});
