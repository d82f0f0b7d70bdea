/** Entries that fast commits added and removed, laid over directories of each kind. */
import { describe, expect, test } from "vitest";
import type { InodeNumber } from "../../../../src/base/numbers.ts";
import type { DirectoryChanges } from "../../../../src/ext4/dir/directory-changes.ts";
import { lookup } from "../../../../src/ext4/index.ts";
import { FastCommitChanges } from "../../../../src/ext4/journal/fast-commit-changes.ts";
import { bytesOf, type Listed, list, namesOf, PatchedImage } from "./patched-image.ts";

const NEW = 11 as InodeNumber;
const DT_REG = 8;

const textOf = (name: Uint8Array): string => String.fromCharCode(...name);

describe.each([
  ["in the order of hashes", "ext3-1k", "/hashed", "entry-number-77"],
  ["in the order of hashes, in one block", "ext3-1k", "/folder", "file"],
  ["in the order of storage", "ext2-1k", "/folder", "file"],
])("listed %s (%s)", (_, name, path, gone) => {
  const patched = new PatchedImage(name);
  const number = patched.number(path);
  const before = list(patched.open(), number);
  const names = ["alpha", "beta", "gamma"];
  const changes: DirectoryChanges = {
    removed: (removed) => textOf(removed) === gone,
    added: names.map((added) => ({ name: bytesOf(added), inode: NEW, type: DT_REG })),
  };
  const fs = patched.open();
  fs.recovered = new FastCommitChanges(fs, new Map(), new Map([[number, changes]]));

  test("what was removed is gone", () => {
    expect(namesOf(before)).toContain(gone);
    expect(namesOf(list(fs, number))).not.toContain(gone);
    expect(lookup(fs, number, bytesOf(gone))).toBe(0);
  });

  test("what was added is there, and nothing else changes", () => {
    const added = names.map((each) => [each, NEW, DT_REG]);
    const kept = before.filter((entry) => entry.name !== gone);
    const wanted = [...kept.map((entry) => [entry.name, entry.inode, entry.type]), ...added];
    const listed = list(fs, number);
    expect(listed.map((entry) => [entry.name, entry.inode, entry.type]).sort()).toEqual(
      wanted.sort(),
    );
    for (const each of names) expect(lookup(fs, number, bytesOf(each))).toBe(NEW);
    const positions = new Map(before.map((entry) => [entry.name, entry]));
    for (const entry of listed.filter((each) => positions.has(each.name))) {
      expect(entry).toEqual(positions.get(entry.name));
    }
  });

  test("positions only grow, and a listing goes on where it was left", () => {
    const listed = list(fs, number);
    listed.slice(1).forEach((entry, index) => {
      const { hi, lo } = listed[index] as Listed;
      expect(entry.hi > hi || (entry.hi === hi && entry.lo > lo), entry.name).toBe(true);
    });
    expect(list(fs, number, 1)).toEqual(listed);
  });
});

test("a name that was removed and added again is the new one", () => {
  const patched = new PatchedImage("ext3-1k");
  const number = patched.number("/hashed");
  const name = bytesOf("entry-number-5");
  const fs = patched.open();
  const changes: DirectoryChanges = {
    removed: (removed) => textOf(removed) === textOf(name),
    added: [{ name, inode: NEW, type: DT_REG }],
  };
  fs.recovered = new FastCommitChanges(fs, new Map(), new Map([[number, changes]]));
  expect(lookup(fs, number, name)).toBe(NEW);
  const listed = list(fs, number).filter((entry) => entry.name === textOf(name));
  expect(listed.map(({ inode }) => inode)).toEqual([NEW]);
});

test("names of one hash follow each other, in the order in which they are stored", () => {
  const patched = new PatchedImage("htree-legacy");
  const number = patched.number("/hashed");
  const fs = patched.open();
  // Both have the legacy hash 0xfffffffc.
  const names = ["57f67162X4", "57f671624X"];
  const changes: DirectoryChanges = {
    removed: () => false,
    added: names.map((name) => ({ name: bytesOf(name), inode: NEW, type: DT_REG })),
  };
  fs.recovered = new FastCommitChanges(fs, new Map(), new Map([[number, changes]]));
  const listed = list(fs, number, 1).slice(-2);
  expect(listed.map(({ name, hi, lo }) => [name, hi, lo])).toEqual([
    [names[0], 0x7fff_fffe, 3],
    [names[1], 0x7fff_fffe, 4],
  ]);
});
