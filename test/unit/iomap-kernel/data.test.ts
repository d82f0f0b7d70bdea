/**
 * What the kernel asks and says while it reads and writes: when its mapping cache spares a question,
 * when IOMAP_END and IOMAP_IOEND are sent and what they say, inline data, sizes.
 */
import { describe, expect, test } from "vitest";
import {
  Errno,
  IoendFlag,
  MapFlag,
  MapType,
  NULL_ADDR,
  Opcode,
  OpFlag,
} from "../../support/iomap-kernel/abi.ts";
import { complete } from "../../support/iomap-kernel/ioend.ts";
import { begin } from "../../support/iomap-kernel/iomap.ts";
import type { Generation, RawMapping } from "../../support/iomap-kernel/mapping.ts";
import { Body } from "../../support/iomap-kernel/wire.ts";
import {
  attrOut,
  BLOCK,
  beginOut,
  CONTENTS,
  DEVICE_BYTES,
  entry,
  errnoOf,
  map,
  overwrite,
  ScriptedServer,
} from "./scripted-server.ts";

const SIZE = 16 * BLOCK;
const skip = map({ type: MapType.NOCACHE });
const unwritten = map({ type: MapType.UNWRITTEN });
const hole = map({ type: MapType.HOLE });
const promise = map({ type: MapType.DELALLOC });
const inline = map({ type: MapType.INLINE, length: BigInt(BLOCK) });
const sevens = (length: number): Uint8Array => new Uint8Array(length).fill(7);

function mounted(generation: Generation = "v7", size = SIZE) {
  const server = new ScriptedServer(generation).mount();
  server.on(Opcode.LOOKUP, () => entry({ size }));
  const { kernel } = server;
  const inode = server.file();
  const file = kernel.open(inode);
  server.take();
  return { server, kernel, inode, file };
}

describe("the mapping cache", () => {
  interface Situation {
    readonly what: string;
    readonly read?: RawMapping;
    readonly write?: RawMapping;
    readonly opflags: number;
    readonly asks: boolean;
    readonly askedOnlyLater?: boolean;
  }
  const { WRITE, ZERO, DIRECT, WRITEBACK, ATOMIC, REPORT, SWAPFILE } = OpFlag;
  const elsewhere = map({ addr: BigInt(SIZE) });
  const behind = map({ offset: BigInt(BLOCK), length: BigInt(BLOCK) });

  // biome-ignore format: a table
  const SITUATIONS: readonly Situation[] = [
    { what: "a read that is mapped",             read: map(),     opflags: 0, asks: false },
    { what: "a read that is not",                read: behind,    opflags: 0, asks: true },
    { what: "a read of a hole",                  read: hole,      opflags: 0, asks: false },
    { what: "a read, only the write fork filled", write: map(),   opflags: 0, asks: true },
    { what: "a write, no write fork",            read: map(),     opflags: WRITE, asks: false },
    { what: "a write to PURE_OVERWRITE",         read: map(), write: overwrite(), opflags: WRITE, asks: false },
    { what: "a write to a place of its own",     read: map(), write: elsewhere, opflags: WRITE, asks: false },
    { what: "a write that the write fork misses", read: map(), write: behind, opflags: WRITE, asks: true },
    { what: "a write that the read fork misses", read: behind, write: elsewhere, opflags: WRITE, asks: true },
    { what: "a write to a hole",                 read: hole,      opflags: WRITE, asks: true },
    { what: "zeroing of a hole",                 read: hole,      opflags: ZERO, asks: false },
    { what: "writeback to a hole",               read: hole,      opflags: WRITEBACK, asks: true },
    { what: "writeback to blocks",               read: map(),     opflags: WRITEBACK, asks: false },
    { what: "a write to promised space",         read: promise,   opflags: WRITE, asks: false },
    { what: "a direct write to promised space",  read: promise,   opflags: WRITE | DIRECT, asks: true },
    { what: "an untorn write",                   read: map(),     opflags: WRITE | DIRECT | ATOMIC, asks: true },
    { what: "FIEMAP",                            read: map(),     opflags: REPORT, asks: false },
    { what: "swapon",                            read: map(),     opflags: REPORT | SWAPFILE, asks: true },
  ];

  test.each(SITUATIONS)("$what: asks $asks", ({ read = skip, write = skip, opflags, asks }) => {
    const { server, kernel, inode } = mounted();
    server.upsert(read, write);
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(map({ flags: MapFlag.ATOMIC_BIO })));
    begin(kernel.state, inode, opflags, 0, BLOCK);
    expect(server.take()).toEqual(asks ? ["IOMAP_BEGIN"] : []);
    expect(server.broken).toEqual([]);
  });

  test("gives a write its own place, and the old data from the read fork", () => {
    const { server, kernel, inode } = mounted();
    server.upsert(map(), elsewhere);
    const { mapping, source } = begin(kernel.state, inode, WRITE, 10, 20);
    expect(mapping).toMatchObject({ offset: 0, length: BLOCK, addr: SIZE });
    expect(source).toMatchObject({ offset: 0, length: BLOCK, addr: 0 });
  });
});

