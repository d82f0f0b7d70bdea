/**
 * Fresh filesystems in memory for tests that write, and what e2fsck and debugfs say about them
 * afterwards.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { debugfs, e2fsck, mke2fs } from "./e2fsprogs.ts";
import { run } from "./run.ts";
import { Scope } from "./scope.ts";

/** The bytes of a filesystem that mke2fs has just made. @param size as truncate(1) takes it. */
export function freshImage(size: string, args: readonly string[] = []): Uint8Array {
  return inFile(undefined, (file) => {
    mke2fs(file, size, args);
    return new Uint8Array(readFileSync(file));
  });
}

/**
 * The same on a device of `sizeBytes` that was full of something else: what mke2fs does not write
 * is still there, as on a disk that had a filesystem before.
 */
export function freshImageOverOld(sizeBytes: number, args: readonly string[]): Uint8Array {
  const old = new Uint8Array(sizeBytes).map((_, index) => 1 + (index % 255));
  return inFile(old, (file) => {
    run("mke2fs", ["-q", "-F", "-E", "nodiscard,lazy_itable_init=1", ...args, file]);
    return new Uint8Array(readFileSync(file));
  });
}

/** What e2fsck -fn says against the image: empty when it finds nothing. */
export function complaintsAbout(image: Uint8Array): string {
  return inFile(image, (file) => e2fsck(file));
}

/** What debugfs answers to `commands` on the image. */
export function askDebugfs(image: Uint8Array, ...commands: string[]): string {
  return inFile(image, (file) => debugfs(file, commands));
}

function inFile<T>(image: Uint8Array | undefined, action: (file: string) => T): T {
  const scope = new Scope();
  try {
    const file = join(scope.temporaryFolder(), "image");
    if (image !== undefined) writeFileSync(file, image);
    return action(file);
  } finally {
    scope.close();
  }
}
