/**
 * Power cuts while a kernel moves file contents by itself, and writes them back whenever it likes: what
 * the device holds then is what it wrote and what our server wrote, in one order. `SEED=n` in front
 * replays, `STATES=n` looks at about that many states in all.
 */
import { describe, test } from "vitest";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { CRASH_CONFIGURATIONS } from "./configurations.ts";
import { explore, STATES } from "./explore.ts";
import { baseModel } from "./explorer.ts";
import { IOMAP } from "./subjects.ts";
import { pair, pairCount, randomRun } from "./workloads.ts";

/** Of all states, those that this file looks at. */
const SHARE = 0.3;
const STATES_EACH = (STATES * SHARE) / CRASH_CONFIGURATIONS.length;
/** One workload in so many is a pair of calls. */
const PAIR_EVERY = 3;

describe.skipIf(skipBecause("iomap", whyNoE2fsprogs()))("a power cut under iomap", () => {
  test.each(CRASH_CONFIGURATIONS)("loses and invents nothing with $name", async (given) => {
    const configuration = { ...given, hasRangeMoves: false };
    const { blockSize } = configuration;
    await explore(
      configuration,
      STATES_EACH,
      (random) => {
        if (random.below(PAIR_EVERY) === 0)
          return pair(blockSize, random.below(pairCount(blockSize)));
        const on = random.below(3) > 0 ? "files" : "tree";
        return randomRun(baseModel(configuration), blockSize, random.below(0x7fff_ffff), on);
      },
      IOMAP,
    );
  });
});
