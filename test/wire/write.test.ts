/** WRITE, FALLOCATE, COPY_FILE_RANGE. */
import { expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import { FsError, type Inode, type Iomap, IomapType } from "../../src/ext4/index.ts";
import { WriteAccess } from "../../src/fuse/channel.ts";
import type { ServedFilesystem } from "../../src/fuse/served.ts";
import type { ServedChanges } from "../../src/fuse/served-changes.ts";
import {
  answerTo,
  ascii,
  exchange,
  FakeChannel,
  inode,
  reply,
  request,
  text,
  u32,
  u64,
  writable,
  zeros,
} from "./support.ts";

const { HOLE, MAPPED, INLINE } = IomapType;
const IMMUTABLE = 0x10;
const APPEND = 0x20;
const KILL_SUIDGID = 4;
/** Past the page cache. */
const LOCKOWNER = 2;
/** What the fake channel notes for `storeMapped`. */
const STORED = { node: 0, sizeBytes: 0, access: 0, mappings: [] };

const write = (offset: number | bigint, data: string, flags = 0): Uint8Array =>
  request(
    16,
    12,
    u64(0), // fh
    u64(offset),
    u32(data.length), // size
    u32(flags), // write_flags
    u64(0), // lock_owner
    u32(0), // flags
    u32(0), // padding
    text(data),
  );

const written = (bytes: number): Uint8Array => reply(0, u32(bytes), u32(0));

/** A file with `blocks` of 16 bytes each: where they lie, or nothing for a hole. */
function fileOf(
  blocks: readonly (number | undefined)[],
  fields: Parameters<typeof inode>[0] = {},
  answers: Partial<ServedChanges> = {},
): ServedFilesystem {
  const file = inode({ sizeBytes: 64, ...fields }) as { sizeBytes: number };
  let free = 0x1000;
  return writable(
    {
      iomapForWrite: (of, offset, length, answer: Iomap) => {
        expect(of).toBe(file);
        expect(length).toBeGreaterThan(0);
        const index = Math.floor(offset / 16);
        const into = offset % 16;
        const known = blocks[index];
        answer.type = MAPPED;
        answer.isNew = known === undefined;
        answer.offset = offset;
        answer.addr = (known ?? free) + into;
        answer.length = 16 - into;
        if (known === undefined) free += 0x100;
        file.sizeBytes = Math.max(file.sizeBytes, offset + Math.min(length, answer.length));
        return answer;
      },
      ...answers,
    },
    { inode: () => file as Inode },
  );
}

test("WRITE has the shim overwrite what is allocated", () => {
  const { answers, channel } = exchange([write(4, "x".repeat(20))], fileOf([0x500, 0x900]));
  expect(answers).toEqual(["by the shim"]);
  expect(channel.maps).toEqual([
    {
      node: 12,
      sizeBytes: 64,
      access: WriteAccess.FREE,
      mappings: [
        [4, 0x504, 12, MAPPED, 0],
        [16, 0x900, 16, MAPPED, 0],
      ],
    },
  ]);
});

test("WRITE behind the end tells the shim the new size", () => {
  const { channel } = exchange([write(60, "x".repeat(30))], fileOf([0, 0, 0, 0x100, 0x200, 0x300]));
  expect(channel.maps.map(({ sizeBytes }) => sizeBytes)).toEqual([90]);
});

test("WRITE into a hole says that the block is new", () => {
  const { answers, channel } = exchange([write(20, "abc")], fileOf([0x500, undefined]));
  expect(answers).toEqual(["by the shim"]);
  expect(channel.maps.map(({ mappings }) => mappings)).toEqual([[[20, 0x1004, 12, MAPPED, 1]]]);
});

test("WRITE into several new pieces has each stored before the next is allocated", () => {
  const { answers, channel } = exchange([write(0, "x".repeat(40))], fileOf([]));
  expect(answers).toEqual(["by the shim"]);
  expect(channel.maps.map(({ mappings }) => mappings)).toEqual([
    [[0, 0x1000, 16, MAPPED, 1]],
    STORED.mappings,
    [[16, 0x1100, 16, MAPPED, 1]],
    STORED.mappings,
    [[32, 0x1200, 16, MAPPED, 1]],
  ]);
});

test("WRITE whose new piece cannot be stored is EIO", () => {
  const channel = new FakeChannel([write(0, "x".repeat(40))]);
  channel.storeResult = -Errno.EIO;
  const { answers, log } = exchange([], fileOf([]), {}, channel);
  expect(answers).toEqual([reply(-5)]);
  expect(log).toEqual(["WRITE node 12: new blocks cannot be written"]);
});

test("WRITE is short when there is space for a part, and fails when there is for none", () => {
  const base = fileOf([0x500]);
  const fs = writable(
    {
      ...base.changes,
      iomapForWrite: (of, offset, length, answer) => {
        if (offset >= 16) throw new FsError(Errno.ENOSPC, "full");
        return (base.changes as ServedChanges).iomapForWrite(of, offset, length, answer);
      },
    },
    { inode: base.inode },
  );
  const requests = [write(8, "x".repeat(20)), write(16, "x"), write(8, "x".repeat(20), LOCKOWNER)];
  const { answers, channel } = exchange(requests, fs);
  // The kernel would make EIO of the last one, if it was asynchronous and short.
  expect(answers).toEqual(["by the shim", reply(-28), reply(-28)]);
  expect(channel.maps.map(({ mappings }) => mappings)).toEqual([[[8, 0x508, 8, MAPPED, 0]]]);
});

test("WRITE to contents within the inode is carried out here", () => {
  const file = inode({ sizeBytes: 5 }) as { sizeBytes: number };
  const fs = writable(
    {
      iomapForWrite: (_inode, _offset, _length, answer) => {
        answer.type = INLINE;
        return answer;
      },
      writeFile: (_inode, offset, bytes) => {
        expect([offset, ascii(bytes)]).toEqual([5, "hello"]);
        file.sizeBytes = 10;
        return 5;
      },
    },
    { inode: () => file as Inode },
  );
  const { answers, channel } = exchange([write(5, "hello")], fs);
  expect(answers).toEqual([written(5)]);
  expect(channel.dataLoads).toBe(1);
  expect(channel.maps.map(({ sizeBytes }) => sizeBytes)).toEqual([10]);
});

test("WRITE of nothing changes nothing", () => {
  expect(answerTo(write(0, ""), writable({}, { inode: () => inode() }))).toEqual(written(0));
});

test.each([
  { what: "a directory", fields: { mode: 0o040755 }, offset: 0, error: -21 }, // EISDIR
  { what: "a fifo", fields: { mode: 0o010644 }, offset: 0, error: -22 }, // EINVAL
  { what: "an encrypted file", fields: { flags: 0x800 }, offset: 0, error: -126 }, // ENOKEY
  { what: "an immutable file", fields: { flags: IMMUTABLE }, offset: 64, error: -1 }, // EPERM
  { what: "a verity file", fields: { flags: 0x10_0000 }, offset: 64, error: -1 },
  { what: "an append-only file, but at its end", fields: { flags: APPEND }, offset: 63, error: -1 },
])("WRITE to $what is refused", ({ fields, offset, error }) => {
  expect(answerTo(write(offset, "x"), fileOf([], fields))).toEqual(reply(error));
});

test("WRITE at the end of an append-only file is carried out, and asked for every time", () => {
  const fs = fileOf([0, 0, 0, 0, 0x500], { flags: APPEND });
  const { answers, channel } = exchange([write(64, "x")], fs);
  expect(answers).toEqual(["by the shim"]);
  expect(channel.maps.map(({ access }) => access)).toEqual([WriteAccess.ASK]);
});

test.each([
  { what: "set-id bits", mode: 0o104755, capability: undefined },
  { what: "capabilities", mode: 0o100755, capability: Uint8Array.of(1) },
])("WRITE takes $what away when the kernel says so", ({ mode, capability }) => {
  const cleared: unknown[] = [];
  const base = fileOf(
    [0x500],
    { mode },
    {
      setAttributes: (number, changes) => {
        cleared.push(number, changes);
        return inode({ mode: 0o100755 });
      },
    },
  );
  const fs = { ...base, getXattr: () => capability };
  const plain = exchange([write(0, "x")], fs);
  expect(cleared).toEqual([]);
  expect(plain.channel.maps.map(({ access }) => access)).toEqual([WriteAccess.ASK_TO_CLEAR]);
  expect(plain.channel.forgotten).toEqual([]);
  const clearing = exchange([write(0, "x", KILL_SUIDGID)], fs);
  expect(cleared).toEqual([12, { killSetid: true, isStranger: true }]);
  expect(clearing.channel.forgotten).toEqual([12]);
});

test("WRITE takes nothing away where there is nothing", () => {
  const { answers } = exchange([write(0, "x", KILL_SUIDGID)], fileOf([0x500]));
  expect(answers).toEqual(["by the shim"]);
});

test("WRITE that is too short is EINVAL", () => {
  const fs = fileOf([0x500]);
  expect(answerTo(request(16, 12, zeros(39)), fs)).toEqual(reply(-22));
  const lying = write(0, "abc");
  lying[40 + 16] = 4; // size
  expect(answerTo(lying, fs)).toEqual(reply(-22));
});

const fallocate = (mode: number, offset: number, length: number): Uint8Array =>
  request(
    43,
    12,
    u64(0), // fh
    u64(offset),
    u64(length),
    u32(mode),
    u32(0), // padding
  );

test("FALLOCATE passes everything on, and tells the shim the size", () => {
  const asked: unknown[] = [];
  const fs = writable(
    { fallocate: (...all) => asked.push(...all) },
    { inode: () => inode({ sizeBytes: 2 ** 34 }) },
  );
  const { answers, channel } = exchange([fallocate(3, 2 ** 33, 4096)], fs);
  expect(answers).toEqual([reply(0)]);
  expect(asked).toEqual([12, 3, 2 ** 33, 4096]);
  expect(channel.maps).toEqual([
    { node: 12, sizeBytes: 2 ** 34, access: WriteAccess.FREE, mappings: [] },
  ]);
});

test("FALLOCATE on an open file that is immutable, or not to be punched, is EPERM", () => {
  const fs = (flags: number) =>
    writable({ fallocate: () => undefined }, { inode: () => inode({ flags }) });
  expect(answerTo(fallocate(0, 0, 10), fs(IMMUTABLE))).toEqual(reply(-1));
  expect(answerTo(fallocate(3, 0, 10), fs(APPEND))).toEqual(reply(-1));
  expect(answerTo(fallocate(0, 0, 10), fs(APPEND))).toEqual(reply(0));
});

const copy = (opcode: number, to: number, length: number | bigint, flags = 0): Uint8Array =>
  request(
    opcode,
    12,
    u64(0), // fh_in
    u64(100), // off_in
    u64(to), // nodeid_out
    u64(0), // fh_out
    u64(200), // off_out
    u64(length), // len
    u64(flags),
  );

test("COPY_FILE_RANGE copies between nodes", () => {
  const asked: unknown[] = [];
  const fs = writable(
    {
      copyFileRange: (...all) => {
        asked.push(...all);
        return 4321;
      },
    },
    { inode: (number) => inode({ number }) },
  );
  const { answers, channel } = exchange([copy(47, 13, 5000)], fs);
  expect(answers).toEqual([written(4321)]);
  expect(channel.maps.map(({ node }) => node)).toEqual([13]);
  expect(answerTo(copy(53, 13, 2n ** 40n), fs)).toEqual(reply(0, u64(4321)));
  expect(asked).toEqual([12, 100, 13, 200, 5000, 12, 100, 13, 200, 0x7fff_f000]);
  expect(answerTo(copy(47, 13, 1, 1), fs)).toEqual(reply(-22));
});

test("COPY_FILE_RANGE to an immutable or append-only file is EPERM", () => {
  for (const flags of [IMMUTABLE, APPEND]) {
    const fs = writable(
      {},
      { inode: (number) => inode({ number, flags: number === 13 ? flags : 0 }) },
    );
    expect(answerTo(copy(47, 13, 1), fs)).toEqual(reply(-1));
  }
});

test("a READ lets the shim overwrite what it maps, and not what it must not", () => {
  const read = request(15, 12, u64(0), u64(0), u32(16), zeros(20));
  const accessOf = (flags: number): unknown => {
    const fs = writable(
      {},
      {
        inode: () => inode({ sizeBytes: 16, flags }),
        iomapForRead: (_inode, offset, length, answer) =>
          Object.assign(answer, { type: HOLE, offset, addr: -1, length }),
      },
    );
    return exchange([read], fs).channel.maps[0]?.access;
  };
  expect(accessOf(0)).toBe(WriteAccess.FREE);
  expect(accessOf(IMMUTABLE)).toBe(WriteAccess.ASK);
  expect(accessOf(APPEND)).toBe(WriteAccess.ASK);
});
