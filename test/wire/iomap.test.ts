/**
 * The messages of a kernel that moves file contents by itself, byte by byte: one test for each message
 * and each of its flags.
 */
import { describe, expect, test } from "vitest";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  CorruptionError,
  type Inode,
  InodeFlags,
  type Iomap,
  IomapType,
} from "../../src/ext4/index.ts";
import type { IomapHost } from "../../src/fuse/iomap-host.ts";
import type { ServedFilesystem } from "../../src/fuse/served.ts";
import type { ServedChanges } from "../../src/fuse/served-changes.ts";
import { Session } from "../../src/fuse/session.ts";
import {
  type Answer,
  type Bytes,
  type Exchange,
  exchange,
  FakeChannel,
  filesystem,
  inode,
  name,
  reply,
  request,
  u16,
  u32,
  u64,
  writable,
  zeros,
} from "./support.ts";

const INIT_EXT = 1 << 30;
const POSIX_ACL = 1 << 20;
const OFFERED = 0x73ff_fffb;
const IOMAP = 1 << 11;
const ALL_ONES = 2n ** 64n - 1n;
const DEVICE = 7;
const [CONFIG, IOEND, BEGIN, END] = [4092, 4093, 4094, 4095];
const [DEV_INVAL, UPSERT, INVAL] = [99, 100, 101];

/** What a kernel with the series was seen to offer. */
function init(minor = 99, flags2 = 0xdfd, flags = OFFERED): Uint8Array {
  return request(26, 0, u32(7), u32(minor), u32(0x2_0000), u32(flags), u32(flags2), zeros(44));
}

const config = request(CONFIG, 0, u64(127), u64(2n ** 63n - 1n), u32(262_144), zeros(44));

interface Host extends IomapHost {
  readonly calls: string[];
}

function host(options: Partial<IomapHost> = {}): Host {
  const calls: string[] = [];
  return {
    calls,
    required: false,
    usesCache: false,
    deviceOffsetBytes: 0,
    directMemoryBytes: 4,
    directOffsetBytes: 512,
    contents: new MemoryDevice(new Uint8Array(4096)),
    onAgreed: () => calls.push("agreed"),
    registerDevice() {
      calls.push("register");
      return DEVICE;
    },
    setBlockSize(device, bytes) {
      calls.push(`block size of ${device} ${bytes}`);
      return 0;
    },
    ...options,
  };
}

/** Serves `requests` on a connection that was set up. */
function moved(
  requests: readonly Uint8Array[],
  fs: ServedFilesystem,
  options: Partial<IomapHost> = {},
  channel = new FakeChannel([init(), config, ...requests]),
): Exchange & { readonly rest: readonly Answer[] } {
  const result = exchange([], fs, { iomap: host(options) }, channel);
  return { ...result, rest: result.answers.slice(2) };
}

/** The same, and the session that is left. */
function withSession(
  channel: FakeChannel,
  fs: ServedFilesystem,
  options: Partial<IomapHost>,
): { readonly session: Session } {
  const session = new Session(channel, fs, { log: () => undefined, iomap: host(options) });
  session.serve();
  return { session };
}

const QUIET: Partial<ServedChanges> = {
  leaveDataToKernel: () => undefined,
  isUncommitted: () => false,
};

/** A filesystem that answers `found` to every question about a place. */
function answering(
  found: Partial<Iomap>,
  changes: Partial<ServedChanges> = {},
  of = inode({ sizeBytes: 12_288 }),
  reading: Partial<ServedFilesystem> = {},
): ServedFilesystem {
  const fill = (_: Inode, offset: number, length: number, into: Iomap): Iomap =>
    Object.assign(into, { offset, length, addr: -1, isNew: false }, found);
  return writable(
    { ...QUIET, iomapForKernelWrite: fill, ...changes },
    { inode: () => of, iomapForKernel: fill, ...reading },
  );
}

const MAPPED: Partial<Iomap> = {
  type: IomapType.MAPPED,
  offset: 4096,
  length: 8192,
  addr: 1_048_576,
};

const begin = (opflags: number, pos = 5000, count = 100, ino = 12): Uint8Array =>
  request(BEGIN, 12, u32(opflags), u32(0), u64(ino), u64(pos), u64(count));

/** One fuse_iomap_io. */
function mapping(
  type: number,
  offset: number,
  length: number,
  addr: bigint | number = ALL_ONES,
  dev = 0,
  flags = 0,
): Bytes {
  return [...u64(offset), ...u64(length), ...u64(addr), ...u16(type), ...u16(flags), ...u32(dev)];
}

const OVERWRITE = 255;
const RETRY = 254;
const NOCACHE = 253;

