/** Blocks of a hash index: searching them, and each rule that they can break. */
import { describe, expect, test } from "vitest";
import type { FileBlock } from "../../../../src/base/numbers.ts";
import type { CorruptionRule } from "../../../../src/ext4/errors.ts";
import {
  checkHtreeNode,
  checkHtreeRange,
  checkHtreeRoot,
  deepenHtree,
  type HtreeBounds,
  HtreeNode,
  htreeTailAt,
  htreeUsedEnd,
  indirectLevels,
  insertHtreeEntry,
  isHtreeFull,
  makeHtreeRoot,
  NODE_ENTRIES_AT,
  ROOT_ENTRIES_AT,
  splitHtreeNode,
} from "../../../../src/ext4/format/htree.ts";

const PLACE = { inode: 12, block: 34 };
const BLOCK_SIZE = 1024;
const BOUNDS: HtreeBounds = {
  blockSize: BLOCK_SIZE,
  blockCount: 50,
  inodeCount: 100,
  hasChecksums: true,
  hasLargeDir: false,
  hasHashInDirent: false,
};

type Entries = readonly (readonly [hash: number, block: number])[];
const ENTRIES: Entries = [
  [0, 1],
  [0x1000, 2],
  [0x1001, 3],
  [0x8000_0000, 4],
];

function setEntries(view: DataView, at: number, entries: Entries): void {
  entries.forEach(([hash, block], index) => {
    view.setUint32(at + 8 * index, hash, true);
    view.setUint32(at + 8 * index + 4, block, true);
  });
  view.setUint16(at, Math.floor((BLOCK_SIZE - at - 8) / 8), true);
  view.setUint16(at + 2, entries.length, true);
}

function root(entries: Entries = ENTRIES): DataView {
  const view = new DataView(new ArrayBuffer(BLOCK_SIZE));
  view.setUint32(0, 12, true); // "." is inode 12
  view.setUint16(4, 12, true);
  view.setUint16(6, 0x0201, true);
  view.setUint8(8, 0x2e);
  view.setUint32(12, 2, true); // ".." is inode 2
  view.setUint16(16, BLOCK_SIZE - 12, true);
  view.setUint16(18, 0x0202, true);
  view.setUint16(20, 0x2e2e, true);
  view.setUint8(28, 1); // half MD4
  view.setUint8(29, 8);
  setEntries(view, ROOT_ENTRIES_AT, entries);
  return view;
}

function node(entries: Entries = ENTRIES): DataView {
  const view = new DataView(new ArrayBuffer(BLOCK_SIZE));
  view.setUint16(4, BLOCK_SIZE, true);
  setEntries(view, NODE_ENTRIES_AT, entries);
  return view;
}

test.each([
  [0, 0],
  [0xfff, 0],
  [0x1000, 1],
  [0x1002, 2],
  [0x7fff_fffe, 2],
  [0x8000_0000, 3],
  [0xffff_fffc, 3],
])("HtreeNode.find of 0x%s finds entry %i", (hash, index) => {
  expect(new HtreeNode(root(), ROOT_ENTRIES_AT).find(hash)).toBe(index);
});

test("HtreeNode reads entries, without the reserved bits of block numbers", () => {
  const found = new HtreeNode(
    node([
      [0, 1],
      [0x1001, 0xf000_0003],
    ]),
    NODE_ENTRIES_AT,
  );
  expect(found.count).toBe(2);
  expect(found.hash(1)).toBe(0x1001);
  expect([found.block(0), found.block(1)]).toEqual([1, 3]);
});

test("the checksum covers the entries in use, and its tail lies behind all room for them", () => {
  expect(htreeUsedEnd(node(), NODE_ENTRIES_AT)).toBe(8 + 4 * 8);
  expect(htreeTailAt(node(), NODE_ENTRIES_AT)).toBe(1016);
  expect(htreeTailAt(root(), ROOT_ENTRIES_AT)).toBe(1016);
});

type Damage = (view: DataView) => void;

describe("checkHtreeRoot", () => {
  test("accepts a sound root", () => {
    expect(() => checkHtreeRoot(root(), BOUNDS, PLACE)).not.toThrow();
  });

  test("accepts a second level of nodes in large directories", () => {
    const view = root();
    view.setUint8(30, 2);
    expect(() => checkHtreeRoot(view, { ...BOUNDS, hasLargeDir: true }, PLACE)).not.toThrow();
  });

  test("accepts SipHash where entries carry their hash, and only there", () => {
    const view = root();
    view.setUint8(28, 6);
    const bounds = { ...BOUNDS, hasHashInDirent: true };
    expect(() => checkHtreeRoot(view, bounds, PLACE)).not.toThrow();
    expect(() => checkHtreeRoot(root(), bounds, PLACE)).toThrow("hash version 1");
  });

  test.each<[CorruptionRule, string, Damage]>([
    ["htree-root", 'no "."', (view) => view.setUint8(8, 0x61)],
    ["htree-root", 'a "." of another length', (view) => view.setUint16(4, 16, true)],
    ["htree-root", 'no ".."', (view) => view.setUint8(21, 0x61)],
    ["htree-root", 'a ".." that ends early', (view) => view.setUint16(16, 12, true)],
    ["htree-root", "an unsigned hash version", (view) => view.setUint8(28, 4)],
    ["htree-root", "SipHash", (view) => view.setUint8(28, 6)],
    ["htree-root", "another info length", (view) => view.setUint8(29, 16)],
    ["htree-root", "a reserved field that is used", (view) => view.setUint32(24, 1, true)],
    ["htree-root", "an incompatible flag", (view) => view.setUint8(31, 1)],
    ["htree-depth", "too many levels", (view) => view.setUint8(30, 2)],
    ["dirent-inode", 'a ".." of 0', (view) => view.setUint32(12, 0, true)],
    ["dirent-inode", 'a ".." that is not there', (view) => view.setUint32(12, 101, true)],
    ["htree-count", "no entries", (view) => view.setUint16(34, 0, true)],
    ["htree-count", "more entries than the limit", (view) => view.setUint16(34, 124, true)],
    ["htree-count", "a limit beyond the block", (view) => view.setUint16(32, 124, true)],
    ["htree-count", "a limit below the room", (view) => view.setUint16(32, 122, true)],
    ["htree-order", "hashes out of order", (view) => view.setUint32(48, 0xfff, true)],
    ["htree-block", "itself below it", (view) => view.setUint32(36, 0, true)],
    ["htree-block", "a block past the end", (view) => view.setUint32(36, 50, true)],
  ])("refuses by %s %s", (rule, _, damage) => {
    const view = root();
    damage(view);
    expect(() => checkHtreeRoot(view, BOUNDS, PLACE)).toThrow(
      expect.objectContaining({ rule, place: PLACE }),
    );
  });
});