describe("IOMAP_END", () => {
  test("tells that a buffered write has made the file longer", () => {
    const { server, file, inode } = mounted("v7", 100);
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(unwritten));
    file.write(100, sevens(50));
    expect(server.take()).toEqual(["IOMAP_BEGIN", "IOMAP_END"]);
    expect(inode.size).toBe(150);
  });

  test("has the struct of section 5", () => {
    const { server, file } = mounted("v7", 100);
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(unwritten));
    file.write(100, sevens(50));
    const body = server.last(Opcode.IOMAP_END);
    expect(body.bytes).toHaveLength(72);
    expect([0, 8, 16, 24, 32].map((at) => body.number(at))).toEqual([1, 1010, 100, 50, 50]);
    expect(body.number(48)).toBe(SIZE); // map.length
    expect(body.u16(64)).toBe(MapType.UNWRITTEN);
    expect(body.u16(66)).toBe(MapFlag.SIZE_CHANGED);
    expect(body.u32(68)).toBe(1);
  });

  test("is not sent for reads, for overwrites, and after ENOSYS", () => {
    const { server, file } = mounted();
    file.read(0, BLOCK);
    file.write(0, sevens(BLOCK));
    expect(server.take()).not.toContain("IOMAP_END");
    server.on(Opcode.IOMAP_END, () => -Errno.ENOSYS);
    for (const at of [SIZE, SIZE + 1]) {
      server.on(Opcode.IOMAP_BEGIN, () =>
        beginOut(map({ length: BigInt(2 * SIZE) }), overwrite({ length: BigInt(2 * SIZE) })),
      );
      file.write(at, sevens(1));
    }
    expect(server.take().filter((name) => name === "IOMAP_END")).toHaveLength(1);
  });

  test("is sent with nothing written when a write has failed", () => {
    const { server, file } = mounted();
    server.kernel.onDeviceIo((what) => {
      if (what === "read") throw new Error("no");
    });
    expect(errnoOf(() => file.write(1, sevens(1)))).toBe(Errno.EIO);
    expect(server.take()).toEqual(["IOMAP_BEGIN", "IOMAP_END"]);
    expect(server.broken).toEqual([]);
  });

  test("may be refused: what was copied is in the page cache, and counts", () => {
    const { server, file } = mounted("v7", 0);
    server.on(Opcode.IOMAP_END, () => -Errno.ENOSPC);
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(unwritten));
    expect(file.write(0, sevens(10))).toBe(10);
  });

  test("is asked for by WANT_IOMAP_END only of later kernels; v7 takes ANON_WRITE for it", () => {
    const sent = (generation: Generation, flags: number): boolean => {
      const { server, file } = mounted(generation);
      server.on(Opcode.IOMAP_BEGIN, () => beginOut(map({ flags })));
      file.write(0, sevens(BLOCK));
      return server.take().includes("IOMAP_END");
    };
    expect(sent("v7", MapFlag.WANT_IOMAP_END)).toBe(false);
    expect(sent("v7", MapFlag.ANON_WRITE)).toBe(true);
    expect(sent("post", MapFlag.WANT_IOMAP_END)).toBe(true);
    expect(sent("post", MapFlag.ANON_WRITE)).toBe(false);
  });
});

