/** Images for the exercises of test/regress, and what must be left of them. */
import { join } from "node:path";
import { e2fsck, mke2fs } from "./e2fsprogs.ts";
import { type Mounted, ourMount } from "./mounts.ts";
import type { Scope } from "./scope.ts";
import { diffTrees, walkTree } from "./tree.ts";

interface Kind {
  readonly mke2fs: readonly string[];
  /** What the scripts must know of it. */
  readonly flags?: readonly string[];
}

const KINDS = {
  "4 KiB blocks": { mke2fs: ["-b", "4096"] },
  "1 KiB blocks and inline data": { mke2fs: ["-b", "1024", "-O", "inline_data"] },
  bigalloc: { mke2fs: ["-b", "4096", "-O", "bigalloc", "-C", "16384"] },
  "block maps": {
    mke2fs: ["-b", "1024", "-O", "^extent,^64bit"],
    flags: ["--no-extents"],
  },
} as const satisfies Record<string, Kind>;
export type KindName = keyof typeof KINDS;

export function flagsOf(kind: KindName): readonly string[] {
  const { flags = [] }: Kind = KINDS[kind];
  return flags;
}

/** A new image of `size` in the folder of its own. */
export function formatted(scope: Scope, size: string, kind: KindName): string {
  const image = join(scope.temporaryFolder(), "image");
  mke2fs(image, size, ["-t", "ext4", ...KINDS[kind].mke2fs]);
  return image;
}

/** Of a read-only mount nobody asks when files were read. */
const READING = [{ fields: ["atime"] }];

/**
 * Unmounts what was exercised, and mounts it again.
 *
 * @returns what e2fsck says against it, or what differs in the new mount; empty when nothing does.
 */
export function lossesOfRemount(scope: Scope, image: string, mount: Mounted): string {
  const before = walkTree(mount.path);
  mount.unmount();
  const complaints = e2fsck(image);
  if (complaints !== "") return complaints;
  const again = ourMount(scope, image);
  return diffTrees(walkTree(again.path), before, READING).join("\n");
}
