/** Short runs that once went wrong, most of them cut down from what random ones had found. */
import { describe, expect, test } from "vitest";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import { closeFilesystem, openWritableFilesystem } from "../../src/ext4/index.ts";
import { LibraryDriver, libraryTree } from "../support/posix/library.ts";
import { PosixModel } from "../support/posix/model.ts";
import type { Operation } from "../support/posix/operation.ts";
import { differences } from "../support/posix/tree.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { complaintsAbout, freshImage } from "../support/writable-image.ts";

const BLOCK = 1024;
const create: Operation = { kind: "create", path: "/file", mode: 0o644 };
const write = (offset: number, length: number): Operation => ({
  ...{ kind: "write", path: "/file", offset, length, tag: 1 },
});
const truncate = (size: number): Operation => ({ kind: "truncate", path: "/file", size });

const RUNS: readonly { name: string; features: string; run: readonly Operation[] }[] = [
  {
    name: "an empty file that has blocks promised to it does not become inline",
    features: "inline_data",
    run: [
      create,
      { kind: "fallocate", path: "/file", how: "keepSize", offset: 2 * BLOCK, length: BLOCK },
      write(0, 20),
    ],
  },
  {
    name: "a file that becomes inline in the transaction that has truncated it keeps its contents",
    features: "inline_data",
    run: [create, write(0, 5 * BLOCK), { kind: "sync" }, truncate(0), write(0, 40)],
  },
  {
    name: "a symbolic link whose name exists is refused for that, however long its target",
    features: "extent",
    run: [create, { kind: "symlink", path: "/file", target: "t".repeat(BLOCK + 1) }],
  },
];

describe.skipIf(skipBecause("regressions", whyNoE2fsprogs()))("fixed:", () => {
  test.each(RUNS)("$name", ({ features, run }) => {
    const image = freshImage("24M", ["-t", "ext4", "-b", String(BLOCK), "-O", features]);
    const model = new PosixModel({ blockSize: BLOCK });
    const fs = openWritableFilesystem(new MemoryDevice(image));
    const driver = new LibraryDriver(fs);
    for (const operation of run) expect(driver.apply(operation)).toBe(model.apply(operation));
    closeFilesystem(fs);
    expect(differences(libraryTree(fs), model.tree())).toEqual([]);
    expect(complaintsAbout(image)).toBe("");
  });
});
