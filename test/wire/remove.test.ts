/** UNLINK, RMDIR, RENAME, RENAME2. */
import { expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import type { InodeNumber } from "../../src/base/numbers.ts";
import { FsError } from "../../src/ext4/index.ts";
import {
  answerTo,
  ascii,
  exchange,
  inode,
  name,
  reply,
  request,
  u32,
  u64,
  writable,
  zeros,
} from "./support.ts";

test("UNLINK and RMDIR remove a name", () => {
  const asked: unknown[] = [];
  const fs = writable({
    unlink: (parent, bytes) => {
      asked.push("unlink", parent, ascii(bytes));
      return inode();
    },
    removeDirectory: (parent, bytes) => {
      asked.push("rmdir", parent, ascii(bytes));
      return inode({ mode: 0o040755 });
    },
  });
  expect(answerTo(request(10, 1, name("f")), fs)).toEqual(reply(0));
  expect(answerTo(request(11, 12, name("d")), fs)).toEqual(reply(0));
  expect(asked).toEqual(["unlink", 2, "f", "rmdir", 12, "d"]);
});

const rename = (to: number): Uint8Array =>
  request(
    12,
    12,
    u64(to), // newdir
    name("old"),
    name("new"),
  );

const rename2 = (flags: number): Uint8Array =>
  request(
    45,
    12,
    u64(1), // newdir
    u32(flags),
    u32(0), // padding
    name("old"),
    name("new"),
  );

const asked: unknown[] = [];
/** @param found what has the new name afterwards, and what the old one has. */
const renamingOf = (found: { new?: number; old?: number }, isDirectory = false) =>
  writable(
    {
      rename: (from, oldName, to, newName, options) => {
        asked.push(from, ascii(oldName), to, ascii(newName), options);
        return undefined;
      },
    },
    {
      lookup: (_, bytes) => (found[ascii(bytes) as "new" | "old"] ?? 0) as InodeNumber,
      inode: (number) => inode({ number, isDirectory }),
    },
  );
const renaming = renamingOf({ new: 14 });

test("RENAME renames without any flags", () => {
  expect(answerTo(rename(13), renaming)).toEqual(reply(0));
  expect(asked.splice(0)).toEqual([12, "old", 13, "new", { noReplace: false, exchange: false }]);
});

test.each([
  [0, { noReplace: false, exchange: false }],
  [1, { noReplace: true, exchange: false }],
  [2, { noReplace: false, exchange: true }],
  [4, { noReplace: false, exchange: false, whiteout: { uid: 1000, gid: 1000, umask: 0 } }],
  [5, { noReplace: true, exchange: false, whiteout: { uid: 1000, gid: 1000, umask: 0 } }],
])("RENAME2 knows flags %i", (flags, options) => {
  expect(answerTo(rename2(flags), renaming)).toEqual(reply(0));
  expect(asked.splice(0)).toEqual([12, "old", 2, "new", expect.objectContaining(options)]);
});

test("a directory that moves loses its listing in the kernel, with the old parent", () => {
  const forgotten = (asking: Uint8Array, isDirectory: boolean) =>
    exchange([asking], renamingOf({ new: 14, old: 15 }, isDirectory)).channel.forgottenContents;
  expect(forgotten(rename(13), true)).toEqual([14]);
  expect(forgotten(rename(12), true)).toEqual([]);
  expect(forgotten(rename(13), false)).toEqual([]);
  expect(forgotten(rename2(2), true)).toEqual([14, 15]);
  expect(forgotten(rename2(4), true)).toEqual([14]);
  asked.length = 0;
});

test("RENAME2 refuses flags it does not know", () => {
  expect(answerTo(rename2(8), renaming)).toEqual(reply(-22));
});

test.each([
  ["UNLINK without a name", request(10, 1)],
  ["RENAME", request(12, 1, zeros(7))],
  ["RENAME with one name", request(12, 1, u64(1), name("a"))],
  ["RENAME2", request(45, 1, zeros(15))],
])("%s is EINVAL", (_, malformed) => {
  expect(answerTo(malformed, renaming)).toEqual(reply(-22));
});

test("RENAME into what cannot be a directory is ESTALE", () => {
  expect(answerTo(rename(0), renaming)).toEqual(reply(-116));
});

test("what the filesystem refuses is the answer", () => {
  const fs = writable({
    removeDirectory: () => {
      throw new FsError(Errno.ENOTEMPTY, "not empty");
    },
  });
  expect(answerTo(request(11, 1, name("d")), fs)).toEqual(reply(-39));
});
