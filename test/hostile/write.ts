/**
 * Damages golden images at random, opens them for writing and does at random all that can be done,
 * over and over. Runs in a process of its own, as mutate.ts does:
 *
 *     tsx --expose-gc test/hostile/write.ts --seed=N --rounds=N
 *
 * Whatever an image says, each call must return or throw an FsError, in bounded time and memory,
 * and the promises of guards.ts must hold. Prints one line of JSON (`WriteReport`); anything else
 * that is thrown ends it with the seed of the round, which replays it as `--seed=THAT --rounds=1`.
 */
import {
  CorruptionError,
  closeFilesystem,
  type Filesystem,
  FsError,
  openWritableFilesystem,
  reportCorruption,
} from "../../src/ext4/index.ts";
import { image, imageNames } from "../support/images.ts";
import { type Random, randomFrom } from "../support/random.ts";
import { type Anatomy, anatomyOf, damageBytes, damageSealed } from "./damage.ts";
import { GuardedDevice, installGuards, unwatch, watch } from "./guards.ts";
import { Workload } from "./workload.ts";

export interface WriteReport {
  readonly rounds: number;
  /** Rounds in which the image could still be opened for writing. */
  readonly opened: number;
  readonly calls: number;
  /** Calls that were refused with an FsError. */
  readonly refused: number;
  readonly rules: Record<string, number>;
  readonly peakMiB: number;
  readonly slowestMs: number;
  readonly slowest: string;
}

const ROUNDS_PER_COLLECTION = 4;
const CALLS_MAX = 60;
const SESSIONS = 2;
const SHOWN_CALLS = 25;
const CACHE_BYTES = 1 << 18;

const anatomies = new Map<string, Anatomy>();
const rules: Record<string, number> = {};
let calls = 0;
let refused = 0;
let slowestMs = 0;
let slowest = "";
let history: string[] = [];

function attempt<T>(what: string, act: () => T): T | undefined {
  history.push(what);
  calls += 1;
  const start = performance.now();
  try {
    return act();
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
    refused += 1;
    if (error instanceof CorruptionError) rules[error.rule] = (rules[error.rule] ?? 0) + 1;
    history.push(`  ${error.message}`);
    if (error instanceof CorruptionError && current?.isWritable) reportCorruption(current, error);
    return undefined;
  } finally {
    const took = performance.now() - start;
    if (took > slowestMs) {
      slowestMs = took;
      slowest = what;
    }
  }
}

let current: Filesystem | undefined;

function round(seed: number, names: readonly string[]): boolean {
  const random = randomFrom(seed);
  const name = names[random.below(names.length)] as string;
  const bytes = image(name);
  const anatomy = anatomies.get(name) ?? anatomyOf(bytes);
  anatomies.set(name, anatomy);
  history = [name];
  if (random.below(2) === 0) damageSealed(bytes, anatomy, random);
  else damageBytes(bytes, anatomy, random);
  let hasOpened = false;
  for (let session = 0; session < SESSIONS; session++) {
    if (!workOn(bytes, random)) return hasOpened;
    hasOpened = true;
  }
  return hasOpened;
}

function workOn(bytes: Uint8Array, random: Random): boolean {
  const errors = random.below(4) === 0 ? "remount-ro" : "continue";
  const device = new GuardedDevice(bytes);
  const fs = attempt("open", () =>
    openWritableFilesystem(device, {
      errors,
      cacheSizeBytes: CACHE_BYTES,
      random: () => random.below(1 << 30) / (1 << 30),
      now: () => ({ seconds: 1_700_000_000, nanoseconds: 0 }),
      sleep: () => {},
      onDamage: (error) => history.push(`  damage: ${error.message}`),
      onAbort: (error) => history.push(`  aborted: ${(error as Error).message}`),
    }),
  );
  if (fs === undefined) return false;
  current = fs;
  watch(fs);
  try {
    const workload = new Workload(fs, random);
    workload.explore((act) => attempt("explore", act));
    for (let left = random.below(CALLS_MAX); left > 0; left--) attempt(...workload.next());
    if (random.below(4) > 0) attempt("close", () => closeFilesystem(fs));
  } finally {
    unwatch();
    current = undefined;
  }
  return true;
}

function argument(name: string): number {
  const found = process.argv.find((word) => word.startsWith(`--${name}=`));
  return Number(found?.split("=")[1]);
}

installGuards();
const names = imageNames();
const rounds = argument("rounds");
let opened = 0;
for (let index = 0; index < rounds; index++) {
  const seed = argument("seed") + index;
  if (index % ROUNDS_PER_COLLECTION === 0) globalThis.gc?.();
  try {
    if (round(seed, names)) opened += 1;
  } catch (error) {
    const { stack, cause } = error as Error;
    const last = history.slice(-SHOWN_CALLS).join("\n");
    const because = cause instanceof Error ? `because of ${cause.stack}\n` : "";
    process.stderr.write(`seed ${seed}, ${history[0]}:\n${last}\n${stack}\n${because}`);
    process.exit(1);
  }
}
const peakMiB = Math.round(process.resourceUsage().maxRSS / 1024);
const report: WriteReport = {
  ...{ rounds, opened, calls, refused, rules, peakMiB },
  ...{ slowestMs: Math.round(slowestMs), slowest },
};
process.stdout.write(`${JSON.stringify(report)}\n`);
