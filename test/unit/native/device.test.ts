/** Opening, measuring and reading files through the addon. */
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readlinkSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Errno } from "../../../src/base/errno.ts";
import {
  type DeviceInfo,
  loadAddon,
  OPEN_DIRECT,
  OPEN_EXCLUSIVE,
  OPEN_WRITE,
} from "../../../src/native/binding.ts";

const addon = loadAddon();
const SIZE_BYTES = 3_000_001;
const bytes = Uint8Array.from({ length: SIZE_BYTES }, (_, i) => (i >> 8) ^ (i * 31));

let folder: string;
let image: string;
let descriptors: number[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fuse4fs-ts-device-"));
  image = join(folder, "image");
  const fd = openSync(image, "w");
  writeSync(fd, bytes);
  closeSync(fd);
  descriptors = [];
});

afterEach(() => {
  for (const fd of descriptors) addon.closeDescriptor(fd);
  rmSync(folder, { recursive: true });
});

/** @returns a descriptor, closed after the test, or a negative errno. */
function open(path: string, flags: number): number {
  const fd = addon.openDevice(path, flags);
  if (fd >= 0) descriptors.push(fd);
  return fd;
}

/** Opens with O_DIRECT, or without where the filesystem of temporary files has no such thing. */
function openDirect(): number {
  const fd = open(image, OPEN_DIRECT);
  return fd === -Errno.EINVAL ? open(image, 0) : fd;
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

describe("openDevice()", () => {
  test("refuses what is no device", () => {
    mkdirSync(join(folder, "directory"));
    expect(open(join(folder, "nothing"), 0)).toBe(-Errno.ENOENT);
    expect(open(join(folder, "directory"), 0)).toBe(-Errno.EISDIR);
    expect(open("/dev/null", 0)).toBe(-Errno.EINVAL);
    expect(open("/dev/fd/9999", 0)).toBe(-Errno.EBADF);
  });

  test("shares a file among readers and keeps it from everybody else for a writer", () => {
    const reader = open(image, OPEN_EXCLUSIVE);
    expect(open(image, OPEN_EXCLUSIVE)).toBeGreaterThanOrEqual(0);
    expect(open(image, OPEN_EXCLUSIVE | OPEN_WRITE)).toBe(-Errno.EBUSY);
    expect(open(image, OPEN_WRITE)).toBeGreaterThanOrEqual(0);
    expect(readlinkSync(`/proc/self/fd/${reader}`)).toBe(image);
  });

  test.each(["/dev/fd/", "/proc/self/fd/"])("takes a descriptor as %sN", (prefix) => {
    const inherited = openSync(image, "r");
    const fd = open(`${prefix}${inherited}`, 0);
    expect(fd).toBeGreaterThanOrEqual(0);
    expect(fd).not.toBe(inherited);
    closeSync(inherited);
    const into = new Uint8Array(100);
    expect(addon.readDevice(fd, 5000, into)).toBe(100);
    expect(equal(into, bytes.subarray(5000, 5100))).toBe(true);
  });
});

describe("deviceInfo()", () => {
  test("tells size, kind and alignment", () => {
    const info = addon.deviceInfo(open(image, 0)) as DeviceInfo;
    expect(info).toMatchObject({ sizeBytes: SIZE_BYTES, isBlockDevice: false });
    expect(Math.log2(info.alignmentBytes) % 1).toBe(0);
    expect(info.alignmentBytes).toBeGreaterThanOrEqual(512);
  });

  test("tells what the device says of O_DIRECT and of untorn writes, or zeros", () => {
    const info = addon.deviceInfo(open(image, 0)) as DeviceInfo;
    for (const bytes of [
      info.directMemoryBytes,
      info.directOffsetBytes,
      info.atomicWriteMinBytes,
      info.atomicWriteMaxBytes,
    ])
      expect(bytes === 0 || Math.log2(bytes) % 1 === 0).toBe(true);
    expect(info.atomicWriteMaxBytes).toBeGreaterThanOrEqual(info.atomicWriteMinBytes);
    if (info.directOffsetBytes > 0)
      expect(info.alignmentBytes).toBeGreaterThanOrEqual(info.directOffsetBytes);
  });

  test("gives a negative errno for what is no device", () => {
    const directory = openSync(folder, "r");
    expect(addon.deviceInfo(directory)).toBe(-Errno.EISDIR);
    closeSync(directory);
    expect(addon.deviceInfo(9999)).toBe(-Errno.EBADF);
  });
});

describe("blockSize() and setBlockSize()", () => {
  test("are for block devices", () => {
    expect(addon.blockSize(open(image, 0))).toBe(-Errno.ENOTTY);
    expect(addon.setBlockSize(open(image, 0), 4096)).toBe(-Errno.ENOTTY);
    expect(addon.setBlockSize(9999, 4096)).toBe(-Errno.EBADF);
  });
});

describe.each([
  ["buffered", () => open(image, 0)],
  ["O_DIRECT", openDirect],
])("readDevice(), %s", (_, openIt) => {
  test.each([
    [0, 4096],
    [4096, 8192],
    [1, 1],
    [511, 2],
    [12_345, 100_000],
    [100, 2_999_000],
    [SIZE_BYTES - 10, 10],
    [0, SIZE_BYTES],
  ])("reads at byte %i %i bytes", (offset, length) => {
    const into = new Uint8Array(length + 3).subarray(3);
    expect(addon.readDevice(openIt(), offset, into)).toBe(length);
    expect(equal(into, bytes.subarray(offset, offset + length))).toBe(true);
  });

  test("reads less at the end, and nothing after it", () => {
    const fd = openIt();
    const into = new Uint8Array(5000);
    expect(addon.readDevice(fd, SIZE_BYTES - 100, into)).toBe(100);
    expect(equal(into.subarray(0, 100), bytes.subarray(-100))).toBe(true);
    expect(addon.readDevice(fd, SIZE_BYTES, into)).toBe(0);
    expect(addon.readDevice(fd, 2 ** 40, into)).toBe(0);
  });
});

describe("readDevice()", () => {
  test("refuses impossible offsets and descriptors", () => {
    const fd = open(image, 0);
    const into = new Uint8Array(10);
    for (const offset of [-1, Number.NaN, 2 ** 60, Number.POSITIVE_INFINITY])
      expect(addon.readDevice(fd, offset, into)).toBe(-Errno.EINVAL);
    expect(addon.readDevice(9999, 0, into)).toBe(-Errno.EBADF);
  });

  test("sees that a file was truncated", () => {
    const fd = open(image, OPEN_WRITE);
    ftruncateSync(fd, 10);
    expect(addon.readDevice(fd, 0, new Uint8Array(4096))).toBe(10);
  });
});
