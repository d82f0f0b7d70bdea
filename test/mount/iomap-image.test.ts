/** How images are opened when the kernel says that it has iomap, whatever this one has. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseCommandLine } from "../../src/cli/command-line.ts";
import { closeFilesystem } from "../../src/ext4/index.ts";
import { type Addon, loadAddon } from "../../src/native/binding.ts";
import { type Image, openImage } from "../../src/server/image.ts";
import type { MountPlan } from "../../src/server/plan.ts";
import { unwind } from "../../src/server/unwind.ts";
import { e2fsck, mke2fs } from "../support/e2fsprogs.ts";
import { imageFile } from "../support/images.ts";
import { loopDevice } from "../support/mounts.ts";
import { output, run, skipBecause, whyNoKernelMount } from "../support/run.ts";
import { Scope } from "../support/scope.ts";

const IOMAP = 3;
const OFFSET = 1 << 20;
const NO_HOOKS = {
  invalidateMappings: () => {},
  onDamage: () => {},
  onFreed: () => {},
  onPanic: () => {},
  onAbort: () => {},
};

const skip = skipBecause("iomap-image", whyNoKernelMount());

describe.skipIf(skip)("openImage() where the kernel has iomap", () => {
  const addon: Addon = { ...loadAddon(), iomapSupport: () => IOMAP };
  let scope: Scope;
  let folder: string;
  let image: string;
  let undo: (() => void)[];

  beforeEach(() => {
    scope = new Scope();
    folder = scope.temporaryFolder();
    image = join(folder, "image");
    mke2fs(image, "8M", ["-t", "ext4", "-b", "1024"]);
    undo = [];
  });

  afterEach(() => {
    unwind(undo);
    scope.close();
  });

  function planOf(path: string, ...options: readonly string[]): MountPlan {
    const words = options.length === 0 ? [] : ["-o", options.join(",")];
    const command = parseCommandLine([path, "/mnt", ...words], true);
    if (command.kind !== "mount") throw new Error("no mount");
    return command.plan;
  }

  function open(path: string, ...options: readonly string[]): Image {
    return openImage(addon, planOf(path, ...options), NO_HOOKS, undo);
  }

  function isOnBlockDevice({ deviceFd }: Image): boolean {
    const info = addon.deviceInfo(deviceFd);
    return typeof info === "object" && info.isBlockDevice;
  }

  /** Loop devices that show the file. */
  function devicesOf(path: string): string {
    return output("losetup", ["-n", "-O", "NAME", "-j", path]);
  }

  test.each(["rw", "direct", "iomap", "ro", "ro,iomap,noiomap_cache"])(
    "attaches a file to a loop device (%s)",
    (options) => {
      const opened = open(image, options);
      expect(opened).toMatchObject({ iomap: { fd: opened.deviceFd, deviceOffsetBytes: 0 } });
      expect(isOnBlockDevice(opened)).toBe(true);
      const isWritable = !options.startsWith("ro");
      expect(opened.fs.isWritable).toBe(isWritable);
      expect(opened.iomap?.contents?.sizeBytes).toBe(isWritable ? 8 << 20 : undefined);
      expect(devicesOf(image)).toMatch(/^\/dev\/loop\d+$/);
      unwind(undo);
      expect(devicesOf(image)).toBe("");
      expect(isOnBlockDevice(open(image, options))).toBe(true);
      unwind(undo);
      expect(e2fsck(image)).toBe("");
    },
  );

  test("keeps the file locked", () => {
    open(image);
    expect(() => open(image)).toThrow(/cannot be opened: .*EBUSY/);
    expect(() => open(image, "ro")).toThrow(/cannot be opened: .*EBUSY/);
  });

  test("waits a moment until a mount before has let go of the file", () => {
    const hold = 'flock "$1" sleep 0.5 > "$2" 2>&1 & while flock -n "$1" true; do :; done';
    run("sh", ["-c", hold, "sh", image, "/dev/null"]);
    const isHeld = (): boolean =>
      run("flock", ["-n", image, "true"], { accept: [0, 1] }).status === 1;
    expect(isHeld()).toBe(true);
    expect(open(image).iomap).toBeDefined();
  });

  test("lets the device begin where the filesystem does", () => {
    const disk = join(folder, "disk");
    run("truncate", ["-s", `${OFFSET}`, disk]);
    run("sh", ["-c", 'cat "$1" >> "$2"', "sh", image, disk]);
    const opened = open(disk, `offset=${OFFSET}`);
    expect(opened).toMatchObject({ iomap: { fd: opened.deviceFd, deviceOffsetBytes: 0 } });
    closeFilesystem(opened.fs);
    unwind(undo);
    run("sh", ["-c", `tail -c +${OFFSET + 1} "$1" > "$2"`, "sh", disk, image]);
    expect(e2fsck(image)).toBe("");
  });

  test("uses a block device as it is", () => {
    const device = loopDevice(scope, image, true);
    const opened = open(device, "iomap");
    expect(opened).toMatchObject({ iomap: { fd: opened.deviceFd, deviceOffsetBytes: 0 } });
    unwind(undo);
    expect(open(device, "iomap=0").iomap).toBeUndefined();
  });

  test.each([
    [512, "but it begins within a block of the device, at byte 512"],
    [1024, undefined],
  ])("uses one where the filesystem begins at byte %i if a block does", (offset, why) => {
    const disk = join(folder, "disk");
    run("truncate", ["-s", `${offset}`, disk]);
    run("sh", ["-c", 'cat "$1" >> "$2"', "sh", image, disk]);
    const device = loopDevice(scope, disk, true);
    expect(open(device, `offset=${offset}`).iomap?.deviceOffsetBytes).toBe(
      why === undefined ? offset : undefined,
    );
    unwind(undo);
    if (why === undefined) return;
    expect(() => open(device, `offset=${offset}`, "iomap")).toThrow(`needs iomap, ${why}`);
  });

  test("uses none whose blocks are too large to hold what lies within inodes", () => {
    mke2fs(image, "16M", ["-t", "ext4", "-b", "16384", "-O", "inline_data"]);
    expect(open(image).iomap).toBeUndefined();
    unwind(undo);
    expect(() => open(image, "iomap")).toThrow(
      /^needs iomap, but has data within inodes, and .*16384/,
    );
    unwind(undo);
    mke2fs(image, "16M", ["-t", "ext4", "-b", "16384", "-O", "^inline_data"]);
    expect(open(image).iomap).toBeDefined();
  });

  test("leaves the file alone where iomap is forbidden", () => {
    const opened = open(image, "iomap=0");
    expect(opened.iomap).toBeUndefined();
    expect(isOnBlockDevice(opened)).toBe(false);
    expect(devicesOf(image)).toBe("");
  });

  test("does not write where another loop device shows the image", () => {
    loopDevice(scope, image, true);
    expect(() => open(image)).toThrow(/^attached to a loop device already: .*EBUSY/);
    unwind(undo);
    expect(() => open(image, "ro,iomap")).toThrow(/^needs iomap, .*EBUSY/);
    unwind(undo);
    const opened = open(image, "ro");
    expect(opened.iomap).toBeUndefined();
    expect(isOnBlockDevice(opened)).toBe(false);
  });

  test("lets several mounts read an image", () => {
    expect(open(image, "ro").iomap).toBeDefined();
    expect(open(image, "ro").iomap).toBeUndefined();
  });

  test("moves no data in the kernel where the journal is replayed in memory", () => {
    image = imageFile(scope, "dirty-4k");
    const opened = open(image, "ro");
    expect(opened.iomap).toBeUndefined();
    expect(isOnBlockDevice(opened)).toBe(false);
    unwind(undo);
    expect(() => open(image, "ro", "iomap")).toThrow(/^needs iomap, but its journal is not empty/);
    unwind(undo);
    const device = loopDevice(scope, image, true);
    expect(open(device, "ro").iomap).toBeUndefined();
  });

  test.each(["norecovery", "ro,norecovery", "ro,kernel", "rw"])(
    "does so where it is not (%s)",
    (options) => {
      image = imageFile(scope, "dirty-4k");
      expect(open(image, options).iomap).toBeDefined();
    },
  );

  test("says the same as ever of what is no image", () => {
    writeFileSync(image, Buffer.alloc(65_536));
    expect(() => open(image)).toThrow(/not an ext2, ext3 or ext4 filesystem/);
    unwind(undo);
    expect(() => open(image, "iomap")).toThrow(/not an ext2, ext3 or ext4 filesystem/);
  });
});
