/** What mounting refuses, in which words, without a mount being made. */
import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Errno } from "../../../src/base/errno.ts";
import { loadAddon, type MountResult } from "../../../src/native/binding.ts";

const addon = loadAddon();
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fuse4fs-ts-mount-"));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

function mount(mountpoint: string): MountResult {
  return addon.mount({
    mountpoint,
    fsname: "image",
    subtype: "ext4",
    deviceBlockBytes: 0,
    readOnly: true,
    allowOther: false,
    defaultPermissions: true,
    maxReadBytes: 0,
    flags: [],
    autoUnmount: false,
  });
}

describe("mount()", () => {
  test("says that the mount point does not exist", () => {
    const path = join(folder, "missing");
    const message = `mount point ${path} does not exist`;
    expect(mount(path)).toEqual({ fd: -Errno.ENOENT, message, unmounter: "" });
  });

  test("says that the mount point is not a directory", () => {
    const path = join(folder, "file");
    closeSync(openSync(path, "w"));
    const message = `mount point ${path} is not a directory`;
    expect(mount(path)).toEqual({ fd: -Errno.ENOTDIR, message, unmounter: "" });
  });

  test("says that a descriptor is not a connection to the kernel", () => {
    const fd = openSync("/dev/null", "r");
    const message = `/dev/fd/${fd} is not an open /dev/fuse`;
    expect(mount(`/dev/fd/${fd}`)).toEqual({ fd: -Errno.EINVAL, message, unmounter: "" });
    closeSync(fd);
    expect(mount("/dev/fd/9999")).toMatchObject({ fd: -Errno.EBADF });
  });
});

describe("unmount()", () => {
  test("has nothing to undo for a descriptor", () => {
    expect(addon.unmount("/dev/fd/9", "")).toBe(0);
  });

  test("gives a negative errno where nothing is mounted", () => {
    expect(addon.unmount(folder, "")).toBeLessThan(0);
  });
});
