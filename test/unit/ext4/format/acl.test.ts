/** ACLs in their stored form, as getxattr(2) and setxattr(2) have them, and beside a mode. */
import { expect, test } from "vitest";
import { Errno } from "../../../../src/base/errno.ts";
import {
  aclFromXattr,
  aclMaskedBy,
  aclToXattr,
  aclWithMode,
  modeFromAcl,
  parseAcl,
  serializeAcl,
  verifyAcl,
} from "../../../../src/ext4/format/acl.ts";

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

/** user::rw- user:1000:rwx group::r-x mask::r-- other::r-- */
const EXTENDED = [
  { tag: 1, permissions: 6, id: 0xffff_ffff },
  { tag: 2, permissions: 7, id: 1000 },
  { tag: 4, permissions: 5, id: 0xffff_ffff },
  { tag: 0x10, permissions: 4, id: 0xffff_ffff },
  { tag: 0x20, permissions: 4, id: 0xffff_ffff },
];
const MINIMAL = EXTENDED.filter(({ tag }) => tag !== 2 && tag !== 0x10);

test("serializeAcl stores what parseAcl reads", () => {
  expect(parseAcl(serializeAcl(EXTENDED), PLACE)).toEqual(EXTENDED);
  expect(serializeAcl(parseAcl(STORED, PLACE))).toEqual(STORED);
});

test("aclFromXattr reads what aclToXattr made", () => {
  expect(aclFromXattr(aclToXattr(serializeAcl(EXTENDED), PLACE))).toEqual(EXTENDED);
});

test.each([
  ["no bytes", []],
  ["no entries", [2, 0, 0, 0]],
])("aclFromXattr takes %s for no ACL", (_, bytes) => {
  expect(aclFromXattr(Uint8Array.from(bytes))).toBeUndefined();
});

test.each([
  ["half a version", [2, 0], Errno.EINVAL],
  ["another version", [1, 0, 0, 0], Errno.EOPNOTSUPP],
  ["half an entry", [2, 0, 0, 0, 1, 0, 6, 0], Errno.EINVAL],
  ["an unknown tag", [2, 0, 0, 0, 3, 0, 6, 0, 0, 0, 0, 0], Errno.EINVAL],
  ["a user without an id", [2, 0, 0, 0, 2, 0, 6, 0, 255, 255, 255, 255], Errno.EINVAL],
])("aclFromXattr refuses %s", (_, bytes, errno) => {
  const refused = expect.objectContaining({ errno });
  expect(() => aclFromXattr(Uint8Array.from(bytes))).toThrow(refused);
});

test("verifyAcl takes ACLs with and without named entries", () => {
  expect(() => verifyAcl(MINIMAL)).not.toThrow();
  expect(() => verifyAcl(EXTENDED)).not.toThrow();
});

test.each([
  ["without an owner", EXTENDED.slice(1)],
  ["without a mask for a named user", EXTENDED.filter(({ tag }) => tag !== 0x10)],
  ["in another order", EXTENDED.toReversed()],
  ["that names a user twice", EXTENDED.toSpliced(1, 0, ...EXTENDED.slice(1, 2))],
  ["with more than three permissions", MINIMAL.with(0, { tag: 1, permissions: 8, id: 0 })],
])("verifyAcl refuses an ACL %s", (_, acl) => {
  expect(() => verifyAcl(acl)).toThrow(expect.objectContaining({ errno: Errno.EINVAL }));
});

test("modeFromAcl takes the group bits from the mask", () => {
  expect(modeFromAcl(EXTENDED, 0o104777)).toBe(0o104644);
  expect(modeFromAcl(MINIMAL, 0o104777)).toBe(0o104654);
});

test("aclWithMode puts the group bits into the mask and leaves the group alone", () => {
  const permissions = aclWithMode(EXTENDED, 0o731).map((entry) => entry.permissions);
  expect(permissions).toEqual([7, 7, 5, 3, 1]);
  expect(aclWithMode(MINIMAL, 0o731).map((entry) => entry.permissions)).toEqual([7, 3, 1]);
});

test("aclMaskedBy allows what both the ACL and the mode allow", () => {
  const permissions = aclMaskedBy(EXTENDED, 0o471).map((entry) => entry.permissions);
  expect(permissions).toEqual([4, 7, 5, 4, 0]);
});
