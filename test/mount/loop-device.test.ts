/** Image files that the addon makes block devices of. */
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import {
  type DeviceInfo,
  type LoopDevice,
  loadAddon,
  OPEN_DIRECT,
  OPEN_EXCLUSIVE,
  OPEN_WRITE,
} from "../../src/native/binding.ts";
import { loopDevice } from "../support/mounts.ts";
import { output, run, skipBecause, whyNoKernelMount } from "../support/run.ts";
import { Scope } from "../support/scope.ts";

const SIZE_BYTES = 1 << 20;
const SECTOR_BYTES_MAX = 1024;
const PATIENCE_MS = 5000;

const skip = skipBecause("loop-device", whyNoKernelMount());

describe.skipIf(skip)("attachLoop()", () => {
  const addon = loadAddon();
  const bytes = Buffer.from(Uint32Array.from({ length: SIZE_BYTES / 4 }, (_, i) => i * 7).buffer);
  let scope: Scope;
  let folder: string;
  let image: string;

  beforeEach(() => {
    scope = new Scope();
    folder = scope.temporaryFolder();
    image = join(folder, "image");
    writeFileSync(image, bytes);
  });

  afterEach(() => scope.close());

  /** @returns a descriptor of the image, closed at the end of the test. */
  function openImage(flags: number, path = image): number {
    const fd = addon.openDevice(path, flags);
    expect(fd).toBeGreaterThanOrEqual(0);
    scope.add(() => addon.closeDescriptor(fd));
    return fd;
  }

  function attach(
    imageFd: number,
    flags = 0,
    offset = 0,
    sectorBytesMax = SECTOR_BYTES_MAX,
  ): LoopDevice | number {
    return addon.attachLoop(imageFd, "name of the image", offset, flags, sectorBytesMax);
  }

  /** The same, with a device that is there until the test ends or detaches it. */
  function attached(
    ...how: Parameters<typeof attach>
  ): LoopDevice & { readonly detach: () => void } {
    const device = attach(...how);
    if (typeof device === "number") throw new Error(`attachLoop() gave ${device}`);
    let isOpen = true;
    const detach = (): void => {
      if (isOpen) addon.closeDescriptor(device.fd);
      isOpen = false;
    };
    scope.add(detach);
    return { ...device, detach };
  }

  function contents(fd: number, offset: number, length: number): Buffer {
    const into = Buffer.alloc(length);
    expect(addon.readDevice(fd, offset, into)).toBe(length);
    return into;
  }

  function columns(path: string, ...names: readonly string[]): string[] {
    return output("losetup", ["-n", "-O", names.join(","), "--raw", path]).split(/\s+/);
  }

  /** Whoever looks at new block devices may keep one for a moment. */
  async function isGone(path: string): Promise<boolean> {
    const attribute = `/sys/block/${path.slice("/dev/".length)}/loop/backing_file`;
    const deadline = Date.now() + PATIENCE_MS;
    while (existsSync(attribute) && Date.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 10));
    return !existsSync(attribute) || readFileSync(attribute, "utf8").trim() !== image;
  }

  test.each([
    ["buffered", 0],
    ["with O_DIRECT", OPEN_DIRECT],
  ])("shows the image, and takes what is written, %s", async (_, direct) => {
    const device = attached(openImage(OPEN_WRITE | OPEN_EXCLUSIVE), OPEN_WRITE | direct);
    expect(addon.deviceInfo(device.fd)).toMatchObject({
      isBlockDevice: true,
      sizeBytes: SIZE_BYTES,
      alignmentBytes: 512,
    });
    expect(contents(device.fd, 0, SIZE_BYTES).equals(bytes)).toBe(true);
    const change = Buffer.alloc(8192, "change");
    expect(addon.writeDevice(device.fd, 4096, change)).toBe(0);
    expect(addon.flushDevice(device.fd)).toBe(0);
    device.detach();
    expect(await isGone(device.path)).toBe(true);
    const after = Buffer.from(bytes);
    change.copy(after, 4096);
    expect(readFileSync(image).equals(after)).toBe(true);
  });

  test("begins at the offset", () => {
    const offset = 65_536 + 512;
    const device = attached(openImage(0), 0, offset);
    expect((addon.deviceInfo(device.fd) as DeviceInfo).sizeBytes).toBe(SIZE_BYTES - offset);
    expect(
      contents(device.fd, 512, 4096).equals(bytes.subarray(offset + 512).subarray(0, 4096)),
    ).toBe(true);
    expect(columns(device.path, "OFFSET")).toEqual([`${offset}`]);
  });

  test("goes past the page cache of the image where that is possible", () => {
    const device = attached(openImage(OPEN_WRITE), OPEN_WRITE);
    const { directOffsetBytes } = addon.deviceInfo(openImage(0)) as DeviceInfo;
    const possible = directOffsetBytes === 0 || directOffsetBytes <= SECTOR_BYTES_MAX;
    if (possible) expect(columns(device.path, "DIO")).toEqual(["1"]);
  });

  test("has sectors of the size that is allowed, and then no direct I/O where it needs larger ones", () => {
    const disk = join(folder, "disk");
    run("truncate", ["-s", "32M", disk]);
    const device = output("losetup", ["--sector-size", "4096", "-f", "--show", disk]);
    scope.add(() => run("losetup", ["-d", device]));
    run("mkfs.ext4", ["-q", "-b", "4096", device]);
    const mountpoint = scope.temporaryFolder();
    run("mount", [device, mountpoint]);
    scope.add(() => run("umount", [mountpoint]));
    for (const [sectorBytesMax, sector, direct] of [
      [4096, 4096, "1"],
      [2048, 512, "0"],
    ] as const) {
      const file = join(mountpoint, `${sectorBytesMax}`);
      writeFileSync(file, bytes);
      const loop = attached(openImage(OPEN_WRITE, file), OPEN_WRITE, 0, sectorBytesMax);
      expect((addon.deviceInfo(loop.fd) as DeviceInfo).alignmentBytes).toBe(sector);
      expect(columns(loop.path, "DIO")).toEqual([direct]);
      expect(contents(loop.fd, 0, SIZE_BYTES).equals(bytes)).toBe(true);
      loop.detach();
    }
  });

  test("is read-only unless it is to be written", () => {
    const device = attached(openImage(OPEN_WRITE));
    expect(columns(device.path, "RO", "AUTOCLEAR")).toEqual(["1", "1"]);
    expect(addon.writeDevice(device.fd, 0, Buffer.alloc(512))).toBe(-Errno.EBADF);
    const forced = join(folder, "forced");
    writeFileSync(forced, bytes);
    const other = attached(openImage(0, forced), OPEN_WRITE);
    expect(columns(other.path, "RO")).toEqual(["1"]);
    expect(addon.writeDevice(other.fd, 0, Buffer.alloc(512))).toBeLessThan(0);
    expect(readFileSync(forced).equals(bytes)).toBe(true);
  });

  test("is claimed", () => {
    const device = attached(openImage(OPEN_WRITE), OPEN_WRITE);
    expect(addon.openDevice(device.path, OPEN_WRITE | OPEN_EXCLUSIVE)).toBe(-Errno.EBUSY);
    expect(addon.setBlockSize(device.fd, 2048)).toBe(0);
    expect(addon.blockSize(device.fd)).toBe(2048);
    expect(addon.setBlockSize(device.fd, 256)).toBe(-Errno.EINVAL);
  });

  test("keeps the lock of the image after its descriptor is closed", async () => {
    const imageFd = addon.openDevice(image, OPEN_WRITE | OPEN_EXCLUSIVE);
    const device = attached(imageFd, OPEN_WRITE);
    addon.closeDescriptor(imageFd);
    expect(addon.openDevice(image, OPEN_EXCLUSIVE)).toBe(-Errno.EBUSY);
    device.detach();
    expect(await isGone(device.path)).toBe(true);
    openImage(OPEN_EXCLUSIVE);
  });

  test("gives EBUSY for an image that is attached, whatever it is called", () => {
    const other = join(folder, "other-name");
    run("ln", [image, other]);
    loopDevice(scope, other, true);
    expect(attach(openImage(OPEN_WRITE), OPEN_WRITE)).toBe(-Errno.EBUSY);
    run("rm", [other]);
    expect(attach(openImage(0))).toBe(-Errno.EBUSY);
  });

  test("gives EBUSY for an image that it has attached itself", () => {
    const device = attached(openImage(0));
    expect(attach(openImage(0))).toBe(-Errno.EBUSY);
    device.detach();
  });

  test("refuses what is no file, or has no sector", () => {
    const small = join(folder, "small");
    writeFileSync(small, Buffer.alloc(511));
    expect(attach(openImage(0, small))).toBe(-Errno.EINVAL);
    expect(attach(openImage(0), 0, SIZE_BYTES - 511)).toBe(-Errno.EINVAL);
    expect(attach(openImage(0), 0, SIZE_BYTES)).toBe(-Errno.EINVAL);
    expect(attach(openImage(0), 0, -1)).toBe(-Errno.EINVAL);
    mkdirSync(join(folder, "directory"));
    for (const path of [join(folder, "directory"), "/dev/null"]) {
      const fd = openSync(path, "r");
      expect(attach(fd)).toBe(-Errno.EINVAL);
      closeSync(fd);
    }
    expect(attach(9999)).toBe(-Errno.EBADF);
  });
});
