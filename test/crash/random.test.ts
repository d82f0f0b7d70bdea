/**
 * Power cuts during longer random runs: on a few files, and on the whole tree. `SEED=n` in front
 * replays, `STATES=n` looks at about that many states in all.
 */
import { describe, test } from "vitest";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { CRASH_CONFIGURATIONS } from "./configurations.ts";
import { explore, STATES } from "./explore.ts";
import { baseModel } from "./explorer.ts";
import { burst, randomRun } from "./workloads.ts";

/** Of all states, those that this file looks at. */
const SHARE = 0.4;
/** One run in so many makes and removes names only. */
const BURST_EVERY = 5;
const STATES_EACH = (STATES * SHARE) / CRASH_CONFIGURATIONS.length;

describe.skipIf(skipBecause("random", whyNoE2fsprogs()))("a power cut in a random run", () => {
  test.each(CRASH_CONFIGURATIONS)("loses and invents nothing with $name", async (configuration) => {
    await explore(configuration, STATES_EACH, (random) => {
      if (random.below(BURST_EVERY) === 0) return burst(random);
      const on = random.below(3) === 0 ? "files" : "tree";
      const seed = random.below(0x7fff_ffff);
      return randomRun(baseModel(configuration), configuration.blockSize, seed, on);
    });
  });
});