describe("INIT", () => {
  function answerOf(offer: Uint8Array, given: IomapHost | "forbidden" = host()): Exchange {
    const options = given === "forbidden" ? {} : { iomap: given };
    return exchange([offer], filesystem(), options);
  }
  const minorOf = ({ answers }: Exchange): number =>
    new DataView((answers[0] as Uint8Array).buffer).getUint32(16 + 4, true);
  const flags2Of = ({ answers }: Exchange): number =>
    new DataView((answers[0] as Uint8Array).buffer).getUint32(16 + 32, true);

  test("iomap is accepted with the minor version that the kernel needs to hear", () => {
    const given = host();
    const result = answerOf(init(), given);
    expect([minorOf(result), flags2Of(result) & IOMAP]).toEqual([99, IOMAP]);
    expect(given.calls).toEqual(["agreed"]);
  });

  test.each([45, 46, 98])("bit 43 means something else to minor %i", (minor) => {
    const given = host();
    const result = answerOf(init(minor), given);
    expect([minorOf(result), flags2Of(result) & IOMAP]).toEqual([45, 0]);
    expect(given.calls).toEqual([]);
  });

  test("a kernel that does not offer it is served as ever", () => {
    const result = answerOf(init(99, 0xdfd & ~IOMAP));
    expect([minorOf(result), flags2Of(result) & IOMAP]).toEqual([45, 0]);
  });

  test("flags2 count with INIT_EXT only", () => {
    expect(flags2Of(answerOf(init(99, 0xdfd, OFFERED & ~INIT_EXT)))).toBe(0);
  });

  test("nor is it accepted where it is forbidden", () => {
    const result = answerOf(init(), "forbidden");
    expect([minorOf(result), flags2Of(result) & IOMAP]).toEqual([45, 0]);
  });

  test("a mount that needs it ends where it is not offered", () => {
    const serve = (): Exchange => answerOf(init(45), host({ required: true }));
    expect(serve).toThrow("needs iomap, but this kernel does not offer it for this mount");
  });
});

describe("IOMAP_CONFIG", () => {
  test("registers the device, sets its block size, and says what the filesystem is like", () => {
    const given = host();
    let contents: unknown;
    const fs = writable({ ...QUIET, leaveDataToKernel: (device) => (contents = device) });
    const { answers } = exchange([init(), config], fs, { iomap: given });
    expect(answers[1]).toEqual(
      reply(
        0,
        u64(2 | 4 | 16 | 32), // UUID, BLOCKSIZE, TIME, MAXBYTES
        zeros(32), // s_id
        Array.from({ length: 16 }, (_, index) => 0xa0 + index), // s_uuid
        [16, 0, 0, 0],
        u32(4096), // s_blocksize
        u32(0), // s_max_links
        u32(1), // s_time_gran
        u64(-(2 ** 31)),
        u64(2 ** 34 - 2 ** 31 - 1),
        u64(0xffff_ffff * 4096), // s_maxbytes
        u32(0), // cache_maxbytes
      ),
    );
    expect(given.calls).toEqual(["agreed", "register", `block size of ${DEVICE} 4096`]);
    expect(contents).toBe(given.contents);
  });

  test("names no more than the kernel knows, and no larger files", () => {
    const small = request(CONFIG, 0, u64(32), u64(1_000_000), u32(0), zeros(44));
    const { answers } = exchange([init(), small], writable(QUIET), { iomap: host() });
    const view = new DataView((answers[1] as Uint8Array).buffer);
    expect(view.getBigUint64(16, true)).toBe(32n);
    expect(view.getBigUint64(16 + 88, true)).toBe(1_000_000n);
  });

  test.each([
    ["register the device", { registerDevice: () => -1 }],
    ["set the block size of the device", { setBlockSize: () => -22 }],
  ])("files stay ours when the kernel does not %s", (what, options) => {
    const of = inode();
    const fs = writable(QUIET, { inode: () => of });
    const { rest, log } = moved([request(3, 12, zeros(16)), begin(0)], fs, options);
    expect(attrFlagsOf(rest[0])).toBe(0);
    expect(rest[1]).toEqual(reply(-38));
    expect(log).toEqual([expect.stringMatching(`iomap is not used: the kernel does not ${what}`)]);
  });

  test("a mount that needs it ends there", () => {
    const serve = (): Exchange =>
      moved([], filesystem(), { required: true, registerDevice: () => -1 });
    expect(serve).toThrow("needs iomap, but the kernel does not register the device");
  });

  test("is unknown where iomap was not agreed on, and answered once", () => {
    expect(exchange([config], filesystem(), { iomap: host() }).answers[0]).toEqual(reply(-38));
    const { rest, log } = moved([config], writable(QUIET));
    expect(rest[0]).toEqual(reply(-22));
    expect(log).toEqual(["IOMAP_CONFIG node 0: refused: asked for twice"]);
  });
});

/** `fuse_attr.flags` in the answer to GETATTR. */
function attrFlagsOf(answer: Answer | undefined): number {
  return new DataView((answer as Uint8Array).buffer).getUint32(16 + 16 + 84, true);
}

