/** Stored ACLs become what getxattr(2) returns. */
import { expect, test } from "vitest";
import { aclToXattr } from "../../../../src/ext4/format/acl.ts";

const PLACE = { inode: 12 };

// biome-ignore format: a table
const STORED = Uint8Array.of(
  1, 0, 0, 0,                            // version 1
  0x01, 0, 6, 0,                         // user::rw-
  0x02, 0, 4, 0, 0xe8, 0x03, 0, 0,       // user:1000:r--
  0x04, 0, 4, 0,                         // group::r--
  0x10, 0, 4, 0,                         // mask::r--
  0x20, 0, 0, 0,                         // other::---
);

test("aclToXattr widens every entry to eight bytes", () => {
  // biome-ignore format: a table
  expect([...aclToXattr(STORED, PLACE)]).toEqual([
    2, 0, 0, 0,                                       // version 2
    0x01, 0, 6, 0, 0xff, 0xff, 0xff, 0xff,
    0x02, 0, 4, 0, 0xe8, 0x03, 0, 0,
    0x04, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
    0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
    0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
  ]);
});

test.each([
  ["another version", Uint8Array.of(2, 0, 0, 0)],
  ["no version", Uint8Array.of(1, 0)],
  ["an unknown tag", Uint8Array.of(1, 0, 0, 0, 3, 0, 0, 0)],
  ["a named entry without its id", Uint8Array.of(1, 0, 0, 0, 2, 0, 4, 0)],
  ["half an entry", Uint8Array.of(1, 0, 0, 0, 1, 0)],
])("aclToXattr refuses %s", (_, stored) => {
  expect(() => aclToXattr(stored, PLACE)).toThrow(expect.objectContaining({ rule: "acl" }));
});
