/**
 * Power cuts during every call alone and in pairs. `SEED=n` in front replays, `STATES=n` looks at
 * about that many states in all.
 */
import { describe, test } from "vitest";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { CRASH_CONFIGURATIONS } from "./configurations.ts";
import { explore, STATES } from "./explore.ts";
import { pair, pairCount, singles } from "./workloads.ts";

/** Of all states, those that this file looks at. */
const SHARE = 0.6;
const STATES_EACH = (STATES * SHARE) / CRASH_CONFIGURATIONS.length;
/** One in so many workloads is a call alone, as long as there are any left. */
const SINGLE_EVERY = 2;

describe.skipIf(skipBecause("ace", whyNoE2fsprogs()))("a power cut during a call or two", () => {
  test.each(CRASH_CONFIGURATIONS)("loses and invents nothing with $name", async (configuration) => {
    const { blockSize } = configuration;
    const alone = singles(blockSize);
    await explore(configuration, STATES_EACH, (random) => {
      if (alone.length > 0 && random.below(SINGLE_EVERY) === 0) {
        const [single] = alone.splice(random.below(alone.length), 1);
        if (single !== undefined) return single;
      }
      return pair(blockSize, random.below(pairCount(blockSize)));
    });
  });
});
