/**
 * Images of every feature and block size, filled through our mount. e2fsck finds nothing against
 * them; the kernel shows the same tree as we did, and the same as it makes of the same calls; it
 * writes to them, and we show that.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { buildImage, type Configuration, populate } from "../support/build.ts";
import { CONFIGURATIONS, EXTENTS } from "../support/configurations.ts";
import { debugfs, e2fsck, mke2fs } from "../support/e2fsprogs.ts";
import { kernelMount, type Mounted, ourMount } from "../support/mounts.ts";
import { run, skipBecause, whyNoFuse, whyNoKernelMount } from "../support/run.ts";
import { type Scope, withScope } from "../support/scope.ts";
import { diffTrees, type Exception, type Tree, walkTree } from "../support/tree.ts";

const SIZE_DEFAULT = "128M";
const S_IFDIR = 0o040000;

/** Without the feature `filetype` the kernel does not tell readdir's types; we do where we know. */
const UNKNOWN_TYPE: Exception = {
  fields: ["dirent", "dots"],
  when: ({ dirent }) => dirent?.[1] === 0,
};
/** What two who make the same calls one after the other may do differently. */
const PLACEMENT: readonly Exception[] = [
  { fields: ["ino", "dirent", "dots", "blocks512", "atime", "btime", "ctime", "generation"] },
  { fields: ["bfree", "bavail", "favail", "ffree", "blocks", "fsid"] },
  { fields: ["mtime"], when: ({ path }) => !String(path).startsWith("times/") },
  { fields: ["size"], when: ({ type }) => type === S_IFDIR },
];
/** A new filesystem as `configuration` wants it. */
function format(scope: Scope, configuration: Configuration): string {
  const image = join(scope.temporaryFolder(), "image");
  mke2fs(image, configuration.size ?? SIZE_DEFAULT, configuration.mke2fs);
  if (configuration.debugfs !== undefined) debugfs(image, configuration.debugfs, true);
  return image;
}

/** Runs `work` on our mount of `image`, then e2fsck. @returns the tree before the unmount. */
function changeByUs(scope: Scope, image: string, work: (root: string) => void): Tree {
  const mount = ourMount(scope, image, { write: true, options: ["noatime"] });
  work(mount.path);
  const tree = walkTree(mount.path);
  mount.unmount();
  expect(e2fsck(image), "after we wrote").toBe("");
  return tree;
}

/** The same on the kernel's mount. @returns the tree as a fresh mount of the kernel shows it. */
function changeByKernel(scope: Scope, image: string, work: (root: string) => void): Tree {
  const mount = kernelMount(scope, image, { write: true, options: ["noatime"] });
  work(mount.path);
  mount.unmount();
  expect(e2fsck(image), "after the kernel wrote").toBe("");
  return treeOf(kernelMount(scope, image));
}

/** The tree of a mount, which is gone after that. */
function treeOf(mount: Mounted): Tree {
  const tree = walkTree(mount.path);
  mount.unmount();
  return tree;
}

/** Fills a folder of its own, so that a second time finds nothing in its way. */
function fillFolder(root: string, name: string, sections: readonly string[]): void {
  const folder = join(root, name);
  mkdirSync(folder);
  populate(folder, sections);
}

/** Removes a folder in which some of the files are immutable; chattr complains of the devices. */
function removeFolder(path: string): void {
  run("chattr", ["-R", "-ia", path], { accept: [0, 1] });
  run("rm", ["-r", path]);
}

const skip = skipBecause("written", whyNoKernelMount(), whyNoFuse());
/** The hash of a directory is the directory tests' business (test/oracle). */
const OURS_TO_FILL = CONFIGURATIONS.filter(
  ({ finish, name, prepare }) =>
    finish === undefined && prepare === undefined && !name.includes("hashed"),
);
/** Those for which the kernel makes the same calls, for comparison. */
const COMPARED = ["ext4, as mke2fs makes it", "ext2 on 1 KiB blocks", "inline_data"];

describe.skipIf(skip)("what we write is sound, and the kernel's to read and go on with:", () => {
  test.each(OURS_TO_FILL.map((each) => [each.name, each] as const))("%s", (name, configuration) => {
    withScope((scope) => {
      const { sections } = configuration;
      const [first = ""] = sections;
      const image = format(scope, configuration);
      const ours = changeByUs(scope, image, (root) => populate(root, sections));
      expect(ours.size).toBeGreaterThan(sections.length);
      const asKernelSeesIt = treeOf(kernelMount(scope, image));
      expect(diffTrees(ours, asKernelSeesIt, [UNKNOWN_TYPE])).toEqual([]);
      if (COMPARED.includes(name)) {
        const byKernel = treeOf(kernelMount(scope, buildImage(scope, configuration)));
        expect(diffTrees(ours, byKernel, [UNKNOWN_TYPE, ...PLACEMENT])).toEqual([]);
      }

      const further = changeByKernel(scope, image, (root) => {
        removeFolder(join(root, first));
        fillFolder(root, "kernel", sections.slice(0, 2));
      });
      expect(diffTrees(treeOf(ourMount(scope, image)), further, [UNKNOWN_TYPE])).toEqual([]);
      const left = changeByUs(scope, image, (root) => removeFolder(join(root, "kernel")));
      expect([...left.keys()].filter((path) => path.startsWith("./kernel"))).toEqual([]);
    });
  });
});

describe.skipIf(skip)("what we write is sound, and ours to read again:", () => {
  test.each([
    ["quota and project", "128M", ["-O", "quota,project"], EXTENTS],
    ["blocks of 8 KiB", "256M", ["-b", "8192"], EXTENTS],
    ["blocks of 64 KiB", "1G", ["-b", "65536"], EXTENTS],
    ["blocks of 64 KiB without checksums", "1G", ["-b", "65536", "-O", "^metadata_csum"], EXTENTS],
  ] as const)("%s", (name, size, mke2fsArgs, sections) => {
    withScope((scope) => {
      const args = ["-t", "ext4", "-N", "4096", ...mke2fsArgs];
      const image = format(scope, { name, size, mke2fs: args, sections });
      const written = changeByUs(scope, image, (root) => populate(root, sections));
      expect(written.size).toBeGreaterThan(sections.length);
      const again = treeOf(ourMount(scope, image));
      expect(diffTrees(again, written, [UNKNOWN_TYPE])).toEqual([]);
    });
  });
});
