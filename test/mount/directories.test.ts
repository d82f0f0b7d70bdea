/** Directories as an application reads them: positions, buffers of any size, names of any length. */
import { openSync, statSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildImage } from "../support/build.ts";
import { imageFile } from "../support/images.ts";
import { kernelMount, type Mounted, ourMount } from "../support/mounts.ts";
import { probe } from "../support/probe.ts";
import { skipBecause, whyNoFuse, whyNoKernelMount } from "../support/run.ts";
import { Scope, withScope } from "../support/scope.ts";

const skip = skipBecause("directories", whyNoKernelMount(), whyNoFuse());

describe.skipIf(skip)("a directory of our mount", () => {
  const scope = new Scope();
  afterAll(() => scope.close());
  let kernel: Mounted;
  let ours: Mounted;

  beforeAll(() => {
    const image = buildImage(scope, {
      name: "directories",
      mke2fs: ["-t", "ext4", "-b", "1024", "-N", "4096", "-O", "inline_data"],
      sections: ["folders", "hashed", "names", "inline"],
    });
    kernel = kernelMount(scope, image);
    ours = ourMount(scope, image);
  });

  test.each([
    ["hashed, with inner nodes", "hashed"],
    ["hashed", "folders/hashed"],
    ["linear", "folders/reused"],
    ["emptied", "folders/emptied"],
    ["within its inode", "inline/dir5"],
    ["within its inode and its xattrs", "inline/dir9"],
    ["with names of all kinds", "names"],
    ["that is the root", "."],
  ])("%s goes on from every position of telldir()", (_, folder) => {
    const [answer] = probe("positions", `${ours.path}/${folder}`);
    const [oracle] = probe("positions", `${kernel.path}/${folder}`);
    expect(answer?.wrong).toEqual([]);
    expect(answer?.sameInSmallSteps).toBe(true);
    expect(answer?.distinct).toBe(answer?.names.length);
    expect(answer?.distinctPositions).toBe(answer?.names.length);
    expect(answer?.names.toSorted()).toEqual(oracle?.names.toSorted());
  });

  test.each([
    ["255 bytes", 255, "ENOENT"],
    ["256 bytes", 256, "ENAMETOOLONG"],
    ["1,024 bytes", 1024, "ENAMETOOLONG"],
    ["1,025 bytes", 1025, "ENAMETOOLONG"],
  ])("refuses an absent name of %s as the kernel does", (_, length, code) => {
    for (const { path } of [kernel, ours])
      expect(() => statSync(`${path}/folders/${"x".repeat(length)}`)).toThrow(code);
  });

  test("refuses a path through a file, and opening a folder for writing", () => {
    for (const { path } of [kernel, ours]) {
      expect(() => statSync(`${path}/folders/one-inode/below`)).toThrow("ENOTDIR");
      expect(() => openSync(`${path}/folders`, "r+")).toThrow(/EISDIR|EROFS/);
      expect(() => openSync(`${path}/folders/new`, "w")).toThrow("EROFS");
    }
  });

  test.each(["casefold", "htree-legacy-unsigned", "htree-tea", "ext2-plain", "ext4-64k"])(
    "of the golden image %s goes on from every position",
    (name) => {
      withScope((inner) => {
        const { path } = ourMount(inner, imageFile(inner, name));
        const folder = { "ext2-plain": "folder", "ext4-64k": "folder" }[name] ?? "hashed";
        const [answer] = probe("positions", `${path}/${folder}`);
        expect(answer?.names.length).toBeGreaterThan(10);
        expect(answer?.wrong).toEqual([]);
        expect(answer?.sameInSmallSteps).toBe(true);
      });
    },
  );

  test("with casefold is found under names of another case", () => {
    withScope((inner) => {
      const { path } = ourMount(inner, imageFile(inner, "casefold"));
      const inode = statSync(`${path}/folded/Name`).ino;
      for (const name of ["NAME", "name", "nAmE"])
        expect(statSync(`${path}/folded/${name}`).ino).toBe(inode);
      expect(() => statSync(`${path}/exact/NAME`)).toThrow("ENOENT");
    });
  });
});
