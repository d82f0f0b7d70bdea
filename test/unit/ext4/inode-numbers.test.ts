/** Which inodes can be asked for by number, and which can be made. */
import { describe, expect, test } from "vitest";
import { Errno } from "../../../src/base/errno.ts";
import type { InodeNumber } from "../../../src/base/numbers.ts";
import { MemoryDevice } from "../../../src/device/memory-device.ts";
import {
  createFile,
  createTemporary,
  FileType,
  openFilesystem,
  openWritableFilesystem,
  ROOT_INODE,
} from "../../../src/ext4/index.ts";
import { expectation, image } from "../../support/images.ts";
import { bytesOf } from "../../support/library-view.ts";

describe("Filesystem.hasInode", () => {
  const has = (name: string, number: number): boolean =>
    openFilesystem(new MemoryDevice(image(name))).hasInode(number as InodeNumber);

  test("says yes to the root, to files and to inodes that are free", () => {
    expect(has("no-checksums", ROOT_INODE)).toBe(true);
    expect(has("no-checksums", expectation("no-checksums").paths["/folder/file"] as number)).toBe(
      true,
    );
    expect(has("no-checksums", 60)).toBe(true);
  });
  // biome-ignore format: a table
  test.each([
    ["before the first", "no-checksums", 0],
    ["of the journal", "ext3-1k", 8],
    ["behind the last", "no-checksums", 65],
    ["that holds orphans", "orphan-file", 12],
    ["that holds the value of an xattr", "ea-inode", 13],
  ] as const)("says no to the inode %s", (_, name, number) => {
    expect(has(name, number)).toBe(false);
  });
});

describe("an inode of a type that is not to be made", () => {
  const attributes = (mode: number) => ({ mode, uid: 0, gid: 0, umask: 0 });
  const invalid = expect.objectContaining({ errno: Errno.EINVAL });

  test.each([0, FileType.DIRECTORY, FileType.SYMLINK, FileType.MASK, 0o777])(
    "is refused by createFile: mode %i",
    (mode) => {
      const fs = openWritableFilesystem(new MemoryDevice(image("no-checksums")));
      const create = (): unknown => createFile(fs, ROOT_INODE, bytesOf("a"), attributes(mode));
      expect(create).toThrow(invalid);
      expect(fs.writer.transactions.hasChanges).toBe(false);
    },
  );
  test("is refused by createTemporary", () => {
    const fs = openWritableFilesystem(new MemoryDevice(image("no-checksums")));
    const create = (): unknown => createTemporary(fs, ROOT_INODE, attributes(FileType.FIFO));
    expect(create).toThrow(invalid);
  });
});
