/**
 * Each rule of the format that directories have to keep: an image that breaks exactly that rule, and
 * the call that has to notice. Every case ends: no damage makes a lookup or a listing go on for ever.
 */
import { describe, expect, test } from "vitest";
import type { InodeNumber } from "../../../../src/base/numbers.ts";
import { InodeFlags, InodeLayout } from "../../../../src/ext4/format/inode.ts";
import { SUPERBLOCK_OFFSET, SuperblockLayout } from "../../../../src/ext4/format/superblock.ts";
import {
  Compat,
  type CorruptionRule,
  type Filesystem,
  lookup,
  parentOf,
  readDirectory,
} from "../../../../src/ext4/index.ts";
import { bytesOf, list, PatchedImage } from "./patched-image.ts";

const FEATURE_COMPAT = SUPERBLOCK_OFFSET + SuperblockLayout.featureCompat;
/** Where things are in the root of an index. */
const ROOT = { hashVersion: 28, levels: 30, count: 34, entries: 32 };

/** "." and ".." take 24 bytes; the next entry follows. */
const THIRD_ENTRY = 24;

type Notice = (fs: Filesystem, number: InodeNumber) => unknown;

const search =
  (name: string): Notice =>
  (fs, number) =>
    lookup(fs, number, bytesOf(name));
const listing: Notice = (fs, number) => list(fs, number);
const parent: Notice = (fs, number) => parentOf(fs, number);

interface Case {
  readonly rule: CorruptionRule;
  readonly what: string;
  readonly image: string;
  readonly path: string;
  readonly damage: (patched: PatchedImage, path: string) => void;
  readonly notice: Notice;
}

const third = (patched: PatchedImage, path: string): number => patched.block(path, 0) + THIRD_ENTRY;

/** Makes `index` in the root of the index lead to `block`. */
function lead(patched: PatchedImage, path: string, index: number, block: number): void {
  patched.set32(patched.block(path, 0) + ROOT.entries + 8 * index + 4, block);
}

const cases: Case[] = [
  {
    rule: "dirent-length",
    what: "an entry of 0 bytes",
    image: "ext3-1k",
    path: "/folder",
    damage: (p, path) => p.set16(third(p, path) + 4, 0),
    notice: search("file"),
  },
  {
    rule: "dirent-length",
    what: "an entry over the end of its block",
    image: "ext2-1k",
    path: "/folder",
    damage: (p, path) => p.set16(third(p, path) + 4, 1024),
    notice: listing,
  },
  {
    rule: "dirent-length",
    what: "an inline entry over the end of the inode",
    image: "inline-data",
    path: "/few",
    damage: (p, path) => {
      p.set16(p.iBlock(path) + 4 + 4, 60);
      p.sealInode(path);
    },
    notice: listing,
  },
  {
    rule: "dirent-name",
    what: "a name over the end of its entry",
    image: "ext3-1k",
    path: "/folder",
    damage: (p, path) => p.set8(third(p, path) + 6, 255),
    notice: search("file"),
  },
  {
    rule: "dirent-name",
    what: "a slash",
    image: "ext3-1k",
    path: "/hashed",
    damage: (p, path) => p.set8(p.block(path, 1) + 8, 0x2f),
    notice: listing,
  },
  {
    rule: "dirent-inode",
    what: "an inode past the last",
    image: "ext3-1k",
    path: "/folder",
    damage: (p, path) => p.set32(third(p, path), 0xffff_fff0),
    notice: listing,
  },
  {
    rule: "dirent-inode",
    what: "an entry for its own directory",
    image: "ext3-1k",
    path: "/folder",
    damage: (p, path) => p.set32(third(p, path), p.number(path)),
    notice: (fs, number) => {
      const entry = list(fs, number).find(({ name, inode }) => name !== "." && inode === number);
      return search(entry?.name ?? "")(fs, number);
    },
  },
  {
    rule: "dirent-inode",
    what: 'no ".."',
    image: "ext3-1k",
    path: "/folder",
    damage: (p, path) => p.set32(p.block(path, 0) + 12, 0),
    notice: parent,
  },
  {
    rule: "dirent-inode",
    what: 'an inline ".." past the last inode',
    image: "inline-data",
    path: "/few",
    damage: (p, path) => {
      p.set32(p.iBlock(path), 0xffff_fff0);
      p.sealInode(path);
    },
    notice: parent,
  },
  {
    rule: "dirent-checksum",
    what: "a changed name",
    image: "ext4-1k",
    path: "/folder",
    damage: (p, path) => p.set8(third(p, path) + 8, 0x7e),
    notice: search("file"),
  },
  {
    rule: "dirent-checksum",
    what: "no tail",
    image: "ext4-1k",
    path: "/folder",
    damage: (p, path) => p.set8(p.block(path, 0) + 1024 - 5, 0),
    notice: listing,
  },
  {
    rule: "htree-root",
    what: "an unknown hash",
    image: "ext3-1k",
    path: "/hashed",
    damage: (p, path) => p.set8(p.block(path, 0) + ROOT.hashVersion, 9),
    notice: search("entry-number-1"),
  },
  {
    rule: "htree-root",
    what: "an index without dir_index, under checksums",
    image: "htree-tea",
    path: "/hashed",
    damage: (p) => {
      p.set32(FEATURE_COMPAT, p.view.getUint32(FEATURE_COMPAT, true) & ~Compat.DIR_INDEX);
      p.sealSuperblock();
    },
    notice: listing,
  },
  {
    rule: "htree-depth",
    what: "more levels than there may be",
    image: "ext3-1k",
    path: "/hashed",
    damage: (p, path) => p.set8(p.block(path, 0) + ROOT.levels, 3),
    notice: listing,
  },
  {
    rule: "htree-count",
    what: "more entries than there is room for",
    image: "ext3-1k",
    path: "/hashed",
    damage: (p, path) => p.set16(p.block(path, 0) + ROOT.count, 0xffff),
    notice: search("entry-number-1"),
  },
  {
    rule: "htree-order",
    what: "descending hashes",
    image: "ext3-1k",
    path: "/hashed",
    damage: (p, path) => p.set32(p.block(path, 0) + ROOT.entries + 8, 0xffff_fff0),
    notice: listing,
  },
  {
    rule: "htree-order",
    what: "a node with other hashes than its parent's",
    image: "htree-deep",
    path: "/hashed",
    damage: (p, path) => {
      const root = p.block(path, 0);
      const second = p.view.getUint32(root + ROOT.entries + 12, true);
      lead(p, path, 0, second);
      p.sealRoot(path);
    },
    notice: listing,
  },
  {
    rule: "htree-block",
    what: "a block past the end",
    image: "ext3-1k",
    path: "/hashed",
    damage: (p, path) => lead(p, path, 0, 1000),
    notice: listing,
  },
  {
    rule: "htree-block",
    what: "a hole",
    image: "ext3-1k",
    path: "/hashed",
    damage: (p, path) => {
      lead(p, path, 0, 3);
      p.set32(p.iBlock(path) + 4 * 3, 0);
    },
    notice: listing,
  },
  {
    rule: "htree-block",
    what: "no root",
    image: "ext3-1k",
    path: "/hashed",
    damage: (p, path) => p.set32(p.iBlock(path), 0),
    notice: search("entry-number-1"),
  },
  {
    rule: "htree-block",
    what: "a node that is none",
    image: "ext3-1k",
    path: "/hashed",
    damage: (p, path) => p.set8(p.block(path, 0) + ROOT.levels, 1),
    notice: search("entry-number-1"),
  },
  {
    rule: "htree-block",
    what: "one empty block for all hashes",
    image: "ext3-1k",
    path: "/hashed",
    damage: (p, path) => everythingLeadsTo(p, path, (index) => 2 * index),
    notice: listing,
  },
  {
    rule: "htree-block",
    what: "one empty block that continues itself",
    image: "ext3-1k",
    path: "/hashed",
    damage: (p, path) => everythingLeadsTo(p, path, () => 1),
    notice: listing,
  },
  {
    rule: "htree-checksum",
    what: "a changed root",
    image: "htree-deep",
    path: "/hashed",
    damage: (p, path) => p.set8(p.block(path, 0) + ROOT.entries + 8, 0x10),
    notice: listing,
  },
  {
    rule: "htree-checksum",
    what: "a changed tail of a node",
    image: "htree-deep",
    path: "/hashed",
    damage: (p, path) => {
      const node = p.view.getUint32(p.block(path, 0) + ROOT.entries + 4, true);
      p.set8(p.block(path, node) + 1016, 1);
    },
    notice: listing,
  },
  {
    rule: "inode-size",
    what: "a directory larger than the device",
    image: "ext3-1k",
    path: "/folder",
    damage: (p, path) => p.set32(p.inode(path) + InodeLayout.sizeLo, 0xffff_fc00),
    notice: search("file"),
  },
];

