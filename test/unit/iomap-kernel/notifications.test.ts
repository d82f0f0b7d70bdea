/** What the kernel answers to mappings that are put into its cache, or dropped from it. */
import { describe, expect, test } from "vitest";
import {
  Errno,
  INIT2_IOMAP,
  InitFlag,
  MapFlag,
  MapType,
  Notification,
  NULL_ADDR,
  Opcode,
} from "../../support/iomap-kernel/abi.ts";
import type { Generation, RawMapping } from "../../support/iomap-kernel/mapping.ts";
import { Body } from "../../support/iomap-kernel/wire.ts";
import {
  BLOCK,
  configOut,
  DEVICE_BYTES,
  entry,
  FILE_INO,
  FILE_NODE,
  map,
  overwrite,
  ScriptedServer,
} from "./scripted-server.ts";

const ALL = 0xffff_ffff_ffff_ffffn;
const skip = map({ type: MapType.NOCACHE });

function mounted(generation: Generation = "v7") {
  const server = new ScriptedServer(generation).mount();
  return { server, inode: server.file() };
}

interface Case {
  readonly rule: string;
  readonly read?: Partial<RawMapping>;
  readonly write?: Partial<RawMapping>;
}

// biome-ignore format: a table
const BROKEN: readonly Case[] = [
  { rule: "mapping-type",      read: { type: 77 } },
  { rule: "mapping-flags",     read: { flags: 0x100 } },
  { rule: "mapping-alignment", write: { offset: 1n } },
  { rule: "mapping-nowhere",   read: { dev: 0 } },
  { rule: "mapping-somewhere", read: { type: MapType.HOLE, addr: 0n, dev: 0 } },
  { rule: "overwrite-slot",    read: { type: MapType.PURE_OVERWRITE, addr: NULL_ADDR, dev: 0 } },
  { rule: "upsert-retry",      read: { type: MapType.RETRY_CACHE, addr: NULL_ADDR, dev: 0 } },
  { rule: "upsert-device",     read: { dev: 9 } },
  { rule: "upsert-device-end", read: { addr: BigInt(DEVICE_BYTES - BLOCK), length: BigInt(2 * BLOCK) } },
];

describe("an upsert", () => {
  test.each(BROKEN)("is refused for $rule: $read $write", ({ rule, read, write }) => {
    const { server, inode } = mounted();
    expect(server.upsert(map(read), overwrite(write))).toBe(-Errno.EUCLEAN);
    expect(server.broken).toEqual([rule]);
    expect(inode.mappings).toBeUndefined();
  });

  test("may reach up to the end of the device", () => {
    const { server } = mounted();
    const last = map({ addr: BigInt(DEVICE_BYTES - BLOCK), length: BigInt(BLOCK) });
    expect(server.upsert(last, skip)).toBe(0);
    expect(server.broken).toEqual([]);
  });

  test("for a node that the kernel does not know breaks no rule", () => {
    const { server } = mounted();
    expect(server.upsert(map(), skip, 99)).toBe(-Errno.ESTALE);
    expect(server.broken).toEqual([]);
  });

  test("has the inode number of the node", () => {
    const { server } = mounted();
    expect(server.upsert(map(), skip, FILE_NODE, FILE_INO + 1)).toBe(-Errno.EINVAL);
    expect(server.broken).toEqual(["notify-ino"]);
  });

  test("is for inodes with iomap", () => {
    for (const [generation, result] of [["v7", 0] as const, ["post", -Errno.EINVAL] as const]) {
      const server = new ScriptedServer(generation).mount();
      server.on(Opcode.LOOKUP, () => entry({ flags: 0 }));
      server.file();
      expect(server.upsert(map(), skip)).toBe(result);
      expect(server.broken).toEqual(["notify-not-iomap"]);
    }
  });

  test("is for connections with iomap", () => {
    const server = new ScriptedServer();
    server.on(Opcode.INIT, () => new Body().u32(7).u32(99).u32(0).u32(InitFlag.INIT_EXT).zeros(48));
    server.mount();
    expect(server.upsert(map(), skip, 1, 2)).toBe(-Errno.EINVAL);
    expect(server.broken).toEqual(["notify-no-iomap"]);
  });

  test("has the size of its struct, and a known code", () => {
    const { server } = mounted();
    const { UPSERT_MAPPINGS, INVAL_MAPPINGS, DEV_INVAL } = Notification;
    for (const code of [UPSERT_MAPPINGS, INVAL_MAPPINGS, DEV_INVAL])
      expect(server.notify(code, new Body().zeros(79))).toBe(-Errno.EINVAL);
    expect(server.notify(98, new Body())).toBe(-Errno.EINVAL);
    const size = "notify-size";
    expect(server.broken).toEqual([size, size, size, "notify-code"]);
  });

  test("of a skipped slot leaves its fork alone", () => {
    const { server, inode } = mounted();
    server.upsert(map(), skip);
    server.upsert(skip, map({ length: BigInt(BLOCK) }));
    expect(inode.mappings?.mappings("read")).toHaveLength(1);
    expect(inode.mappings?.mappings("write")).toHaveLength(1);
  });

  test("of PURE_OVERWRITE makes no write fork", () => {
    const { server, inode } = mounted();
    server.upsert(map(), overwrite());
    expect(inode.mappings?.hasWriteFork).toBe(false);
  });
});

