/**
 * Random calls of the library against the model, on images of every kind: results, errnos, and the
 * whole tree have to agree, through commits, checkpoints and reopening; e2fsck has the last word on
 * each run. The model itself is compared with the kernel in test/mount/posix-model.test.ts.
 *
 * `SEED=n` in front replays, `CALLS=n` makes it longer. fast-check leaves calls out until no fewer
 * show the difference.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import { closeFilesystem, type Filesystem, openWritableFilesystem } from "../../src/ext4/index.ts";
import { LibraryDriver, libraryTree } from "../support/posix/library.ts";
import { PosixModel } from "../support/posix/model.ts";
import { describe as shown } from "../support/posix/operation.ts";
import { randomOperation } from "../support/posix/random-operation.ts";
import { differences } from "../support/posix/tree.ts";
import { randomFrom, seedOfRun } from "../support/random.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { complaintsAbout, freshImage } from "../support/writable-image.ts";
import { KINDS, type Kind } from "./kinds.ts";

const CALLS = Number(process.env["CALLS"] ?? 112_000);
const CALLS_PER_KIND = Math.ceil(CALLS / KINDS.length);
const CALLS_PER_RUN = 2000;
/** Trees are compared after so many calls, and at the end. */
const COMPARED_EVERY = 200;
/** fast-check tries to make a failing run shorter for so long. */
const SHRINKING_MS = 30_000;
const FILE_BYTES_MAX = 96 * 1024;

interface Expected {
  readonly model: PosixModel;
  /** What was done so far, for the report of a difference. */
  readonly done: string[];
}

/** The library on an image in memory. */
class Real {
  readonly bytes: Uint8Array;
  driver: LibraryDriver;

  constructor(image: Uint8Array, seed: number) {
    this.bytes = image.slice();
    this.driver = new LibraryDriver(this.#open(seed));
  }

  get fs(): Filesystem {
    return this.driver.fs;
  }

  reopen(seed: number): void {
    this.driver.closeAll();
    closeFilesystem(this.fs);
    this.driver = new LibraryDriver(this.#open(seed));
  }

  #open(seed: number): Filesystem {
    const random = randomFrom(seed);
    return openWritableFilesystem(new MemoryDevice(this.bytes), {
      cacheSizeBytes: 1 << 20,
      random: () => random.below(1 << 30) / (1 << 30),
    });
  }
}

type Step = fc.Command<Expected, Real>;

/** A call that the model's tree and a number decide upon. */
class Call implements Step {
  readonly #number: number;
  readonly #kind: Kind;

  constructor(number: number, kind: Kind) {
    this.#number = number;
    this.#kind = kind;
  }

  check(): boolean {
    return true;
  }

  run(expected: Expected, real: Real): void {
    const { blockSize } = this.#kind;
    const limits = {
      fileBytesMax: Math.max(FILE_BYTES_MAX, 4 * blockSize),
      ...{ entriesMax: 120, blockSize, xattrBytesMax: 600 },
    };
    const operation = randomOperation(expected.model, randomFrom(this.#number), limits);
    expected.done.push(shown(operation));
    const wanted = expected.model.apply(operation);
    expect(real.driver.apply(operation), shown(operation)).toBe(wanted);
    if (expected.done.length % COMPARED_EVERY === 0) compare(expected, real);
  }

  toString(): string {
    return String(this.#number);
  }
}

/** Something that must not change what is seen. */
class Event implements Step {
  readonly #name: "commit" | "checkpoint" | "reopen";
  readonly #seed: number;

  constructor(name: "commit" | "checkpoint" | "reopen", seed: number) {
    this.#name = name;
    this.#seed = seed;
  }

  check(): boolean {
    return true;
  }

  run(expected: Expected, real: Real): void {
    const { transactions } = real.fs.writer;
    expected.done.push(this.#name);
    if (this.#name === "commit") transactions.commit();
    else if (this.#name === "checkpoint") transactions.checkpoint();
    else {
      expected.model.closeAll();
      real.reopen(this.#seed);
      compare(expected, real);
    }
  }

  toString(): string {
    return `${this.#name} (${this.#seed})`;
  }
}

function compare({ model }: Expected, real: Real): void {
  expect(differences(libraryTree(real.fs), model.tree())).toEqual([]);
}

describe.skipIf(skipBecause("model", whyNoE2fsprogs()))("random calls", () => {
  test.each(KINDS)("answer as the model does on an image with $name", (kind) => {
    const image = freshImage(kind.size, ["-t", "ext4", "-N", "1024", ...kind.mke2fs]);
    const seed = seedOfRun();
    const number = fc.noShrink(fc.integer({ min: 0, max: 0x7fff_ffff }));
    const steps: fc.Arbitrary<Step>[] = [
      ...new Array(40).fill(number.map((each) => new Call(each, kind))),
      ...new Array(2).fill(number.map((each) => new Event("commit", each))),
      number.map((each) => new Event("checkpoint", each)),
      number.map((each) => new Event("reopen", each)),
    ];
    const runs = fc.commands(steps, { maxCommands: CALLS_PER_RUN, size: "max" });
    let made = 0;
    const property = fc.property(runs, (commands) => {
      const real = new Real(image, 1);
      const expected: Expected = { model: new PosixModel(kind), done: [] };
      try {
        fc.modelRun(() => ({ model: expected, real }), commands);
        compare(expected, real);
        real.driver.closeAll();
        closeFilesystem(real.fs);
        expect(complaintsAbout(real.bytes)).toBe("");
      } catch (cause) {
        throw new Error(`${expected.done.join("\n")}\n${(cause as Error).message}`, { cause });
      }
      made += expected.done.length;
    });
    for (let run = 0; made < CALLS_PER_KIND; run++)
      fc.assert(property, { seed: seed + run, numRuns: 1, interruptAfterTimeLimit: SHRINKING_MS });
  });
});