describe("IOMAP_IOEND", () => {
  test("comes after the writeback of unwritten blocks, with the data on the device", () => {
    const { server, kernel, file, inode } = mounted();
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(unwritten));
    file.write(0, sevens(BLOCK));
    const onDevice: number[] = [];
    server.on(Opcode.IOMAP_IOEND, () => {
      onDevice.push(server.bytes[0] as number);
      return new Body().u64(SIZE);
    });
    server.take();
    kernel.writeBack(inode);
    expect(server.take()).toEqual(["IOMAP_BEGIN", "IOMAP_IOEND"]);
    expect(onDevice).toEqual([7]);
  });

  test("has the struct of section 5, and the place in sectors", () => {
    const { server, kernel, file, inode } = mounted();
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(map({ type: MapType.UNWRITTEN, addr: 8192n })));
    file.write(BLOCK, sevens(BLOCK));
    kernel.writeBack(inode);
    const body = server.last(Opcode.IOMAP_IOEND);
    expect(body.bytes).toHaveLength(48);
    expect(body.u32(0)).toBe(IoendFlag.WRITEBACK | IoendFlag.UNWRITTEN);
    expect(body.s32(4)).toBe(0);
    expect([8, 16, 24, 32].map((at) => body.number(at))).toEqual([1010, BLOCK, 24, BLOCK]);
    expect(body.u32(40)).toBe(1);
  });

  test("is not sent for blocks that are overwritten within the file", () => {
    const { server, kernel, file, inode } = mounted();
    file.write(0, sevens(SIZE));
    kernel.writeBack(inode);
    expect(server.take()).not.toContain("IOMAP_IOEND");
    expect(server.bytes.subarray(0, SIZE).every((byte) => byte === 7)).toBe(true);
  });

  test("is sent as APPEND for written blocks behind the size on disk", () => {
    const { server, kernel, file, inode } = mounted("v7", 100);
    file.write(100, sevens(50));
    kernel.writeBack(inode);
    const body = server.last(Opcode.IOMAP_IOEND);
    expect(body.u32(0)).toBe(IoendFlag.WRITEBACK | IoendFlag.APPEND);
    expect([body.number(16), body.number(32)]).toEqual([0, 150]);
    expect(inode.diskSize).toBe(150);
  });

  test("is not sent by v7 for such blocks once attributes were asked for again", () => {
    for (const [generation, isSent] of [["v7", false] as const, ["post", true] as const]) {
      const { server, kernel, file, inode } = mounted(generation, 100);
      server.on(Opcode.GETATTR, () => attrOut({ size: 100 }));
      file.write(100, sevens(50));
      kernel.getattr(inode);
      expect(inode.size).toBe(150);
      expect(inode.diskSize).toBe(isSent ? 100 : 150);
      kernel.writeBack(inode);
      expect(server.take().includes("IOMAP_IOEND")).toBe(isSent);
    }
  });

  test("of a direct write is one, without a place, and makes the file longer", () => {
    const { server, file, inode } = mounted("v7", BLOCK);
    const two = { length: BigInt(2 * BLOCK) };
    server.on(Opcode.IOMAP_BEGIN, (body) =>
      beginOut(body.number(16) < 2 * BLOCK ? map({ ...two, type: MapType.UNWRITTEN }) : map()),
    );
    file.write(BLOCK, sevens(3 * BLOCK), {});
    const body = server.last(Opcode.IOMAP_IOEND);
    expect(server.take()).toEqual(["IOMAP_BEGIN", "IOMAP_BEGIN", "IOMAP_IOEND"]);
    expect(body.u32(0)).toBe(IoendFlag.DIRECT | IoendFlag.UNWRITTEN | IoendFlag.APPEND);
    expect([body.number(16), body.number(32)]).toEqual([BLOCK, 3 * BLOCK]);
    expect(body.u64(24)).toBe(NULL_ADDR);
    expect(body.u32(40)).toBe(0);
    expect(inode.size).toBe(4 * BLOCK);
  });

  test("has an answer that is taken as it is by v7, and that lowers nothing later", () => {
    for (const [generation, size] of [["v7", 50] as const, ["post", SIZE] as const]) {
      const { server, kernel, inode } = mounted(generation);
      server.on(Opcode.IOMAP_IOEND, () => new Body().u64(50));
      const at = { error: 0, pos: 0, written: 100, newAddr: NULL_ADDR, dev: 0 };
      complete(kernel.state, inode, { ...at, flags: IoendFlag.UNWRITTEN });
      expect(inode.diskSize).toBe(size);
      expect(server.broken).toEqual(["ioend-newsize"]);
    }
  });

  test("drops the mappings of its range, and no others", () => {
    const { server, kernel, file, inode } = mounted();
    server.upsert(unwritten, skip);
    file.write(0, sevens(BLOCK));
    kernel.writeBack(inode);
    expect(inode.mappings?.mappings("read")).toMatchObject([{ offset: BLOCK }]);
  });

  test("is not sent again after ENOSYS, but for the end of swapping by later kernels", () => {
    for (const [generation, count] of [["v7", 1] as const, ["post", 2] as const]) {
      const { server, kernel, inode } = mounted(generation);
      server.on(Opcode.IOMAP_IOEND, () => -Errno.ENOSYS);
      const at = { error: 0, pos: 0, written: 100, newAddr: NULL_ADDR, dev: 0 };
      complete(kernel.state, inode, { ...at, flags: IoendFlag.UNWRITTEN });
      complete(kernel.state, inode, { ...at, flags: IoendFlag.UNWRITTEN });
      kernel.swapOff(inode);
      expect(server.take()).toHaveLength(count);
    }
  });

  test("tells of a device that fails, with the data not counted", () => {
    const { server, kernel, file, inode } = mounted();
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(unwritten));
    file.write(0, sevens(BLOCK));
    kernel.onDeviceIo(() => {
      throw new Error("no");
    });
    expect(errnoOf(() => kernel.fsync(inode))).toBe(Errno.EIO);
    expect(server.last(Opcode.IOMAP_IOEND).s32(4)).toBe(-Errno.EIO);
    expect(inode.diskSize).toBe(SIZE);
    expect(errnoOf(() => kernel.fsync(inode))).toBe(0);
  });

  test("takes promised space back when the server has no place for dirty pages", () => {
    const { server, kernel, file, inode } = mounted();
    file.write(0, sevens(BLOCK));
    server.on(Opcode.IOMAP_BEGIN, () => -Errno.ENOSPC);
    expect(errnoOf(() => kernel.fsync(inode))).toBe(Errno.ENOSPC);
    const body = server.last(Opcode.IOMAP_IOEND);
    expect([body.u32(0), body.s32(4)]).toEqual([0, -Errno.ENOSPC]);
    expect([body.number(16), body.number(32)]).toEqual([0, BLOCK]);
    expect(inode.pages.size).toBe(0);
  });
});

