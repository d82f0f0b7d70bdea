/**
 * The model that our library is compared with, itself compared: the kernel's ext4 carries out the
 * same random calls, and answers the same. `SEED=n` in front replays.
 */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { mke2fs } from "../support/e2fsprogs.ts";
import { kernelMount } from "../support/mounts.ts";
import { PosixModel } from "../support/posix/model.ts";
import { execute, mountedTree } from "../support/posix/mounted.ts";
import { type Operation, describe as shown } from "../support/posix/operation.ts";
import { KINDS, randomOperation } from "../support/posix/random-operation.ts";
import { differences } from "../support/posix/tree.ts";
import { randomFrom, seedOfRun } from "../support/random.ts";
import { skipBecause, whyNoKernelMount } from "../support/run.ts";
import { withScope } from "../support/scope.ts";

const OPERATIONS = 3000;

/**
 * With blocks of 1 KiB, Linux 6.18 loses what is written far behind the end of an inline file, unless
 * it allocates at once.
 */
const ALLOCATING_AT_ONCE = ["nodelalloc"];
/** And it loses what is written to an inline file after any fallocate, fsync or not. */
const NO_FALLOCATE = KINDS.filter((kind) => kind !== "fallocate");

describe.skipIf(skipBecause("posix-model", whyNoKernelMount()))("PosixModel", () => {
  test.each([
    { name: "4 KiB blocks", blockSize: 4096, mke2fs: [] },
    { name: "1 KiB blocks", blockSize: 1024, mke2fs: [] },
    { name: "no extents", blockSize: 1024, mke2fs: ["-O", "^extent,^64bit"], hasExtents: false },
    {
      name: "inline data",
      blockSize: 1024,
      mke2fs: ["-O", "inline_data"],
      mountOptions: ALLOCATING_AT_ONCE,
      kinds: NO_FALLOCATE,
    },
  ])("answers as the kernel's ext4 does with $name", (kind) => {
    const { mke2fs: args, mountOptions = [], kinds = KINDS, ...options } = kind;
    const seed = seedOfRun();
    const random = randomFrom(seed);
    const model = new PosixModel(options);
    const { blockSize } = options;
    const limits = {
      fileBytesMax: 64 * 1024,
      entriesMax: 150,
      blockSize,
      xattrBytesMax: 600,
      kinds,
    };
    const operations: Operation[] = [];
    const expected: string[] = [];
    for (let count = 0; count < OPERATIONS; count++) {
      const operation = randomOperation(model, random, limits);
      operations.push(operation);
      expected.push(model.apply(operation));
    }
    model.closeAll();
    withScope((scope) => {
      const image = join(scope.temporaryFolder(), "image");
      mke2fs(image, "128M", ["-t", "ext4", "-b", String(blockSize), ...args]);
      const mount = kernelMount(scope, image, { write: true, options: mountOptions });
      const answers = execute(mount.path, operations);
      const wrong = operations.flatMap((operation, index) =>
        answers[index] === expected[index]
          ? []
          : [`${index} ${shown(operation)}: ${answers[index]}, model ${expected[index]}`],
      );
      expect(wrong.slice(0, 10), `SEED=${seed}`).toEqual([]);
      expect(differences(mountedTree(mount.path), model.tree()), `SEED=${seed}`).toEqual([]);
    });
  });
});
