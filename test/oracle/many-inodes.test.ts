/**
 * One transaction with more changed inodes than stay in memory: they are stored in their blocks before
 * it commits, and may change again, or not, after that.
 */
import { expect, test } from "vitest";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  closeFilesystem,
  createFile,
  lookup,
  openFilesystem,
  openWritableFilesystem,
  ROOT_INODE,
  release,
  setAttributes,
  unlink,
} from "../../src/ext4/index.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { complaintsAbout, freshImage } from "../support/writable-image.ts";

const FILES = 10_000;
const IN_MEMORY_MAX = 4100;
const NEW_FILE = { mode: 0o100600, uid: 0, gid: 0, umask: 0 };

const skipped = skipBecause("many inodes", whyNoE2fsprogs());

test.skipIf(skipped)("more inodes change in a transaction than stay in memory", () => {
  const bytes = freshImage("512M", ["-t", "ext4", "-N", "12000"]);
  const fs = openWritableFilesystem(new MemoryDevice(bytes));
  const { transactions } = fs.writer;
  const id = transactions.runningId;
  const name = (index: number): Uint8Array => new TextEncoder().encode(`file-${index}`);
  for (let index = 0; index < FILES; index++) {
    createFile(fs, ROOT_INODE, name(index), NEW_FILE);
    expect(fs.inodes.changedCount).toBeLessThan(IN_MEMORY_MAX);
  }
  // Stored already, each of them: changed again, changed and taken back, taken away.
  const number = (index: number) => lookup(fs, ROOT_INODE, name(index)) as typeof ROOT_INODE;
  setAttributes(fs, number(1), { mode: 0o640 });
  const changeAndFail = (): void =>
    fs.transact(1, (tx) => {
      tx.edit(fs.inode(number(2))).mode = 0o100777;
      throw new Error("enough");
    });
  expect(changeAndFail).toThrow("enough");
  const gone = number(3);
  unlink(fs, ROOT_INODE, name(3));
  release(fs, gone);
  expect(transactions.runningId).toBe(id);

  closeFilesystem(fs);
  expect(complaintsAbout(bytes)).toBe("");
  const read = openFilesystem(new MemoryDevice(bytes));
  const modes = [0, 1, 2, FILES - 1].map(
    (index) => read.inode(lookup(read, ROOT_INODE, name(index)) as typeof ROOT_INODE).mode,
  );
  expect(modes).toEqual([0o100600, 0o100640, 0o100600, 0o100600]);
  expect(lookup(read, ROOT_INODE, name(3))).toBe(0);
});
