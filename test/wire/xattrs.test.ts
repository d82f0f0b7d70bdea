/** GETXATTR, LISTXATTR, SETXATTR, REMOVEXATTR. */
import { expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import { FsError } from "../../src/ext4/index.ts";
import { InitFlag } from "../../src/fuse/abi.ts";
import {
  answerTo,
  ascii,
  exchange,
  filesystem,
  initRequest,
  inode,
  name,
  reply,
  request,
  requestBy,
  text,
  u32,
  writable,
  zeros,
} from "./support.ts";

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

test("LISTXATTR finds out who asks when the kernel does not say", () => {
  const UNTOLD = 0xffff_ffff;
  const listed = [...name("user.a"), ...name("trusted.b")];
  const fs = filesystem({ listXattrs: () => Uint8Array.from(listed) });
  const ask = (callerOf: (pid: number) => { uid: number; gid: number } | undefined) =>
    exchange([requestBy(UNTOLD, 23, 20, u32(99), u32(0))], fs, { callerOf }).answers;
  const pids: number[] = [];
  const root = ask((pid) => {
    pids.push(pid);
    return { uid: 0, gid: 0 };
  });
  expect(pids).toEqual([4242]);
  expect(root).toEqual([reply(0, listed)]);
  expect(ask(() => ({ uid: 7, gid: 0 }))).toEqual([reply(0, name("user.a"))]);
  expect(ask(() => undefined)).toEqual([reply(0, name("user.a"))]);
});

test("LISTXATTR of nothing is an empty reply", () => {
  const bare = filesystem({ listXattrs: () => new Uint8Array(0) });
  expect(answerTo(listxattr(100), bare)).toEqual(reply(0));
});

const asked: unknown[] = [];
const setting = writable(
  {
    setXattr: (number, attribute, value, setting) => {
      asked.push(number, ascii(attribute), ascii(value), setting);
    },
    removeXattr: (number, attribute) => {
      if (ascii(attribute) === "user.none") throw new FsError(Errno.ENODATA, "no such xattr");
      asked.push(number, ascii(attribute));
    },
  },
  { inode: (number) => inode({ number }) },
);

test("SETXATTR of a kernel that knows what an ACL takes away", () => {
  const setxattr = (more: number): Uint8Array =>
    request(
      21,
      12,
      u32(5), // size
      u32(2), // flags: replace
      u32(more), // setxattr_flags
      u32(0), // padding
      name("user.k"),
      text("value"),
    );
  const init = initRequest(InitFlag.SETXATTR_EXT);
  const { answers } = exchange([init, setxattr(0), setxattr(1)], setting);
  expect(answers.slice(1)).toEqual([reply(0), reply(0)]);
  expect(asked.splice(0)).toEqual([
    ...[12, "user.k", "value", { flags: 2, killSetgid: false }],
    ...[12, "user.k", "value", { flags: 2, killSetgid: true }],
  ]);
});

const setxattr = (size: number, value: string): Uint8Array =>
  request(
    21,
    12,
    u32(size),
    u32(1), // flags: create
    name("user.k"),
    text(value),
  );

test("SETXATTR of an older kernel", () => {
  const { answers } = exchange([initRequest(0), setxattr(2, "v\0")], setting);
  expect(answers[1]).toEqual(reply(0));
  expect(asked.splice(0)).toEqual([12, "user.k", "v\0", { flags: 1, killSetgid: false }]);
});

test("SETXATTR tells the shim when there is something to take away", () => {
  const fs = writable(
    { setXattr: () => undefined },
    { inode: (number) => inode({ number }), getXattr: () => Uint8Array.of(1) },
  );
  const { channel } = exchange([initRequest(0), setxattr(1, "v")], fs);
  expect(channel.maps.map(({ access }) => access)).toEqual([1]);
});

test("SETXATTR with less or more than it says, or too short, is EINVAL", () => {
  for (const malformed of [setxattr(3, "ab"), setxattr(1, "ab"), request(21, 12, zeros(7))]) {
    expect(exchange([initRequest(0), malformed], setting).answers[1]).toEqual(reply(-22));
  }
});

test("REMOVEXATTR removes what is there", () => {
  expect(answerTo(request(24, 12, name("user.k")), setting)).toEqual(reply(0));
  expect(asked.splice(0)).toEqual([12, "user.k"]);
  expect(answerTo(request(24, 12, name("user.none")), setting)).toEqual(reply(-61)); // ENODATA
  expect(answerTo(request(24, 12), setting)).toEqual(reply(-22));
});
