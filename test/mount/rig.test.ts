/**
 * The comparison itself: two mounts of one image are equal, and whatever is changed in one of two
 * copies is reported. Without this, a comparison that finds nothing would prove nothing.
 */
import { chmodSync, lutimesSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildImage } from "../support/build.ts";
import { copyImage, kernelMount } from "../support/mounts.ts";
import { run, skipBecause, whyNoKernelMount } from "../support/run.ts";
import { Scope, withScope } from "../support/scope.ts";
import { diffTrees, type Tree, walkTree } from "../support/tree.ts";

const SECTIONS = ["types", "xattrs", "links", "sparse", "unwritten", "times"];

describe.skipIf(skipBecause("rig", whyNoKernelMount()))("diffTrees()", () => {
  const scope = new Scope();
  afterAll(() => scope.close());
  let image: string;
  let before: Tree;

  beforeAll(() => {
    image = buildImage(scope, { name: "rig", mke2fs: ["-t", "ext4"], sections: SECTIONS });
    before = walkTree(kernelMount(scope, image).path);
  });

  test("finds nothing between two mounts of the same image", () => {
    withScope((inner) => {
      expect(diffTrees(walkTree(kernelMount(inner, image).path), before)).toEqual([]);
    });
  });

  test.each<[what: string, path: string, field: string, change: (path: string) => void]>([
    ["a mode", "types/file", "mode", (path) => chmodSync(path, 0o600)],
    ["an owner", "types/fifo", "uid", (path) => run("chown", ["-h", "7", path])],
    ["a time of a symlink", "types/link", "mtime", (path) => lutimesSync(path, 1, 2)],
    ["a byte", "sparse/edges", "content", (path) => overwrite(path, 1)],
    ["a byte in a hole", "sparse/all-hole", "content", (path) => overwrite(path, 5000)],
    ["a byte far out", "sparse/far", "content", (path) => overwrite(path, 5 * 2 ** 30 + 100)],
    ["a size", "sparse/size0", "size", (path) => truncateSync(path, 1)],
    ["an xattr's value", "xattrs/one", "xattrs", (path) => setXattr(path, "user.a", "other")],
    ["an xattr more", "types/file", "xattrs", (path) => setXattr(path, "security.x", "y")],
    ["a link count", "links/fifo", "nlink", (path) => run("ln", [path, `${path}-too`])],
    ["a symlink's target", "types/link", "target", replaceLink],
    ["a name less", "links/fifo", "missing", (path) => rmSync(path)],
    ["a name more", "links/new", "should not exist", (path) => writeFileSync(path, "")],
    ["a device number", "types/c1-3", "rdev", replaceDevice],
  ])("finds %s", (_what, path, field, change) => {
    withScope((inner) => {
      const copy = copyImage(inner, image);
      const mount = kernelMount(inner, copy, { write: true, options: ["noatime"] });
      change(join(mount.path, path));
      mount.unmount();
      const found = diffTrees(walkTree(kernelMount(inner, copy).path), before);
      expect(found.filter((line) => line.startsWith(`"./${path}": ${field}`))).toHaveLength(1);
    });
  });
});

function overwrite(path: string, offset: number): void {
  run("dd", ["bs=1", `seek=${offset}`, "conv=notrunc", `of=${path}`], { input: "!" });
}

function setXattr(path: string, name: string, value: string): void {
  run("setfattr", ["-n", name, "-v", value, path]);
}

function replaceLink(path: string): void {
  rmSync(path);
  symlinkSync("elsewhere", path);
}

function replaceDevice(path: string): void {
  rmSync(path);
  run("mknod", [path, "c", "1", "4"]);
}
