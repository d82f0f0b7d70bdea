/** OPEN, READ, LSEEK, BMAP, FLUSH, FSYNC, RELEASE. */
import { expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import { FsError, type Iomap, IomapType } from "../../src/ext4/index.ts";
import { InitFlag } from "../../src/fuse/abi.ts";
import { WriteAccess } from "../../src/fuse/channel.ts";
import type { ServedFilesystem } from "../../src/fuse/served.ts";
import {
  answerTo,
  type Bytes,
  exchange,
  FakeChannel,
  filesystem,
  initRequest,
  inode,
  reply,
  request,
  text,
  u32,
  u64,
  writable,
  zeros,
} from "./support.ts";

const { HOLE, MAPPED, UNWRITTEN, INLINE } = IomapType;
const ENCRYPTED = 0x800;

const read = (offset: number | bigint, size: number): Uint8Array =>
  request(
    15,
    12,
    u64(0), // fh
    u64(offset),
    u32(size),
    u32(0), // read_flags
    u64(0), // lock_owner
    u32(0), // flags
    u32(0), // padding
  );

type Extent = Readonly<Omit<Iomap, "isNew">>;

/** A file of `extents`, which cover it without a gap. Answers start at the byte asked for. */
function fileOf(
  extents: readonly Extent[],
  sizeBytes: number,
  answers: Partial<ServedFilesystem> = {},
): ServedFilesystem {
  return filesystem({
    inode: (number) => inode({ number, sizeBytes }),
    iomapForRead: (_inode, offset, length, answer) => {
      expect(length).toBeGreaterThan(0);
      const found = extents.find((each) => offset < each.offset + each.length);
      if (found === undefined) throw new Error(`nothing covers ${offset}`);
      const into = offset - found.offset;
      answer.type = found.type;
      answer.offset = offset;
      answer.addr = found.addr < 0 ? -1 : found.addr + into;
      answer.length = found.length - into;
      return answer;
    },
    ...answers,
  });
}

const sparse: readonly Extent[] = [
  { type: MAPPED, offset: 0, addr: 0x10_0000, length: 8192 },
  { type: HOLE, offset: 8192, addr: -1, length: 4096 },
  { type: UNWRITTEN, offset: 12288, addr: 0x20_0000, length: 8192 },
];

test("READ gives the shim the mappings asked for and those that follow", () => {
  const { answers, channel } = exchange([read(4096, 4096)], fileOf(sparse, 20000));
  expect(answers).toEqual(["by the shim"]);
  expect(channel.maps).toEqual([
    {
      node: 12,
      sizeBytes: 20000,
      access: WriteAccess.ASK,
      mappings: [
        [4096, 0x10_1000, 4096, MAPPED, 0],
        [8192, -1, 4096, HOLE, 0],
        [12288, 0x20_0000, 8192, UNWRITTEN, 0],
      ],
    },
  ]);
});

test("READ from a byte in the middle of a block maps from there", () => {
  const { channel } = exchange([read(10000, 10)], fileOf(sparse, 20000));
  expect(channel.maps[0]?.mappings[0]).toEqual([10000, -1, 2288, HOLE, 0]);
});

/** `count` extents of one block each. */
const fragments = (count: number): readonly Extent[] =>
  Array.from({ length: count }, (_, index) => ({
    type: MAPPED,
    offset: index * 4096,
    addr: (count - index) * 8192,
    length: 4096,
  }));

test("READ maps 64 fragments ahead, not the whole file", () => {
  const { channel } = exchange([read(0, 4096)], fileOf(fragments(1000), 1000 * 4096));
  expect(channel.maps.map(({ mappings }) => mappings.length)).toEqual([64]);
});

test("READ maps all that it needs, in batches that the channel holds", () => {
  const channel = new FakeChannel([read(0, 100 * 4096)], 30);
  exchange([], fileOf(fragments(1000), 1000 * 4096), {}, channel);
  expect(channel.answers).toEqual(["by the shim"]);
  expect(channel.maps.map(({ mappings }) => mappings.length)).toEqual([30, 30, 30, 10]);
  expect(channel.maps.flatMap(({ mappings }) => mappings.map(([offset]) => offset))).toEqual(
    fragments(100).map(({ offset }) => offset),
  );
});

test("READ does not fail for what lies behind the range asked for", () => {
  const fs = fileOf(sparse, 20000);
  const broken = filesystem({
    ...fs,
    iomapForRead: (of, offset, length, answer) => {
      if (offset >= 8192) throw new FsError(Errno.EUCLEAN, "a corrupt extent");
      return fs.iomapForRead(of, offset, length, answer);
    },
  });
  const { answers, channel, log } = exchange([read(0, 4096), read(8192, 4096)], broken);
  expect(answers).toEqual(["by the shim", reply(-117)]); // EUCLEAN
  expect(channel.maps[0]?.mappings).toEqual([[0, 0x10_0000, 8192, MAPPED, 0]]);
  expect(log).toEqual([]);
});

const inlineFile = fileOf([{ type: INLINE, offset: 0, addr: -1, length: 11 }], 11, {
  readFile: (_inode, offset, into) => {
    const data = text("hello world").slice(offset, offset + into.length);
    into.set(data);
    return data.length;
  },
});

test("READ of inline data is answered in place, up to the end of the file", () => {
  const { answers, channel } = exchange([read(0, 4096), read(6, 3)], inlineFile);
  expect(answers).toEqual([reply(0, text("hello world")), reply(0, text("wor"))]);
  expect(channel.maps).toEqual([]);
});

test("READ with inline bytes anywhere in its range is answered in place as a whole", () => {
  const mixed: readonly Extent[] = [
    { type: MAPPED, offset: 0, addr: 4096, length: 4 },
    { type: INLINE, offset: 4, addr: -1, length: 4 },
    { type: MAPPED, offset: 8, addr: 8192, length: 4 },
  ];
  const fs = fileOf(mixed, 12, { readFile: (_inode, offset, into) => into.fill(offset).length });
  const { answers, channel } = exchange([read(2, 8), read(0, 3)], fs);
  expect(answers).toEqual([reply(0, [2, 2, 2, 2, 2, 2, 2, 2]), "by the shim"]);
  expect(channel.maps.map(({ mappings }) => mappings)).toEqual([[[0, 4096, 4, MAPPED, 0]]]);
});

test("READ at or behind the end answers nothing", () => {
  const fs = fileOf(sparse, 20000);
  expect(answerTo(read(20000, 4096), fs)).toEqual(reply(0));
  expect(answerTo(read(0xffff_ffff_ffff_fff0n, 4096), fs)).toEqual(reply(0));
  expect(answerTo(read(0, 0), fs)).toEqual(reply(0));
});

test.each([
  { what: "an encrypted file", fields: { flags: ENCRYPTED }, error: -126 }, // ENOKEY
  { what: "a directory", fields: { mode: 0o040755 }, error: -21 }, // EISDIR
  { what: "a fifo", fields: { mode: 0o010644 }, error: -22 }, // EINVAL
])("READ of $what is refused", ({ fields, error }) => {
  const fs = filesystem({ inode: (number) => inode({ number, ...fields }) });
  expect(answerTo(read(0, 4096), fs)).toEqual(reply(error));
});

test("READ that is too short is EINVAL", () => {
  expect(answerTo(request(15, 12, zeros(39)))).toEqual(reply(-22));
});

const openIn = [u32(0o100000), u32(0)]; // flags, open_flags

test("OPEN is refused as unknown where the kernel can open without it", () => {
  const init = initRequest(InitFlag.NO_OPEN_SUPPORT);
  expect(exchange([init, request(14, 12, ...openIn)], filesystem()).answers[1]).toEqual(reply(-38));
});

test("OPEN is asked for where the image has encrypted files", () => {
  const init = initRequest(InitFlag.NO_OPEN_SUPPORT);
  const fs = filesystem({
    asksAtOpen: true,
    inode: (number) => inode({ number, flags: ENCRYPTED }),
  });
  expect(exchange([init, request(14, 12, ...openIn)], fs).answers[1]).toEqual(reply(-126)); // ENOKEY
});

test("OPEN for another kernel allows it to keep the pages, but not of an encrypted file", () => {
  const open = request(14, 12, ...openIn);
  const plain = filesystem({ inode: (number) => inode({ number }) });
  expect(exchange([initRequest(0), open], plain).answers[1]).toEqual(
    reply(
      0,
      u64(0), // fh
      u32(0b10), // open_flags: keep_cache
      u32(0), // backing_id
    ),
  );
  const encrypted = filesystem({ inode: (number) => inode({ number, flags: ENCRYPTED }) });
  expect(exchange([initRequest(0), open], encrypted).answers[1]).toEqual(reply(-126));
});

const [O_RDONLY, O_WRONLY, O_RDWR, O_APPEND] = [0, 1, 2, 0o2000];
const [IMMUTABLE, APPEND] = [0x10, 0x20];

/** Opens a file that has these inode flags, where the kernel is to ask. */
function opened(openFlags: number, inodeFlags: number, isAccessDue = false) {
  const fs = writable(
    { isAccessDue: () => isAccessDue },
    { asksAtOpen: true, inode: (number) => inode({ number, flags: inodeFlags }) },
  );
  const open = request(14, 12, u32(openFlags), u32(0));
  const { answers, channel } = exchange([initRequest(InitFlag.NO_OPEN_SUPPORT), open], fs);
  expect(channel.unmapped).toEqual(isAccessDue && openFlags !== O_WRONLY ? [12] : []);
  return answers[1];
}
const openOut = (flags: number) => reply(0, u64(0), u32(flags), u32(0));

test("OPEN refuses to write to what must not be changed", () => {
  for (const mode of [O_WRONLY, O_RDWR]) {
    expect(opened(mode, IMMUTABLE)).toEqual(reply(-1)); // EPERM
    expect(opened(mode | O_APPEND, IMMUTABLE)).toEqual(reply(-1));
    expect(opened(mode, APPEND)).toEqual(reply(-1));
    expect(opened(mode | O_APPEND, APPEND)).toEqual(openOut(0b10));
  }
  expect(opened(O_RDONLY, IMMUTABLE | APPEND)).toEqual(openOut(0b10));
});

test("OPEN drops the pages when reading them would have to be noted", () => {
  expect(opened(O_RDONLY, 0, true)).toEqual(openOut(0));
  expect(opened(O_RDWR, 0, true)).toEqual(openOut(0));
  expect(opened(O_WRONLY, 0, true)).toEqual(openOut(0b10));
});

test("RELEASE succeeds; FLUSH and FSYNC are unknown", () => {
  expect(answerTo(request(18, 12, zeros(24)))).toEqual(reply(0));
  expect(answerTo(request(25, 12, zeros(24)))).toEqual(reply(-38));
  expect(answerTo(request(20, 12, zeros(16)))).toEqual(reply(-38));
});

const lseek = (offset: number | bigint, whence: number): Uint8Array =>
  request(
    46,
    12,
    u64(0), // fh
    u64(offset),
    u32(whence),
    u32(0), // padding
  );

test("LSEEK finds data and holes", () => {
  const fs = filesystem({
    inode: (number) => inode({ number }),
    seekData: (_inode, offset) => (offset < 8192 ? 8192 : -1),
    seekHole: (_inode, offset) => offset + 2 ** 33,
  });
  expect(answerTo(lseek(1, 3), fs)).toEqual(reply(0, u64(8192)));
  expect(answerTo(lseek(7, 4), fs)).toEqual(reply(0, u64(2 ** 33 + 7)));
  expect(answerTo(lseek(9000, 3), fs)).toEqual(reply(-6)); // ENXIO
  expect(answerTo(lseek(0x7fff_ffff_ffff_ffffn, 3), fs)).toEqual(reply(-6));
  expect(answerTo(lseek(0, 2), fs)).toEqual(reply(-22)); // SEEK_END is the kernel's
});

const bmap = (block: number | bigint, blockSize: number): Bytes[] => [
  u64(block),
  u32(blockSize),
  u32(0), // padding
];

test("BMAP answers in blocks of the size given, 0 for what has none", () => {
  const fs = fileOf(sparse, 20000);
  expect(answerTo(request(37, 12, ...bmap(1, 4096)), fs)).toEqual(reply(0, u64(0x101)));
  expect(answerTo(request(37, 12, ...bmap(3, 1024)), fs)).toEqual(reply(0, u64(0x403)));
  expect(answerTo(request(37, 12, ...bmap(2, 4096)), fs)).toEqual(reply(0, u64(0)));
  expect(answerTo(request(37, 12, ...bmap(3, 4096)), fs)).toEqual(reply(0, u64(0x200)));
  expect(answerTo(request(37, 12, ...bmap(2n ** 63n, 4096)), fs)).toEqual(reply(0, u64(0)));
  expect(answerTo(request(37, 12, ...bmap(0, 0)), fs)).toEqual(reply(-22));
});
