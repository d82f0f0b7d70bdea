/** CONFIG, and how inodes are made and kept: flags, sizes, attributes, names, ACLs. */
import { describe, expect, test } from "vitest";
import { ConfigFlag, Errno, InitFlag, Opcode } from "../../support/iomap-kernel/abi.ts";
import { ACCESS_ACL, DEFAULT_ACL } from "../../support/iomap-kernel/acl.ts";
import type { Generation } from "../../support/iomap-kernel/mapping.ts";
import { Body } from "../../support/iomap-kernel/wire.ts";
import {
  attrOut,
  BLOCK,
  type ConfigFields,
  configOut,
  entry,
  errnoOf,
  FLAG_ATOMIC,
  FLAGS_IOMAP,
  ScriptedServer,
} from "./scripted-server.ts";

describe("CONFIG", () => {
  const mount = (generation: Generation, fields: Partial<ConfigFields>): [number, string[]] => {
    const server = new ScriptedServer(generation);
    server.on(Opcode.IOMAP_CONFIG, () => configOut(fields));
    return [errnoOf(() => server.mount()), server.broken];
  };

  // biome-ignore format: a table
  test.each([
    ["config-flags", { flags: 0x80 }],
    ["config-pad",   { pad: 1 }],
    ["config-uuid",  { uuidLength: 17 }],
  ] as const)("is refused for %s", (rule, fields) => {
    for (const generation of ["v7", "post"] as const)
      expect(mount(generation, fields)).toEqual([Errno.EINVAL, [rule]]);
  });

  // biome-ignore format: a table
  test.each([
    ["config-blocksize", { blockSize: 3000 }],
    ["config-blocksize", { blockSize: 1 << 17 }],
    ["config-time",      { granularity: 0 }],
    ["config-maxbytes",  { maxBytes: -1n }],
  ] as const)("is refused for %s by later kernels only", (rule, fields) => {
    expect(mount("post", fields)).toEqual([Errno.EINVAL, [rule]]);
    expect(mount("v7", fields)).toEqual([0, [rule]]);
  });

  test("decides on block and file sizes", () => {
    const server = new ScriptedServer();
    server.on(Opcode.IOMAP_CONFIG, () => configOut({ blockSize: 1024, maxBytes: 10_000n }));
    const { superblock } = server.mount().kernel.state;
    expect(superblock).toMatchObject({ blockSize: 1024, maxBytes: 10_000n });
    expect(superblock.uuid).toHaveLength(16);
    expect(server.file().blockSize).toBe(1024);
  });

  test("may be shorter, or not be there", () => {
    for (const answer of [new Body().u64(0), new Body(), -Errno.ENOSYS]) {
      const server = new ScriptedServer();
      server.on(Opcode.IOMAP_CONFIG, () => answer);
      expect(server.mount().kernel.state.superblock.blockSize).toBe(4096);
      expect(server.broken).toEqual([]);
    }
  });

  test("that fails is the end of the connection", () => {
    const server = new ScriptedServer();
    server.on(Opcode.IOMAP_CONFIG, () => -Errno.ENODEV);
    expect(errnoOf(() => server.mount())).toBe(Errno.ENODEV);
    expect(server.broken).toEqual(["config-error"]);
  });

  test("offers all that there is", () => {
    const server = new ScriptedServer();
    const { CACHE_MAXBYTES } = ConfigFlag;
    server.on(Opcode.IOMAP_CONFIG, (body) => {
      expect(body.bytes).toHaveLength(64);
      expect([body.number(0), body.u32(16)]).toEqual([2 * CACHE_MAXBYTES - 1, 262_144]);
      expect(body.s64(8)).toBe(0x7fff_ffff_ffff_ffffn);
      return configOut();
    });
    server.mount();
  });
});

