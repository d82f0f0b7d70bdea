/** A device behind a descriptor: its window, and what its errors say. */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Errno } from "../../../src/base/errno.ts";
import { FileDevice } from "../../../src/device/file-device.ts";
import { loadAddon } from "../../../src/native/binding.ts";

const addon = loadAddon();
const bytes = Uint8Array.from({ length: 20_000 }, (_, i) => i * 7);
let folder: string;
let fd: number;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fuse4fs-ts-file-device-"));
  fd = openSync(join(folder, "image"), "w+");
  writeSync(fd, bytes);
});

afterEach(() => {
  closeSync(fd);
  rmSync(folder, { recursive: true });
});

test("FileDevice begins at its offset and ends with the file", () => {
  const device = new FileDevice(addon, fd, 1536, "disk");
  const into = new Uint8Array(1000);
  expect(device.sizeBytes).toBe(18_464);
  device.read(0, into);
  expect(into).toEqual(bytes.slice(1536, 2536));
  device.read(17_464, into);
  expect(into).toEqual(bytes.slice(19_000));
  expect(new FileDevice(addon, fd, 30_000).sizeBytes).toBe(-10_000);
});

test("FileDevice refuses to read outside of itself", () => {
  const device = new FileDevice(addon, fd, 1536, "disk");
  const into = new Uint8Array(1000);
  expect(() => device.read(-1, into)).toThrow("disk: 1000 bytes at byte 1535 are not all there");
  expect(() => device.read(17_465, into)).toThrow(
    "disk: 1000 bytes at byte 19001 are not all there",
  );
});

test("FileDevice says where the file ends when it was truncated", () => {
  const device = new FileDevice(addon, fd, 1536, "disk");
  ftruncateSync(fd, 2000);
  const read = () => device.read(0, new Uint8Array(1000));
  expect(read).toThrow("disk: 1000 bytes at byte 1536 end after 464: was it truncated?");
});

test("FileDevice names the error of a device that fails", () => {
  const failing = {
    deviceInfo: () => ({ sizeBytes: 8192, isBlockDevice: true, alignmentBytes: 512 }),
    readDevice: () => -Errno.EIO,
    writeDevice: () => -Errno.ENOSPC,
    flushDevice: () => -Errno.EIO,
    discardDevice: () => -Errno.EACCES,
    zeroDevice: () => -Errno.EIO,
  };
  const device = new FileDevice(failing, 5, 0);
  const bytes = new Uint8Array(10);
  const place = "descriptor 5: 10 bytes at byte 4096";
  expect(() => device.read(4096, bytes)).toThrow(`${place} cannot be read: EIO`);
  expect(() => device.write(4096, bytes)).toThrow(`${place} cannot be written: ENOSPC`);
  expect(() => device.discard(4096, 10)).toThrow(`${place} cannot be discarded: EACCES`);
  expect(() => device.zero(4096, 10)).toThrow(`${place} cannot be zeroed: EIO`);
  expect(() => device.flush()).toThrow("descriptor 5 cannot be flushed: EIO");
});

test("FileDevice reads back what it wrote, zeroed and discarded", () => {
  const device = new FileDevice(addon, fd, 1536, "disk");
  device.write(100, Uint8Array.of(1, 2, 3, 4, 5, 6));
  device.zero(102, 1);
  device.discard(104, 1);
  device.flush();
  const into = new Uint8Array(8);
  device.read(99, into);
  expect([...into]).toEqual([bytes[1635], 1, 2, 0, 4, 0, 6, bytes[1642]]);
  expect(() => device.write(18_460, into)).toThrow("are not all there");
});

test("FileDevice does without discard where the device has none", () => {
  const device = new FileDevice({ ...addon, discardDevice: () => -Errno.EOPNOTSUPP }, fd, 0);
  expect(() => device.discard(0, 4096)).not.toThrow();
});

test("FileDevice has others finish their writes before it flushes", () => {
  const order: string[] = [];
  const flushDevice = () => order.push("flush") * 0;
  const device = new FileDevice({ ...addon, flushDevice }, fd, 0);
  device.beforeFlush(() => order.push("settle"));
  device.flush();
  expect(order).toEqual(["settle", "flush"]);
});

test("FileDevice needs a file or block device", () => {
  const directory = openSync(folder, "r");
  expect(() => new FileDevice(addon, directory, 0, "folder")).toThrow("folder has no size: EISDIR");
  closeSync(directory);
});
