/** GETXATTR and LISTXATTR. */
import { expect, test } from "vitest";
import { answerTo, ascii, filesystem, name, reply, request, text, u32 } from "./support.ts";

const getxattr = (attribute: string, size: number): Uint8Array =>
  request(
    22,
    12,
    u32(size),
    u32(0), // padding
    name(attribute),
  );

const listxattr = (size: number): Uint8Array => request(23, 12, u32(size), u32(0));

const fs = filesystem({
  getXattr: (_inode, attribute) => {
    if (ascii(attribute) === "user.empty") return new Uint8Array(0);
    if (ascii(attribute) === "user.huge") return new Uint8Array(65537);
    return ascii(attribute) === "user.k" ? Uint8Array.from(text("value")) : undefined;
  },
  listXattrs: () => Uint8Array.from([...name("user.k"), ...name("user.empty")]),
});

test("GETXATTR answers with the value", () => {
  expect(answerTo(getxattr("user.k", 5), fs)).toEqual(reply(0, text("value")));
  expect(answerTo(getxattr("user.k", 4096), fs)).toEqual(reply(0, text("value")));
  expect(answerTo(getxattr("user.empty", 10), fs)).toEqual(reply(0));
});

test("GETXATTR with room for nothing asks for the size", () => {
  expect(answerTo(getxattr("user.k", 0), fs)).toEqual(
    reply(
      0,
      u32(5), // size
      u32(0), // padding
    ),
  );
  expect(answerTo(getxattr("user.empty", 0), fs)).toEqual(reply(0, u32(0), u32(0)));
});

test("GETXATTR refuses: no such attribute, too little room, too large for anybody", () => {
  expect(answerTo(getxattr("user.none", 10), fs)).toEqual(reply(-61)); // ENODATA
  expect(answerTo(getxattr("user.k", 4), fs)).toEqual(reply(-34)); // ERANGE
  expect(answerTo(getxattr("user.huge", 65536), fs)).toEqual(reply(-7)); // E2BIG
  expect(answerTo(getxattr("user.huge", 0), fs)).toEqual(reply(-7));
});

test("GETXATTR without a name, or with one that does not end, is EINVAL", () => {
  expect(answerTo(request(22, 12, u32(5), u32(0)), fs)).toEqual(reply(-22));
  expect(answerTo(request(22, 12, u32(5), u32(0), text("user.k")), fs)).toEqual(reply(-22));
  expect(answerTo(request(22, 12, u32(5)), fs)).toEqual(reply(-22));
});

test("LISTXATTR answers with names that end in NUL, or with their size", () => {
  expect(answerTo(listxattr(100), fs)).toEqual(reply(0, name("user.k"), name("user.empty")));
  expect(answerTo(listxattr(0), fs)).toEqual(reply(0, u32(18), u32(0)));
  expect(answerTo(listxattr(17), fs)).toEqual(reply(-34)); // ERANGE
});

test("LISTXATTR names trusted attributes to root alone", () => {
  const listed = [...name("user.a"), ...name("trusted.b"), ...name("user.c")];
  const all = filesystem({ listXattrs: () => Uint8Array.from(listed) });
  expect(answerTo(listxattr(100), all)).toEqual(reply(0, name("user.a"), name("user.c")));
  const fromRoot = listxattr(100);
  fromRoot.set(u32(0), 24); // uid
  expect(answerTo(fromRoot, all)).toEqual(reply(0, listed));
});

test("LISTXATTR of nothing is an empty reply", () => {
  const bare = filesystem({ listXattrs: () => new Uint8Array(0) });
  expect(answerTo(listxattr(100), bare)).toEqual(reply(0));
});
