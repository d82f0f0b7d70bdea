/**
 * The same random system calls on our mount and on the kernel's ext4: the same results, errnos,
 * attributes and trees. Afterwards e2fsck finds nothing, the kernel reads our image as we do, writes
 * to it, and we read that. `SEED=n` in front replays, `CALLS=n` makes it longer.
 */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Configuration, churn } from "../support/build.ts";
import { e2fsck, mke2fs } from "../support/e2fsprogs.ts";
import { sideBySide } from "../support/exercises.ts";
import { kernelMount, ourMount } from "../support/mounts.ts";
import { seedOfRun } from "../support/random.ts";
import { run, skipBecause, whyNoFuse, whyNoKernelMount } from "../support/run.ts";
import { withScope } from "../support/scope.ts";
import { diffTrees, type Exception, type Tree, walkTree } from "../support/tree.ts";

const CALLS = Number(process.env["CALLS"] ?? 4000);

/** Where things lie and when they were made; what that needs of maps; how directories have grown. */
const OTHERWISE: Exception = {
  fields: ["ino", "dirent", "dots", "atime", "btime", "ctime", "mtime", "blocks512"],
};
const ROOM: Exception = {
  fields: ["bfree", "bavail", "ffree", "favail"],
  when: ({ path }) => path === "statvfs",
};
const S_IFDIR = 0o040000;
const DIRECTORY_SIZE: Exception = { fields: ["size"], when: ({ type }) => type === S_IFDIR };

/** Of an inline file that was made longer, the kernel cannot say where its hole is. */
const INLINE_TAIL: Exception = {
  fields: ["content"],
  when: ({ content }) => content === "ENOENT",
};
const ATIME: Exception = { fields: ["atime"] };

type Case = Pick<Configuration, "name" | "mke2fs"> & { readonly flags: readonly string[] };
const CASES: readonly Case[] = [
  { name: "4 KiB blocks", mke2fs: ["-b", "4096"], flags: ["--users"] },
  { name: "1 KiB blocks", mke2fs: ["-b", "1024"], flags: ["--users"] },
  { name: "inline data", mke2fs: ["-b", "4096", "-O", "inline_data"], flags: ["--users"] },
  { name: "block maps", mke2fs: ["-b", "1024", "-O", "^extent,^64bit"], flags: ["--no-extents"] },
];

describe.skipIf(skipBecause("side-by-side", whyNoKernelMount(), whyNoFuse()))("our mount", () => {
  test.each(CASES)("does what the kernel's ext4 does with $name", ({ mke2fs: args, flags }) => {
    const seed = seedOfRun();
    withScope((scope) => {
      const folder = scope.temporaryFolder();
      const [image, reference] = [join(folder, "ours"), join(folder, "kernel")];
      for (const file of [image, reference]) mke2fs(file, "128M", ["-t", "ext4", ...args]);
      const kernel = kernelMount(scope, reference, { write: true });
      const options = ["allow_other", "default_permissions"];
      const ours = ourMount(scope, image, { write: true, options });
      const differences = sideBySide(ours.path, kernel.path, seed, CALLS, flags);
      expect(differences, `SEED=${seed}`).toEqual([]);
      const tree = comparable(ours.path);
      const exceptions = [OTHERWISE, ROOM, DIRECTORY_SIZE, INLINE_TAIL];
      expect(diffTrees(tree, comparable(kernel.path), exceptions), `SEED=${seed}`).toEqual([]);
      ours.unmount();

      expect(e2fsck(image)).toBe("");
      const kernelOnOurs = kernelMount(scope, image, { write: true });
      expect(diffTrees(tree, comparable(kernelOnOurs.path), [ATIME, ROOM, INLINE_TAIL])).toEqual(
        [],
      );
      churn(kernelOnOurs.path, "everything", "sync");
      const changed = comparable(kernelOnOurs.path);
      kernelOnOurs.unmount();
      const again = ourMount(scope, image, { write: true });
      expect(diffTrees(comparable(again.path), changed, [ATIME, ROOM, INLINE_TAIL])).toEqual([]);
      again.unmount();
      expect(e2fsck(image)).toBe("");
    });
  });
});

/**
 * The tree below `root` without the places of data and holes: zeros may be either, and the kernel
 * takes promised blocks for data once they have been read. (The walk sees that holes are zeros.)
 */
function comparable(root: string): Tree {
  const segments = /"segments": (?:"[^"]*"|\[.*?\]), "sha256"/;
  // With block maps, the kernel's ext4 takes data for a hole that it has not allocated blocks for.
  run("sync", ["-f", root]);
  const lines = [...walkTree(root)];
  return new Map(lines.map(([path, line]) => [path, line.replace(segments, '"sha256"')]));
}