describe("the mapping cache", () => {
  const blocks = (first: number, count: number, addr = first): RawMapping =>
    map({
      ...{ offset: BigInt(first * BLOCK), length: BigInt(count * BLOCK) },
      addr: BigInt(addr * BLOCK),
    });

  test("joins what continues in the file and on the device", () => {
    const { server, inode } = mounted();
    for (const first of [0, 2, 1]) server.upsert(blocks(first, 1), skip);
    expect(inode.mappings?.mappings("read")).toMatchObject([{ offset: 0, length: 3 * BLOCK }]);
  });

  test("keeps apart what differs in place or flags", () => {
    const { server, inode } = mounted();
    server.upsert(blocks(0, 1), skip);
    server.upsert(blocks(1, 1, 9), skip);
    server.upsert({ ...blocks(2, 1, 10), flags: MapFlag.MERGED }, skip);
    expect(inode.mappings?.mappings("read")).toHaveLength(3);
  });

  test("cuts what a newer mapping overlaps", () => {
    const { server, inode } = mounted();
    server.upsert(blocks(0, 8), skip);
    server.upsert(blocks(2, 2, 100), skip);
    const kept = inode.mappings?.mappings("read") ?? [];
    expect(
      kept.map(({ offset, length, addr }) => [offset, length, addr].map((n) => n / BLOCK)),
    ).toEqual([
      [0, 2, 0],
      [2, 2, 100],
      [4, 4, 4],
    ]);
  });

  test("is thrown away at the next upsert when it has grown too large", () => {
    const server = new ScriptedServer();
    server.on(Opcode.IOMAP_CONFIG, () => {
      server.kernel.host().registerDevice();
      return configOut({ flags: 4 | 64, cacheBytes: 256 });
    });
    const inode = server.mount().file();
    const counts: number[] = [];
    for (let block = 0; block < 10; block++) {
      server.upsert(blocks(2 * block, 1), skip);
      counts.push(inode.mappings?.mappings("read").length ?? 0);
    }
    expect(counts).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 1, 2]);
  });
});

