/** Images with files for tests that change contents, and ways to look at them. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { InodeNumber } from "../../src/base/numbers.ts";
import { type Filesystem, readFile } from "../../src/ext4/index.ts";
import { debugfs, mke2fs } from "./e2fsprogs.ts";
import { withScope } from "./scope.ts";

/** The first inode that mke2fs leaves free: lost+found has number 11. */
const FIRST_FILE = 12;

/** A fresh ext4 image with `count` empty files f0, f1, … @param size as truncate(1) takes it. */
export function imageWithFiles(count: number, size: string, args: readonly string[]): Uint8Array {
  return withScope((scope) => {
    const image = join(scope.temporaryFolder(), "image");
    mke2fs(image, size, ["-t", "ext4", ...args]);
    const names = Array.from({ length: count }, (_, index) => `f${index}`);
    debugfs(
      image,
      names.map((name) => `write /dev/null ${name}`),
      true,
    );
    return new Uint8Array(readFileSync(image));
  });
}

/** The inode of the file `f${index}`. */
export function fileNumber(index: number): InodeNumber {
  return (FIRST_FILE + index) as InodeNumber;
}

/** All bytes of a file, as we read them. */
export function contentsOf(fs: Filesystem, number: InodeNumber): Uint8Array {
  const inode = fs.inode(number);
  const bytes = new Uint8Array(inode.sizeBytes);
  readFile(fs, inode, 0, bytes);
  return bytes;
}

/** What debugfs reads: of inline data all that there is room for, whatever the size says. */
export function dumpOf(image: Uint8Array, name: string): Uint8Array {
  return withScope((scope) => {
    const folder = scope.temporaryFolder();
    const file = join(folder, "image");
    writeFileSync(file, image);
    debugfs(file, [`dump ${name} ${join(folder, "dump")}`]);
    return new Uint8Array(readFileSync(join(folder, "dump")));
  });
}

/** As `expect(found).toEqual(expected)`, without printing megabytes. */
export function expectSame(found: Uint8Array, expected: Uint8Array, what: string): void {
  expect(found.length, `size of ${what}`).toBe(expected.length);
  const differs = Buffer.compare(found, expected) !== 0;
  const at = differs ? found.findIndex((byte, index) => byte !== expected[index]) : -1;
  expect(at, `first wrong byte of ${what}`).toBe(-1);
}
