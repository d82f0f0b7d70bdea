/** Lookups and listings of directories of every kind, judged by what debugfs says of the images. */
import { describe, expect, test } from "vitest";
import type { InodeNumber } from "../../../../src/base/numbers.ts";
import { MemoryDevice } from "../../../../src/device/memory-device.ts";
import { DirHash } from "../../../../src/ext4/format/dirhash.ts";
import { SUPERBLOCK_OFFSET, SuperblockLayout } from "../../../../src/ext4/format/superblock.ts";
import {
  Compat,
  type Filesystem,
  FsError,
  lookup,
  openFilesystem,
  parentOf,
  ROOT_INODE,
} from "../../../../src/ext4/index.ts";
import { expectation, image } from "../../../support/images.ts";
import { bytesOf, type Listed, list, namesOf, PatchedImage } from "./patched-image.ts";

const DT_BY_TYPE: Readonly<Record<string, number>> = {
  FIFO: 1,
  "character special": 2,
  directory: 4,
  "block special": 6,
  regular: 8,
  symlink: 10,
  socket: 12,
};

interface Folder {
  readonly number: InodeNumber;
  readonly parent: InodeNumber;
  /** Inode numbers by name. */
  readonly entries: ReadonlyMap<string, number>;
}

/** What the directories of an image hold, according to debugfs. */
function folders(name: string): Map<string, Folder> {
  const { paths, inodes } = expectation(name);
  const found = new Map<string, Folder>();
  const parentPath = (path: string): string => path.slice(0, path.lastIndexOf("/")) || "/";
  for (const [path, number] of Object.entries(paths)) {
    if (inodes[number]?.type !== "directory") continue;
    const parent = (path === "/" ? number : paths[parentPath(path)]) as InodeNumber;
    const inside = Object.entries(paths).filter(
      ([other]) => other !== "/" && parentPath(other) === path,
    );
    const entries = new Map(
      inside.map(([other, inode]) => [other.slice(other.lastIndexOf("/") + 1), inode]),
    );
    found.set(path, { number: number as InodeNumber, parent, entries });
  }
  return found;
}

const open = (name: string): Filesystem => openFilesystem(new MemoryDevice(image(name)));

const expectGrowing = (listed: readonly Listed[]): void => {
  listed.forEach(({ hi, lo, name }, index) => {
    const before = listed[index - 1] ?? { hi: 0, lo: 0 };
    expect(hi > before.hi || (hi === before.hi && lo > before.lo), name).toBe(true);
  });
};

describe.each([
  "casefold",
  "ext2-1k",
  "ext2-plain",
  "ext3-1k",
  "ext4-64k",
  "htree-deep",
  "htree-half-md4",
  "htree-half-md4-unsigned",
  "htree-legacy",
  "htree-legacy-unsigned",
  "htree-tea",
  "htree-tea-unsigned",
  "inline-data",
])("%s", (name) => {
  const fs = open(name);
  const all = folders(name);

  test("every entry is found by its name, and no other", () => {
    for (const [path, { number, parent, entries }] of all) {
      for (const [entry, inode] of entries) {
        expect(lookup(fs, number, bytesOf(entry)), `${path} ${entry}`).toBe(inode);
        const other = `${entry.slice(0, 254)}~`;
        expect(lookup(fs, number, bytesOf(other)), `${path} ${other}`).toBe(0);
      }
      expect(lookup(fs, number, bytesOf(".")), path).toBe(number);
      expect(lookup(fs, number, bytesOf("..")), path).toBe(parent);
      expect(lookup(fs, number, new Uint8Array()), path).toBe(0);
      expect(parentOf(fs, number), path).toBe(parent);
    }
  });

  test("every entry is listed once, with its inode and type", () => {
    const { inodes } = expectation(name);
    const hasTypes = name !== "ext2-plain";
    for (const [path, { number, parent, entries }] of all) {
      const listed = list(fs, number);
      const wanted = [[".", number], ["..", parent], ...entries];
      expect(listed.map((entry) => [entry.name, entry.inode]).sort(), path).toEqual(wanted.sort());
      for (const { name: entry, inode, type } of listed) {
        const expected = DT_BY_TYPE[inodes[inode]?.type ?? ""];
        expect(type, `${path} ${entry}`).toBe(hasTypes ? expected : 0);
      }
    }
  });

  test("a listing goes on where it was left, and positions only grow", () => {
    for (const [path, { number }] of all) {
      const whole = list(fs, number);
      expectGrowing(whole);
      expect(list(fs, number, 1), path).toEqual(whole);
      expect(list(fs, number, 7), path).toEqual(whole);
    }
  });
});

