/**
 * Filled to the last block: with data, with inodes, with directories, with all of them. What was
 * said to be stored is there, e2fsck finds nothing while it is full and when it is empty again, and
 * all of the room comes back. `ROUNDS=n` in front repeats it more often.
 */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { e2fsck, mke2fs } from "../support/e2fsprogs.ts";
import { fill, rounds } from "../support/exercises.ts";
import { ourMount } from "../support/mounts.ts";
import { skipBecause, whyNoE2fsprogs, whyNoFuse } from "../support/run.ts";
import { withScope } from "../support/scope.ts";

const ROUNDS = 1;
const WAYS = ["data", "inodes", "directories", "mixed"];

describe.skipIf(skipBecause("disk-full", whyNoE2fsprogs(), whyNoFuse()))("a full disk", () => {
  test.each([
    ["4 KiB blocks", ["-b", "4096"]],
    ["1 KiB blocks without a reserve", ["-b", "1024", "-m", "0"]],
    ["inline data", ["-b", "1024", "-O", "inline_data"]],
  ])("holds what it has accepted, and has all its room back with %s", (_, args) => {
    withScope((scope) => {
      const image = join(scope.temporaryFolder(), "image");
      mke2fs(image, "24M", ["-t", "ext4", "-N", "3000", ...args]);
      for (const what of WAYS) {
        const mount = ourMount(scope, image, { write: true });
        const amounts = fill(mount.path, what, rounds(ROUNDS));
        expect(Math.min(...amounts), what).toBeGreaterThan(100);
        mount.unmount();
        expect(e2fsck(image), what).toBe("");
      }
    });
  });
});
