/** STATFS, IOCTL, what a read-only mount refuses, and what is unknown. */
import { expect, test } from "vitest";
import { opcodeName } from "../../src/fuse/abi.ts";
import { allOperations, operationOf } from "../../src/fuse/operations/index.ts";
import {
  answerTo,
  ascii,
  type Bytes,
  exchange,
  filesystem,
  inode,
  name,
  reply,
  request,
  requestBy,
  text,
  u32,
  u64,
  writable,
  zeros,
} from "./support.ts";

test("STATFS answers with the totals", () => {
  const fs = filesystem({
    totals: () => ({
      blockSize: 4096,
      blocks: 2 ** 34,
      blocksFree: 900,
      blocksAvailable: 800,
      files: 700,
      filesFree: 600,
      nameLengthMax: 255,
    }),
  });
  expect(answerTo(request(17, 1), fs)).toEqual(
    reply(
      0,
      u64(2 ** 34), // blocks
      u64(900), // bfree
      u64(800), // bavail
      u64(700), // files
      u64(600), // ffree
      u32(4096), // bsize
      u32(255), // namelen
      u32(4096), // frsize
      u32(0), // padding
      zeros(24), // spare
    ),
  );
});

const ioctl = (command: number, outSize: number): Uint8Array =>
  request(
    39,
    12,
    u64(0), // fh
    u32(0), // flags
    u32(command),
    u64(0x7fff_1234_5678), // arg
    u32(0), // in_size
    u32(outSize),
  );

const ioctlOut = [
  u32(0), // result
  u32(0), // flags
  u32(0), // in_iovs
  u32(0), // out_iovs
];

// append, noatime, extents, inline data, project inherit; 0x40000 is not for callers to see
const FLAGS = 0x300c_00a0;
const fileFs = filesystem({
  inode: (number) => inode({ number, flags: FLAGS, projectId: 77 }),
});

test.each([
  { call: "FS_IOC_GETFLAGS", command: 0x8008_6601 },
  { call: "FS_IOC32_GETFLAGS", command: 0x8004_6601 },
])("IOCTL $call answers with the flags that callers may see", ({ command }) => {
  expect(answerTo(ioctl(command, 4), fileFs)).toEqual(reply(0, ...ioctlOut, u32(0x1008_00a0)));
  const directory = filesystem({
    inode: (number) => inode({ number, mode: 0o040755, flags: FLAGS }),
  });
  expect(answerTo(ioctl(command, 4), directory)).toEqual(reply(0, ...ioctlOut, u32(0x3008_00a0)));
});

test("IOCTL FS_IOC_FSGETXATTR answers with the same flags in other numbers, and the project", () => {
  expect(answerTo(ioctl(0x801c_581f, 28), fileFs)).toEqual(
    reply(
      0,
      ...ioctlOut,
      u32(0x50), // fsx_xflags: append, noatime
      u32(0), // fsx_extsize
      u32(0), // fsx_nextents
      u32(77), // fsx_projid
      u32(0), // fsx_cowextsize
      zeros(8), // fsx_pad
    ),
  );
});

test.each([0x8008_7601, 0x8004_7601, 0x8008_6603, 0x8004_6603])(
  "IOCTL GETVERSION, number %i, answers with the generation",
  (command) => {
    expect(answerTo(ioctl(command, 8), fileFs)).toEqual(reply(0, ...ioctlOut, u32(0x0a0b_0c0d)));
  },
);

test("IOCTL FS_IOC_GETFSLABEL answers with the label in 17 bytes", () => {
  expect(answerTo(ioctl(0x8100_9431, 256))).toEqual(
    reply(0, ...ioctlOut, text("label"), zeros(12)),
  );
});

test("IOCTL FS_IOC_GETFSUUID answers with the UUID", () => {
  expect(answerTo(ioctl(0x8011_1500, 17))).toEqual(
    reply(
      0,
      ...ioctlOut,
      [16], // len
      Array.from({ length: 16 }, (_, index) => 0xa0 + index),
    ),
  );
});