describe("the block size of a device", () => {
  test("is set for registered devices, and is a power of two", () => {
    const server = new ScriptedServer().mount();
    const host = server.kernel.host();
    expect(host.setBlockSize(1, 4096)).toBe(0);
    expect(host.setBlockSize(1, 1000)).toBe(-Errno.EINVAL);
    expect(host.setBlockSize(7, 4096)).toBe(-Errno.ENOENT);
    expect(server.broken).toEqual(["device-blocksize", "device-unknown"]);
  });
});

describe("an inode", () => {
  test("uses iomap if it is exclusive as well, and a regular file", () => {
    // biome-ignore format: a table
    const cases = [
      [{ flags: FLAGS_IOMAP },                   true,  []],
      [{ flags: FLAGS_IOMAP | FLAG_ATOMIC },     true,  []],
      [{ flags: 8 },                             false, ["iomap-not-exclusive"]],
      [{ flags: 4 },                             false, []],
      [{ flags: FLAGS_IOMAP, mode: 0o040755 },   false, []],
    ] as const;
    for (const [fields, isIomap, broken] of cases) {
      const server = new ScriptedServer().mount();
      server.on(Opcode.LOOKUP, () => entry(fields));
      expect(server.kernel.walk("/f").isIomap).toBe(isIomap);
      expect(server.broken).toEqual(broken);
    }
  });

  test("keeps the flags that it was made with, and notes when they change", () => {
    const server = new ScriptedServer().mount();
    const inode = server.file();
    server.on(Opcode.GETATTR, () => attrOut({ flags: 0 }));
    server.kernel.getattr(inode);
    expect(inode.isIomap).toBe(true);
    expect(server.broken).toEqual(["flags-change"]);
  });

  test("keeps its number and its type", () => {
    const server = new ScriptedServer().mount();
    const inode = server.file();
    server.on(Opcode.GETATTR, () => attrOut({ ino: 5 }));
    server.kernel.getattr(inode);
    server.on(Opcode.GETATTR, () => attrOut({ mode: 0o120777 }));
    expect(errnoOf(() => server.kernel.getattr(inode))).toBe(Errno.EIO);
    expect(server.broken).toEqual(["ino-change", "attr-mode"]);
  });

  test("is never a second root", () => {
    const server = new ScriptedServer().mount();
    server.on(Opcode.LOOKUP, () => entry({}, 1));
    expect(errnoOf(() => server.kernel.walk("/f"))).toBe(Errno.EIO);
    expect(server.broken).toEqual(["node-id"]);
  });

  test("of the root uses no flags", () => {
    const server = new ScriptedServer();
    server.on(Opcode.GETATTR, () => attrOut({ mode: 0o040755, flags: FLAGS_IOMAP, ino: 2 }));
    expect(server.mount().kernel.root.isExclusive).toBe(false);
    expect(server.broken).toEqual([]);
  });

  test("keeps the kernel's size and times when the server says something else", () => {
    const server = new ScriptedServer().mount();
    const inode = server.file();
    server.kernel.open(inode).write(0, new Uint8Array(10));
    const { mtime } = inode;
    server.on(Opcode.GETATTR, () => attrOut({ size: 5 }));
    server.kernel.getattr(inode);
    expect([inode.size, inode.mtime]).toEqual([16 * BLOCK, mtime]);
  });

  test("is opened without PASSTHROUGH, STREAM and NONSEEKABLE", () => {
    for (const [flags, errno] of [
      [2, 0],
      [128, Errno.EINVAL],
      [16, Errno.EINVAL],
      [4, Errno.EINVAL],
    ]) {
      const server = new ScriptedServer().mount();
      server.on(Opcode.OPEN, () =>
        new Body()
          .u64(0)
          .u32(flags as number)
          .u32(0),
      );
      const inode = server.kernel.walk("/f");
      expect(errnoOf(() => server.kernel.open(inode))).toBe(errno);
      expect(server.broken).toEqual(errno === 0 ? [] : ["open-flags"]);
    }
  });

  test("that nobody uses is forgotten with all its lookups", () => {
    const server = new ScriptedServer().mount();
    const { kernel } = server;
    for (let round = 0; round < 3; round++) {
      kernel.walk("/f");
      kernel.state.root.entries.clear();
    }
    const inode = kernel.walk("/f");
    inode.dentries = 1;
    kernel.dropCaches();
    kernel.state.drainQueue();
    expect(server.last(Opcode.FORGET).number(0)).toBe(4);
    expect(kernel.state.inodes.has(10)).toBe(false);
  });
});

