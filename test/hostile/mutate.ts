/**
 * Damages golden images at random and reads all there is of each, over and over. Runs in a process
 * of its own, so that whoever started it can end it when it hangs:
 *
 *     tsx --expose-gc test/hostile/mutate.ts --seed=N --rounds=N
 *
 * Whatever an image says, each call must return or throw an FsError, in bounded time and memory.
 * Prints one line of JSON (`Report`); anything else that is thrown ends it with the seed of the
 * round, which replays it as `--seed=THAT --rounds=1`.
 */
import { MemoryDevice } from "../../src/device/memory-device.ts";
import { openFilesystem } from "../../src/ext4/index.ts";
import { image, imageNames } from "../support/images.ts";
import { type Random, randomFrom } from "../support/random.ts";
import { attempt, readEverything, refusals } from "./read-everything.ts";

export interface Report {
  readonly rounds: number;
  /** Rounds in which the image could still be opened. */
  readonly opened: number;
  /** Calls that were refused with an FsError. */
  readonly refused: number;
  readonly peakMiB: number;
  readonly slowestMs: number;
}

const ROUNDS_PER_COLLECTION = 4;
const CHANGES_MAX = 12;
/** Metadata sits in front, so that is where most changes go. */
const FRONT_SHARE = 0.6;
const FRONT_BYTES = 96 * 1024;
/** Values that are likely to cross a limit. */
const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];

function damage(bytes: Uint8Array, random: Random): void {
  const view = new DataView(bytes.buffer);
  for (let left = 1 + random.below(CHANGES_MAX); left > 0; left--) {
    const front = random.below(1000) < FRONT_SHARE * 1000;
    const at = random.below((front ? Math.min(FRONT_BYTES, bytes.length) : bytes.length) - 4);
    const kind = random.below(4);
    const edge = EDGES[random.below(EDGES.length)] as number;
    if (kind === 0) view.setUint8(at, view.getUint8(at) ^ (1 << random.below(8)));
    else if (kind === 1) view.setUint32(at & ~3, edge, true);
    else if (kind === 2) view.setUint16(at & ~1, edge & 0xffff, true);
    else bytes.copyWithin(at, random.below(bytes.length - 64), random.below(64) + 1 + at);
  }
}

function round(seed: number, names: readonly string[]): boolean {
  const random = randomFrom(seed);
  const bytes = image(names[random.below(names.length)] as string);
  damage(bytes, random);
  const device = new MemoryDevice(bytes);
  const fs = attempt(() => openFilesystem(device, { cacheSizeBytes: 1 << 20 }));
  if (fs !== undefined) readEverything(fs);
  return fs !== undefined;
}

function argument(name: string): number {
  const found = process.argv.find((word) => word.startsWith(`--${name}=`));
  return Number(found?.split("=")[1]);
}

const names = imageNames();
const rounds = argument("rounds");
let opened = 0;
let slowestMs = 0;
for (let index = 0; index < rounds; index++) {
  const seed = argument("seed") + index;
  // What the images of earlier rounds took would hide what reading this one takes.
  if (index % ROUNDS_PER_COLLECTION === 0) globalThis.gc?.();
  const start = performance.now();
  try {
    if (round(seed, names)) opened += 1;
  } catch (error) {
    process.stderr.write(`seed ${seed}: ${(error as Error).stack}\n`);
    process.exit(1);
  }
  slowestMs = Math.max(slowestMs, performance.now() - start);
}
const peakMiB = Math.round(process.resourceUsage().maxRSS / 1024);
const report: Report = {
  rounds,
  opened,
  refused: refusals(),
  peakMiB,
  slowestMs: Math.round(slowestMs),
};
process.stdout.write(`${JSON.stringify(report)}\n`);