test("IOCTL refuses: changes, calls that are unknown, too little room, too short", () => {
  expect(answerTo(ioctl(0x4008_6602, 0))).toEqual(reply(-30)); // FS_IOC_SETFLAGS: EROFS
  expect(answerTo(ioctl(0x4100_9432, 0))).toEqual(reply(-30)); // FS_IOC_SETFSLABEL: EROFS
  expect(answerTo(ioctl(0x8008_662c, 8))).toEqual(reply(-25)); // EXT4_IOC_GETFSUUID: ENOTTY
  expect(answerTo(ioctl(0x8008_6601, 3), fileFs)).toEqual(reply(-22)); // EINVAL
  expect(answerTo(request(39, 12, zeros(31)))).toEqual(reply(-22));
});

const change = (uid: number, command: number, input: Bytes, outSize = 0): Uint8Array =>
  requestBy(
    uid,
    39,
    12,
    u64(0), // fh
    u32(0), // flags
    u32(command),
    u64(0x7fff_1234_5678), // arg
    u32(input.length), // in_size
    u32(outSize),
    input,
  );

const asked: unknown[] = [];
const note =
  (what: string) =>
  (...all: readonly unknown[]): void => {
    asked.push(what, ...all);
  };
const changing = writable(
  {
    setFlags: note("flags"),
    setProject: note("project"),
    setGeneration: note("generation"),
    setLabel: (label) => note("label")(ascii(label)),
    checkpoint: note("checkpoint"),
    shutdown: note("shutdown"),
    trimFree: (...all) => {
      note("trim")(...all);
      return 8192;
    },
  },
  { inode: (number) => inode({ number, uid: 1000 }) },
);
const OWNER = 1000;
const ROOT = 0;

test.each([
  ["FS_IOC_SETFLAGS", OWNER, 0x4008_6602, u32(0x10), ["flags", 12, 0x10]],
  ["FS_IOC32_SETFLAGS", OWNER, 0x4004_6602, u32(0x10), ["flags", 12, 0x10]],
  ["FS_IOC_SETVERSION", OWNER, 0x4008_7602, u64(7), ["generation", 12, 7]],
  ["EXT4_IOC32_SETVERSION", OWNER, 0x4004_6604, u32(7), ["generation", 12, 7]],
  ["FS_IOC_SETFSLABEL", ROOT, 0x4100_9432, [...name("new"), ...zeros(252)], ["label", "new"]],
  ["EXT4_IOC_CHECKPOINT", ROOT, 0x4004_662b, u32(0), ["checkpoint", undefined]],
  ["EXT4_IOC_CHECKPOINT to discard", ROOT, 0x4004_662b, u32(1), ["checkpoint", "discard"]],
  ["EXT4_IOC_CHECKPOINT to zero", ROOT, 0x4004_662b, u32(2), ["checkpoint", "zero"]],
  ["EXT4_IOC_CHECKPOINT as a trial", ROOT, 0x4004_662b, u32(4), []],
  ["EXT4_IOC_SHUTDOWN", ROOT, 0x8004_587d, [], ["shutdown"]],
])("IOCTL %s", (_, uid, command, input, expected) => {
  expect(answerTo(change(uid, command, input), changing)).toEqual(reply(0, ...ioctlOut));
  expect(asked.splice(0)).toEqual(expected);
});

test("IOCTL FS_IOC_FSSETXATTR sets flags and project", () => {
  const fsxattr = [
    ...u32(0x8), // fsx_xflags: immutable
    ...u32(0), // fsx_extsize
    ...u32(0), // fsx_nextents
    ...u32(42), // fsx_projid
    ...u32(0), // fsx_cowextsize
    ...zeros(8), // fsx_pad
  ];
  expect(answerTo(change(OWNER, 0x401c_5820, fsxattr), changing)).toEqual(reply(0, ...ioctlOut));
  expect(asked.splice(0)).toEqual(["project", 12, 42, 0x8]);
});

