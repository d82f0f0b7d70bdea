/** Iomap answers: together they cover a file without gaps, from wherever one begins to ask. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { InodeNumber } from "../../../../src/base/numbers.ts";
import { MemoryDevice } from "../../../../src/device/memory-device.ts";
import {
  type Filesystem,
  type Inode,
  IomapType,
  iomapForRead,
  newIomap,
  openFilesystem,
  readFile,
  seekData,
  seekHole,
  streamFile,
} from "../../../../src/ext4/index.ts";
import { expectation, image } from "../../../support/images.ts";

const FILES = [
  ["ext4-4k", "/folder/sparse"],
  ["ext4-4k", "/folder/promised"],
  ["extent-depth", "/pieces"],
  ["no-extents", "/folder/indirect"],
  ["no-extents", "/folder/double"],
  ["bigalloc", "/folder/sparse"],
  ["inline-data", "/b61"],
] as const;

function open(name: string, path: string): { fs: Filesystem; inode: Inode; bytes: Uint8Array } {
  const bytes = image(name);
  const fs = openFilesystem(new MemoryDevice(bytes));
  return { fs, inode: fs.inode(expectation(name).paths[path] as InodeNumber), bytes };
}

describe.each(FILES)("in %s, %s", (name, path) => {
  const { fs, inode, bytes } = open(name, path);
  const whole = new Uint8Array(inode.sizeBytes);
  readFile(fs, inode, 0, whole);
  const anyOffset = fc.nat({ max: inode.sizeBytes - 1 });

  test("iomapForRead answers from any offset what readFile reads there", () => {
    fc.assert(
      fc.property(anyOffset, (offset) => {
        const answer = iomapForRead(fs, inode, offset, 4096, newIomap());
        expect(answer.offset).toBe(offset);
        expect(answer.length).toBeGreaterThan(0);
        const shown = whole.subarray(offset, Math.min(offset + answer.length, offset + 4096));
        if (answer.type === IomapType.MAPPED) {
          expect(shown).toEqual(bytes.subarray(answer.addr, answer.addr + shown.length));
        } else if (answer.type !== IomapType.INLINE) {
          expect(shown.every((byte) => byte === 0)).toBe(true);
        }
      }),
    );
  });

  test("seekHole and seekData find the borders that iomapForRead tells", () => {
    fc.assert(
      fc.property(anyOffset, (offset) => {
        const { type } = iomapForRead(fs, inode, offset, 1, newIomap());
        const isData = type === IomapType.MAPPED || type === IomapType.INLINE;
        expect(seekData(fs, inode, offset) === offset).toBe(isData);
        expect(seekHole(fs, inode, offset) === offset).toBe(!isData);
        expect(seekHole(fs, inode, offset)).toBeLessThanOrEqual(inode.sizeBytes);
      }),
    );
  });

  test("streamFile gives in pieces what readFile gives at once", () => {
    const pieces = [...streamFile(fs, inode)];
    expect(Buffer.concat(pieces).equals(Buffer.from(whole))).toBe(true);
    fc.assert(
      fc.property(anyOffset, anyOffset, (offset, end) => {
        const part = Buffer.concat([...streamFile(fs, inode, offset, end)]);
        expect(part.equals(Buffer.from(whole.subarray(offset, Math.max(offset, end))))).toBe(true);
      }),
      { numRuns: 20 },
    );
    expect([...streamFile(fs, inode, inode.sizeBytes - 1, inode.sizeBytes + 100_000)]).toEqual([
      whole.subarray(-1),
    ]);
  });

  test("at the end there is nothing more", () => {
    expect(seekData(fs, inode, inode.sizeBytes)).toBe(-1);
    expect(seekHole(fs, inode, inode.sizeBytes)).toBe(-1);
    expect(readFile(fs, inode, inode.sizeBytes, new Uint8Array(10))).toBe(0);
    const beyond = iomapForRead(fs, inode, inode.sizeBytes, 10, newIomap());
    expect(beyond.type).toBe(IomapType.HOLE);
  });
});
