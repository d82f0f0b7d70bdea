/**
 * The library against debugfs: every golden image, every path of it, every field of every inode.
 */
import { describe, expect, test } from "vitest";
import type { InodeNumber } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  lookup,
  openFilesystem,
  parentOf,
  ROOT_INODE,
  readDirectory,
} from "../../src/ext4/index.ts";
import { expectation, image, imageNames } from "../support/images.ts";
import { bytesOf, entriesOf, inodeView, latin1, pathsOf } from "../support/library-view.ts";

const open = (name: string) => openFilesystem(new MemoryDevice(image(name)));

describe.each(imageNames())("golden image %s", (name) => {
  const expected = expectation(name);
  const fs = open(name);

  test("readDirectory() lists the paths that debugfs lists", () => {
    expect(pathsOf(fs)).toEqual(expected.paths);
  });

  test("inodes, xattrs, symlinks and contents are what debugfs says", () => {
    const views = Object.keys(expected.inodes).map((number) => [
      number,
      inodeView(fs, Number(number) as InodeNumber),
    ]);
    expect(Object.fromEntries(views)).toEqual(expected.inodes);
  });

  test("lookup() finds every path from the root, and parentOf() leads back", () => {
    for (const [path, number] of Object.entries(expected.paths)) {
      if (path === "/") continue;
      const names = path.slice(1).split("/");
      let parent: InodeNumber = ROOT_INODE;
      for (const [index, each] of names.entries()) {
        const child = lookup(fs, parent, bytesOf(each)) as InodeNumber;
        if (index < names.length - 1) {
          expect(parentOf(fs, child), path).toBe(parent);
          parent = child;
        } else expect(child, path).toBe(number);
      }
    }
  });

  test("lookup() misses names that are not there", () => {
    for (const [path, number] of Object.entries(expected.paths)) {
      if (expected.inodes[number]?.type !== "directory") continue;
      for (const absent of ["absent", "\xff\xfe", "a".repeat(255)])
        expect(lookup(fs, number as InodeNumber, bytesOf(absent)), `${path} ${absent}`).toBe(0);
    }
  });
});

describe("casefold", () => {
  const fs = open("casefold");
  const { paths } = expectation("casefold");
  const inFolder = (folder: string, name: string): number =>
    lookup(fs, paths[folder] as InodeNumber, new TextEncoder().encode(name));

  test.each([
    ["NAME", "Name"],
    ["name", "Name"],
    ["ÄRGER", "\xc3\x84rger"],
    ["a\u0308rger", "\xc3\x84rger"],
    ["STRASSE", "stra\xc3\x9fe"],
    ["\u00e5ngstrom", "A\xcc\x8angstrom"],
    ["\u212bNGSTROM", "A\xcc\x8angstrom"],
  ])("lookup() of %s in a folded directory finds it", (asked, stored) => {
    expect(inFolder("/folded", asked)).toBe(paths[`/folded/${stored}`]);
  });

  test("lookup() of names that are not valid UTF-8 compares bytes", () => {
    const directory = paths["/folded"] as InodeNumber;
    expect(lookup(fs, directory, bytesOf("invalid-\xff"))).toBe(paths["/folded/invalid-\xff"]);
    expect(lookup(fs, directory, bytesOf("INVALID-\xff"))).toBe(0);
  });

  test("lookup() finds folded names through the hash tree", () => {
    for (let index = 1; index <= 100; index++) {
      const stored = paths[`/hashed/Name-Number-${index}-Of-Middling-Length`];
      expect(inFolder("/hashed", `nAME-nUMBER-${index}-oF-mIDDLING-lENGTH`)).toBe(stored);
    }
    for (let index = 1; index <= 50; index++)
      expect(inFolder("/hashed", `u\u0308BUNG-${index}`)).toBe(
        paths[`/hashed/\xc3\x9cbung-${index}`],
      );
  });

  test("lookup() of another case in a directory that is not folded misses", () => {
    expect(inFolder("/exact", "NAME")).toBe(0);
    expect(inFolder("/exact", "Name")).not.toBe(inFolder("/exact", "name"));
  });
});

describe("readDirectory() positions", () => {
  test.each(["htree-deep", "htree-half-md4", "ext4-4k", "inline-data", "ext2-plain", "casefold"])(
    "of %s: continuing at any of them lists exactly the rest",
    (name) => {
      const fs = open(name);
      const { paths, inodes } = expectation(name);
      for (const [path, number] of Object.entries(paths)) {
        if (inodes[number]?.type !== "directory") continue;
        const directory = number as InodeNumber;
        const all = entriesOf(fs, directory).map((entry) => entry.name);
        let [hi, lo] = [0, 0];
        for (let index = 0; index <= all.length; index++) {
          const seen = rest(fs, directory, hi, lo);
          expect(seen.names, `${path} from ${index}`).toEqual(all.slice(index));
          [hi, lo] = seen.second;
        }
      }
    },
  );
});

/** The names from a position on, and the position behind the first of them. */
function rest(
  fs: ReturnType<typeof open>,
  directory: InodeNumber,
  hi: number,
  lo: number,
): { names: string[]; second: [number, number] } {
  const names: string[] = [];
  let second: [number, number] = [hi, lo];
  readDirectory(fs, directory, hi, lo, (name, _inode, _type, nextHi, nextLo) => {
    if (names.length === 0) second = [nextHi, nextLo];
    names.push(latin1(name));
    return true;
  });
  return { names, second };
}