describe("writeback", () => {
  test.each([
    ["inline-writeback", inline],
    ["writeback-delalloc", promise],
  ] as const)("breaks %s", (rule, mapping) => {
    const { server, kernel, file, inode } = mounted();
    file.write(0, sevens(BLOCK));
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(mapping));
    kernel.writeBack(inode);
    expect(server.broken).toEqual([rule]);
    expect(inode.writebackError).toBe(Errno.EIO);
  });

  test("to a hole loses the data, and is noted", () => {
    const { server, kernel, file, inode } = mounted();
    file.write(0, sevens(BLOCK));
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(hole));
    kernel.writeBack(inode);
    expect(server.broken).toEqual(["writeback-hole"]);
    expect(Buffer.compare(server.bytes, CONTENTS)).toBe(0);
  });

  test("asks with WRITEBACK alone in v7, and with WRITE as well later", () => {
    for (const [generation, flags] of [
      ["v7", 0x8000_0000] as const,
      ["post", 0x8000_0001] as const,
    ]) {
      const { server, kernel, file, inode } = mounted(generation);
      file.write(BLOCK, sevens(BLOCK));
      kernel.writeBack(inode);
      const body = server.last(Opcode.IOMAP_BEGIN);
      expect(body.u32(0)).toBe(flags);
      expect([body.number(16), body.number(24)]).toEqual([BLOCK, BLOCK]);
    }
  });

  test("fills the last block with zeros", () => {
    const { server, kernel, file, inode } = mounted("v7", 100);
    file.write(0, sevens(10));
    kernel.writeBack(inode);
    expect(server.bytes.subarray(0, 10)).toEqual(sevens(10));
    expect(server.bytes.subarray(10, 100)).toEqual(CONTENTS.subarray(10, 100));
    expect(server.bytes.subarray(100, BLOCK)).toEqual(new Uint8Array(BLOCK - 100));
  });

  test("brings every block to its place, in whatever order", () => {
    const { server, kernel, file, inode } = mounted();
    for (let block = 0; block < 16; block += 2) file.write(block * BLOCK + 5, sevens(BLOCK - 5));
    kernel.writeBack(inode);
    for (let at = 0; at < SIZE; at++) {
      const isWritten = Math.floor(at / BLOCK) % 2 === 0 && at % BLOCK >= 5;
      if (server.bytes[at] !== (isWritten ? 7 : CONTENTS[at])) throw new Error(`byte ${at}`);
    }
  });
});