/** Fills the root with entries, each with its own hash, that all lead to one block without entries. */
function everythingLeadsTo(
  patched: PatchedImage,
  path: string,
  hashOf: (index: number) => number,
): void {
  const count = 20;
  const empty = patched.block(path, 1);
  patched.set32(empty, 0);
  patched.set16(empty + 4, 1024);
  const root = patched.block(path, 0);
  patched.set16(root + ROOT.count, count);
  for (let index = 0; index < count; index++) {
    lead(patched, path, index, 1);
    if (index > 0) patched.set32(root + ROOT.entries + 8 * index, hashOf(index));
  }
}

describe("a damaged directory", () => {
  test.each(cases)("is refused by $rule: $what ($image)", ({ damage, rule, ...each }) => {
    const patched = new PatchedImage(each.image);
    damage(patched, each.path);
    const fs = patched.open();
    const number = patched.number(each.path);
    const act = (): unknown => each.notice(fs, number);
    expect(act).toThrow(expect.objectContaining({ rule, errno: 117 }));
    expect(act, "again, from the cache").toThrow(expect.objectContaining({ rule }));
  });

  test("is listed up to the damage", () => {
    const patched = new PatchedImage("ext3-1k");
    const path = "/hashed";
    const sound = list(patched.open(), patched.number(path));
    const root = patched.block(path, 0);
    const last = patched.view.getUint16(root + ROOT.count, true) - 1;
    const block = patched.view.getUint32(root + ROOT.entries + 8 * last + 4, true);
    patched.set16(patched.block(path, block) + 4, 0);
    const names: string[] = [];
    const act = (): void =>
      readDirectory(patched.open(), patched.number(path), 0, 0, (name) => {
        names.push(String.fromCharCode(...name));
        return true;
      });
    expect(act).toThrow(expect.objectContaining({ rule: "dirent-length" }));
    expect(names.length).toBeGreaterThan(100);
    expect(names).toEqual(sound.slice(0, names.length).map(({ name }) => name));
  });

  test("refuses encrypted names that are too short to be", () => {
    const patched = new PatchedImage("ext3-1k");
    const fs = patched.open();
    const inode = fs.inode(patched.number("/hashed"));
    Object.assign(inode, { flags: inode.flags | InodeFlags.ENCRYPT });
    expect(() => list(fs, inode.number)).toThrow(expect.objectContaining({ rule: "dirent-name" }));
  });
});