test("hashed directories and those of one block are listed by the hashes of their names", () => {
  const fs = open("htree-half-md4");
  const hash = new DirHash(1, false, fs.superblock.hashSeed);
  const paths = ["/", "/hashed"];
  for (const path of paths) {
    const number = expectation("htree-half-md4").paths[path] as InodeNumber;
    const [dot, dotdot, ...others] = list(fs, number);
    expect([dot?.name, dot?.hi, dot?.lo]).toEqual([".", 0, 1]);
    expect([dotdot?.name, dotdot?.hi, dotdot?.lo]).toEqual(["..", 0, 2]);
    for (const { name, hi, lo } of others) {
      hash.hash(bytesOf(name), 0, name.length);
      expect([hi, lo], name).toEqual([hash.major / 2, ((hash.minor & 0xffff_ff00) | 3) >>> 0]);
    }
  }
});

test("a position that no entry has means the entries after it", () => {
  const fs = open("htree-half-md4");
  const number = expectation("htree-half-md4").paths["/hashed"] as InodeNumber;
  const whole = list(fs, number);
  const { hi, lo } = whole[40] as Listed;
  expect(list(fs, number, 100, { hi, lo: lo - 1 })).toEqual(whole.slice(40));
  expect(list(fs, number, 100, { hi, lo })).toEqual(whole.slice(41));
  expect(list(fs, number, 100, { hi: 0x7fff_ffff, lo: 0 })).toEqual([]);
  expect(list(fs, number, 100, { hi: 0xffff_ffff, lo: 0 })).toEqual([]);
});

test("a position in a linear directory that no entry has means the next entry of the block", () => {
  const fs = open("ext2-1k");
  const number = expectation("ext2-1k").paths["/folder"] as InodeNumber;
  const whole = list(fs, number);
  const { lo } = whole[3] as Listed;
  expect(list(fs, number, 100, { hi: 0, lo: lo + 1 })).toEqual(whole.slice(5));
  expect(list(fs, number, 100, { hi: 1, lo: 0 })).toEqual([]);
});

/** The directory lists, at once and in pieces, the names that it has in the golden image `name`. */
function expectSameNames(fs: Filesystem, name: string, number: InodeNumber): void {
  const whole = list(fs, number);
  expectGrowing(whole);
  expect(namesOf(whole).sort()).toEqual(namesOf(list(open(name), number)).sort());
  expect(list(fs, number, 3)).toEqual(whole);
}

test("names of one hash are all found and listed, in however many blocks they lie", () => {
  const patched = new PatchedImage("htree-legacy");
  const path = "/hashed";
  // Every block of entries but the first continues the hash of the one before.
  const root = patched.block(path, 0);
  const count = patched.view.getUint16(root + 34, true);
  for (let index = 1; index < count; index++) patched.set32(root + 32 + 8 * index, 0x1001);
  patched.sealRoot(path);
  expectSameNames(patched.open(), "htree-legacy", patched.number(path));
});

test("an entry that lies where its hash does not belong is listed once", () => {
  const patched = new PatchedImage("htree-tea");
  const path = "/hashed";
  const root = patched.block(path, 0);
  // The first two blocks of entries change places.
  const first = patched.view.getUint32(root + 36, true);
  patched.set32(root + 36, patched.view.getUint32(root + 44, true));
  patched.set32(root + 44, first);
  patched.sealRoot(path);
  expectSameNames(patched.open(), "htree-tea", patched.number(path));
});

test("without the feature dir_index an index is free room between the entries", () => {
  const patched = new PatchedImage("ext3-1k");
  const number = patched.number("/hashed");
  const hashed = patched.open();
  const withoutIndex = hashed.superblock.features.compat & ~Compat.DIR_INDEX;
  patched.set32(SUPERBLOCK_OFFSET + SuperblockLayout.featureCompat, withoutIndex);
  const fs = patched.open();
  expect(namesOf(list(fs, number)).sort()).toEqual(namesOf(list(hashed, number)).sort());
  expect(list(fs, number)[0]).toMatchObject({ name: ".", hi: 0, lo: 12 });
  expect(lookup(fs, number, bytesOf("entry-number-77"))).toBe(patched.number("/base"));
});

test("an inline directory without dir_index is listed as it is stored", () => {
  const patched = new PatchedImage("inline-data");
  const fs = patched.open();
  const number = patched.number("/few");
  const byHash = list(fs, number);
  const other = patched.open();
  Object.assign(other.superblock.features, {
    compat: other.superblock.features.compat & ~Compat.DIR_INDEX,
  });
  const stored = list(other, number);
  expectGrowing(stored);
  expect(namesOf(stored).slice(0, 2)).toEqual([".", ".."]);
  expect(namesOf(stored).sort()).toEqual(namesOf(byHash).sort());
  expect(list(other, number, 1)).toEqual(stored);
});