describe("fuse_attr.flags", () => {
  const [EXCLUSIVE, MOVED, ATOMIC, SYNC, IMMUTABLE, APPEND] = [4, 8, 16, 32, 64, 128];
  const getattr = request(3, 12, zeros(16));
  const flagsOf = (flags: number, options: Partial<IomapHost> = {}, mode = 0o100644): number => {
    const of = inode({ flags, mode });
    return attrFlagsOf(moved([getattr], writable(QUIET, { inode: () => of }), options).rest[0]);
  };

  test.each([
    ["EXCLUSIVE and IOMAP on every inode", 0, EXCLUSIVE | MOVED],
    ["SYNC", InodeFlags.SYNC, EXCLUSIVE | MOVED | SYNC],
    ["IMMUTABLE", InodeFlags.IMMUTABLE, EXCLUSIVE | MOVED | IMMUTABLE],
    ["APPEND", InodeFlags.APPEND, EXCLUSIVE | MOVED | APPEND],
  ])("%s", (_, flags, expected) => {
    expect(flagsOf(flags)).toBe(expected);
  });

  test("ATOMIC where the device writes a block wholly or not at all, and the file has extents", () => {
    const atomicWriteBytes = { min: 512, max: 65_536 };
    expect(flagsOf(InodeFlags.EXTENTS, { atomicWriteBytes }) & ATOMIC).toBe(ATOMIC);
    expect(flagsOf(0, { atomicWriteBytes }) & ATOMIC).toBe(0);
    expect(flagsOf(InodeFlags.EXTENTS, { atomicWriteBytes }, 0o40755) & ATOMIC).toBe(0);
    const small = { min: 512, max: 2048 };
    expect(flagsOf(InodeFlags.EXTENTS, { atomicWriteBytes: small }) & ATOMIC).toBe(0);
  });

  test("stand in entries, too", () => {
    const of = inode();
    const fs = writable(QUIET, { inode: () => of, lookup: () => of.number });
    const { rest } = moved([request(1, 1, name("file"))], fs);
    const view = new DataView((rest[0] as Uint8Array).buffer);
    expect(view.getUint32(16 + 40 + 84, true)).toBe(EXCLUSIVE | MOVED);
  });

  test("none where the kernel does not move contents", () => {
    const of = inode({ flags: InodeFlags.SYNC });
    const { answers } = exchange([getattr], writable({}, { inode: () => of }));
    expect(attrFlagsOf(answers[0])).toBe(0);
  });

  test("STATX tells what the device wants of direct I/O", () => {
    const of = inode({ flags: InodeFlags.EXTENTS });
    const fs = writable(QUIET, { inode: () => of });
    const statx = request(52, 12, zeros(24));
    const { rest } = moved([statx], fs, { atomicWriteBytes: { min: 4096, max: 4096 } });
    const view = new DataView((rest[0] as Uint8Array).buffer, 16 + 32);
    expect(view.getUint32(0, true)).toBe(0x7ff | 0x800 | 0x2000 | 0x1_0000);
    expect([152, 156, 168, 172, 176].map((at) => view.getUint32(at, true))).toEqual([
      4, 512, 4096, 4096, 1,
    ]);
  });
});

