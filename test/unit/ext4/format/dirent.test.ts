/** Directory entries: what the accessors read, and each rule that entries can break. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { InodeNumber } from "../../../../src/base/numbers.ts";
import type { CorruptionRule } from "../../../../src/ext4/errors.ts";
import {
  beginsWithDots,
  checkDirents,
  type DirentFormat,
  type Dirents,
  DOTDOT_AT,
  direntHashAt,
  direntInode,
  direntLength,
  direntNameLength,
  direntSize,
  direntType,
  eraseDirent,
  findRoom,
  insertDirent,
  isDotOrDotDot,
  setDirentTail,
  setDots,
  storedDirentChecksum,
} from "../../../../src/ext4/format/dirent.ts";

const PLACE = { inode: 12, block: 34 };
const FORMAT: DirentFormat = {
  blockSize: 1024,
  hasFileType: true,
  hasHash: false,
  isEncrypted: false,
  inodeCount: 100,
};

interface Entry {
  readonly inode?: number;
  readonly length: number;
  readonly name?: string;
  readonly nameLength?: number;
  readonly type?: number;
}

/** Entries one after another in `size` bytes. */
function dirents(entries: readonly Entry[], size: number) {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const { inode = 11, length, name = "x", nameLength = name.length, type = 1 } of entries) {
    view.setUint32(at, inode, true);
    view.setUint16(at + 4, length, true);
    bytes[at + 6] = nameLength;
    bytes[at + 7] = type;
    bytes.set(new TextEncoder().encode(name), at + 8);
    at += length;
  }
  return { bytes, view };
}

const nameAt = ({ bytes, view }: Dirents, at: number): string =>
  new TextDecoder().decode(bytes.subarray(at + 8, at + 8 + direntNameLength(view, at)));

test("the accessors read an entry in place", () => {
  const { view, bytes } = dirents([{ length: 12 }, { inode: 77, length: 52, name: "name" }], 64);
  expect(direntInode(view, 12)).toBe(77);
  expect(direntLength(view, 12, 1024)).toBe(52);
  expect(direntNameLength(view, 12)).toBe(4);
  expect(direntHashAt(view, 12)).toBe(24);
  expect(isDotOrDotDot(bytes, 20, 4)).toBe(false);
});

test.each([
  [0xffff, 65536],
  [0, 65536],
  [0xfff4, 0xfff4],
])("direntLength of %i in a block of 64 KiB is %i", (stored, length) => {
  const { view } = dirents([{ length: stored }], 64);
  expect(direntLength(view, 0, 65536)).toBe(length);
});

test.each([
  [0, 0],
  [1, 8],
  [2, 4],
  [3, 2],
  [4, 6],
  [5, 1],
  [6, 12],
  [7, 10],
  [8, 0],
  [0xde, 0],
])("direntType makes DT_* of file type %i: %i", (stored, type) => {
  const { view } = dirents([{ length: 64, type: stored }], 64);
  expect(direntType(view, 0, FORMAT)).toBe(type);
  expect(direntType(view, 0, { ...FORMAT, hasFileType: false })).toBe(0);
});

test.each([
  [".", true],
  ["..", true],
  [".a", false],
  ["a.", false],
  ["...", false],
  ["", false],
])("isDotOrDotDot of %j is %s", (name, expected) => {
  const bytes = new TextEncoder().encode(`${name}\0\0\0\0`);
  expect(isDotOrDotDot(bytes, 0, name.length)).toBe(expected);
});

