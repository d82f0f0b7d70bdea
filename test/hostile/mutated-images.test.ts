/** Randomly damaged images: no crash, no hang, no unbounded memory. `SEED=n` in front replays. */
import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { seedOfRun } from "../support/random.ts";
import type { Report } from "./mutate.ts";

const ROUNDS = 4000;
const TIME_LIMIT_MS = 240_000;
/** Node itself, all golden images in memory, and a block cache of 1 MiB. */
const PEAK_MIB_MAX = 400;

test("reading damaged images ends, in bounded memory, with FsErrors only", () => {
  const seed = seedOfRun();
  const script = new URL("./mutate.ts", import.meta.url).pathname;
  const child = spawnSync(
    "npx",
    ["tsx", "--expose-gc", script, `--seed=${seed}`, `--rounds=${ROUNDS}`],
    {
      encoding: "utf8",
      timeout: TIME_LIMIT_MS,
      killSignal: "SIGKILL",
    },
  );
  console.log(`SEED=${seed} npm run test:hostile  →  ${child.stdout.trim()}`);
  expect(child.signal, `seed ${seed}: still running after ${TIME_LIMIT_MS} ms`).toBeNull();
  expect(child.status, child.stderr).toBe(0);
  const report = JSON.parse(child.stdout) as Report;
  expect(report.opened).toBeGreaterThan(ROUNDS / 4);
  expect(report.refused).toBeGreaterThan(ROUNDS / 4);
  expect(report.peakMiB).toBeLessThan(PEAK_MIB_MAX);
});
