/**
 * Mounts an image by the kernel's ext4 on a loop device, or by our own command. What is mounted is
 * taken down by the scope it was made in.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { output, run } from "./run.ts";
import type { Scope } from "./scope.ts";

/** The program under test. */
export const COMMAND = new URL("../../bin/fuse4fs-ts", import.meta.url).pathname;

/** A mount that can be undone before its scope ends. */
export interface Mounted {
  readonly path: string;
  /** The loop device or server behind it. */
  readonly source: string;
  unmount(): void;
}

export interface MountOptions {
  /** What follows `-o`, after `ro` or `rw`. */
  readonly options?: readonly string[];
  /** The kernel writes to the image. */
  readonly write?: boolean;
}

/** Attaches `image` to a loop device. */
export function loopDevice(scope: Scope, image: string, write = false): string {
  const device = output("losetup", [...(write ? [] : ["-r"]), "-f", "--show", image]);
  scope.add(() => run("losetup", ["-d", device]));
  return device;
}

/** Mounts `image` with the kernel's ext4. Without `write`, the image cannot be changed by it. */
export function kernelMount(scope: Scope, image: string, options: MountOptions = {}): Mounted {
  const inner = scope.child();
  const path = inner.temporaryFolder();
  const source = loopDevice(inner, image, options.write ?? false);
  const words = [options.write === true ? "rw" : "ro", ...(options.options ?? [])];
  mountExt4(inner, source, path, words);
  return { path, source, unmount: () => inner.close() };
}

/**
 * Mounts a copy of `image` read-only with the kernel's ext4, after a mount for writing in which the
 * kernel has replayed its journal. (Replaying fast commits in a read-only mount fails half-way, as
 * Linux 6.18 starts handles for it, and refuses those.)
 */
export function kernelMountOfCopy(scope: Scope, image: string): Mounted {
  const inner = scope.child();
  const copy = copyImage(inner, image);
  kernelMount(inner, copy, { write: true, options: ["noatime"] }).unmount();
  const mount = kernelMount(inner, copy);
  return { ...mount, unmount: () => inner.close() };
}

/** Mounts an image and the file that holds its journal, read-only; both may be written to. */
export function kernelMountWithJournal(
  scope: Scope,
  image: string,
  journal: string,
  options: MountOptions = {},
): Mounted {
  const inner = scope.child();
  const journalDevice = loopDevice(inner, journal, true);
  const path = inner.temporaryFolder();
  const source = loopDevice(inner, image, true);
  const words = [options.write === true ? "rw" : "ro", `journal_path=${journalDevice}`];
  mountExt4(inner, source, path, [...words, ...(options.options ?? [])]);
  return { path, source, unmount: () => inner.close() };
}

function mountExt4(scope: Scope, source: string, path: string, words: readonly string[]): void {
  run("mount", ["-t", "ext4", "-o", words.join(","), source, path]);
  scope.add(() => run("umount", [path]));
}

/** Mounts `image` with our own command. Once it is unmounted, its server has ended, too. */
export function ourMount(scope: Scope, image: string, options: MountOptions = {}): Mounted {
  const inner = scope.child();
  const path = inner.temporaryFolder();
  const words = [options.write === true ? "rw" : "ro", ...(options.options ?? [])];
  run(COMMAND, [image, path, "-o", words.join(",")]);
  inner.add(() => awaitServerOf(path));
  inner.add(() => run("umount", [path]));
  return { path, source: image, unmount: () => inner.close() };
}

const POLL_MS = 5;
const PATIENCE_MS = 60_000;

/** Waits until nobody serves a mount at `path`: umount(8) is back before the last changes are written. */
function awaitServerOf(path: string): void {
  const deadline = Date.now() + PATIENCE_MS;
  while (isServed(path)) {
    if (Date.now() > deadline) throw new Error(`the server of ${path} does not end`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, POLL_MS);
  }
}

/** Whether something is mounted at `path`. */
export function isMounted(path: string): boolean {
  return readFileSync("/proc/self/mountinfo", "utf8").includes(` ${path} `);
}

/** The process that has `path`, a mount point or an image, among its arguments, if there is one. */
export function serverOf(path: string): number | undefined {
  const found = readdirSync("/proc").find((name) => {
    try {
      return (
        /^\d/.test(name) && readFileSync(`/proc/${name}/cmdline`, "utf8").includes(`${path}\0`)
      );
    } catch {
      return false; // it ended meanwhile
    }
  });
  return found === undefined ? undefined : Number(found);
}

/** Whether there is such a process. */
export function isServed(path: string): boolean {
  return serverOf(path) !== undefined;
}

/** A copy of the file `image` with its holes kept, as the file is at this moment. */
export function copyImage(scope: Scope, image: string): string {
  const copy = join(scope.temporaryFolder(), "copy.img");
  run("cp", ["--sparse=always", image, copy]);
  return copy;
}