describe("IOMAP_BEGIN", () => {
  const OP = {
    ...{ READ: 0, WRITE: 1, ZERO: 2, REPORT: 4, FAULT: 8, DIRECT: 16, NOWAIT: 32 },
    ...{ OVERWRITE_ONLY: 64, UNSHARE: 128, DAX: 256, ATOMIC: 512, DONTCACHE: 1024 },
    ...{ SWAPFILE: 2 ** 30, WRITEBACK: 2 ** 31 },
  };

  test.each([
    ["a place", MAPPED, mapping(2, 4096, 8192, 1_048_576, DEVICE)],
    [
      "a promised place",
      { ...MAPPED, type: IomapType.UNWRITTEN },
      mapping(3, 4096, 8192, 1_048_576, DEVICE),
    ],
    ["a hole", { ...MAPPED, type: IomapType.HOLE, addr: -1 }, mapping(0, 4096, 8192)],
  ])("answers %s in the slot for reads, and an overwrite in the other", (_, found, expected) => {
    const { rest } = moved([begin(OP.READ)], answering(found));
    expect(rest[0]).toEqual(reply(0, expected, mapping(OVERWRITE, 4096, 8192)));
  });

  test("counts from the start of the device, not of the filesystem", () => {
    const { rest } = moved([begin(OP.READ)], answering(MAPPED), { deviceOffsetBytes: 8192 });
    const read = mapping(2, 4096, 8192, 1_048_576 + 8192, DEVICE);
    expect(rest[0]).toEqual(reply(0, read, mapping(OVERWRITE, 4096, 8192)));
  });

  /** Which function a question with `opflags` reaches. */
  function asked(opflags: number, found: Partial<Iomap> = MAPPED): [string[], Answer | undefined] {
    const calls: string[] = [];
    const note =
      (what: string) =>
      (_: Inode, offset: number, length: number, into: Iomap): Iomap => {
        calls.push(`${what} ${offset}+${length}`);
        return Object.assign(into, found);
      };
    const fs = answering(found, { iomapForKernelWrite: note("write") }, inode(), {
      iomapForKernel: note("read"),
    });
    return [calls, moved([begin(opflags)], fs).rest[0]];
  }

  test.each([
    ["READ", "read"],
    ["ZERO", "read"],
    ["REPORT", "read"],
    ["UNSHARE", "read"],
    ["DONTCACHE", "read"],
    ["DIRECT", "read"],
    ["FAULT", "read"],
    ["WRITE", "write"],
    ["WRITEBACK", "write"],
  ] as const)("%s asks for a %s", (flag, what) => {
    expect(asked(OP[flag])[0]).toEqual([`${what} 5000+100`]);
  });

  test.each([
    ["FAULT", "write"],
    ["DIRECT", "write"],
    ["DONTCACHE", "write"],
    ["ZERO", "read"],
    ["UNSHARE", "read"],
  ] as const)("WRITE and %s asks for a %s: zeroing leaves holes alone", (flag, what) => {
    expect(asked(OP.WRITE | OP[flag])[0]).toEqual([`${what} 5000+100`]);
  });

  test.each([
    ["NOWAIT", IomapType.HOLE, -11],
    ["NOWAIT", IomapType.UNWRITTEN, 0],
    ["OVERWRITE_ONLY", IomapType.UNWRITTEN, -11],
    ["OVERWRITE_ONLY", IomapType.MAPPED, 0],
  ] as const)("WRITE and %s on a mapping of type %i: %i", (flag, type, error) => {
    const [calls, answer] = asked(OP.WRITE | OP[flag], { ...MAPPED, type });
    expect(calls).toEqual(["read 5000+100"]);
    expect(errorOf(answer)).toBe(error);
  });

  test("DAX is not to be had", () => {
    expect(asked(OP.DAX)[1]).toEqual(reply(-95));
  });

  test("ATOMIC: a write that the device can do wholly says so", () => {
    const of = inode({ flags: InodeFlags.EXTENTS, sizeBytes: 12_288 });
    const atomicWriteBytes = { min: 4096, max: 4096 };
    const question = [begin(OP.WRITE | OP.DIRECT | OP.ATOMIC)];
    const { rest } = moved(question, answering(MAPPED, {}, of), { atomicWriteBytes });
    const read = mapping(2, 4096, 8192, 1_048_576, DEVICE, 0x40);
    expect(rest[0]).toEqual(reply(0, read, mapping(OVERWRITE, 4096, 8192)));
    expect(moved(question, answering(MAPPED, {}, of)).rest[0]).toEqual(reply(-95));
  });

  test("SWAPFILE: what the file is like is durable first", () => {
    const synced: unknown[] = [];
    const changes = { syncFile: (...what: unknown[]): void => void synced.push(what) };
    const { rest } = moved([begin(OP.REPORT | OP.SWAPFILE)], answering(MAPPED, changes), {
      usesCache: true,
    });
    expect(synced).toEqual([[12, true]]);
    expect(rest[0]).toEqual(
      reply(0, mapping(2, 4096, 8192, 1_048_576, DEVICE), mapping(OVERWRITE, 4096, 8192)),
    );
  });

  test("DIRTY: a crash would take it back", () => {
    const { rest } = moved([begin(OP.READ)], answering(MAPPED, { isUncommitted: () => true }));
    const read = mapping(2, 4096, 8192, 1_048_576, DEVICE, 2);
    expect(rest[0]).toEqual(reply(0, read, mapping(OVERWRITE, 4096, 8192)));
  });

  test.each([
    ["a place that reaches behind the end of the file", 12_287, OP.WRITE, IomapType.MAPPED, 2],
    ["the same for a read, as it is kept for writes", 12_287, OP.READ, IomapType.MAPPED, 2],
    ["not one that ends with the file", 12_288, OP.WRITE, IomapType.MAPPED, 0],
    ["not one that has to be converted anyway", 12_287, OP.WRITE, IomapType.UNWRITTEN, 0],
    ["not one of a swap file", 12_287, OP.SWAPFILE | OP.REPORT, IomapType.MAPPED, 0],
  ])("DIRTY: %s", (_, sizeBytes, opflags, type, expected) => {
    const fs = answering({ ...MAPPED, type }, { syncFile: () => undefined }, inode({ sizeBytes }));
    const { rest } = moved([begin(opflags)], fs);
    const read = mapping(type, 4096, 8192, 1_048_576, DEVICE, expected);
    expect(rest[0]).toEqual(reply(0, read, mapping(OVERWRITE, 4096, 8192)));
  });

  test("the kernel asks for attributes again when a write has got blocks", () => {
    const of = { ...inode(), blocksForStat: 16 } as Inode;
    const allocate = (_: Inode, offset: number, length: number, into: Iomap): Iomap => {
      (of as { blocksForStat: number }).blocksForStat += 8;
      return Object.assign(into, { ...MAPPED, offset, length });
    };
    const fs = answering(MAPPED, { iomapForKernelWrite: allocate }, of);
    expect(moved([begin(OP.WRITE)], fs).channel.forgotten).toEqual([12]);
    expect(moved([begin(OP.READ)], fs).channel.forgotten).toEqual([]);
  });

  describe("contents within the inode", () => {
    const INLINE = { type: IomapType.INLINE, offset: 0, length: 4096, addr: -1 };
    const small = inode({ flags: InodeFlags.INLINE_DATA, sizeBytes: 50 });
    const fits = { fitsInline: (_: Inode, bytes: number) => bytes <= 60 };

    test("are read through READ", () => {
      const { rest } = moved([begin(OP.READ, 0, 50)], answering(INLINE, {}, small, fits));
      expect(rest[0]).toEqual(reply(0, mapping(4, 0, 4096), mapping(OVERWRITE, 0, 4096)));
    });

    test("have nothing to be zeroed", () => {
      const question = [begin(OP.ZERO, 10, 4086)];
      const { rest, channel } = moved(question, answering(INLINE, {}, small, fits), {
        usesCache: true,
      });
      expect(rest[0]).toEqual(reply(0, mapping(0, 0, 4096), mapping(OVERWRITE, 0, 4096)));
      expect(channel.notifications).toEqual([]);
    });

    test("stay there when all of them are written anew", () => {
      const { rest } = moved([begin(OP.WRITE, 0, 60)], answering(MAPPED, {}, small, fits));
      expect(rest[0]).toEqual(reply(0, mapping(4, 0, 4096), mapping(4, 0, 4096)));
    });

    test.each([
      ["a part is written", OP.WRITE, 10, 20],
      ["less than all is written", OP.WRITE, 0, 49],
      ["they do not fit any more", OP.WRITE, 0, 61],
      ["they are mapped", OP.WRITE | OP.FAULT, 0, 50],
      ["they are written directly", OP.WRITE | OP.DIRECT, 0, 50],
      ["pages are written back", OP.WRITEBACK, 0, 50],
    ])("move out when %s", (_, opflags, pos, count) => {
      const { rest } = moved([begin(opflags, pos, count)], answering(MAPPED, {}, small, fits));
      const read = mapping(2, 4096, 8192, 1_048_576, DEVICE, 2);
      expect(rest[0]).toEqual(reply(0, read, mapping(OVERWRITE, 4096, 8192)));
    });

    test("READ fills the block up with zeros", () => {
      const readFile = (_: Inode, offset: number, into: Uint8Array): number => {
        into.fill(0xaa);
        return Math.max(0, 50 - offset);
      };
      const read = (offset: number, size: number): Uint8Array =>
        request(15, 12, u64(0), u64(offset), u32(size), zeros(20));
      const fs = answering(INLINE, {}, small, { ...fits, readFile });
      const { rest } = moved([read(48, 4), read(4090, 100)], fs);
      expect(rest).toEqual([reply(0, [0xaa, 0xaa, 0, 0]), reply(0, zeros(6))]);
    });

    test("that have moved out meanwhile are read and written past the shim all the same", () => {
      const readFile = (_: Inode, __: number, into: Uint8Array): number => into.fill(0xaa).length;
      const writeFile = (_: Inode, __: number, bytes: Uint8Array): number => bytes.length;
      const of = inode({ sizeBytes: 5000 });
      const read = (offset: number, flags: number): Uint8Array =>
        request(15, 12, u64(0), u64(offset), u32(4), zeros(12), u32(flags), u32(0));
      const write = request(16, 12, u64(0), u64(0), u32(3), zeros(20), [1, 2, 3]);
      const fs = answering(MAPPED, { writeFile }, of, { readFile });
      const { rest, channel } = moved([read(4094, 0), read(4998, 0x8000), write], fs);
      // The kernel has a buffer of one block for what it reads without an open file.
      expect(rest.slice(0, 2)).toEqual([reply(0, [0xaa, 0xaa]), reply(0, [0xaa, 0xaa])]);
      expect(rest[2]).toEqual(reply(0, u32(3), u32(0)));
      expect(channel.maps).toEqual([]);
    });
  });

  describe("with the cache of the kernel", () => {
    const upsert = (read: Bytes, write: Bytes): Uint8Array =>
      Uint8Array.from([...u64(12), ...u64(12), ...read, ...write]);

    test("the mapping is put there, and the answer says so", () => {
      const { rest, channel } = moved([begin(OP.WRITE)], answering(MAPPED), { usesCache: true });
      const read = mapping(2, 4096, 8192, 1_048_576, DEVICE);
      const payload = upsert(read, mapping(NOCACHE, 4096, 8192));
      expect(channel.notifications).toEqual([{ code: UPSERT, payload }]);
      expect(rest[0]).toEqual(reply(0, mapping(RETRY, 4096, 8192), mapping(OVERWRITE, 4096, 8192)));
    });

    test("a kernel that does not take it gets it as the answer", () => {
      const channel = new FakeChannel([init(), config, begin(OP.WRITE)]);
      channel.notifyResult = -12;
      const { rest } = moved([], answering(MAPPED), { usesCache: true }, channel);
      const read = mapping(2, 4096, 8192, 1_048_576, DEVICE);
      expect(rest[0]).toEqual(reply(0, read, mapping(OVERWRITE, 4096, 8192)));
    });

    /** A file whose extents, of a block each, end with block `count`, which are scattered. */
    const scattered = (count: number, onWrite = (): void => undefined, of = inode()) => {
      const fill = (_: Inode, at: number, length: number, into: Iomap): Iomap => {
        const offset = at - (at % 4096);
        const hole = { type: IomapType.HOLE, offset, length, addr: -1, isNew: false };
        const found = { ...hole, type: IomapType.MAPPED, length: 4096, addr: 2 ** 20 - 2 * offset };
        return Object.assign(into, offset < count * 4096 ? found : hole);
      };
      const iomapForKernelWrite: typeof fill = (...question) => {
        onWrite();
        return fill(...question);
      };
      return answering({}, { iomapForKernelWrite }, of, { iomapForKernel: fill });
    };
    const keptBlocks = ({ channel }: Exchange): unknown[] =>
      channel.notifications.map(
        ({ payload }) => new DataView(payload.buffer).getUint32(16, true) / 4096,
      );

    test("so is what else was asked for, and before it: the kernel may drop all for one more", () => {
      const kept = (opflags: number, pos: number, count: number): unknown[] =>
        keptBlocks(moved([begin(opflags, pos, count)], scattered(9), { usesCache: true }));
      expect(kept(OP.READ, 5000, 100)).toEqual([1]);
      expect(kept(OP.READ, 5000, 9000)).toEqual([2, 3, 1]);
      expect(kept(OP.WRITE, 5000, 9000)).toEqual([2, 3, 1]);
      expect(kept(OP.READ, 5000, 1_000_000)).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 1]);
      expect(kept(OP.ATOMIC, 5000, 9000)).toEqual([]);
    });

    test("and what a growing file was given", () => {
      const of = { ...inode(), blocksForStat: 16 } as Inode & { blocksForStat: number };
      const allocate = (): void => {
        of.blocksForStat += 8;
      };
      const result = moved([begin(OP.WRITE)], scattered(9, allocate, of), { usesCache: true });
      expect(keptBlocks(result)).toEqual([2, 3, 4, 5, 6, 7, 8, 1]);
    });

    test("but no more than 33 at a time", () => {
      const result = moved([begin(OP.READ, 0, 2 ** 30)], scattered(99), { usesCache: true });
      expect(keptBlocks(result)).toHaveLength(33);
    });

    test("what cannot be trusted behind it does not matter to it", () => {
      const fill = (_: Inode, offset: number, _length: number, into: Iomap): Iomap => {
        if (offset > 5000) throw new CorruptionError("extent-depth", {}, "x");
        return Object.assign(into, MAPPED);
      };
      const fs = answering(MAPPED, {}, inode(), { iomapForKernel: fill });
      const { rest, ...result } = moved([begin(OP.READ, 5000, 99_999)], fs, { usesCache: true });
      expect(keptBlocks(result)).toEqual([1]);
      expect(rest[0]).toEqual(reply(0, mapping(RETRY, 4096, 8192), mapping(OVERWRITE, 4096, 8192)));
    });

    test("OPEN puts the start of a file there", () => {
      const { channel } = moved([request(14, 12, u32(0), u32(0))], answering(MAPPED), {
        usesCache: true,
      });
      expect(channel.notifications.map(({ code }) => code)).toEqual([UPSERT]);
    });

    test("and says so when a crash would take it back", () => {
      const open = request(14, 12, u32(0), u32(0));
      const fs = answering(MAPPED, { isUncommitted: () => true });
      const { channel } = moved([open], fs, { usesCache: true });
      const read = mapping(2, 4096, 8192, 1_048_576, DEVICE, 2);
      const payload = upsert(read, mapping(NOCACHE, 4096, 8192));
      expect(channel.notifications).toEqual([{ code: UPSERT, payload }]);
    });

    test.each([
      ["empties the file", 0o1000, inode()],
      ["finds it empty", 0, inode({ sizeBytes: 0 })],
    ])("but not when it %s", (_, flags, of) => {
      const open = request(14, 12, u32(flags), u32(0));
      const { channel, rest } = moved([open], answering(MAPPED, {}, of), { usesCache: true });
      expect(channel.notifications).toEqual([]);
      expect(rest[0]).toEqual(reply(0, u64(0), u32(2), u32(0)));
    });
  });

  test.each([
    ["unknown flags", begin(1 << 20), "unknown flags 0x100000"],
    ["no bytes", begin(0, 0, 0), "asked about no bytes"],
    ["another inode", begin(0, 0, 1, 13), "inode 13 is not that of the node"],
  ])("%s: refused and logged", (_, question, line) => {
    const { rest, log } = moved([question], answering(MAPPED));
    expect(rest[0]).toEqual(reply(-22));
    expect(log).toEqual([`IOMAP_BEGIN node 12: refused: ${line}`]);
  });

  test("too short: refused", () => {
    const { rest } = moved([request(BEGIN, 12, zeros(31))], answering(MAPPED));
    expect(rest[0]).toEqual(reply(-22));
  });

  test("a write on a read-only mount is EROFS", () => {
    const of = inode();
    const fs = filesystem({ inode: () => of });
    expect(moved([begin(OP.WRITE)], fs).rest[0]).toEqual(reply(-30));
  });

  test("a kernel that goes on like that does not fill the log", () => {
    const { log } = moved(new Array(50).fill(begin(1 << 20)), answering(MAPPED));
    expect(log).toHaveLength(20);
  });
});

