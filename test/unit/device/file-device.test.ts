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
  };
  const device = new FileDevice(failing, 5, 0);
  const read = () => device.read(4096, new Uint8Array(10));
  expect(read).toThrow("descriptor 5: 10 bytes at byte 4096 cannot be read: EIO");
});

test("FileDevice needs a file or block device", () => {
  const directory = openSync(folder, "r");
  expect(() => new FileDevice(addon, directory, 0, "folder")).toThrow("folder has no size: EISDIR");
  closeSync(directory);
});
