/** GETATTR, STATX, SETATTR, READLINK, ACCESS. */
import { expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import { FsError } from "../../src/ext4/index.ts";
import type { AttributeOptions } from "../../src/fuse/attributes.ts";
import { WriteAccess } from "../../src/fuse/channel.ts";
import {
  answerTo,
  attr,
  type Bytes,
  exchange,
  filesystem,
  inode,
  reply,
  request,
  text,
  UNLIMITED,
  u16,
  u32,
  u64,
  writable,
  zeros,
} from "./support.ts";

type InodeFields = NonNullable<Parameters<typeof inode>[0]>;

const getattrIn = [
  u32(0), // getattr_flags
  u32(0), // dummy
  u64(0), // fh
];

function getattr(fields: InodeFields, options: AttributeOptions = {}) {
  const fs = filesystem({ inode: (number) => inode({ ...fields, number }) });
  return answerTo(request(3, 12, ...getattrIn), fs, options);
}

const attrOut = (attributes: Bytes) =>
  reply(
    0,
    u64(UNLIMITED), // attr_valid
    u32(0), // attr_valid_nsec
    u32(0), // dummy
    attributes,
  );

test("GETATTR answers with every attribute", () => {
  expect(getattr({})).toEqual(attrOut(attr()));
});

test("GETATTR of the root, node 1, is about inode 2", () => {
  const fs = filesystem({ inode: (number) => inode({ number, mode: 0o040755 }) });
  expect(answerTo(request(3, 1, ...getattrIn), fs)).toEqual(
    attrOut(attr({ ino: 2, mode: 0o040755 })),
  );
});

test.each([
  { instant: "before 1970", seconds: -1, stored: 0xffff_ffff_ffff_ffffn },
  { instant: "the first of ext4", seconds: -(2 ** 31), stored: 0xffff_ffff_8000_0000n },
  { instant: "far before", seconds: -(2 ** 32) - 5, stored: 0xffff_fffe_ffff_fffbn },
  { instant: "the last of ext4", seconds: 15032385535, stored: 0x3_7fff_ffffn },
])("GETATTR keeps times: $instant", ({ seconds, stored }) => {
  const answer = getattr({ modifiedAt: { seconds, nanoseconds: 999_999_999 } }) as Uint8Array;
  const view = new DataView(answer.buffer);
  expect(view.getBigUint64(16 + 16 + 32, true)).toBe(stored);
  expect(view.getUint32(16 + 16 + 52, true)).toBe(999_999_999);
});

test("GETATTR encodes device numbers as the kernel does, minor in two parts", () => {
  const device = { mode: 0o060660, rdevMajor: 0xabc, rdevMinor: 0x12345 };
  expect(getattr(device)).toEqual(attrOut(attr({ mode: 0o060660, rdev: 0x123a_bc45 })));
  const highest = { mode: 0o060660, rdevMajor: 0xfff, rdevMinor: 0xf_ffff };
  expect(getattr(highest)).toEqual(attrOut(attr({ mode: 0o060660, rdev: 0xffff_ffff })));
});

test("GETATTR shows sizes above 4 GiB", () => {
  expect(getattr({ sizeBytes: 2 ** 42 + 7 })).toEqual(attrOut(attr({ size: 2 ** 42 + 7 })));
});

test("GETATTR shows the size that stat(2) is to see", () => {
  const fs = filesystem({ inode: (number) => inode({ number }), sizeForStat: () => 44 });
  expect(answerTo(request(3, 12, ...getattrIn), fs)).toEqual(attrOut(attr({ size: 44 })));
});

test("uid and gid options override the owner, 0 included", () => {
  expect(getattr({}, { uid: 0, gid: 7 })).toEqual(attrOut(attr({ uid: 0, gid: 7 })));
});

test.each([
  { options: { umask: 0o022 }, mode: 0o104600, shown: 0o100755 },
  { options: { umask: 0o022, fmask: 0o133 }, mode: 0o100600, shown: 0o100644 },
  { options: { umask: 0o022, fmask: 0o133 }, mode: 0o041777, shown: 0o040755 },
  { options: { dmask: 0o077 }, mode: 0o040755, shown: 0o040700 },
  { options: { dmask: 0o077 }, mode: 0o102755, shown: 0o102755 },
])("$options makes $mode into $shown", ({ options, mode, shown }) => {
  expect(getattr({ mode }, options)).toEqual(attrOut(attr({ mode: shown })));
});

test("GETATTR of an inode not in use is ESTALE", () => {
  const fs = filesystem({
    inode: () => {
      throw new FsError(Errno.ESTALE, "inode 12 is not in use");
    },
  });
  expect(answerTo(request(3, 12, ...getattrIn), fs)).toEqual(reply(-116));
});

test("GETATTR that is too short is EINVAL", () => {
  expect(answerTo(request(3, 12, u32(0), u32(0)))).toEqual(reply(-22));
});

const statxIn = [
  u32(0), // getattr_flags
  u32(0), // reserved
  u64(0), // fh
  u32(0), // sx_flags
  u32(0xfff), // sx_mask
];

const statxOut = (mask: number, attributes: number, btime: Bytes) =>
  reply(
    0,
    u64(UNLIMITED), // attr_valid
    u32(0), // attr_valid_nsec
    u32(0), // flags
    zeros(16), // spare
    u32(mask),
    u32(4096), // blksize
    u64(attributes),
    u32(1), // nlink
    u32(1001), // uid
    u32(1002), // gid
    u16(0o020620), // mode
    u16(0), // spare0
    u64(12), // ino
    u64(5000), // size
    u64(16), // blocks
    u64(0x10_0874), // attributes_mask: compr, immutable, append, nodump, encrypt, verity
    [...u64(1_700_000_001), ...u32(11), ...u32(0)], // atime
    btime,
    [...u64(1_700_000_003), ...u32(33), ...u32(0)], // ctime
    [...u64(1_700_000_002), ...u32(22), ...u32(0)], // mtime
    u32(4), // rdev_major
    u32(64), // rdev_minor
    u32(0), // dev_major
    u32(0), // dev_minor
    zeros(112), // spare2
  );

test("STATX adds the time of creation and the attributes", () => {
  const terminal = { mode: 0o020620, rdevMajor: 4, rdevMinor: 64 };
  const fs = filesystem({
    // immutable, append, nodump, encrypt, verity; extents and noatime have no statx attribute
    inode: (number) => inode({ ...terminal, number, flags: 0x18_08f0 }),
  });
  expect(answerTo(request(52, 12, ...statxIn), fs)).toEqual(
    statxOut(0xfff, 0x10_0870, [...u64(1_700_000_004), ...u32(44), ...u32(0)]),
  );
});

test("STATX leaves out a time of creation that is not stored", () => {
  const terminal = { mode: 0o020620, rdevMajor: 4, rdevMinor: 64 };
  const fs = filesystem({
    inode: (number) => inode({ ...terminal, number, createdAt: undefined }),
  });
  expect(answerTo(request(52, 12, ...statxIn), fs)).toEqual(statxOut(0x7ff, 0, zeros(16)));
});

test("READLINK answers with the target alone", () => {
  const fs = filesystem({ readLink: () => Uint8Array.from(text("../over/there")) });
  expect(answerTo(request(5, 14), fs)).toEqual(reply(0, text("../over/there")));
});

test("READLINK refuses a target that the kernel has no room for", () => {
  const fs = filesystem({ readLink: () => new Uint8Array(4096).fill(0x61) });
  expect(answerTo(request(5, 14), fs)).toEqual(reply(-36)); // ENAMETOOLONG
});

test("ACCESS is unknown, so that the kernel stops asking", () => {
  expect(answerTo(request(34, 12, u32(4), u32(0)))).toEqual(reply(-38)); // ENOSYS
});

/** fuse_setattr_in with every field set to something. */
const setattr = (valid: number): Uint8Array =>
  request(
    4,
    12,
    u32(valid),
    u32(0), // padding
    u64(0), // fh
    u64(2 ** 40), // size
    u64(0), // lock_owner
    u64(-2), // atime
    u64(2 ** 33), // mtime
    u64(1_700_000_000), // ctime
    u32(10), // atimensec
    u32(20), // mtimensec
    u32(30), // ctimensec
    u32(0o107755), // mode
    u32(0), // unused4
    u32(4_000_000_000), // uid
    u32(5), // gid
    u32(0), // unused5
  );

test.each([
  ["nothing", 0, {}],
  ["mode", 0x1, { mode: 0o7755 }],
  ["uid", 0x2, { uid: 4_000_000_000, killSetid: true }],
  ["gid", 0x4, { gid: 5, killSetid: true }],
  ["size", 0x8, { sizeBytes: 2 ** 40 }],
  [
    "size, by somebody without privileges",
    0x808,
    { sizeBytes: 2 ** 40, killSetid: true, isStranger: true },
  ],
  ["atime", 0x10, { accessedAt: { seconds: -2, nanoseconds: 10 } }],
  ["mtime", 0x20, { modifiedAt: { seconds: 2 ** 33, nanoseconds: 20 } }],
  ["both times to now", 0x1b0, { accessedAt: "now", modifiedAt: "now" }],
  ["ctime", 0x400, { changedAt: { seconds: 1_700_000_000, nanoseconds: 30 } }],
  ["a file handle and a lock owner", 0x240, {}],
])("SETATTR changes %s", (_, valid, expected) => {
  const asked: unknown[] = [];
  const answers = {
    setAttributes: (...all: unknown[]) => {
      asked.push(...all);
      return inode();
    },
  };
  const fs = writable(answers, { inode: () => inode() });
  expect(answerTo(setattr(valid), fs)).toEqual(
    reply(
      0,
      u64(UNLIMITED), // attr_valid
      u32(0), // attr_valid_nsec
      u32(0), // dummy
      attr(),
    ),
  );
  expect(asked).toEqual([12, expected]);
});

test("SETATTR tells the shim what it has to know of a file", () => {
  const fs = writable({ setAttributes: () => inode({ sizeBytes: 77, mode: 0o104755 }) });
  const { channel } = exchange([setattr(0x8)], fs);
  expect(channel.maps).toEqual([
    { node: 12, sizeBytes: 77, access: WriteAccess.ASK_TO_CLEAR, mappings: [] },
  ]);
  const directory = writable({ setAttributes: () => inode({ mode: 0o040755 }) });
  expect(exchange([setattr(0x1)], directory).channel.maps).toEqual([]);
});

test("SETATTR that is refused, or too short", () => {
  const fs = writable({
    setAttributes: () => {
      throw new FsError(Errno.EPERM, "immutable");
    },
  });
  expect(answerTo(setattr(1), fs)).toEqual(reply(-1));
  expect(answerTo(request(4, 12, zeros(87)), fs)).toEqual(reply(-22));
});

test("READLINK counts as an access, and succeeds even if that cannot be noted", () => {
  const accessed: number[] = [];
  const target = { readLink: () => Uint8Array.from(text("to")) };
  const fs = writable({ noteAccess: (number) => accessed.push(number) }, target);
  expect(answerTo(request(5, 12), fs)).toEqual(reply(0, text("to")));
  expect(accessed).toEqual([12]);
  const failing = writable(
    {
      noteAccess: () => {
        throw new FsError(Errno.EROFS, "aborted");
      },
    },
    target,
  );
  expect(answerTo(request(5, 12), failing)).toEqual(reply(0, text("to")));
});