function errorOf(answer: Answer | undefined): number {
  return new DataView((answer as Uint8Array).buffer).getInt32(4, true);
}

describe("IOMAP_END", () => {
  const SIZE_CHANGED = 0x100;
  const end = (opflags: number, written: bigint | number, flags: number, dev = DEVICE, ino = 12) =>
    request(
      END,
      12,
      ...[u32(opflags), u32(0), u64(ino), u64(5000), u64(100), u64(written)],
      mapping(2, 4096, 8192, 1_048_576, dev, flags),
    );
  function noted(question: Uint8Array): [unknown[], Exchange & { rest: readonly Answer[] }] {
    const ends: unknown[] = [];
    const changes = { noteKernelEnd: (...what: unknown[]): void => void ends.push(what) };
    return [ends, moved([question], answering(MAPPED, changes))];
  }

  test("SIZE_CHANGED: the file ends behind what was written", () => {
    const [ends, { rest }] = noted(end(1, 60, SIZE_CHANGED));
    expect(ends).toEqual([[12, 5060]]);
    expect(rest[0]).toEqual(reply(0));
  });

  test.each([
    ["without SIZE_CHANGED", end(1, 60, 0)],
    ["STALE", end(1, 60, 0x200)],
    ["nothing written", end(1, 0, SIZE_CHANGED)],
    ["an error in place of a count", end(1, -5n, SIZE_CHANGED)],
    ["no write", end(0, 60, SIZE_CHANGED)],
  ])("%s: nothing to note", (_, question) => {
    const [ends, { rest, log }] = noted(question);
    expect([ends, log]).toEqual([[], []]);
    expect(rest[0]).toEqual(reply(0));
  });

  test.each([
    ["unknown flags", end(1 << 20, 60, SIZE_CHANGED)],
    ["more than was asked about", end(1, 101, SIZE_CHANGED)],
    ["a device that was never registered", end(1, 60, SIZE_CHANGED, DEVICE + 1)],
    ["another inode", end(1, 60, SIZE_CHANGED, DEVICE, 13)],
  ])("%s: refused and logged", (_, question) => {
    const [ends, { rest, log }] = noted(question);
    expect(ends).toEqual([]);
    expect(rest[0]).toEqual(reply(-22));
    expect(log).toHaveLength(1);
  });
});

