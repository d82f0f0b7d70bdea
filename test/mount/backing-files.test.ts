/** Files that the kernel reads and writes by itself once they are registered with `openBacking`. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, type TestContext, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import { BACKING_FILE, BACKING_IOMAP_DEVICE } from "../../src/native/binding.ts";
import { FILE_NAME, MirrorServer } from "../support/mirror-server.ts";
import { run, skipBecause, whyNoFuse, whyNoKernelMount } from "../support/run.ts";
import { Scope } from "../support/scope.ts";

const READ = 15;
const WRITE = 16;
const SIZE_BYTES = 1_000_000;
const UNKNOWN_FLAG = 0x100;
const ELOOP = 40;
/** Notifications; the second is one of iomap. */
const INVAL_INODE = 2;
const UPSERT_MAPPINGS = 100;

/** Reads all of the file, changes it in two places, one of them past its end, and reads it again. */
const USER = `
import os, sys
path, before, after = sys.argv[1:]
fd = os.open(path, os.O_RDWR)
assert os.pread(fd, 1 << 24, 0) == open(before, "rb").read()
assert os.pwrite(fd, b"changed", 12345) == 7
assert os.pwrite(fd, b"longer" * 1000, ${SIZE_BYTES}) == 6000
assert os.fstat(fd).st_size == ${SIZE_BYTES} + 6000
second = os.open(path, os.O_RDONLY)
open(after, "wb").write(os.pread(second, 1 << 24, 0))
`;

const skip = skipBecause("backing-files", whyNoKernelMount(), whyNoFuse());

