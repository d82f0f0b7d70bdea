/** LOOKUP, FORGET, BATCH_FORGET, and node ids. */
import { expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import type { InodeNumber } from "../../src/base/numbers.ts";
import { FsError } from "../../src/ext4/index.ts";
import { inodeOf, nodeOf } from "../../src/fuse/nodes.ts";
import {
  answerTo,
  ascii,
  attr,
  entry,
  exchange,
  filesystem,
  inode,
  name,
  reply,
  request,
  UNLIMITED,
  u32,
  u64,
  writable,
  zeros,
} from "./support.ts";

const asked: [number, string][] = [];
const fs = filesystem({
  lookup: (parent, wanted) => {
    asked.push([parent, ascii(wanted)]);
    if (wanted.length > 255) throw new FsError(Errno.ENAMETOOLONG, "a name of 256 bytes");
    return (ascii(wanted) === "hello" ? 12 : 0) as InodeNumber;
  },
  parentOf: () => 2 as InodeNumber,
  inode: (number) => inode({ number }),
});

test("LOOKUP answers with the node, its generation and its attributes", () => {
  asked.length = 0;
  expect(answerTo(request(1, 1, name("hello")), fs)).toEqual(reply(0, entry()));
  expect(asked).toEqual([[2, "hello"]]);
});

test("LOOKUP of a name that is not there says so for ever", () => {
  expect(answerTo(request(1, 13, name("nobody")), fs)).toEqual(
    reply(
      0,
      u64(0), // nodeid: none
      u64(0), // generation
      u64(UNLIMITED), // entry_valid
      u64(0), // attr_valid
      u32(0), // entry_valid_nsec
      u32(0), // attr_valid_nsec
      zeros(88), // attr
    ),
  );
});

test('LOOKUP of "." answers with the node itself', () => {
  expect(answerTo(request(1, 12, name(".")), fs)).toEqual(reply(0, entry()));
});

test('LOOKUP of "." is ESTALE when the file has lost its last name', () => {
  const unlinked = filesystem({ inode: () => inode({ linkCount: 0 }) });
  expect(answerTo(request(1, 12, name(".")), unlinked)).toEqual(reply(-116));
});

test('LOOKUP of ".." answers with the parent, here the root, whose generation is 0', () => {
  expect(answerTo(request(1, 12, name("..")), fs)).toEqual(reply(0, entry(1, attr({ ino: 2 }), 0)));
});

test("timeouts can have fractions of a second", () => {
  const options = { entryTimeout: 1.5, attrTimeout: 0, negativeTimeout: 0.25 };
  expect(answerTo(request(1, 1, name("hello")), fs, options)).toEqual(
    reply(
      0,
      u64(12), // nodeid
      u64(0x0a0b_0c0d), // generation
      u64(1), // entry_valid
      u64(0), // attr_valid
      u32(500_000_000), // entry_valid_nsec
      u32(0), // attr_valid_nsec
      attr(),
    ),
  );
  expect(answerTo(request(1, 1, name("nobody")), fs, options)).toEqual(
    reply(0, zeros(16), u64(0), u64(0), u32(250_000_000), u32(0), zeros(88)),
  );
});

test("LOOKUP passes names whole: one of 256 bytes is ENAMETOOLONG", () => {
  asked.length = 0;
  expect(answerTo(request(1, 1, name("n".repeat(256))), fs)).toEqual(reply(-36));
  expect(asked[0]?.[1]).toHaveLength(256);
});

test("LOOKUP of a name without a NUL is EINVAL, whatever lies behind the request", () => {
  expect(answerTo(request(1, 1, [0x68, 0x69]), fs)).toEqual(reply(-22));
  expect(answerTo(request(1, 1), fs)).toEqual(reply(-22));
});

test("a node that is none of the filesystem's is ESTALE, and no damage", () => {
  const fs = writable({}, { hasInode: (number) => number !== 4000 });
  const requests = [
    request(1, 4000, name("file")), // LOOKUP
    request(8, 4000, u32(0o100644), u32(0), u32(0), u32(0), name("file")), // MKNOD
    request(13, 12, u64(4000), name("file")), // LINK of it
    request(12, 12, u64(4000), name("old"), name("new")), // RENAME into it
    request(47, 12, u64(1), u64(0), u64(4000), u64(2), u64(0), u64(10), u64(0)), // COPY_FILE_RANGE
  ];
  const { answers, log } = exchange(requests, fs);
  expect(answers).toEqual(requests.map(() => reply(-116)));
  expect(log).toEqual([]);
});

test("a node that cannot be an inode is ESTALE", () => {
  expect(answerTo(request(1, 0, name("hello")), fs)).toEqual(reply(-116));
  expect(answerTo(request(1, 2 ** 32, name("hello")), fs)).toEqual(reply(-116));
  expect(answerTo(request(1, 0xffff_ffff_ffff_ffffn, name(".")), fs)).toEqual(reply(-116));
});

test("FORGET and BATCH_FORGET get no reply", () => {
  expect(answerTo(request(2, 12, u64(3)))).toBe("no reply");
  expect(
    answerTo(
      request(
        42,
        0,
        u32(2), // count
        u32(0), // dummy
        u64(12), // nodeid
        u64(1), // nlookup
        u64(13),
        u64(5),
      ),
    ),
  ).toBe("no reply");
});

test("nodeOf and inodeOf are each other's inverse, and the root is node 1", () => {
  expect(nodeOf(2)).toBe(1);
  for (const number of [1, 2, 3, 11, 0xffff_ffff]) expect(inodeOf(nodeOf(number))).toBe(number);
});
