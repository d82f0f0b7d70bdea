/** No operation makes an entry with a name that no entry can have: the kernel never asks, others may. */
import { describe, expect, test } from "vitest";
import { Errno } from "../../../../src/base/errno.ts";
import { MemoryDevice } from "../../../../src/device/memory-device.ts";
import {
  createFile,
  type Filesystem,
  link,
  lookup,
  makeDirectory,
  makeSymlink,
  openWritableFilesystem,
  ROOT_INODE,
  removeDirectory,
  rename,
  unlink,
} from "../../../../src/ext4/index.ts";
import { image } from "../../../support/images.ts";
import { bytesOf } from "../../../support/library-view.ts";

const attributes = { mode: 0o100644, uid: 0, gid: 0, umask: 0 };
const directory = { ...attributes, mode: 0o040755 };
const OLD = bytesOf("old");

/** What each operation does with a name of the root directory. */
const OPERATIONS: Readonly<Record<string, (fs: Filesystem, name: Uint8Array) => unknown>> = {
  createFile: (fs, name) => createFile(fs, ROOT_INODE, name, attributes),
  makeDirectory: (fs, name) => makeDirectory(fs, ROOT_INODE, name, directory),
  makeSymlink: (fs, name) => makeSymlink(fs, ROOT_INODE, name, OLD, attributes),
  link: (fs, name) =>
    link(fs, createFile(fs, ROOT_INODE, OLD, attributes).number, ROOT_INODE, name),
  unlink: (fs, name) => unlink(fs, ROOT_INODE, name),
  removeDirectory: (fs, name) => removeDirectory(fs, ROOT_INODE, name),
  "rename from": (fs, name) => rename(fs, ROOT_INODE, name, ROOT_INODE, OLD),
  "rename to": (fs, name) => {
    createFile(fs, ROOT_INODE, OLD, attributes);
    rename(fs, ROOT_INODE, OLD, ROOT_INODE, name);
  },
};

describe.each(Object.entries(OPERATIONS))("%s", (_, operation) => {
  test.each([
    ["no name", ""],
    ["a slash", "a/b"],
    ["a NUL", "a\0b"],
    ["the directory itself", "."],
    ["the directory above", ".."],
  ])("refuses %s", (_name, name) => {
    const fs = openWritableFilesystem(new MemoryDevice(image("ext4-1k")));
    const refusal = expect.objectContaining({ errno: Errno.EINVAL });
    expect(() => operation(fs, bytesOf(name))).toThrow(refusal);
  });

  test("refuses more than 255 bytes", () => {
    const fs = openWritableFilesystem(new MemoryDevice(image("ext4-1k")));
    const refusal = expect.objectContaining({ errno: Errno.ENAMETOOLONG });
    expect(() => operation(fs, bytesOf("x".repeat(256)))).toThrow(refusal);
    expect(lookup(fs, ROOT_INODE, bytesOf("folder"))).toBeGreaterThan(0);
  });
});