describe("checkHtreeNode", () => {
  test("accepts a sound node", () => {
    expect(() => checkHtreeNode(node(), BOUNDS, PLACE)).not.toThrow();
  });

  test("accepts one entry less where entries carry their hash", () => {
    const view = node();
    view.setUint16(8, 125, true);
    expect(() => checkHtreeNode(view, { ...BOUNDS, hasHashInDirent: true }, PLACE)).not.toThrow();
    expect(() => checkHtreeNode(view, BOUNDS, PLACE)).toThrow("room for 126");
  });

  test.each<[CorruptionRule, string, Damage]>([
    ["htree-block", "an entry that is in use", (view) => view.setUint32(0, 12, true)],
    ["htree-block", "an entry that ends early", (view) => view.setUint16(4, 512, true)],
    ["htree-count", "no entries", (view) => view.setUint16(10, 0, true)],
    ["htree-order", "hashes out of order", (view) => view.setUint32(16, 0x2000, true)],
    ["htree-block", "a block past the end", (view) => view.setUint32(28, 50, true)],
  ])("refuses by %s %s", (rule, _, damage) => {
    const view = node();
    damage(view);
    expect(() => checkHtreeNode(view, BOUNDS, PLACE)).toThrow(expect.objectContaining({ rule }));
  });
});

test.each([
  ["below its parent's", 0x1002, 0x9000_0000],
  ["above its parent's", 0x1000, 0x7fff_ffff],
])("checkHtreeRange refuses by htree-order a node with hashes %s", (_, key, endKey) => {
  const found = new HtreeNode(node(), NODE_ENTRIES_AT);
  expect(() => checkHtreeRange(found, 0x1000, 0x8000_0000, PLACE)).not.toThrow();
  expect(() => checkHtreeRange(found, key, endKey, PLACE)).toThrow(
    expect.objectContaining({ rule: "htree-order" }),
  );
});

test("an index that is made, filled, deepened and split obeys the rules at every step", () => {
  const entriesOf = (view: DataView, at: number): [number, number][] => {
    const found = new HtreeNode(view, at);
    return Array.from({ length: found.count }, (_, index) => [
      index === 0 ? 0 : found.hash(index),
      found.block(index),
    ]);
  };
  const made = root([]);
  const bounds = { ...BOUNDS, blockCount: 1000 };
  makeHtreeRoot(made, 2, 1 as FileBlock, true);
  checkHtreeRoot(made, bounds, PLACE);
  expect(entriesOf(made, ROOT_ENTRIES_AT)).toEqual([[0, 1]]);
  const wanted: [number, number][] = [[0, 1]];
  for (let block = 2; !isHtreeFull(made, ROOT_ENTRIES_AT); block++) {
    // Every other one comes before all the others.
    const index = block % 2 === 0 ? 1 : wanted.length;
    const hash = block % 2 === 0 ? 0x10_0000 - 2 * block : 0x10_0000 + 2 * block;
    insertHtreeEntry(made, ROOT_ENTRIES_AT, index, hash, block as FileBlock);
    wanted.splice(index, 0, [hash, block]);
    checkHtreeRoot(made, bounds, PLACE);
    expect(entriesOf(made, ROOT_ENTRIES_AT)).toEqual(wanted);
  }
  const below = new DataView(new ArrayBuffer(BLOCK_SIZE));
  deepenHtree(made, below, 500 as FileBlock, true);
  checkHtreeRoot(made, bounds, PLACE);
  checkHtreeNode(below, bounds, PLACE);
  expect(indirectLevels(made)).toBe(1);
  expect(entriesOf(made, ROOT_ENTRIES_AT)).toEqual([[0, 500]]);
  expect(entriesOf(below, NODE_ENTRIES_AT)).toEqual(wanted);
  const upper = new DataView(new ArrayBuffer(BLOCK_SIZE));
  const hash = splitHtreeNode(below, upper, true);
  checkHtreeNode(below, bounds, PLACE);
  checkHtreeNode(upper, bounds, PLACE);
  const half = wanted.length >>> 1;
  expect(hash).toBe(wanted[half]?.[0]);
  expect(entriesOf(below, NODE_ENTRIES_AT)).toEqual(wanted.slice(0, half));
  const moved = entriesOf(upper, NODE_ENTRIES_AT);
  expect(moved.map(([, block]) => block)).toEqual(wanted.slice(half).map(([, block]) => block));
  expect(moved.slice(1)).toEqual(wanted.slice(half + 1));
});