describe("IOMAP_IOEND", () => {
  const ioend = (flags: number, { error = 0, written = 100, dev = DEVICE, ino = 12 } = {}) =>
    request(
      IOEND,
      12,
      ...[u32(flags), u32(error), u64(ino), u64(5000), u64(ALL_ONES), u64(written), u32(dev)],
      u32(0),
    );
  function finished(question: Uint8Array): [unknown[], Exchange & { rest: readonly Answer[] }] {
    const calls: unknown[] = [];
    const finishKernelWrite = (...what: unknown[]): number => {
      calls.push(what);
      return 77_777;
    };
    return [calls, moved([question], answering(MAPPED, { finishKernelWrite }))];
  }

  test.each([
    ["UNWRITTEN", 2, true],
    ["APPEND", 16, false],
    ["DIRECT and APPEND", 8 | 16, false],
    ["WRITEBACK and UNWRITTEN", 32 | 2, true],
    ["BOUNDARY", 4, false],
    ["none", 0, false],
  ])("%s: the file takes it in, and its size is the answer", (_, flags, converts) => {
    const [calls, { rest }] = finished(ioend(flags));
    expect(calls).toEqual([[12, 5000, 100, converts]]);
    expect(rest[0]).toEqual(reply(0, u64(77_777)));
  });

  test.each([
    ["SWAPOFF", ioend(64, { written: 0, dev: 0 })],
    ["nothing was written", ioend(2, { written: 0 })],
  ])("%s: the size is the answer", (_, question) => {
    const [calls, { rest }] = finished(question);
    expect(calls).toEqual([]);
    expect(rest[0]).toEqual(reply(0, u64(12_288)));
  });

  test.each([
    ["an error comes back, and what was allocated stays unwritten", -28, -28],
    ["an error that a reply cannot have does so as EIO", -512, -5],
    ["ENOSYS too: it would say that there is no IOEND", -38, -5],
  ])("%s", (_, error, answer) => {
    const [calls, { rest }] = finished(ioend(2, { error }));
    expect(calls).toEqual([]);
    expect(rest[0]).toEqual(reply(answer));
  });

  test.each([
    ["SHARED", ioend(1)],
    ["unknown flags", ioend(128)],
    ["no error", ioend(2, { error: 5 })],
    ["a device that was never registered", ioend(2, { dev: DEVICE + 1 })],
    ["another inode", ioend(2, { ino: 13 })],
  ])("%s: refused and logged", (_, question) => {
    const [calls, { rest, log }] = finished(question);
    expect(calls).toEqual([]);
    expect(rest[0]).toEqual(reply(-22));
    expect(log).toHaveLength(1);
  });
});

