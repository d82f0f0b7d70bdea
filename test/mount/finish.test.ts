/**
 * What a crash has left, and a mount that is read-only: with `-o ro` alone the image stays as it is;
 * with `-o kernel,ro` it is finished for good, as the kernel's ext4 does it, if it can be written.
 */
import { closeSync, mkdirSync, openSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { e2fsck, mke2fs, sha256 } from "../support/e2fsprogs.ts";
import { ForegroundServer } from "../support/foreground-server.ts";
import { COMMAND, copyImage, isMounted, loopDevice, ourMount } from "../support/mounts.ts";
import {
  output,
  run,
  skipBecause,
  whyNoE2fsprogs,
  whyNoFuse,
  whyNoKernelMount,
} from "../support/run.ts";
import { Scope } from "../support/scope.ts";

const skip = skipBecause("finish", whyNoE2fsprogs(), whyNoFuse());

const headOf = (image: string): string => output("dumpe2fs", ["-h", image]);
const needsRecovery = (image: string): boolean => headOf(image).includes("needs_recovery");
const mountCount = (image: string): string | undefined =>
  /^Mount count: .*$/m.exec(headOf(image))?.[0];

describe.skipIf(skip)("a read-only mount of what a crash has left", () => {
  let scope: Scope;
  let image: string;

  beforeEach(async () => {
    scope = new Scope();
    image = join(scope.temporaryFolder(), "image");
    mke2fs(image, "32M", ["-t", "ext4"]);
    const server = await ForegroundServer.start(scope, image, ["rw", "commit=300"]);
    writeFileSync(join(server.path, "file"), "contents");
    const orphan = join(server.path, "orphan");
    writeFileSync(orphan, "x".repeat(100_000));
    const open = openSync(orphan, "r");
    unlinkSync(orphan);
    run("sync", [server.path]);
    await server.kill();
    closeSync(open);
    expect(needsRecovery(image)).toBe(true);
  });

  afterEach(() => scope.close());

  function mountReadOnly(...options: string[]): void {
    const mount = ourMount(scope, image, { options });
    expect(readFileSync(join(mount.path, "file"), "utf8")).toBe("contents");
    mount.unmount();
  }

  test("leaves the image alone", () => {
    const before = sha256(image);
    mountReadOnly();
    ourMount(scope, image, { options: ["kernel", "norecovery"] }).unmount();
    expect(sha256(image)).toBe(before);
  });

  test("finishes it with -o kernel, and does not count", () => {
    const before = mountCount(image);
    mountReadOnly("kernel");
    expect(needsRecovery(image)).toBe(false);
    expect(e2fsck(image)).toBe("");
    expect(mountCount(image)).toBe(before);
    const finished = sha256(image);
    mountReadOnly("kernel");
    expect(sha256(image)).toBe(finished);
  });

  test.skipIf(whyNoKernelMount() !== undefined)(
    "is refused with -o kernel where it cannot be finished",
    () => {
      const device = loopDevice(scope, copyImage(scope, image));
      const mountpoint = join(scope.temporaryFolder(), "mount");
      mkdirSync(mountpoint);
      for (const options of ["kernel", "kernel,ro"]) {
        const refused = run(COMMAND, [device, mountpoint, "-o", options], { accept: [32] });
        expect(refused.stderr).toMatch(/write-protected, and its journal is not empty/);
        expect(isMounted(mountpoint)).toBe(false);
      }
      run(COMMAND, [device, mountpoint, "-o", "ro"]);
      expect(readFileSync(join(mountpoint, "file"), "utf8")).toBe("contents");
      run("umount", [mountpoint]);
    },
  );
});
