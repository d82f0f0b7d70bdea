/** Entries of extended attributes are stored and found again, and hashed as the kernel does it. */
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  compareXattrs,
  hashXattr,
  hashXattrBlock,
  parseXattrEntries,
  serializeXattrEntries,
  XATTR_BLOCK_HEADER_SIZE,
  type XattrEntry,
  xattrsSize,
} from "../../../../src/ext4/format/xattr.ts";

const BLOCK_SIZE = 1024;

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function entry(name: string, value: string, hash = 0): XattrEntry {
  const stored = bytes(value);
  const size = { valueInode: 0, valueSize: stored.length };
  return { nameIndex: 1, name: bytes(name), ...size, value: stored, hash };
}

const anyEntry = fc
  .record({
    nameIndex: fc.integer({ min: 1, max: 10 }),
    name: fc.uint8Array({ maxLength: 40 }),
    value: fc.uint8Array({ maxLength: 60 }),
    hash: fc.nat(),
  })
  .map((made) => ({ ...made, valueInode: 0, valueSize: made.value.length }));

test("serializeXattrEntries stores what parseXattrEntries finds", () => {
  fc.assert(
    fc.property(fc.array(anyEntry, { maxLength: 12 }), (entries) => {
      fc.pre(XATTR_BLOCK_HEADER_SIZE + xattrsSize(entries) <= BLOCK_SIZE);
      const block = new Uint8Array(BLOCK_SIZE).fill(0xff);
      serializeXattrEntries(entries, block, XATTR_BLOCK_HEADER_SIZE, 0);
      expect(parseXattrEntries(block, XATTR_BLOCK_HEADER_SIZE, 0, {})).toEqual(entries);
    }),
  );
});

test("serializeXattrEntries reorders entries that lie in the same bytes", () => {
  const block = new Uint8Array(BLOCK_SIZE);
  const first = XATTR_BLOCK_HEADER_SIZE;
  serializeXattrEntries([entry("a", "first"), entry("b", "second")], block, first, 0);
  const parsed = parseXattrEntries(block, first, 0, {});
  serializeXattrEntries(parsed.toReversed(), block, first, 0);
  const found = parseXattrEntries(block, first, 0, {});
  expect(found).toEqual([entry("b", "second"), entry("a", "first")]);
});

test("compareXattrs orders by index, then length, then bytes", () => {
  const key = (nameIndex: number, name: string) => ({ nameIndex, name: bytes(name) });
  const ordered = [key(1, "zz"), key(1, "abc"), key(1, "abd"), key(2, ""), key(6, "a")];
  expect(ordered.toReversed().toSorted(compareXattrs)).toEqual(ordered);
  expect(compareXattrs(key(1, "same"), key(1, "same"))).toBe(0);
});

test.each([
  ["a name", "a", "", 0x61],
  ["two letters, the first shifted by five", "ab", "", 0x0c42],
  ["a word of the value, after shifting by sixteen", "a", "bcde", 0x6505_6362],
  ["a value that is filled up with zeros", "", "b", 0x62],
])("hashXattr covers %s", (_, name, value, expected) => {
  expect(hashXattr(bytes(name), bytes(value))).toBe(expected);
});

test("hashXattr takes the bytes of a name as unsigned", () => {
  expect(hashXattr(Uint8Array.of(0xe4), new Uint8Array())).toBe(0xe4);
});

test("hashXattrBlock forbids to share a block that has an entry without a hash", () => {
  expect(hashXattrBlock([entry("a", "", 0x61), entry("b", "", 0x62)])).toBe(0x61_0062);
  expect(hashXattrBlock([entry("a", "", 0x61), entry("b", "", 0)])).toBe(0);
});
