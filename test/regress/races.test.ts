/**
 * Several processes at one file or folder of a real mount, in ways that have shown stale blocks,
 * torn records and lost names elsewhere (test/support/races says what nobody may see). Then the same
 * contents from a new mount, and e2fsck. `SEED=n` in front replays the calls, not how they meet;
 * `EXERCISE_SECONDS=n` makes each longer.
 */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { flagsOf, formatted, lossesOfRemount } from "../support/exercised-image.ts";
import { exerciseSeconds, race } from "../support/exercises.ts";
import { ourMount } from "../support/mounts.ts";
import { seedOfRun } from "../support/random.ts";
import { skipBecause, whyNoE2fsprogs, whyNoFuse } from "../support/run.ts";
import { withScope } from "../support/scope.ts";

const SECONDS = 3;
/** Small, so that blocks are used again at once. */
const SIZE = "40M";

const skip = skipBecause("races", whyNoE2fsprogs(), whyNoFuse());

describe.skipIf(skip)("on a mount, what is read", () => {
  test.each([
    ["punching", "4 KiB blocks"],
    ["punching", "block maps"],
    ["punching", "bigalloc"],
    ["unwritten", "4 KiB blocks"],
    ["unwritten", "1 KiB blocks and inline data"],
    ["truncation", "4 KiB blocks"],
    ["truncation", "1 KiB blocks and inline data"],
    ["direct", "4 KiB blocks"],
    ["direct", "bigalloc"],
    ["flood", "4 KiB blocks"],
    ["names", "4 KiB blocks"],
    ["names", "1 KiB blocks and inline data"],
    ["appends", "4 KiB blocks"],
    ["appends", "block maps"],
  ] as const)("stays right through the race of %s with %s", (name, kind) => {
    const seed = seedOfRun();
    withScope((scope) => {
      const image = formatted(scope, SIZE, kind);
      const mount = ourMount(scope, image, { write: true });
      const seconds = exerciseSeconds(SECONDS);
      race(name, join(mount.path, "race"), { seed, seconds }, flagsOf(kind));
      expect(lossesOfRemount(scope, image, mount), `SEED=${seed}`).toBe("");
    });
  });
});