describe("an invalidation", () => {
  const message = (read: [bigint, bigint], write: [bigint, bigint]): Body => {
    const body = new Body().u64(FILE_NODE).u64(FILE_INO);
    return body.u64(read[0]).u64(read[1]).u64(write[0]).u64(write[1]);
  };
  const none: [bigint, bigint] = [0n, 0n];
  const block = BigInt(BLOCK);

  // biome-ignore format: a table
  test.each([
    ["an odd offset",   [1n, block]],
    ["an odd length",   [0n, 17n]],
    ["an offset that no file has", [BigInt(2 ** 44), block]],
  ] as const)("is refused for %s", (_, [offset, length]) => {
    const { server } = mounted();
    expect(server.notify(Notification.INVAL_MAPPINGS, message([offset, length], none)))
      .toBe(-Errno.EUCLEAN);
    expect(server.broken).toEqual(["inval-range"]);
  });

  test("does not overflow, which v7 lets pass", () => {
    for (const [generation, result] of [["v7", 0] as const, ["post", -Errno.EUCLEAN] as const]) {
      const { server } = mounted(generation);
      const invalid = message([block, ALL - block + 1n], none);
      expect(server.notify(Notification.INVAL_MAPPINGS, invalid)).toBe(result);
      expect(server.broken).toEqual(["inval-overflow"]);
    }
  });

  test("drops a range of each fork, up to the end if it says so", () => {
    const { server, inode } = mounted();
    server.upsert(map(), map());
    const invalid = message([block, block], [block * 4n, ALL]);
    expect(server.notify(Notification.INVAL_MAPPINGS, invalid)).toBe(0);
    const ends = (slot: "read" | "write") =>
      inode.mappings?.mappings(slot).map(({ offset, length }) => [offset / BLOCK, length / BLOCK]);
    expect(ends("read")).toEqual([
      [0, 1],
      [2, 14],
    ]);
    expect(ends("write")).toEqual([[0, 4]]);
    expect(server.broken).toEqual([]);
  });

  test("without a cache changes nothing", () => {
    const { server } = mounted();
    expect(server.notify(Notification.INVAL_MAPPINGS, message([0n, ALL], [0n, ALL]))).toBe(0);
  });
});

describe("an invalidation of the device", () => {
  const message = (dev: number, offset: number, length: number, reserved = 0): Body =>
    new Body().u32(dev).u32(reserved).u64(offset).u64(length);

  // biome-ignore format: a table
  test.each([
    ["dev-inval-null",     Errno.EINVAL, message(0, 0, 4096)],
    ["dev-inval-device",   Errno.ENODEV, message(2, 0, 4096)],
    ["dev-inval-reserved", Errno.EINVAL, message(1, 0, 4096, 1)],
    ["dev-inval-range",    Errno.EINVAL, message(1, DEVICE_BYTES, 4096)],
  ] as const)("is refused for %s", (rule, errno, payload) => {
    const { server } = mounted();
    expect(server.notify(Notification.DEV_INVAL, payload)).toBe(-errno);
    expect(server.broken).toEqual([rule]);
  });

  test("is taken otherwise", () => {
    const { server } = mounted();
    expect(server.notify(Notification.DEV_INVAL, message(1, DEVICE_BYTES - 512, 512))).toBe(0);
    expect(server.broken).toEqual([]);
  });
});

describe("what only the road without iomap needs", () => {
  // biome-ignore format: a table
  test.each([
    ["map",      "shim-mapping"],
    ["store",    "shim-mapping"],
    ["reply",    "shim-reply"],
    ["contents", "shim-contents"],
  ] as const)("is not asked of the shim for a file with iomap: %s", (what, rule) => {
    const { server } = mounted();
    server.askShim(what, 1);
    expect(server.broken).toEqual([]);
    server.askShim(what);
    expect(server.broken).toEqual([rule]);
  });
});

describe("without iomap", () => {
  test("no device is registered", () => {
    const server = new ScriptedServer();
    expect(server.kernel.host().registerDevice()).toBe(-Errno.EPERM);
    expect(server.broken).toEqual(["device-no-iomap"]);
  });

  test("a server of an older minor gets CONFIG, and no inode with iomap", () => {
    const server = new ScriptedServer();
    const flags = InitFlag.INIT_EXT | InitFlag.NO_OPEN;
    server.on(Opcode.INIT, () =>
      new Body().u32(7).u32(98).u32(0).u32(flags).zeros(16).u32(INIT2_IOMAP).zeros(28),
    );
    expect(server.mount().file().isIomap).toBe(false);
    expect(server.kernel.counts.get("IOMAP_CONFIG")).toBe(1);
  });
});