describe("times", () => {
  test("are told when an inode is written back, all three and without a handle", () => {
    const server = new ScriptedServer().mount();
    const inode = server.file();
    server.kernel.open(inode).write(0, new Uint8Array(10));
    server.kernel.syncInode(inode);
    const body = server.last(Opcode.SETATTR);
    expect([body.u32(0), body.u64(8)]).toEqual([0x430, 0n]);
    server.take();
    server.kernel.syncInode(inode);
    expect(server.take()).toEqual([]);
  });

  test("go with a truncation, after all pages are back", () => {
    const server = new ScriptedServer().mount();
    const inode = server.file();
    server.kernel.open(inode).write(0, new Uint8Array(10));
    server.on(Opcode.SETATTR, () => attrOut({ size: 3 * BLOCK }));
    server.kernel.truncate(inode, 3 * BLOCK, true);
    expect(server.last(Opcode.SETATTR).u32(0)).toBe(0x668);
    expect([inode.size, inode.diskSize]).toEqual([3 * BLOCK, 3 * BLOCK]);
    expect(inode.hasDirtyPages).toBe(false);
  });
});

describe("ACLs", () => {
  /** user::rwx, user:5:rwx, group::r-x, mask::rwx, other::r-x */
  const acl = new Body().u32(2);
  for (const [tag, permissions, id] of [
    [1, 7, -1],
    [2, 7, 5],
    [4, 5, -1],
    [0x10, 7, -1],
    [0x20, 5, -1],
  ])
    acl
      .u16(tag as number)
      .u16(permissions as number)
      .u32(id as number);

  function directory(flags: number): ScriptedServer {
    const server = new ScriptedServer();
    const init = InitFlag.INIT_EXT | InitFlag.POSIX_ACL | InitFlag.DONT_MASK;
    server.on(Opcode.INIT, () =>
      new Body()
        .u32(7)
        .u32(99)
        .u32(0)
        .u32(init)
        .zeros(16)
        .u32(1 << 11)
        .zeros(28),
    );
    server.mount();
    server.on(Opcode.LOOKUP, (body) =>
      body.u8(0) === 0x64 ? entry({ mode: 0o040755, flags }, 20) : -Errno.ENOENT,
    );
    server.on(Opcode.GETXATTR, () => acl);
    server.on(Opcode.SETXATTR, () => new Body());
    server.on(Opcode.MKDIR, () => entry({ mode: 0o040750, flags, ino: 21 }, 21));
    server.kernel.mkdir(server.kernel.walk("/d"), "new", { mode: 0o750, umask: 0o777 });
    return server;
  }

  test("are inherited by the kernel in an exclusive directory", () => {
    const server = directory(4);
    // other::r-x & 0; mask & 5; the umask has no say.
    expect(server.last(Opcode.MKDIR).u32(0)).toBe(0o040750);
    const names = server.seen
      .filter(({ name }) => name === "SETXATTR")
      .map(({ body }) => Buffer.from(body.bytes.subarray(8, 8 + DEFAULT_ACL.length)).toString());
    expect(names).toEqual([DEFAULT_ACL, `${ACCESS_ACL}\0`].map((name) => name.slice(0, 24)));
  });

  test("are the server's business elsewhere", () => {
    const server = directory(0);
    expect(server.last(Opcode.MKDIR).u32(0)).toBe(0o040750);
    expect(server.take()).not.toContain("SETXATTR");
  });
});