describe("checkDirents", () => {
  const check = (entries: readonly Entry[], format: Partial<DirentFormat> = {}) => {
    const size = 64;
    checkDirents(dirents(entries, size), 0, size, { ...FORMAT, ...format }, PLACE);
  };

  test.each<[string, readonly Entry[], Partial<DirentFormat>]>([
    ["entries that fill the room", [{ length: 12 }, { length: 52, name: "y".repeat(44) }], {}],
    ["free room in front", [{ inode: 0, length: 8, nameLength: 255 }, { length: 56 }], {}],
    ["any bytes where names are encrypted", [{ length: 64, name: "a/\0" }], { isEncrypted: true }],
    ["room for a hash", [{ length: 20, name: "1234" }, { length: 44 }], { hasHash: true }],
    ['no hash behind "."', [{ length: 12, name: "." }, { length: 52 }], { hasHash: true }],
  ])("accepts %s", (_, entries, format) => {
    expect(() => check(entries, format)).not.toThrow();
  });

  test.each<[CorruptionRule, string, readonly Entry[], Partial<DirentFormat>]>([
    ["dirent-length", "of 0", [{ length: 0 }], {}],
    ["dirent-length", "below the head's", [{ length: 4 }], {}],
    ["dirent-length", "that is no multiple of 4", [{ length: 18 }], {}],
    ["dirent-length", "over the end", [{ length: 12 }, { length: 56 }], {}],
    ["dirent-length", "that leaves too little", [{ length: 60 }], {}],
    ["dirent-name", "that is empty", [{ length: 64, nameLength: 0 }], {}],
    ["dirent-name", "over the end of its entry", [{ length: 12, name: "12345" }], {}],
    [
      "dirent-name",
      "over the room for its hash",
      [{ length: 16, name: "1234" }],
      { hasHash: true },
    ],
    ["dirent-name", "with a slash", [{ length: 64, name: "a/b" }], {}],
    ["dirent-name", "with a NUL", [{ length: 64, name: "a\0b" }], {}],
    ["dirent-name", "of 16 bits, too long", [{ length: 64 }], { hasFileType: false }],
    ["dirent-inode", "that is not there", [{ length: 64, inode: 101 }], {}],
  ])("refuses by %s one %s", (rule, _, entries, format) => {
    expect(() => check(entries, format)).toThrow(
      expect.objectContaining({ rule, place: expect.objectContaining(PLACE) }),
    );
  });
});

test("storedDirentChecksum finds the checksum of a tail, and only there", () => {
  const { view, bytes } = dirents(
    [{ inode: 0, length: 12, nameLength: 0, type: 0xde, name: "" }],
    12,
  );
  view.setUint32(8, 0x89abcdef, true);
  expect(storedDirentChecksum(view, 0)).toBe(0x89abcdef);
  for (const at of [0, 4, 6, 7]) {
    bytes[at] = (bytes[at] as number) ^ 1;
    expect(storedDirentChecksum(view, 0), `byte ${at}`).toBe(-1);
    bytes[at] = (bytes[at] as number) ^ 1;
  }
});

test("entries that are inserted and erased keep the records filling their block", () => {
  const size = 512;
  const target = { inode: 3 as InodeNumber, mode: 0o100644 };
  const anyStep = fc.record({ length: fc.integer({ min: 1, max: 60 }), erase: fc.nat() });
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 60, size: "max" }), (steps) => {
      const block = dirents([{ inode: 0, length: size }], size);
      const names: string[] = [];
      const offsetOf = (name: string): number => {
        for (let at = 0; at < size; at += direntLength(block.view, at, size)) {
          if (direntInode(block.view, at) !== 0 && nameAt(block, at) === name) return at;
        }
        return -1;
      };
      steps.forEach(({ length, erase }, index) => {
        const name = `${index}`.padEnd(length, "n");
        const at = findRoom(block, 0, size, FORMAT, direntSize(name.length));
        if (at < 0) {
          const [gone] = names.splice(erase % names.length, 1);
          const free = eraseDirent(block, 0, offsetOf(gone as string), FORMAT);
          expect(findRoom(block, 0, size, FORMAT, free)).toBeGreaterThanOrEqual(0);
        } else {
          const to = insertDirent(block, at, FORMAT, new TextEncoder().encode(name), target);
          expect(offsetOf(name)).toBe(to);
          names.push(name);
        }
        checkDirents(block, 0, size, FORMAT, PLACE);
        for (const each of names) expect(offsetOf(each), each).toBeGreaterThanOrEqual(0);
      });
    }),
  );
});

test("setDots makes a block that begins with them", () => {
  const block = dirents([], 1024);
  const self = { inode: 5 as InodeNumber, mode: 0o40755 };
  setDots(block, 1012, { ...FORMAT, blockSize: 1024 }, self, 2 as InodeNumber);
  checkDirents(block, 0, 1012, { ...FORMAT, blockSize: 1024 }, PLACE);
  expect(beginsWithDots(block, 1024)).toBe(true);
  expect([direntInode(block.view, 0), direntInode(block.view, DOTDOT_AT)]).toEqual([5, 2]);
  expect(direntType(block.view, DOTDOT_AT, FORMAT)).toBe(4);
});

test("setDirentTail writes the tail that storedDirentChecksum finds", () => {
  const { view } = dirents([], 24);
  setDirentTail(view, 12, 0x1234_5678);
  expect(storedDirentChecksum(view, 12)).toBe(0x1234_5678);
});
