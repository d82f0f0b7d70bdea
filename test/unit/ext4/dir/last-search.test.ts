/** What is remembered of the last search of a directory, and when it is forgotten. */
import { expect, test } from "vitest";
import { MemoryDevice } from "../../../../src/device/memory-device.ts";
import { addEntry, removeEntry } from "../../../../src/ext4/dir/entries.ts";
import { LastSearch } from "../../../../src/ext4/dir/last-search.ts";
import {
  createFile,
  lookup,
  openWritableFilesystem,
  ROOT_INODE,
} from "../../../../src/ext4/index.ts";
import { Credits } from "../../../../src/ext4/ops/credits.ts";
import { image } from "../../../support/images.ts";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

test("LastSearch is for the name that was noted last, until it is forgotten", () => {
  const last = new LastSearch();
  expect(last.isFor(bytesOf(""))).toBe(false);
  const asked = bytesOf("entry");
  last.note(asked, 2, 24);
  asked.fill(0);
  expect(last).toMatchObject({ part: 2, at: 24 });
  const fitting = ["entry", "entr", "entry1", "Entry"].filter((name) => last.isFor(bytesOf(name)));
  expect(fitting).toEqual(["entry"]);
  last.note(bytesOf("other"), -1, 0);
  expect(last.isFor(asked)).toBe(false);
  last.forget();
  expect(last.isFor(bytesOf("other"))).toBe(false);
});

test.each(["ext4-4k", "inline-data", "htree-deep"])(
  "%s: a lookup sees every change of the entry that the lookup before it found, and its rollback",
  (imageName) => {
    const fs = openWritableFilesystem(new MemoryDevice(image(imageName)));
    const root = fs.inode(ROOT_INODE);
    const name = bytesOf("looked for");
    const find = (): number => lookup(fs, ROOT_INODE, name);
    expect(find()).toBe(0);
    const attributes = { mode: 0o100644, uid: 0, gid: 0, umask: 0 };
    const { number, mode } = createFile(fs, ROOT_INODE, name, attributes);
    expect(find()).toBe(number);
    const moveAndFail = (): void =>
      fs.transact(Credits.RENAME, (tx) => {
        removeEntry(fs, tx, root, name);
        expect(find()).toBe(0);
        addEntry(fs, tx, root, name, number, mode);
        expect(find()).toBe(number);
        removeEntry(fs, tx, root, name);
        expect(find()).toBe(0);
        throw new Error("enough");
      });
    expect(moveAndFail).toThrow("enough");
    expect(find()).toBe(number);
  },
);
