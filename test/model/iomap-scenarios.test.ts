/**
 * Calls that random runs do not make, on a kernel that moves file contents by itself with our session as
 * its server: what stands at the edges of the protocol, one scenario each.
 */
import { describe, expect, test } from "vitest";
import { Errno, MapType, Opcode } from "../support/iomap-kernel/abi.ts";
import { ACCESS_ACL, DEFAULT_ACL } from "../support/iomap-kernel/acl.ts";
import { SystemError } from "../support/iomap-kernel/rules.ts";
import { ServedKernel, type ServedOptions } from "../support/iomap-kernel/served.ts";
import { Body, Fields } from "../support/iomap-kernel/wire.ts";
import { RecordingDevice } from "../support/recording-device.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { askDebugfs, complaintsAbout, freshImage } from "../support/writable-image.ts";

const BLOCK = 4096;
const FILE = { mode: 0o100644 };
const { MAPPED, UNWRITTEN } = MapType;

class Scene {
  readonly bytes: Uint8Array;
  readonly #options: Partial<ServedOptions>;
  served: ServedKernel;

  constructor(mke2fs: readonly string[] = [], options: Partial<ServedOptions> = {}) {
    this.bytes = freshImage("16M", ["-t", "ext4", "-b", String(BLOCK), "-N", "256", ...mke2fs]);
    this.#options = { backgroundEvery: 0, ...options };
    this.served = this.#mount();
  }

  get kernel() {
    return this.served.kernel;
  }

