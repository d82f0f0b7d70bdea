/**
 * The program on a kernel that says that it has iomap, and does not offer it to the mount: all that comes
 * before INIT is as with iomap, and everything after it as without.
 */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { loadAddon } from "../../src/native/binding.ts";
import { e2fsck, mke2fs } from "../support/e2fsprogs.ts";
import { COMMAND, isMounted, isServed, loopDevice, serverOf } from "../support/mounts.ts";
import { output, run, skipBecause, whyNoFuse, whyNoKernelMount } from "../support/run.ts";
import { Scope } from "../support/scope.ts";

const PATIENCE_MS = 10_000;
const POLL_MS = 10;
const SIZE_BYTES = 3_000_000;

/** Has the addon say yes, in all threads. */
const PRELOAD = `
const Module = require("module");
const { _load } = Module;
Module._load = function (name, ...rest) {
  const loaded = _load.call(this, name, ...rest);
  if (name !== "node-gyp-build") return loaded;
  return (root) => ({ ...loaded(root), iomapSupport: () => 3 });
};`;

const whyIomap = loadAddon().iomapSupport(-1) === 0 ? undefined : "this kernel has iomap";
const skip = skipBecause("iomap-mount", whyNoKernelMount(), whyNoFuse(), whyIomap);

describe.skipIf(skip)("a kernel that does not keep its word about iomap", () => {
  const contents = Buffer.from(Uint8Array.from({ length: SIZE_BYTES }, (_, i) => (i >> 9) ^ i));
  let scope: Scope;
  let image: string;
  let mountpoint: string;
  let preload: string;

  beforeEach(() => {
    scope = new Scope();
    const folder = scope.temporaryFolder();
    preload = join(folder, "preload.cjs");
    writeFileSync(preload, PRELOAD);
    image = join(folder, "image");
    mke2fs(image, "16M", ["-t", "ext4"]);
    mountpoint = scope.temporaryFolder();
    scope.add(() => {
      if (isMounted(mountpoint)) run("umount", ["-l", mountpoint]);
    });
  });

  afterEach(() => scope.close());

  function launch(device: string, ...options: readonly string[]) {
    const words = options.length === 0 ? [] : ["-o", options.join(",")];
    const { status, stdout, stderr } = spawnSync(COMMAND, [device, mountpoint, ...words], {
      encoding: "utf8",
      env: { ...process.env, NODE_OPTIONS: `--require ${preload}` },
    });
    return { status, stdout, stderr };
  }

  function mount(device: string, ...options: readonly string[]): void {
    expect(launch(device, ...options)).toMatchObject({ status: 0, stdout: "" });
  }

  const devicesOf = (path: string): string => output("losetup", ["-n", "-O", "NAME", "-j", path]);

  const typeOfMount = (): string => output("findmnt", ["-n", "-o", "FSTYPE", mountpoint]);

  /** Waits until the server has ended. */
  async function isOver(): Promise<void> {
    const deadline = Date.now() + PATIENCE_MS;
    while (isServed(mountpoint) && Date.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    expect(isServed(mountpoint)).toBe(false);
  }

  test.each(["iomap", "ro,iomap=1"])("gets no mount with -o %s, and one line", async (options) => {
    const { status, stdout, stderr } = launch(image, options);
    expect(stderr).toMatch(
      /^fuse4fs-ts: [^\n]*image: needs iomap, but [^\n]*not offer it[^\n]*\n$/,
    );
    expect({ status, stdout }).toEqual({ status: 32, stdout: "" });
    expect(isMounted(mountpoint)).toBe(false);
    await isOver();
    expect(devicesOf(image)).toBe("");
    expect(e2fsck(image)).toBe("");
  });

  test.each(["rw", "directio", "lazytime,strictatime"])(
    "gets a mount of a loop device, which goes with it (%s)",
    async (options) => {
      mount(image, options);
      expect(typeOfMount()).toBe("fuse.ext4");
      expect(devicesOf(image)).toMatch(/^\/dev\/loop\d+$/);
      writeFileSync(join(mountpoint, "file"), contents);
      run("umount", [mountpoint]);
      await isOver();
      expect(devicesOf(image)).toBe("");
      expect(e2fsck(image)).toBe("");
      mount(image, "ro");
      expect(readFileSync(join(mountpoint, "file")).equals(contents)).toBe(true);
      run("umount", [mountpoint]);
      await isOver();
      expect(devicesOf(image)).toBe("");
    },
  );

  test.each(["SIGTERM", "SIGKILL"] as const)("leaves no loop device after %s", async (signal) => {
    mount(image);
    writeFileSync(join(mountpoint, "file"), contents);
    run("sync", [join(mountpoint, "file")]);
    process.kill(serverOf(mountpoint) ?? 0, signal);
    await isOver();
    expect(isMounted(mountpoint)).toBe(signal === "SIGKILL");
    if (signal === "SIGKILL") run("umount", [mountpoint]);
    expect(devicesOf(image)).toBe("");
    mount(image);
    expect(readFileSync(join(mountpoint, "file")).equals(contents)).toBe(true);
    run("umount", [mountpoint]);
    await isOver();
    expect(e2fsck(image)).toBe("");
  });

  test("mounts a block device as it is, and keeps its claim", async () => {
    const device = loopDevice(scope, image, true);
    mount(device);
    expect(typeOfMount()).toBe("fuse.ext4");
    writeFileSync(join(mountpoint, "file"), contents);
    expect(() => run("mkfs.ext4", ["-q", "-F", device])).toThrow(/in use|busy/);
    run("umount", [mountpoint]);
    await isOver();
    expect(e2fsck(device)).toBe("");
  });

  test("does not write to an image that a loop device shows already", () => {
    loopDevice(scope, image, true);
    const { status, stderr } = launch(image);
    expect(stderr).toMatch(/^fuse4fs-ts: [^\n]*: attached to a loop device already: [^\n]*\n$/);
    expect(status).toBe(32);
  });
});
