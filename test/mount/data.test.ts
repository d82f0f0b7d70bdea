/** File data as applications read it: buffered, mapped and with O_DIRECT, against the kernel's. */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildImage } from "../support/build.ts";
import { imageFile } from "../support/images.ts";
import { kernelMount, type Mounted, ourMount } from "../support/mounts.ts";
import { probe } from "../support/probe.ts";
import { output, run, skipBecause, whyNoFuse, whyNoKernelMount } from "../support/run.ts";
import { Scope, withScope } from "../support/scope.ts";
import { diffTrees, walkTree } from "../support/tree.ts";

const skip = skipBecause("data", whyNoKernelMount(), whyNoFuse());
const PROBED_BYTES_MAX = 32 * 2 ** 20;

describe.skipIf(skip).each([
  ["4 KiB blocks", ["-b", "4096"], []],
  ["1 KiB blocks", ["-b", "1024"], []],
  ["1 KiB blocks without extents", ["-b", "1024", "-O", "^extent,^64bit"], []],
  ["4 KiB blocks, opened with O_DIRECT", ["-b", "4096"], ["directio"]],
  ["1 KiB blocks, opened with O_DIRECT", ["-b", "1024", "-O", "inline_data"], ["directio"]],
])("file data on %s", (_, mke2fs, options) => {
  const scope = new Scope();
  afterAll(() => scope.close());
  const extents = !mke2fs.includes("^extent,^64bit");
  let kernel: Mounted;
  let ours: Mounted;
  let files: string[];

  beforeAll(() => {
    const image = buildImage(scope, {
      name: "data",
      mke2fs: ["-t", "ext4", "-N", "4096", ...mke2fs],
      // What is promised but not written lies on blocks that were in use before.
      prepare: (mountpoint) => {
        const scratch = join(mountpoint, "scratch");
        run("sh", ["-c", `tr '\\0' x </dev/zero | head -c 90M >${scratch}; sync; rm ${scratch}`]);
      },
      sections: ["sparse", "fragmented", ...(extents ? ["unwritten"] : [])],
    });
    kernel = kernelMount(scope, image);
    ours = ourMount(scope, image, { options });
    files = readdirSync(kernel.path, { recursive: true, encoding: "utf8" }).filter((file) => {
      const stat = statSync(join(kernel.path, file));
      return stat.isFile() && stat.size > 0 && stat.size <= PROBED_BYTES_MAX;
    });
  });

  test("is the kernel's, all of it", () => {
    expect(diffTrees(walkTree(ours.path), walkTree(kernel.path))).toEqual([]);
  });

  test.each(["direct", "mapped", "pieces"] as const)("is the same in %s reads", (question) => {
    const ask = ({ path }: Mounted) => probe(question, ...files.map((file) => join(path, file)));
    expect(files.length).toBeGreaterThan(8);
    expect(ask(ours)).toEqual(ask(kernel));
  });

  test("has the kernel's holes for SEEK_DATA and SEEK_HOLE", () => {
    for (const file of ["sparse/levels", "sparse/far", "sparse/edges", "fragmented/punched"]) {
      const seek = ({ path }: Mounted) =>
        output("xfs_io", ["-r", "-c", "seek -a -r 0", join(path, file)]);
      expect(seek(ours), file).toBe(seek(kernel));
    }
  });
});

describe.skipIf(skip)("file data", () => {
  test("behind the end of a file is not shown by a mapping", () => {
    withScope((scope) => {
      const { path } = ourMount(scope, imageFile(scope, "verity"));
      const [answer] = probe("mapped", join(path, "verified"));
      expect(answer?.tailIsZero).toBe(true);
    });
  });

  test("is right when many read at once", () => {
    withScope((scope) => {
      const image = buildImage(scope, {
        name: "parallel",
        mke2fs: ["-t", "ext4", "-b", "4096"],
        sections: ["ten_thousand"],
      });
      const { path } = ourMount(scope, image);
      const sums = (root: string, jobs: number): string[] =>
        run("sh", ["-c", `find . -type f -print0 | xargs -0 -n 50 -P ${jobs} sha256sum`], {
          cwd: root,
        })
          .stdout.toString("utf8")
          .trimEnd()
          .split("\n")
          .toSorted();
      const expected = sums(kernelMount(scope, image).path, 1);
      expect(expected).toHaveLength(10_000);
      expect(sums(path, 8)).toEqual(expected);
    });
  });
});