test("holes of a linear directory are passed over", () => {
  const patched = new PatchedImage("ext2-1k");
  const path = "/lost+found";
  // The second of its twelve blocks, and the last ten, are not there any more.
  for (const index of [1, 3, 4, 5, 6, 7, 8, 9, 10, 11])
    patched.set32(patched.iBlock(path) + 4 * index, 0);
  const fs = patched.open();
  const number = patched.number(path);
  expect(namesOf(list(fs, number))).toEqual([".", ".."]);
  expect(lookup(fs, number, bytesOf("name"))).toBe(0);
});

test("case does not matter where the directory says so", () => {
  const fs = open("casefold");
  const { paths } = expectation("casefold");
  const at = (path: string): InodeNumber => paths[path] as InodeNumber;
  const utf8 = (name: string): Uint8Array => new TextEncoder().encode(name);
  expect(lookup(fs, at("/folded"), utf8("nAME"))).toBe(at("/folded/Name"));
  expect(lookup(fs, at("/folded"), utf8("ÄRGER"))).not.toBe(0);
  expect(lookup(fs, at("/folded"), utf8("a\u0308rger"))).toBe(
    lookup(fs, at("/folded"), utf8("Ärger")),
  );
  expect(lookup(fs, at("/folded"), utf8("STRASSE"))).not.toBe(0);
  expect(lookup(fs, at("/folded"), utf8("ÅNGSTROM"))).not.toBe(0);
  expect(lookup(fs, at("/folded"), bytesOf("invalid-\xff"))).not.toBe(0);
  expect(lookup(fs, at("/folded"), bytesOf("INVALID-\xff"))).toBe(0);
  expect(lookup(fs, at("/exact"), utf8("NAME"))).toBe(0);
  expect(lookup(fs, at("/exact"), utf8("name"))).not.toBe(lookup(fs, at("/exact"), utf8("Name")));
  for (let number = 1; number <= 50; number++) {
    expect(lookup(fs, at("/hashed"), utf8(`U\u0308BUNG-${number}`))).toBe(at("/base"));
    expect(lookup(fs, at("/hashed"), utf8(`naME-numBER-${number}-of-MIDDLING-length`))).toBe(
      at("/base"),
    );
  }
});

test("a strict encoding refuses names that are not UTF-8", () => {
  const fs = open("casefold");
  Object.assign(fs.superblock, { encodingFlags: 1 });
  const folded = expectation("casefold").paths["/folded"] as InodeNumber;
  expect(() => lookup(fs, folded, bytesOf("\xff"))).toThrow(expect.objectContaining({ errno: 22 }));
});

test("a folded name is found where another hash would have it, unless the encoding rules that out", () => {
  const patched = new PatchedImage("casefold");
  const path = "/hashed";
  const root = patched.block(path, 0);
  const first = patched.view.getUint32(root + 36, true);
  patched.set32(root + 36, patched.view.getUint32(root + 44, true));
  patched.set32(root + 44, first);
  patched.sealRoot(path);
  const number = patched.number(path);
  const found = (fs: Filesystem): number =>
    Array.from({ length: 50 }, (_, index) => `\u00dcBUNG-${index + 1}`).filter(
      (name) => lookup(fs, number, new TextEncoder().encode(name)) !== 0,
    ).length;
  expect(found(patched.open())).toBe(50);
  const exact = patched.open();
  Object.assign(exact.superblock, { encodingFlags: 2 });
  expect(found(exact)).toBeLessThan(50);
});

test("lookup refuses long names and what is no directory", () => {
  const fs = open("ext2-1k");
  const file = expectation("ext2-1k").paths["/folder/file"] as InodeNumber;
  const thrown = (act: () => unknown): unknown => {
    try {
      return act();
    } catch (error) {
      return error instanceof FsError ? error.errno : error;
    }
  };
  expect(thrown(() => lookup(fs, ROOT_INODE, new Uint8Array(256).fill(0x61)))).toBe(36);
  expect(lookup(fs, ROOT_INODE, new Uint8Array(255).fill(0x61))).toBe(0);
  expect(thrown(() => lookup(fs, file, bytesOf("name")))).toBe(20);
  expect(thrown(() => list(fs, file))).toBe(20);
  expect(thrown(() => parentOf(fs, file))).toBe(20);
});
