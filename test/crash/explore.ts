/** One test of the crash explorer: explores workloads until enough states were judged. */
import { expect } from "vitest";
import { type Random, randomFrom, seedOfRun } from "../support/random.ts";
import { whyNoKernelMount } from "../support/run.ts";
import { Scope } from "../support/scope.ts";
import type { CrashConfiguration } from "./configurations.ts";
import { type CrashReport, Explorer } from "./explorer.ts";
import type { SubjectKind } from "./subjects.ts";
import { laterInTheJournal, type Workload } from "./workloads.ts";

const OTHER_CASES_MAX = 24;
const KERNEL_EVERY = 150;
/** One workload in so many begins somewhere in the journal, not at its start. */
const LATER_EVERY = 3;

/** How many states all tests together look at: `STATES` of the environment, or what a run needs. */
export const STATES = Number(process.env["STATES"] ?? 10_500);

/**
 * Explores what `next` gives until `states` states with bytes of their own were recovered and
 * judged, and expects no violation. Prints the counts, and the seed that repeats them.
 */
export async function explore(
  configuration: CrashConfiguration,
  states: number,
  next: (random: Random) => Workload,
  subject?: SubjectKind,
): Promise<CrashReport> {
  const seed = seedOfRun();
  const random = randomFrom(seed);
  const scope = new Scope();
  try {
    const canAskKernel = whyNoKernelMount() === undefined && configuration.isRareInKernels !== true;
    const kernelEvery = canAskKernel ? KERNEL_EVERY : 0;
    const explorer = new Explorer({
      ...{ scope, configuration, seed, otherCasesMax: OTHER_CASES_MAX, kernelEvery },
      ...(subject !== undefined && { subject }),
    });
    const { report } = explorer;
    while (report.distinct < states && !explorer.isFailing) {
      const workload = next(random);
      const isLater = random.below(LATER_EVERY) === 0;
      await explorer.explore(isLater ? laterInTheJournal(workload, random) : workload);
    }
    await explorer.finish();
    const { violations, ...counts } = report;
    console.log(`SEED=${seed} ${configuration.name}: ${JSON.stringify(counts)}`);
    expect(violations.join("\n")).toBe("");
    return report;
  } finally {
    scope.close();
  }
}