describe("notifications that nobody asked for", () => {
  test("the kernel forgets mappings that change behind its back, if it has any of the file", () => {
    const channel = new FakeChannel([init(), config, begin(0)]);
    const { session } = withSession(channel, answering(MAPPED), { usesCache: true });
    channel.notifications.length = 0;
    session.invalidateMappings(12 as never, 5000, 9000);
    session.invalidateMappings(12 as never, 4096, Number.MAX_SAFE_INTEGER);
    session.invalidateMappings(13 as never, 0, 4096);
    const range = (offset: number, length: number | bigint): Bytes => [
      ...u64(offset),
      ...u64(length),
    ];
    const node: Bytes = [...u64(12), ...u64(12)];
    expect(channel.notifications).toEqual([
      {
        code: INVAL,
        payload: Uint8Array.from([...node, ...range(4096, 8192), ...range(4096, 8192)]),
      },
      {
        code: INVAL,
        payload: Uint8Array.from([...node, ...range(4096, ALL_ONES), ...range(4096, ALL_ONES)]),
      },
    ]);
    expect(channel.unmapped).toEqual([]);
  });

  test("the page cache of the device drops what has another use from now on", () => {
    const channel = new FakeChannel([init(), config]);
    const { session } = withSession(channel, writable(QUIET), { deviceOffsetBytes: 512 });
    session.noteFreed(8192, 4096);
    const payload = Uint8Array.from([...u32(DEVICE), ...u32(0), ...u64(8704), ...u64(4096)]);
    expect(channel.notifications).toEqual([{ code: DEV_INVAL, payload }]);
  });

  test("neither where the kernel moves nothing", () => {
    const channel = new FakeChannel([init(45)]);
    const { session } = withSession(channel, writable(QUIET), {});
    session.noteFreed(8192, 4096);
    session.invalidateMappings(12 as never, 0, 4096);
    expect([channel.notifications, channel.unmapped]).toEqual([[], [12]]);
  });
});