test("IOCTL that changes a file has the kernel ask for its attributes again", () => {
  const calls = [change(OWNER, 0x4008_6602, u32(0x10)), change(OWNER, 0x4008_7602, u64(7))];
  const quiet = change(ROOT, 0x4100_9432, [...name("new"), ...zeros(252)]);
  expect(exchange([...calls, quiet], changing).channel.forgotten).toEqual([12, 12]);
  asked.length = 0;
});

test("IOCTL FITRIM answers how much was trimmed", () => {
  const range = [...u64(4096), ...u64(-1), ...u64(512)]; // start, len, minlen
  expect(answerTo(change(ROOT, 0xc018_5879, range, 24), changing)).toEqual(
    reply(0, ...ioctlOut, u64(4096), u64(8192), u64(512)),
  );
  expect(asked.splice(0)).toEqual(["trim", 4096, Number.MAX_SAFE_INTEGER, 512]);
});

test.each([
  ["FS_IOC_SETFSLABEL", 0x4100_9432, zeros(256)],
  ["FITRIM", 0xc018_5879, zeros(24)],
  ["EXT4_IOC_CHECKPOINT", 0x4004_662b, u32(0)],
  ["EXT4_IOC_SHUTDOWN", 0x8004_587d, []],
])("IOCTL %s is for root alone", (_, command, input) => {
  expect(answerTo(change(1000, command, input), changing)).toEqual(reply(-1)); // EPERM
  expect(asked).toEqual([]);
});

test("IOCTL EXT4_IOC_CHECKPOINT with flags that are none, or against each other, is EINVAL", () => {
  for (const flags of [3, 8]) {
    expect(answerTo(change(ROOT, 0x4004_662b, u32(flags)), changing)).toEqual(reply(-22));
  }
  expect(asked).toEqual([]);
});

test("IOCTL FS_IOC_SETVERSION is for the owner and root", () => {
  expect(answerTo(change(1001, 0x4008_7602, u64(7)), changing)).toEqual(reply(-1));
  expect(answerTo(change(ROOT, 0x4008_7602, u64(7)), changing)).toEqual(reply(0, ...ioctlOut));
  expect(asked.splice(0)).toEqual(["generation", 12, 7]);
});

test("IOCTL that changes something without saying to what is EINVAL", () => {
  for (const command of [0x4008_6602, 0x4008_7602, 0x401c_5820, 0xc018_5879]) {
    expect(answerTo(change(ROOT, command, zeros(3)), changing)).toEqual(reply(-22));
  }
});

// biome-ignore format: a table
const MODIFYING = [4, 6, 8, 9, 10, 11, 12, 13, 16, 21, 24, 35, 43, 45, 47, 51, 53];

test.each(MODIFYING.map((opcode) => [opcodeName(opcode), opcode] as const))(
  "%s is EROFS",
  (_name, opcode) => {
    expect(answerTo(request(opcode, 12, zeros(88)))).toEqual(reply(-30));
  },
);

test.each([31, 32, 33, 40, 41, 48, 49, 50, 63, 4092, 4096, 0, 0xffff_ffff])(
  "opcode %i is ENOSYS",
  (opcode) => {
    expect(answerTo(request(opcode, 12, zeros(88)))).toEqual(reply(-38));
  },
);

/** Those of a kernel with fuse+iomap. */
const EXPERIMENTAL_COUNT = 7;

test("every operation stands at its opcode, under the name that the protocol gives it", () => {
  const present = [...allOperations()];
  expect(present).toHaveLength(27 + MODIFYING.length + EXPERIMENTAL_COUNT);
  for (const operation of present) {
    expect(operationOf(operation.opcode)).toBe(operation);
    expect(operation.name).toBe(opcodeName(operation.opcode));
  }
});
