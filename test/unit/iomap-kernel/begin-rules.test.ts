/** Every check on a BEGIN reply, each with a reply that breaks it and no other, and one beside it. */
import { describe, expect, test } from "vitest";
import { Errno, MapFlag, MapType, NULL_ADDR, Opcode } from "../../support/iomap-kernel/abi.ts";
import type { Generation, RawMapping } from "../../support/iomap-kernel/mapping.ts";
import {
  BLOCK,
  beginOut,
  CONTENTS,
  entry,
  errnoOf,
  FLAG_ATOMIC,
  FLAGS_IOMAP,
  map,
  overwrite,
  ScriptedServer,
} from "./scripted-server.ts";

interface Case {
  readonly rule: string;
  readonly read?: Partial<RawMapping>;
  readonly write?: Partial<RawMapping>;
  readonly errno?: number;
}

/** What reading a block at `pos` comes to when the server answers so. */
function read(generation: Generation, { read, write }: Case, isCached = false): [number, string[]] {
  const server = new ScriptedServer(generation).mount();
  // No more than what is asked for, so that there is one question.
  server.on(Opcode.LOOKUP, () => entry({ size: BLOCK }));
  const file = server.kernel.open(server.file());
  if (isCached)
    server.upsert(map({ length: 4096n, offset: 4096n }), map({ type: MapType.NOCACHE }));
  server.on(Opcode.IOMAP_BEGIN, () => beginOut(map(read), overwrite(write)));
  return [errnoOf(() => file.read(0, BLOCK)), server.broken];
}

const ALL = 0xffff_ffff_ffff_ffffn;
const HOLE = { type: MapType.HOLE, addr: NULL_ADDR, dev: 0 };

// biome-ignore format: a table
const BROKEN: readonly Case[] = [
  { rule: "mapping-type",      read: { type: 5 } },
  { rule: "mapping-type",      write: { type: 252 } },
  { rule: "mapping-type",      write: { type: 256 } },
  { rule: "retry-uncached",    read: { type: MapType.RETRY_CACHE } },
  { rule: "mapping-flags",     read: { flags: MapFlag.SIZE_CHANGED } },
  { rule: "mapping-flags",     write: { flags: MapFlag.STALE } },
  { rule: "mapping-empty",     read: { length: 0n } },
  { rule: "mapping-empty",     write: { length: 0n } },
  { rule: "mapping-alignment", read: { length: 512n } },
  { rule: "mapping-alignment", write: { length: 4097n } },
  { rule: "mapping-overflow",  write: { offset: ALL - 4095n, length: 4096n } },
  { rule: "mapping-maxbytes",  write: { offset: BigInt(2 ** 44), length: 4096n } },
  { rule: "mapping-nowhere",   read: { addr: NULL_ADDR } },
  { rule: "mapping-nowhere",   read: { dev: 0 } },
  { rule: "mapping-nowhere",   read: { type: MapType.UNWRITTEN, addr: NULL_ADDR } },
  { rule: "mapping-somewhere", read: { ...HOLE, addr: 0n } },
  { rule: "mapping-somewhere", read: { ...HOLE, dev: 1 } },
  { rule: "mapping-somewhere", read: { ...HOLE, type: MapType.DELALLOC, dev: 1 } },
  { rule: "mapping-somewhere", read: { ...HOLE, type: MapType.INLINE, addr: 0n } },
  { rule: "overwrite-slot",    read: { ...HOLE, type: MapType.PURE_OVERWRITE } },
  { rule: "address-overflow",  read: { addr: ALL - 4096n } },
  { rule: "begin-nocache",     read: { ...HOLE, type: MapType.NOCACHE } },
  { rule: "begin-nocache",     write: { type: MapType.NOCACHE } },
  { rule: "begin-first-byte",  read: { offset: 4096n } },
  { rule: "begin-first-byte",  write: { offset: 4096n } },
  { rule: "begin-device",      read: { dev: 2 } },
  { rule: "begin-device",      write: { type: MapType.MAPPED, addr: 0n, dev: 2 } },
  { rule: "io-beyond-device",  read: { addr: BigInt(1 << 20) }, errno: Errno.EIO },
];

// biome-ignore format: a table
const LEGAL: readonly (readonly [string, Case])[] = [
  ["the usual form",                       { rule: "" }],
  ["all flags of a server's",              { rule: "", read: { flags: 0xff } }],
  ["a mapping that begins and ends with the block", { rule: "", read: { length: 4096n }, write: { length: 4096n } }],
  ["a hole",                               { rule: "", read: HOLE }],
  ["a promise",                            { rule: "", read: { ...HOLE, type: MapType.DELALLOC } }],
  ["an unwritten block",                   { rule: "", read: { type: MapType.UNWRITTEN } }],
  ["a hole up to the end of everything",   { rule: "", read: { ...HOLE, length: ALL - 4095n } }],
  ["a place for writes of its own",        { rule: "", write: { type: MapType.MAPPED, addr: 4096n, dev: 1 } }],
  ["an end behind that of the device",     { rule: "", read: { length: BigInt(2 << 20) } }],
];

