/** MKNOD, MKDIR, SYMLINK, LINK, TMPFILE, CREATE. */
import { expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import type { InodeNumber } from "../../src/base/numbers.ts";
import { FsError, type NewInode } from "../../src/ext4/index.ts";
import { InitFlag } from "../../src/fuse/abi.ts";
import {
  answerTo,
  ascii,
  entry,
  exchange,
  initRequest,
  inode,
  name,
  reply,
  request,
  u32,
  u64,
  writable,
  zeros,
} from "./support.ts";

/** What the stand-in was asked to make. */
interface Made {
  readonly parent: number;
  readonly name: string;
  readonly attributes: NewInode;
}

const made: Made[] = [];
function make(parent: InodeNumber, bytes: Uint8Array, attributes: NewInode) {
  made.push({ parent, name: ascii(bytes), attributes });
  return inode();
}

const fs = writable({ createFile: make, makeDirectory: make });
const caller = { uid: 1000, gid: 1000, ignoresAcl: false };

const mknod = (mode: number, rdev: number, umask: number): Uint8Array =>
  request(
    8,
    1,
    u32(mode),
    u32(rdev),
    u32(umask),
    u32(0), // padding
    name("new"),
  );

test("MKNOD makes a file of the caller's, with the umask as it came", () => {
  expect(answerTo(mknod(0o100666, 0, 0o022), fs)).toEqual(reply(0, entry()));
  expect(made.pop()).toEqual({
    parent: 2,
    name: "new",
    attributes: { mode: 0o100666, ...caller, umask: 0o022 },
  });
});

test("default ACLs have no effect where the kernel does not enforce ACLs", () => {
  const ignored: unknown[] = [];
  const fs = writable({
    createFile: (_parent, _name, { ignoresAcl }) => {
      ignored.push(ignoresAcl);
      return inode();
    },
  });
  for (const acl of [true, false]) {
    exchange([initRequest(InitFlag.POSIX_ACL), mknod(0o100666, 0, 0)], fs, { acl });
  }
  exchange([initRequest(0), mknod(0o100666, 0, 0)], fs, { acl: true });
  expect(ignored).toEqual([false, true, true]);
});

test("MKNOD takes device numbers of 12 and 20 bits apart", () => {
  answerTo(mknod(0o020600, 0xabc1_23de, 0), fs);
  expect(made.pop()?.attributes).toEqual({
    mode: 0o020600,
    ...caller,
    umask: 0,
    device: { major: 0x123, minor: 0xa_bcde },
  });
});

test("MKDIR makes a directory", () => {
  const mkdir = request(9, 12, u32(0o1777), u32(0o077), name("d"));
  expect(answerTo(mkdir, fs)).toEqual(reply(0, entry()));
  expect(made.pop()).toEqual({
    parent: 12,
    name: "d",
    attributes: { mode: 0o041777, ...caller, umask: 0o077 },
  });
});

test("new inodes belong to whom the options say", () => {
  answerTo(mknod(0o100644, 0, 0), fs, { uid: 7, gid: 8 });
  expect(made.pop()?.attributes).toMatchObject({ uid: 7, gid: 8 });
});

test("SYMLINK makes a link to what follows the name", () => {
  const asked: unknown[] = [];
  const links = writable({
    makeSymlink: (parent, bytes, target, attributes) => {
      asked.push(parent, ascii(bytes), ascii(target), attributes);
      return inode();
    },
  });
  const symlink = request(6, 12, name("link"), name("../to"));
  expect(answerTo(symlink, links)).toEqual(reply(0, entry()));
  expect(asked).toEqual([12, "link", "../to", { mode: 0o120777, ...caller, umask: 0 }]);
});

const link = request(
  13,
  12,
  u64(50), // oldnodeid
  name("again"),
);

test("LINK gives an inode another name", () => {
  const links = writable({
    link: (number, parent, bytes) => {
      expect([number, parent, ascii(bytes)]).toEqual([50, 12, "again"]);
      return inode({ number });
    },
  });
  const answered = answerTo(link, links) as Uint8Array;
  expect(answered.subarray(16, 24)).toEqual(Uint8Array.from(u64(50))); // nodeid
});

const tmpfile = request(
  51,
  12,
  u32(0o20200002), // flags
  u32(0o100600), // mode
  u32(0o022), // umask
  u32(0), // open_flags
  name("/"),
);

test("TMPFILE makes a file without a name, and opens it", () => {
  const temporary = writable({
    createTemporary: (parent, attributes) => {
      expect([parent, attributes]).toEqual([12, { mode: 0o100600, ...caller, umask: 0o022 }]);
      return inode();
    },
  });
  expect(answerTo(tmpfile, temporary)).toEqual(
    reply(
      0,
      entry(),
      u64(0), // fh
      u32(0b10), // open_flags: keep_cache
      u32(0), // backing_id
    ),
  );
});

test("CREATE is unknown, so that the kernel uses MKNOD", () => {
  expect(answerTo(request(35, 12, zeros(16), name("f")), fs)).toEqual(reply(-38));
});

test("a refusal of the filesystem is the answer, and gives the kernel no node", () => {
  const released: number[] = [];
  const full = writable({
    createFile: () => {
      throw new FsError(Errno.ENOSPC, "full");
    },
    release: (number) => released.push(number),
  });
  const { answers, log } = exchange([mknod(0o100644, 0, 0)], full);
  expect(answers).toEqual([reply(-28)]);
  expect(log).toEqual([]);
});

test.each([
  ["MKNOD", request(8, 1, zeros(15))],
  ["MKDIR", request(9, 1, zeros(7))],
  ["MKDIR without a name", request(9, 1, zeros(8))],
  ["SYMLINK without a target", request(6, 1, name("a"))],
  ["LINK", request(13, 1, zeros(7))],
  ["TMPFILE", request(51, 1, zeros(15))],
])("%s that is too short is EINVAL", (_, malformed) => {
  expect(answerTo(malformed, fs)).toEqual(reply(-22));
});

test("LINK of what cannot be an inode is ESTALE", () => {
  expect(answerTo(request(13, 1, u64(2n ** 40n), name("a")), fs)).toEqual(reply(-116));
});