describe("a write", () => {
  test("to a hole is noted, as it may lose the data", () => {
    const { server, file } = mounted();
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(hole));
    file.write(0, sevens(10));
    expect(server.broken).toEqual(["write-to-hole"]);
  });

  test("past the page cache to a hole, or to promised space, fails", () => {
    for (const [mapping, rule] of [
      [hole, "write-to-hole"],
      [promise, "direct-delalloc"],
    ] as const) {
      const { server, file } = mounted();
      server.on(Opcode.IOMAP_BEGIN, () => beginOut(mapping));
      expect(errnoOf(() => file.write(0, sevens(BLOCK), {}))).toBe(Errno.EIO);
      expect(server.broken).toEqual([rule]);
    }
  });

  test("past the page cache falls back to it when the server wants that", () => {
    const { server, file } = mounted();
    server.on(Opcode.IOMAP_BEGIN, (body) =>
      (body.u32(0) & OpFlag.DIRECT) !== 0 ? -Errno.ENOTBLK : beginOut(map()),
    );
    expect(file.write(0, sevens(BLOCK), {})).toBe(BLOCK);
    expect(server.bytes.subarray(0, BLOCK)).toEqual(sevens(BLOCK));
  });

  test("past the page cache fills unwritten blocks with zeros around it", () => {
    const { server, file } = mounted();
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(unwritten));
    file.write(512, sevens(512), {});
    const wanted = new Uint8Array(BLOCK);
    wanted.fill(7, 512, 1024);
    expect(server.bytes.subarray(0, BLOCK)).toEqual(wanted);
  });

  test("behind the end asks to zero what lies between", () => {
    const { server, file } = mounted("v7", 100);
    file.write(200, sevens(10));
    const asked = server.seen.filter(({ name }) => name === "IOMAP_BEGIN").map(({ body }) => body);
    expect(asked.map((body) => [body.u32(0), body.number(16), body.number(24)])).toEqual([
      [OpFlag.ZERO, 100, 100],
      [OpFlag.WRITE, 200, 10],
    ]);
    expect(file.read(100, 100)).toEqual(new Uint8Array(100));
  });

  test("stays on the device", () => {
    const { server, file } = mounted();
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(map({ addr: BigInt(DEVICE_BYTES) })));
    expect(errnoOf(() => file.write(0, sevens(BLOCK), {}))).toBe(Errno.EIO);
    expect(server.broken).toEqual(["io-beyond-device"]);
  });

  test("goes to the filesystem's place on a larger disk", () => {
    const server = new ScriptedServer("v7", DEVICE_BYTES).mount();
    const file = server.kernel.open(server.file());
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(map({ addr: BigInt(DEVICE_BYTES + BLOCK) })));
    file.write(0, sevens(BLOCK), {});
    expect(server.bytes.subarray(BLOCK, 2 * BLOCK)).toEqual(sevens(BLOCK));
  });
});

