/**
 * Where `-o kernel` makes a mount do as the kernel's ext4 does, and others do otherwise.
 *
 * What a crash has left: with `-o ro` alone the image stays as it is; with `-o kernel,ro` it is
 * finished for good, if it can be written. Open files: with `-o kernel` the server is asked at each
 * open(2).
 */
import {
  appendFileSync,
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { e2fsck, mke2fs, sha256 } from "../support/e2fsprogs.ts";
import { ForegroundServer } from "../support/foreground-server.ts";
import {
  COMMAND,
  copyImage,
  isMounted,
  kernelMount,
  loopDevice,
  type Mounted,
  ourMount,
} from "../support/mounts.ts";
import {
  output,
  run,
  skipBecause,
  whyNoE2fsprogs,
  whyNoFuse,
  whyNoKernelMount,
} from "../support/run.ts";
import { Scope } from "../support/scope.ts";

const skip = skipBecause("kernel-option", whyNoE2fsprogs(), whyNoFuse());

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

  test.skipIf(skipBecause("a write-protected device", whyNoKernelMount()))(
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

describe.skipIf(skipBecause("kernel-option", whyNoKernelMount(), whyNoFuse()))("-o kernel", () => {
  /** What happens to files on a new filesystem that `mountOf` mounts, the same by every server. */
  function eventsOn(mountOf: (scope: Scope, image: string) => Mounted): unknown[] {
    const scope = new Scope();
    try {
      const image = join(scope.temporaryFolder(), "image");
      mke2fs(image, "32M", ["-t", "ext4"]);
      const { path } = mountOf(scope, image);
      const events: unknown[] = [];
      const errnoOf = (name: string, flags: number): unknown => {
        try {
          closeSync(openSync(join(path, name), flags));
          return 0;
        } catch (error) {
          return (error as NodeJS.ErrnoException).code;
        }
      };
      const { O_APPEND, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } = constants;
      for (const flag of ["i", "a"]) {
        writeFileSync(join(path, flag), "contents");
        run("chattr", [`+${flag}`, join(path, flag)]);
        const modes = [O_RDONLY, O_RDWR, O_WRONLY, O_WRONLY | O_APPEND, O_WRONLY | O_TRUNC];
        for (const mode of modes) events.push([flag, mode, errnoOf(flag, mode)]);
        run("chattr", [`-${flag}`, join(path, flag)]);
      }

      const file = join(path, "read");
      writeFileSync(file, "contents");
      const times = (): bigint => statSync(file, { bigint: true }).atimeNs;
      for (const what of ["read", "read", "write", "read", "read"]) {
        const before = times();
        // Timestamps come from a clock that ticks.
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30);
        if (what === "read") readFileSync(file);
        else appendFileSync(file, "more");
        events.push([what, times() > before]);
      }
      return events;
    } finally {
      scope.close();
    }
  }

  test("asks at open(2) what the kernel knows of its own files", () => {
    const events = eventsOn((scope, image) => kernelMount(scope, image, { write: true }));
    const options = { write: true, options: ["kernel"] };
    expect(eventsOn((scope, image) => ourMount(scope, image, options))).toEqual(events);
    expect(events).toContainEqual(["i", constants.O_RDWR, "EPERM"]);
    expect(events).toContainEqual(["read", true]);
  });
});