describe.each(["v7", "post"] as const)("a %s kernel", (generation) => {
  test.each(BROKEN)("refuses $rule: $read $write", (broken) => {
    const [errno, rules] = read(generation, broken);
    expect(rules).toEqual([broken.rule]);
    expect(errno).toBe(broken.errno ?? Errno.EUCLEAN);
  });

  test.each(LEGAL)("takes %s", (_, legal) => {
    expect(read(generation, legal)).toEqual([0, []]);
  });
});

// biome-ignore format: a table
const LATER: readonly (Case & { readonly cached?: boolean })[] = [
  { rule: "overwrite-fields", write: { flags: MapFlag.MERGED } },
  { rule: "overwrite-fields", write: { dev: 1 } },
  { rule: "overwrite-fields", write: { addr: 0n } },
  { rule: "pseudo-fields",    read: { ...HOLE, type: MapType.RETRY_CACHE, flags: 1 }, cached: true },
  { rule: "mapping-alignment", read: { ...HOLE, type: MapType.RETRY_CACHE, length: 1n }, cached: true },
];

describe("pseudo mappings", () => {
  test.each(LATER)("have to be bare for later kernels: $rule $read $write", (broken) => {
    expect(read("post", broken, broken.cached)).toEqual([Errno.EUCLEAN, [broken.rule]]);
  });

  test("may be anything for v7", () => {
    expect(read("v7", { rule: "", write: { flags: 1, dev: 1, addr: 0n } })).toEqual([0, []]);
  });
});

describe("a request to look into the cache again", () => {
  const retry = { ...HOLE, type: MapType.RETRY_CACHE };

  test("is believed until it was made in vain too often", () => {
    const [errno, rules] = read("v7", { rule: "", read: retry }, true);
    expect([errno, rules]).toEqual([Errno.EINTR, ["retry-for-ever"]]);
  });

  test("leads to the mapping that was put there", () => {
    const server = new ScriptedServer().mount();
    const file = server.kernel.open(server.file());
    server.on(Opcode.IOMAP_BEGIN, () => {
      expect(server.upsert(map(), map({ type: MapType.NOCACHE }))).toBe(0);
      return beginOut(map(retry), overwrite());
    });
    expect(file.read(0, BLOCK)).toEqual(CONTENTS.slice(0, BLOCK));
    expect(server.broken).toEqual([]);
  });

  test("is not looked for in the write slot by v7", () => {
    expect(read("v7", { rule: "", write: retry }, true)).toEqual([0, ["retry-write-slot"]]);
  });
});

describe("an untorn write", () => {
  function write(generation: Generation, fields: Partial<RawMapping>): [number, string[]] {
    const server = new ScriptedServer(generation).mount();
    server.on(Opcode.LOOKUP, () => entry({ flags: FLAGS_IOMAP | FLAG_ATOMIC }));
    const file = server.kernel.open(server.file());
    server.on(Opcode.IOMAP_BEGIN, () => beginOut(map(fields)));
    const options = { isAtomic: true };
    return [errnoOf(() => file.write(0, new Uint8Array(BLOCK), options)), server.broken];
  }

  test("needs a mapping that says so, for later kernels", () => {
    expect(write("post", { flags: MapFlag.ATOMIC_BIO })).toEqual([0, []]);
    expect(write("post", {})).toEqual([Errno.EIO, ["atomic-mapping"]]);
  });

  test("is let through by v7, and noted", () => {
    expect(write("v7", {})).toEqual([0, ["atomic-mapping"]]);
  });

  test("is not put off to the cache, which it does not use; v7 asks again", () => {
    const retry = map({ type: MapType.RETRY_CACHE, addr: NULL_ADDR, dev: 0 });
    const answers = [beginOut(retry), beginOut(map({ flags: MapFlag.ATOMIC_BIO }))];
    for (const [generation, errno, asked, rules] of [
      ["v7", 0, 2, ["retry-refused", "atomic-mapping"]] as const,
      ["post", Errno.EUCLEAN, 1, ["retry-refused"]] as const,
    ]) {
      const server = new ScriptedServer(generation).mount();
      server.on(Opcode.LOOKUP, () => entry({ flags: FLAGS_IOMAP | FLAG_ATOMIC }));
      const inode = server.file();
      server.upsert(map(), overwrite());
      let begins = 0;
      server.on(Opcode.IOMAP_BEGIN, () => answers[begins++]);
      const options = { isAtomic: true };
      const write = () => server.kernel.open(inode).write(0, new Uint8Array(BLOCK), options);
      expect(errnoOf(write)).toBe(errno);
      expect(begins).toBe(asked);
      expect(server.broken).toEqual(rules);
    }
  });

  test("is one block, and for files that have them", () => {
    const server = new ScriptedServer().mount();
    const file = server.kernel.open(server.file());
    const options = { isAtomic: true };
    expect(errnoOf(() => file.write(0, new Uint8Array(BLOCK), options))).toBe(Errno.EOPNOTSUPP);
  });
});

test("a write goes to a device that was opened for writing, which v7 only notes", () => {
  for (const [generation, errno] of [["v7", 0] as const, ["post", Errno.EACCES] as const]) {
    const server = new ScriptedServer(generation, 0, true).mount();
    const file = server.kernel.open(server.file());
    expect(errnoOf(() => file.write(0, new Uint8Array(BLOCK)))).toBe(errno);
    expect(server.broken).toEqual(["device-access"]);
  }
});