describe("inline data", () => {
  const text = (length: number): Body => new Body().raw(new Uint8Array(length).fill(3));

  test("is read for what is asked by v7, and as a whole later", () => {
    for (const [generation, asked] of [
      ["v7", [512, 512]] as const,
      ["post", [0, BLOCK]] as const,
    ]) {
      const { server, file } = mounted(generation, 1024);
      server.on(Opcode.IOMAP_BEGIN, () => beginOut(inline));
      server.on(Opcode.READ, (body) => text(Math.min(body.u32(16), 1024)));
      expect(file.read(512, 512, {})).toEqual(new Uint8Array(512).fill(3));
      const body = server.last(Opcode.READ);
      expect([body.number(8), body.u32(16)]).toEqual(asked);
      expect(body.u64(0)).toBe(0n);
      expect(server.broken).toEqual([]);
    }
  });

  test("begins with the file", () => {
    const { server, file } = mounted("v7", 2 * BLOCK);
    server.on(Opcode.IOMAP_BEGIN, () => beginOut({ ...inline, offset: BigInt(BLOCK) }));
    server.on(Opcode.READ, (body) => text(body.u32(16)));
    file.read(BLOCK, 512, {});
    expect(server.broken).toEqual(["inline-start"]);
  });

  test.each([
    ["no bytes", new Body()],
    ["ENOSYS", -Errno.ENOSYS],
  ] as const)("cannot be read when the server answers %s", (_, answer) => {
    const { server, file } = mounted("v7", 100);
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(inline));
    server.on(Opcode.READ, () => answer);
    expect(errnoOf(() => file.read(0, 100))).toBe(Errno.EIO);
    expect(server.broken).toEqual(["inline-read"]);
  });

  test.each([
    ["v7", 2 * BLOCK, BLOCK, []],
    ["v7", 2 * BLOCK, BLOCK + 1, ["inline-overflow"]],
    ["post", BLOCK, BLOCK, []],
  ] as const)(
    "is asked for as one reads; the answer must fit (%s)",
    (generation, asked, bytes, rules) => {
      const { server, file } = mounted(generation, 2 * BLOCK);
      const beyond = { ...inline, offset: BigInt(BLOCK), type: MapType.HOLE };
      server.on(Opcode.IOMAP_BEGIN, (body) => beginOut(body.number(16) === 0 ? inline : beyond));
      server.on(Opcode.READ, () => text(bytes));
      file.read(0, 2 * BLOCK, {});
      expect(server.last(Opcode.READ).u32(16)).toBe(asked);
      expect(server.broken).toEqual(rules);
    },
  );

  test("is stored at the end of a write, without END and IOEND", () => {
    const { server, kernel, file, inode } = mounted("v7", 10);
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(inline, inline));
    server.on(Opcode.READ, (body) => text(body.u32(16)));
    server.on(Opcode.WRITE, (body) => new Body().u32(body.u32(16)).u32(0));
    file.write(0, sevens(20));
    kernel.writeBack(inode);
    expect(server.take()).toEqual(["IOMAP_BEGIN", "READ", "WRITE"]);
    expect(server.broken).toEqual([]);
    expect(inode.size).toBe(20);
  });

  test("fails when it is stored in part, for v7; later the rest follows", () => {
    for (const [generation, errno, writes] of [
      ["v7", Errno.EIO, 1] as const,
      ["post", 0, 2] as const,
    ]) {
      const { server, kernel, inode } = mounted(generation, 20);
      server.on(Opcode.IOMAP_BEGIN, () => beginOut(inline, inline));
      server.on(Opcode.READ, () => text(20));
      server.on(Opcode.WRITE, () => new Body().u32(10).u32(0));
      expect(errnoOf(() => kernel.writeMapped(inode, 0, sevens(20)))).toBe(errno);
      expect(server.take().filter((name) => name === "WRITE")).toHaveLength(writes);
      expect(server.broken).toEqual(errno === 0 ? [] : ["inline-short-write"]);
    }
  });

  test("is not fetched by v7 before it is overwritten, which is noted", () => {
    for (const [generation, reads] of [["v7", []] as const, ["post", ["READ"]] as const]) {
      const { server, file } = mounted(generation, 20);
      server.on(Opcode.IOMAP_BEGIN, () => beginOut(inline, overwrite({ length: BigInt(BLOCK) })));
      server.on(Opcode.READ, () => text(20));
      server.on(Opcode.WRITE, (body) => new Body().u32(body.u32(16)).u32(0));
      file.write(0, sevens(5));
      expect(server.take()).toEqual(["IOMAP_BEGIN", ...reads, "WRITE"]);
      expect(server.broken).toEqual(reads.length === 0 ? ["inline-overwrite"] : []);
    }
  });

  test("is not fetched by questions about where a file lies", () => {
    const { server, kernel, inode } = mounted("v7", 20);
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(inline));
    expect(kernel.fiemap(inode, 0, BLOCK)).toHaveLength(1);
    expect(server.take()).toEqual(["IOMAP_BEGIN"]);
  });
});

describe("swapping", () => {
  test("needs blocks that stay as they are, and ends with a message either way", () => {
    const { server, kernel, inode } = mounted();
    expect(kernel.swapOn(inode)).toHaveLength(1);
    kernel.swapOff(inode);
    expect(server.take()).toEqual(["IOMAP_BEGIN", "IOMAP_IOEND"]);
    for (const mapping of [hole, map({ flags: MapFlag.DIRTY }), map({ flags: MapFlag.SHARED })]) {
      server.on(Opcode.IOMAP_BEGIN, () => beginOut(mapping));
      expect(errnoOf(() => kernel.swapOn(inode))).toBe(Errno.EINVAL);
      expect(server.take()).toEqual(["IOMAP_BEGIN", "IOMAP_IOEND"]);
    }
  });
});
