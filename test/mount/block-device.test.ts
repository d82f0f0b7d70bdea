/**
 * A block device that root mounts for writing is one for the kernel, too (type fuseblk): nobody else
 * can claim it, sync(2) and umount(2) wait for the server, and a file on it can be swapped to.
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { e2fsck, mke2fs } from "../support/e2fsprogs.ts";
import { COMMAND, isMounted, isServed, loopDevice, serverOf } from "../support/mounts.ts";
import { output, run, skipBecause, whyNoFuse, whyNoKernelMount } from "../support/run.ts";
import { Scope } from "../support/scope.ts";

const PATIENCE_MS = 10_000;
const POLL_MS = 10;
const SWAP_BYTES = 8 << 20;
const EBUSY = /resource busy or locked/;

const whyNoSwap = existsSync("/proc/swaps") ? undefined : "Linux was built without swapping";
const skip = skipBecause("block-device", whyNoKernelMount(), whyNoFuse());

describe.skipIf(skip)("a mounted block device", () => {
  let scope: Scope;
  let image: string;
  let device: string;
  let mountpoint: string;

  beforeEach(() => {
    scope = new Scope();
    const folder = scope.temporaryFolder();
    image = join(folder, "image");
    mke2fs(image, "64M", ["-t", "ext4"]);
    device = loopDevice(scope, image, true);
    mountpoint = join(folder, "mount");
    mkdirSync(mountpoint);
    scope.add(() => {
      if (isMounted(mountpoint)) run("umount", ["-l", mountpoint]);
    });
  });

  afterEach(() => scope.close());

  function mount(...options: string[]): void {
    const words = options.length > 0 ? ["-o", options.join(",")] : [];
    run(COMMAND, [device, mountpoint, ...words]);
  }

  function typeOfMount(): string {
    return output("findmnt", ["-n", "-o", "FSTYPE", mountpoint]);
  }

  /** Sends a signal to the server and waits until it has ended. */
  async function end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const server = serverOf(mountpoint);
    if (server === undefined) throw new Error(`nobody serves ${mountpoint}`);
    process.kill(server, signal);
    const deadline = Date.now() + PATIENCE_MS;
    while (isServed(mountpoint) && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    expect(isServed(mountpoint)).toBe(false);
  }

  test("has type fuseblk.ext4, if nothing speaks against it", () => {
    const cases: readonly [options: string[], type: string][] = [
      [[], "fuseblk.ext4"],
      [["subtype=x"], "fuseblk.x"],
      [["noblkdev"], "fuse.ext4"],
      [["ro"], "fuse.ext4"],
      [["fsname=disk"], "fuse.ext4"],
      [["offset=0"], "fuseblk.ext4"],
    ];
    for (const [options, type] of cases) {
      mount(...options);
      expect([options, typeOfMount()]).toEqual([options, type]);
      run("umount", [mountpoint]);
    }
  });

  test("is all written when umount(8) is back", () => {
    for (let round = 0; round < 5; round++) {
      mount();
      for (let n = 0; n < 100; n++) writeFileSync(join(mountpoint, `${round}-${n}`), "contents");
      run("umount", [mountpoint]);
      expect(e2fsck(image)).toBe("");
      expect(output("dumpe2fs", ["-h", image])).toMatch(/Filesystem state: +clean\n/);
    }
  });

  test("has all that was done before sync(2), also when the server dies then", async () => {
    mount("commit=300");
    writeFileSync(join(mountpoint, "file"), "contents");
    run("sync", []);
    await end("SIGKILL");
    run("umount", [mountpoint]);
    mount();
    expect(readFileSync(join(mountpoint, "file"), "utf8")).toBe("contents");
    run("umount", [mountpoint]);
    expect(e2fsck(image)).toBe("");
  });

  test("is claimed, until it is unmounted", () => {
    mount();
    const other = scope.temporaryFolder();
    const claims = [
      () => run(COMMAND, [device, other]),
      () => run("mount", ["-t", "ext4", device, other]),
      () => run("mkfs.ext4", ["-q", "-F", device]),
    ];
    expect(claims[0]).toThrow(EBUSY);
    for (const claim of claims.slice(1)) expect(claim).toThrow();
    run("umount", [mountpoint]);
    run("mkfs.ext4", ["-q", "-F", device]);
  });

  test.each(["SIGTERM", "SIGKILL"] as const)("is whole after %s", async (signal) => {
    mount();
    writeFileSync(join(mountpoint, "file"), "contents");
    await end(signal);
    // Nobody can unmount in the name of a server that was killed.
    expect(isMounted(mountpoint)).toBe(signal === "SIGKILL");
    if (signal === "SIGKILL") run("umount", [mountpoint]);
    mount();
    run("umount", [mountpoint]);
    expect(e2fsck(image)).toBe("");
  });

  test.skipIf(skipBecause("swap files", whyNoSwap)).each([
    ["written", (file: string) => writeFileSync(file, Buffer.alloc(SWAP_BYTES), { mode: 0o600 })],
    ["promised", (file: string) => run("fallocate", ["-l", String(SWAP_BYTES), file])],
  ])("carries a swap file that was %s", (_, make) => {
    mount();
    const file = join(mountpoint, "swap");
    make(file);
    run("chmod", ["0600", file]);
    run("mkswap", [file]);
    const before = join(scope.temporaryFolder(), "before");
    copyFileSync(file, before);
    run("swapon", [file]);
    try {
      expect(readFileSync("/proc/swaps", "utf8")).toContain(file);
      expect(() => writeFileSync(file, "")).toThrow(/ETXTBSY/);
    } finally {
      run("swapoff", [file]);
    }
    expect(readFileSync(file).equals(readFileSync(before))).toBe(true);
    run("umount", [mountpoint]);
    expect(e2fsck(image)).toBe("");
  });
});
