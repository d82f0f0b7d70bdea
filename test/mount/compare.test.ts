/**
 * Our mount against the kernel's: images of every feature and block size, written by the kernel's
 * own ext4, walked through both. Everything that an application can see must be equal: paths,
 * types, modes, owners, times, link counts, inode numbers, sizes, blocks, xattrs, symlink targets,
 * data segments, contents, and what statfs says.
 */
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildImage, formatWithExternalJournal, populate } from "../support/build.ts";
import { CONFIGURATIONS, EXTENTS } from "../support/configurations.ts";
import { mke2fs } from "../support/e2fsprogs.ts";
import { imageFile, imageNames } from "../support/images.ts";
import {
  kernelMount,
  kernelMountOfCopy,
  kernelMountWithJournal,
  type Mounted,
  ourMount,
} from "../support/mounts.ts";
import { lookUp } from "../support/probe.ts";
import { skipBecause, whyNoFuse, whyNoKernelMount } from "../support/run.ts";
import { Scope, withScope } from "../support/scope.ts";
import { diffTrees, type Exception, type Tree, walkTree } from "../support/tree.ts";

const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;

/** Without the feature `filetype` the kernel does not tell readdir's types; we do where we know. */
const UNKNOWN_TYPE: Exception = {
  fields: ["dirent", "dots"],
  when: ({ dirent }) => dirent?.[1] === 0,
};

const skip = skipBecause("compare", whyNoKernelMount(), whyNoFuse());

describe.skipIf(skip)("our mount shows what the kernel's shows of", () => {
  test.each(CONFIGURATIONS.map((each) => [each.name, each] as const))("%s", (_, configuration) => {
    withScope((scope) => {
      const image = buildImage(scope, configuration);
      const kernel = kernelMount(scope, image);
      const expected = walkTree(kernel.path);
      expect(expected.size).toBeGreaterThan(configuration.sections.length);
      const ours = ourMount(scope, image);
      expectSameLookups(ours, kernel, expected);
      expect(diffTrees(walkTree(ours.path), expected, [UNKNOWN_TYPE])).toEqual([]);
    });
  });

  test.each(imageNames().filter(isForThisKernel))("the golden image %s", (name) => {
    withScope((scope) => {
      const image = imageFile(scope, name);
      const mount = name.startsWith("dirty") ? kernelMountOfCopy : kernelMount;
      const kernel = walkTree(mount(scope, image).path);
      expect(kernel.size).toBeGreaterThan(3);
      expect(diffTrees(walkTree(ourMount(scope, image).path), kernel, [UNKNOWN_TYPE])).toEqual([]);
    });
  });

  test("a tree of 10,000 files, and one directory of 100,000", () => {
    withScope((scope) => {
      const image = buildImage(scope, {
        name: "large",
        size: "2G",
        mke2fs: ["-t", "ext4", "-N", "130000"],
        sections: ["ten_thousand", "big_directory"],
      });
      const kernel = kernelMount(scope, image);
      const expected = walkTree(kernel.path);
      expect(expected.size).toBeGreaterThan(110_000);
      const ours = ourMount(scope, image);
      expectSameLookups(ours, kernel, expected);
      expect(diffTrees(walkTree(ours.path), expected)).toEqual([]);
    });
  });

  test("an image with an external journal", () => {
    withScope((scope) => {
      const { image, journal } = formatWithExternalJournal(scope, "128M", ["-b", "4096"]);
      const filled = kernelMountWithJournal(scope, image, journal, { write: true });
      populate(filled.path, EXTENTS);
      filled.unmount();
      const kernel = walkTree(kernelMountWithJournal(scope, image, journal).path);
      expect(kernel.size).toBeGreaterThan(EXTENTS.length);
      const ours = ourMount(scope, image, { options: [`journal_path=${journal}`] });
      expect(diffTrees(walkTree(ours.path), kernel)).toEqual([]);
    });
  });
});

/**
 * Looks all of `tree` up by name, and a name that is absent in each directory, before any directory
 * of our mount has been read: afterwards the kernel knows the entries and does not ask.
 */
function expectSameLookups(ours: Mounted, kernel: Mounted, tree: Tree): void {
  const paths = [...tree.keys()].filter((path) => path !== "statvfs");
  const directories = new Set(paths.map((path) => dirname(path)));
  const absent = [...directories].flatMap((path) => [
    `${path}/absent`,
    `${path}/${"x".repeat(200)}`,
  ]);
  const names = [...paths, ...absent];
  const answers = lookUp(ours.path, names);
  const expected = lookUp(kernel.path, names);
  expect(names.filter((name) => answers[name] !== expected[name])).toEqual([]);
}

/** Not blocks above the page size, nor Unicode (CONFIG_UNICODE is off in many kernels). */
function isForThisKernel(name: string): boolean {
  return !/^(ext4-(8|16|32|64)k|casefold|verity)$/.test(name);
}

describe.skipIf(skip)("our mount of blocks larger than a page", () => {
  const scope = new Scope();
  afterAll(() => scope.close());
  const SECTIONS = ["types", "owners", "modes", "symlinks", "names", "xattrs", "links", "folders"];
  let source: string;
  let expected: Tree;

  beforeAll(() => {
    const options = { name: "source", mke2fs: ["-t", "ext4", "-b", "4096"], sections: SECTIONS };
    source = kernelMount(scope, buildImage(scope, options)).path;
    expected = walkTree(source);
  });

  /** Inode numbers, sizes in blocks, and the times that mke2fs does not copy. */
  const OTHERWISE: Exception = {
    fields: [
      ...["ino", "dirent", "dots", "blocks512", "blockSize", "atime", "btime", "ctime", "mtime"],
      ...["bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail"],
    ],
  };
  const DIRECTORY_SIZE: Exception = { fields: ["size"], when: ({ type }) => type === S_IFDIR };
  /** mke2fs makes two symlinks of one that has two names. */
  const SYMLINK_COUNT: Exception = { fields: ["nlink"], when: ({ type }) => type === S_IFLNK };

  test.each(["8192", "16384", "32768", "65536"])("%s bytes shows what mke2fs put there", (size) => {
    withScope((inner) => {
      const image = join(inner.temporaryFolder(), "image");
      mke2fs(image, "512M", ["-t", "ext4", "-b", size, "-N", "4096", "-d", source]);
      const ours = walkTree(ourMount(inner, image).path);
      expect(diffTrees(ours, expected, [OTHERWISE, DIRECTORY_SIZE, SYMLINK_COUNT])).toEqual([]);
    });
  });
});