describe("what the kernel does by itself for inodes that are its alone", () => {
  const mknod = (parent: number): Uint8Array =>
    request(8, parent, u32(0o100640), u32(0), u32(0o22), u32(0), name("new"));
  function created(parent: number, flags = OFFERED): unknown {
    let attributes: unknown;
    const of = inode();
    const fs = writable({
      ...QUIET,
      createFile: (_parent, _name, given) => {
        attributes = given;
        return of;
      },
    });
    const channel = new FakeChannel([init(99, 0xdfd, flags), config, mknod(parent)]);
    moved([], fs, {}, channel);
    return attributes;
  }

  test("it has worked out the permissions of a new inode", () => {
    expect(created(12)).toMatchObject({ mode: 0o100640, umask: 0, ignoresAcl: true });
  });

  test("but not in the root directory, nor without ACLs", () => {
    expect(created(1)).toMatchObject({ umask: 0o22, ignoresAcl: false });
    expect(created(12, OFFERED & ~POSIX_ACL)).toMatchObject({ umask: 0o22, ignoresAcl: true });
  });

  test("SETATTR says what has happened, which flags of the file do not forbid", () => {
    const settled: unknown[] = [];
    const of = inode();
    const setAttributes = (_: unknown, what: { isSettled?: boolean }): Inode => {
      settled.push(what.isSettled);
      return of;
    };
    const setattr = (node: number): Uint8Array => request(4, node, u32(0x430), zeros(84));
    const fs = writable({ ...QUIET, setAttributes }, { inode: () => of });
    moved([setattr(12), setattr(1)], fs);
    expect(settled).toEqual([true, undefined]);
  });
});

describe("what files were given and did not use", () => {
  const open = request(14, 12, u32(0), u32(0));
  const release = request(18, 12, zeros(24));

  test("goes back when the last who had them open closes them", () => {
    const given: unknown[] = [];
    const giveReserveBack = (number: unknown): void => void given.push(number);
    const fs = answering(MAPPED, { giveReserveBack });
    moved([open, open, release], fs);
    expect(given).toEqual([]);
    moved([open, open, release, release], fs);
    expect(given).toEqual([12]);
  });

  test("and the kernel does not know any more how many blocks they have", () => {
    const of = { ...inode(), blocksForStat: 16 } as Inode & { blocksForStat: number };
    const giveReserveBack = (): void => {
      of.blocksForStat = 8;
    };
    const fs = answering(MAPPED, { giveReserveBack }, of);
    expect(moved([open, release], fs).channel.forgotten).toEqual([12]);
    expect(moved([open, release], fs).channel.forgotten).toEqual([]);
  });

  test("or when the kernel forgets them", () => {
    const finished: unknown[] = [];
    const finishKernelUse = (number: unknown): void => void finished.push(number);
    const of = inode();
    const fs = answering(MAPPED, { finishKernelUse }, of, { lookup: () => of.number });
    moved([request(1, 1, name("file")), request(2, 12, u64(1))], fs);
    expect(finished).toEqual([12]);
  });
});

test.each([
  ["FREEZE_FS", 4089, u64(0), "freeze"],
  ["UNFREEZE_FS", 4090, [], "thaw"],
  ["SHUTDOWN_FS", 4091, u64(0), "shutdown"],
])("%s", (_, opcode, body, what) => {
  let calls = 0;
  const fs = writable({ ...QUIET, [what]: () => void calls++ });
  expect(moved([request(opcode, 1, body)], fs).rest).toEqual([reply(0)]);
  expect(calls).toBe(1);
});