  #mount(): ServedKernel {
    return new ServedKernel(new RecordingDevice(this.bytes), { seed: 1, ...this.#options });
  }

  remount(): void {
    this.served.unmount();
    this.served = this.#mount();
  }

  /** Everything is closed: no rule was broken, nothing logged, and e2fsck is content. */
  end(): void {
    this.served.unmount();
    const { kernel, log } = this.served;
    expect(kernel.violations).toEqual([]);
    expect(log).toEqual([]);
    expect(complaintsAbout(this.bytes)).toBe("");
  }
}

const filled = (byte: number, length: number): Uint8Array => new Uint8Array(length).fill(byte);

function errnoOf(action: () => unknown): number {
  try {
    action();
    return 0;
  } catch (error) {
    if (error instanceof SystemError) return error.errno;
    throw error;
  }
}

describe.skipIf(skipBecause("iomap", whyNoE2fsprogs()))("under iomap", () => {
  test("a mount tells its size, and what its files are like", () => {
    const scene = new Scene();
    const { kernel } = scene;
    const statfs = kernel.statfs();
    expect([statfs.number(0) > 0, statfs.u32(40)]).toEqual([true, BLOCK]);
    const file = kernel.create(kernel.root, "a", FILE);
    const statx = new Fields(kernel.statx(file)).from(32);
    expect(statx.u16(28)).toBe(0o100644);
    expect(statx.number(32)).toBe(file.node);
    expect(kernel.state.superblock).toMatchObject({ blockSize: BLOCK, timeGranularityNs: 1 });
    expect(kernel.state.superblock.uuid).toHaveLength(16);
    scene.end();
  });

  test("a filesystem is frozen with its data on the device, and thawed", () => {
    const scene = new Scene();
    const { kernel } = scene;
    const file = kernel.open(kernel.create(kernel.root, "a", FILE));
    file.write(0, filled(7, 3 * BLOCK));
    kernel.freeze();
    const image = scene.bytes.slice();
    expect(complaintsAbout(image)).toBe("");
    kernel.thaw();
    file.write(0, filled(8, BLOCK));
    file.close();
    scene.end();
  });

  test("a file without a name that is closed while all is frozen is gone after that", () => {
    const scene = new Scene();
    const { kernel } = scene;
    const free = (): number => kernel.statfs().number(8);
    const file = kernel.open(kernel.create(kernel.root, "a", FILE));
    kernel.sync();
    const before = free();
    file.write(0, filled(7, 100 * BLOCK));
    kernel.sync();
    expect(free()).toBeLessThan(before);
    kernel.unlink(kernel.root, "a");
    kernel.freeze();
    file.close();
    kernel.dropCaches();
    kernel.state.drainQueue();
    kernel.thaw();
    kernel.sync();
    expect(free()).toBe(before);
    scene.end();
  });

  test("after a shutdown nothing is changed any more", () => {
    const scene = new Scene();
    const { kernel } = scene;
    const file = kernel.open(kernel.create(kernel.root, "a", FILE));
    file.write(0, filled(7, BLOCK));
    kernel.shutdown();
    expect(errnoOf(() => kernel.create(kernel.root, "b", FILE))).not.toBe(0);
  });

  test("blocks are written untorn where the device can", () => {
    const scene = new Scene([], { atomicWriteBytes: { min: BLOCK, max: BLOCK } });
    const { kernel } = scene;
    const file = kernel.open(kernel.create(kernel.root, "a", FILE));
    const untorn = { isAtomic: true };
    file.write(0, filled(7, 4 * BLOCK));
    kernel.fsync(file.inode);
    expect(file.write(BLOCK, filled(9, BLOCK), untorn)).toBe(BLOCK);
    expect(file.write(8 * BLOCK, filled(9, BLOCK), untorn)).toBe(BLOCK);
    expect(errnoOf(() => file.write(0, filled(9, 2 * BLOCK), untorn))).toBe(Errno.EINVAL);
    expect(file.read(BLOCK, BLOCK, {})).toEqual(filled(9, BLOCK));
    file.close();
    scene.end();
  });

  test("a synced file without holes can be swapped to, and stays where it is meanwhile", () => {
    const scene = new Scene();
    const { kernel } = scene;
    const file = kernel.open(kernel.create(kernel.root, "swap", FILE));
    file.write(0, filled(7, 16 * BLOCK));
    kernel.fsync(file.inode);
    const extents = kernel.swapOn(file.inode);
    expect(extents.reduce((sum, { length }) => sum + length, 0)).toBeGreaterThanOrEqual(16 * BLOCK);
    expect(kernel.fiemap(file.inode, 0, 16 * BLOCK)[0]?.addr).toBe(extents[0]?.addr);
    kernel.swapOff(file.inode);
    kernel.truncate(file.inode, 64 * BLOCK);
    expect(errnoOf(() => kernel.swapOn(file.inode))).toBe(Errno.EINVAL);
    file.close();
    scene.end();
  });

  test("SEEK_DATA and SEEK_HOLE see what is only in the page cache", () => {
    const scene = new Scene();
    const { kernel } = scene;
    const file = kernel.open(kernel.create(kernel.root, "a", FILE));
    kernel.truncate(file.inode, 64 * BLOCK);
    file.write(32 * BLOCK, filled(7, BLOCK));
    for (const sync of [false, true]) {
      if (sync) kernel.fsync(file.inode);
      expect(kernel.seek(file.inode, "data", 0)).toBe(32 * BLOCK);
      expect(kernel.seek(file.inode, "hole", 32 * BLOCK)).toBe(33 * BLOCK);
      expect(errnoOf(() => kernel.seek(file.inode, "data", 33 * BLOCK))).toBe(Errno.ENXIO);
    }
    file.close();
    scene.end();
  });

  test("FIEMAP tells what debugfs sees", () => {
    const scene = new Scene();
    const { kernel } = scene;
    const file = kernel.open(kernel.create(kernel.root, "a", FILE));
    file.write(0, filled(7, 2 * BLOCK));
    kernel.fallocate(file.inode, 0, 8 * BLOCK, 4 * BLOCK);
    file.write(9 * BLOCK, filled(7, BLOCK));
    // Not only in the journal, where debugfs does not look.
    kernel.freeze();
    const seen = askDebugfs(scene.bytes, "dump_extents -l /a").split("\n");
    kernel.thaw();
    const wanted = seen.flatMap((line) => {
      const found = /^ *\d+\/ *\d+ +\d+\/ *\d+ +(\d+) - +\d+ +(\d+) - +\d+ +(\d+) *(Uninit)?$/.exec(
        line,
      );
      if (found === null) return [];
      const [block = 0, start = 0, length = 0] = found.slice(1, 4).map(Number);
      return [
        { offset: block, addr: start, length, type: found[4] === undefined ? MAPPED : UNWRITTEN },
      ];
    });
    expect(wanted.map(({ type }) => type)).toEqual([MAPPED, UNWRITTEN, MAPPED, UNWRITTEN]);
    const told = kernel.fiemap(file.inode, 0, 12 * BLOCK).map(({ offset, addr, length, type }) => ({
      ...{ offset: Number(offset) / BLOCK, addr: Number(addr) / BLOCK },
      ...{ length: Number(length) / BLOCK, type },
    }));
    expect(told).toEqual(wanted);
    file.close();
    scene.end();
  });

  test("a device that fails loses what was written, not what was there", () => {
    const scene = new Scene();
    const { kernel } = scene;
    const file = kernel.open(kernel.create(kernel.root, "a", FILE));
    file.write(0, filled(7, BLOCK));
    kernel.fsync(file.inode);
    file.write(BLOCK, filled(8, BLOCK));
    kernel.onDeviceIo((what) => {
      if (what === "write") throw new Error("no");
    });
    expect(errnoOf(() => kernel.fsync(file.inode))).toBe(Errno.EIO);
    kernel.onDeviceIo(undefined);
    file.close();
    scene.remount();
    const again = scene.kernel.open(scene.kernel.walk("/a"));
    expect(again.read(0, BLOCK)).toEqual(filled(7, BLOCK));
    expect(again.read(BLOCK, BLOCK).every((byte) => byte === 0)).toBe(true);
    again.close();
    scene.end();
  });

  test("a filesystem may begin behind the start of the disk", () => {
    const scene = new Scene([], { deviceOffsetBytes: 1 << 20 });
    const { kernel } = scene;
    const file = kernel.open(kernel.create(kernel.root, "a", FILE));
    file.write(0, filled(7, 5 * BLOCK));
    kernel.fsync(file.inode);
    expect(kernel.fiemap(file.inode, 0, BLOCK)[0]?.addr).toBeGreaterThan(1 << 20);
    expect(file.read(0, 5 * BLOCK, {})).toEqual(filled(7, 5 * BLOCK));
    file.close();
    scene.end();
  });

  test("ACLs are the kernel's below the root, and the server's in it", () => {
    const scene = new Scene();
    const acl = new Body().u32(2);
    // user::rwx, user:5:rwx, group::r-x, mask::rwx, other::---
    // biome-ignore format: a table
    const entries = [[1, 7, -1], [2, 7, 5], [4, 5, -1], [0x10, 7, -1], [0x20, 0, -1]] as const;
    for (const [tag, permissions, id] of entries) acl.u16(tag).u16(permissions).u32(id);
    const seen = (): unknown[] => {
      const { kernel } = scene;
      return ["/d", "/d/sub", "/d/file", "/top"].map((path) => {
        const inode = kernel.stat(kernel.walk(path));
        const has = (name: string): boolean => kernel.getXattr(inode, name) !== undefined;
        return [path, (inode.mode & 0o777).toString(8), has(ACCESS_ACL), has(DEFAULT_ACL)];
      });
    };
    const { kernel } = scene;
    kernel.setXattr(kernel.root, DEFAULT_ACL, acl.bytes);
    const directory = kernel.mkdir(kernel.root, "d", { mode: 0o777, umask: 0o022 });
    kernel.mkdir(directory, "sub", { mode: 0o777, umask: 0o022 });
    kernel.create(directory, "file", { mode: 0o100640, umask: 0o777 });
    kernel.create(kernel.root, "top", { mode: 0o100666, umask: 0o022 });
    const wanted = [
      ["/d", "770", true, true],
      ["/d/sub", "770", true, true],
      ["/d/file", "640", true, false],
      ["/top", "660", true, false],
    ];
    expect(seen()).toEqual(wanted);
    scene.remount();
    expect(seen()).toEqual(wanted);
    scene.end();
  });

  test("an ACL that says no more than a mode becomes one", () => {
    const scene = new Scene();
    const { kernel } = scene;
    const file = kernel.create(kernel.mkdir(kernel.root, "d", { mode: 0o755 }), "a", FILE);
    const acl = new Body().u32(2);
    for (const [tag, permissions] of [
      [1, 6],
      [4, 4],
      [0x20, 0],
    ] as const)
      acl.u16(tag).u16(permissions).u32(-1);
    kernel.setXattr(file, ACCESS_ACL, acl.bytes);
    expect(kernel.stat(file).mode & 0o777).toBe(0o640);
    expect(kernel.listXattrs(file)).toEqual([]);
    scene.end();
  });

  test("a write by somebody else than root takes set-id bits away", () => {
    const scene = new Scene();
    const { kernel } = scene;
    const inode = kernel.create(kernel.root, "a", { mode: 0o106755 });
    kernel.chown(inode, 1000, 1000);
    kernel.chmod(inode, 0o6755);
    const file = kernel.open(inode);
    file.write(0, filled(7, 10));
    expect(kernel.stat(inode).mode & 0o7777).toBe(0o6755);
    kernel.actAs(1000, 1000);
    file.write(0, filled(7, 10));
    kernel.actAs(0, 0);
    file.close();
    scene.remount();
    expect(scene.kernel.walk("/a").mode & 0o7777).toBe(0o755);
    scene.end();
  });

  test("an append that no message but END tells of is not lost with the inode", () => {
    const scene = new Scene();
    const { kernel } = scene;
    const file = kernel.open(kernel.create(kernel.root, "a", FILE));
    file.write(0, filled(7, 100));
    kernel.fsync(file.inode);
    file.write(100, filled(8, 100));
    // The kernel takes its own size for the one on disk from now on: no IOEND follows.
    kernel.getattr(file.inode);
    file.close();
    // Its FORGET is still on the way when the next LOOKUP comes.
    kernel.dropCaches();
    expect(kernel.walk("/a").size).toBe(200);
    scene.remount();
    expect(scene.kernel.walk("/a").size).toBe(200);
    scene.end();
  });

  describe("a synchronous direct write", () => {
    /** A file that is durable, and whose mappings the kernel has. */
    function prepared(blocks: number) {
      const scene = new Scene();
      const { kernel } = scene;
      const file = kernel.open(kernel.create(kernel.root, "a", FILE));
      file.write(0, filled(7, blocks * BLOCK));
      kernel.fsync(file.inode);
      file.read(0, 4 * BLOCK, {});
      return { scene, kernel, file };
    }

    /**
     * Writes to a file of `blocks` blocks, and cuts the power.
     *
     * @param truncated what it is cut to before.
     * @returns the FSYNCs that it took, and the file after that.
     */
    function written(blocks: number, pos: number, length: number, truncated?: number) {
      const { scene, kernel, file } = prepared(blocks);
      if (truncated !== undefined) {
        kernel.truncate(file.inode, truncated);
        kernel.fsync(file.inode);
      }
      const fsyncs = (): number => kernel.counts.get("FSYNC") ?? 0;
      const first = fsyncs();
      file.write(pos, filled(8, length), { isDataSync: true });
      const count = fsyncs() - first;
      const after = scene.bytes.slice();
      file.close();
      scene.end();
      const { kernel: later } = new ServedKernel(new RecordingDevice(after), { seed: 1 });
      const { size } = later.walk("/a");
      return { fsyncs: count, size, bytes: later.open(later.walk("/a")).read(pos, length) };
    }

    test.each([
      ["takes no message where nothing but bytes changes", 3, 0, BLOCK, 0, 3],
      ["takes one in an extent that reaches behind the end", 2.5, 0, BLOCK, 1, 2.5],
      ["is there with the new end of the file", 2.5, 2.5 * BLOCK, BLOCK / 2, 1, 3],
      ["is there with its new blocks", 3, 3 * BLOCK, BLOCK, 1, 4],
    ])("%s", (_, blocks, pos, length, fsyncs, blocksAfter) => {
      const size = blocksAfter * BLOCK;
      expect(written(blocks, pos, length)).toEqual({ fsyncs, size, bytes: filled(8, length) });
    });

    test("is there with the new end of a file that had become shorter", () => {
      const result = written(3, 1.5 * BLOCK, BLOCK / 2, 1.5 * BLOCK);
      expect(result).toEqual({ fsyncs: 1, size: 2 * BLOCK, bytes: filled(8, BLOCK / 2) });
    });
  });

  test("a kernel that lies gets an error, and is served on", () => {
    const scene = new Scene();
    const { kernel } = scene;
    const file = kernel.open(kernel.create(kernel.root, "a", FILE));
    const { node } = file.inode;
    const huge = 0xffff_ffff_ffff_fff0n;
    const begin = (flags: number, ino: number, pos: bigint, count: bigint): Uint8Array =>
      new Body().u32(flags).u32(0).u64(ino).u64(pos).u64(count).bytes;
    const ioend = (pos: bigint, written: bigint): Uint8Array =>
      new Body().u32(2).u32(0).u64(node).u64(pos).u64(0).u64(written).u32(0).u32(0).bytes;
    // biome-ignore format: a table
    const lies: readonly (readonly [number, number, Uint8Array])[] = [
      [Opcode.IOMAP_BEGIN, node, begin(1, node, huge, 1n)],
      [Opcode.IOMAP_BEGIN, node, begin(1, node, 0n, 0n)],
      [Opcode.IOMAP_BEGIN, node, begin(1, node + 1, 0n, 1n)],
      [Opcode.IOMAP_BEGIN, node, begin(0x0800_0000, node, 0n, 1n)],
      [Opcode.IOMAP_BEGIN, node, new Uint8Array(5)],
      [Opcode.IOMAP_BEGIN, 1, begin(0, 2, 0n, 1n)],
      [Opcode.IOMAP_BEGIN, 4_000_000, begin(0, 4_000_000, 0n, 1n)],
      [Opcode.IOMAP_IOEND, node, ioend(0n, 1n << 40n)],
      [Opcode.IOMAP_IOEND, node, ioend(huge, 1n)],
      [Opcode.IOMAP_IOEND, node, ioend(0n, huge)],
      [Opcode.IOMAP_CONFIG, 0, new Uint8Array(64)],
    ];
    for (const [opcode, target, body] of lies)
      expect(kernel.send(opcode, target, body).error, `${opcode} ${body}`).toBeLessThan(0);
    file.write(0, filled(7, BLOCK));
    file.close();
    scene.served.unmount();
    expect(complaintsAbout(scene.bytes)).toBe("");
  });
});
