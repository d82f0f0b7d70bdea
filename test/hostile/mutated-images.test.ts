/** Randomly damaged images: no crash, no hang, no unbounded memory. `SEED=n` in front replays. */
import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { seedOfRun } from "../support/random.ts";
import type { Report } from "./mutate.ts";
import type { WriteReport } from "./write.ts";

const READ_ROUNDS = 1000;
const WRITE_ROUNDS = 300;
const TIME_LIMIT_MS = 240_000;
/** Node itself, all golden images in memory, and a block cache of 1 MiB. */
const PEAK_MIB_MAX = 400;
/** One call, on a machine that may have a lot to do. */
const CALL_MS_MAX = 10_000;

/** Runs `script` of this folder, and takes its report. */
function reportOf<T>(script: string, rounds: number): T {
  const seed = seedOfRun();
  const path = new URL(script, import.meta.url).pathname;
  const child = spawnSync(
    "npx",
    ["tsx", "--expose-gc", path, `--seed=${seed}`, `--rounds=${rounds}`],
    { encoding: "utf8", timeout: TIME_LIMIT_MS, killSignal: "SIGKILL" },
  );
  console.log(`SEED=${seed} npm run test:hostile  →  ${child.stdout.trim()}`);
  expect(child.signal, `seed ${seed}: still running after ${TIME_LIMIT_MS} ms`).toBeNull();
  expect(child.status, child.stderr).toBe(0);
  return JSON.parse(child.stdout) as T;
}

test("reading damaged images ends, in bounded memory, with FsErrors only", () => {
  const report = reportOf<Report>("./mutate.ts", READ_ROUNDS);
  expect(report.opened).toBeGreaterThan(READ_ROUNDS / 4);
  expect(report.refused).toBeGreaterThan(READ_ROUNDS / 4);
  expect(report.peakMiB).toBeLessThan(PEAK_MIB_MAX);
});

test("writing to damaged images ends so too, and changes no metadata but by its own rules", () => {
  const report = reportOf<WriteReport>("./write.ts", WRITE_ROUNDS);
  expect(report.opened).toBeGreaterThan(WRITE_ROUNDS / 4);
  expect(report.refused).toBeGreaterThan(WRITE_ROUNDS / 4);
  expect(report.peakMiB).toBeLessThan(PEAK_MIB_MAX);
  expect(report.slowestMs, report.slowest).toBeLessThan(CALL_MS_MAX);
});