describe.skipIf(skip)("openBacking()", () => {
  let scope: Scope;
  let backing: string;
  const contents = Buffer.from(Uint8Array.from({ length: SIZE_BYTES }, (_, i) => (i >> 8) ^ i));

  beforeEach(() => {
    scope = new Scope();
    backing = join(scope.temporaryFolder(), "backing");
    writeFileSync(backing, contents);
  });

  afterEach(() => scope.close());

  /** A server that has answered INIT. */
  async function served(context: TestContext, negotiates = true): Promise<MirrorServer> {
    const server = new MirrorServer(scope, backing, negotiates);
    await server.serveRest();
    context.skip(server.offersPassthrough !== true, "Linux has no FUSE_PASSTHROUGH");
    return server;
  }

  function use(...words: readonly string[]): ChildProcess {
    const user = spawn("python3", ["-c", USER, ...words], { stdio: ["ignore", "pipe", "pipe"] });
    scope.add(() => user.kill("SIGKILL"));
    return user;
  }

  test("lets the kernel read and write a file without a request", async (context) => {
    const server = await served(context);
    const [before, after] = ["before", "after"].map((name) => `${backing}-${name}`) as [
      string,
      string,
    ];
    writeFileSync(before, contents);
    for (let round = 0; round < 2; round++) {
      const result = await server.serve(use(join(server.path, FILE_NAME), before, after));
      expect(result).toEqual({ code: 0, printed: "" });
      expect([server.requestsOf(READ), server.requestsOf(WRITE)]).toEqual([0, 0]);
      expect(server.backingIds).toEqual([]);
      const expected = Buffer.concat([contents, Buffer.from("longer".repeat(1000))]);
      expected.write("changed", 12_345);
      expect(readFileSync(backing).equals(expected)).toBe(true);
      expect(readFileSync(after).equals(expected)).toBe(true);
      writeFileSync(backing, contents);
    }
  });

  test("gives numbers above zero, which closeBacking() takes back", async (context) => {
    const { addon, fuseFd } = await served(context);
    const fd = openSync(backing, "r");
    const ids = [0, 0].map(() => addon.openBacking(fuseFd, fd, BACKING_FILE, 0));
    closeSync(fd);
    expect(Math.min(...ids)).toBeGreaterThan(0);
    expect(new Set(ids).size).toBe(2);
    for (const id of ids) {
      expect(addon.closeBacking(fuseFd, id)).toBe(0);
      expect(addon.closeBacking(fuseFd, id)).toBe(-Errno.ENOENT);
    }
    expect(addon.closeBacking(fuseFd, 12_345)).toBe(-Errno.ENOENT);
    expect(addon.closeBacking(fuseFd, 0)).toBe(-Errno.EINVAL);
  });

  test("refuses what is no file, and what it does not know", async (context) => {
    const { addon, fuseFd } = await served(context);
    const open = (fd: number, flags = BACKING_FILE, mask = 0): number =>
      addon.openBacking(fuseFd, fd, flags, mask);
    const fd = openSync(backing, "r+");
    const folder = openSync(scope.temporaryFolder(), "r");
    try {
      expect(open(9999)).toBe(-Errno.EBADF);
      expect(open(-1)).toBe(-Errno.EBADF);
      expect(open(folder)).toBe(-Errno.EISDIR);
      expect(open(fd, UNKNOWN_FLAG)).toBe(-Errno.EINVAL);
      expect(open(fd, BACKING_FILE, 2 ** 51)).toBe(-Errno.EINVAL); // STATX
      // Without iomap on this connection there is no such type, or no right to it.
      expect([-Errno.EINVAL, -Errno.EPERM]).toContain(open(fd, BACKING_IOMAP_DEVICE));
    } finally {
      closeSync(fd);
      closeSync(folder);
    }
  });

  test("is not for connections that have not agreed on it", async (context) => {
    const server = await served(context, false);
    const fd = openSync(backing, "r+");
    scope.add(() => closeSync(fd));
    expect(server.addon.openBacking(server.fuseFd, fd, BACKING_FILE, 0)).toBe(-Errno.EPERM);
  });

  test("is not for connections that have not agreed on anything yet", async (context) => {
    const server = new MirrorServer(scope, backing);
    let early = 0;
    server.onInit = () => {
      const fd = openSync(backing, "r+");
      early = server.addon.openBacking(server.fuseFd, fd, BACKING_FILE, 0);
      closeSync(fd);
    };
    await server.serveRest();
    context.skip(server.offersPassthrough !== true, "Linux has no FUSE_PASSTHROUGH");
    expect(early).toBe(-Errno.EPERM);
  });

  test("does not stack deeper than was agreed on", async (context) => {
    const server = await served(context);
    const upper = mountOverlay();
    const fd = openSync(upper, "r+");
    scope.add(() => closeSync(fd));
    expect(server.addon.openBacking(server.fuseFd, fd, BACKING_FILE, 0)).toBe(-ELOOP);
  });

  /** A file on a filesystem that lies on another one. */
  function mountOverlay(): string {
    const folder = scope.temporaryFolder();
    for (const name of ["lower", "upper", "work", "merged"]) run("mkdir", [join(folder, name)]);
    writeFileSync(join(folder, "lower/file"), contents);
    const options = ["lower", "upper", "work"].map((name) => `${name}dir=${join(folder, name)}`);
    const merged = join(folder, "merged");
    run("mount", ["-t", "overlay", "-o", options.join(","), "overlay", merged]);
    scope.add(() => run("umount", [merged]));
    return join(merged, "file");
  }
});

describe.skipIf(skip)("on a connection without iomap", () => {
  let scope: Scope;
  let server: MirrorServer;

  beforeEach(async () => {
    scope = new Scope();
    const backing = join(scope.temporaryFolder(), "backing");
    writeFileSync(backing, "x");
    server = new MirrorServer(scope, backing);
    await server.serveRest();
  });

  afterEach(() => scope.close());

  test("the calls about it are refused", () => {
    const { addon, fuseFd } = server;
    expect([0, 3]).toContain(addon.iomapSupport(fuseFd));
    expect(addon.setBackingBlockSize(fuseFd, 1, 4096)).toBeLessThan(0);
    // Linux itself lets those with CAP_SYS_RESOURCE do it for any thread.
    expect([0, -Errno.EPERM]).toContain(addon.avoidRecursion(fuseFd));
  });

  test("notify() gives what the kernel says", () => {
    const { channel } = server;
    const node = (id: number): Uint8Array =>
      new Uint8Array(new BigInt64Array([BigInt(id), 0n, 0n]).buffer);
    expect(channel.notify(INVAL_INODE, node(1))).toBe(0);
    expect(channel.notify(INVAL_INODE, node(99))).toBe(-Errno.ENOENT);
    expect(channel.notify(INVAL_INODE, node(1).subarray(1))).toBe(-Errno.EINVAL);
    expect(channel.notify(UPSERT_MAPPINGS, new Uint8Array(80))).toBe(-Errno.EINVAL);
  });
});
