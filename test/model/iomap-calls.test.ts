/**
 * Random system calls on a kernel that moves file contents by itself, with our session as its server:
 * what programs see has to agree with the model, whatever the kernel does meanwhile, and no rule of the
 * protocol may be broken. Then the image is unmounted, looked at again, and e2fsck has the last word.
 *
 * `SEED=n` in front replays, `CALLS=n` makes it longer.
 */
import { describe, expect, test } from "vitest";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import type { Generation } from "../support/iomap-kernel/mapping.ts";
import { ServedKernel, type ServedOptions } from "../support/iomap-kernel/served.ts";
import { IomapDriver, iomapTree } from "../support/posix/iomap-driver.ts";
import { PosixModel } from "../support/posix/model.ts";
import { describe as shown } from "../support/posix/operation.ts";
import { randomOperation } from "../support/posix/random-operation.ts";
import { differences } from "../support/posix/tree.ts";
import { type Random, randomFrom, seedOfRun } from "../support/random.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { complaintsAbout, freshImage } from "../support/writable-image.ts";
import { KINDS, type Kind, REPEATABLE } from "./kinds.ts";

const CALLS = Number(process.env["CALLS"] ?? 28_000);
const CALLS_PER_KIND = Math.ceil(CALLS / KINDS.length);
const CALLS_PER_RUN = 500;
/** Trees are compared after so many calls, and at the end. */
const COMPARED_EVERY = 100;
/** One call in so many is followed by an unmount. */
const UNMOUNT_EVERY = 150;
const FILE_BYTES_MAX = 96 * 1024;
const LINES_OF_REPORT = 400;
/** A server and a kernel on one image, which they leave and come back to. */
class Mounted {
  readonly bytes: Uint8Array;
  readonly #random: Random;
  readonly #options: Omit<ServedOptions, "seed">;
  /** The machine's would make a run depend on when it is made. */
  #seconds = 1_700_000_000;
  served: ServedKernel;
  driver: IomapDriver;

  constructor(image: Uint8Array, random: Random, generation: Generation) {
    this.bytes = image.slice();
    this.#random = random;
    this.#options = {
      generation,
      usesCache: random.below(2) === 0,
      backgroundEvery: [0, 2, 5][random.below(3)] as number,
      // Sometimes so little that it is thrown away all the time.
      ...(random.below(3) === 0 && { mappingIndexBytesMax: 256 }),
      now: () => ({ seconds: this.#seconds++, nanoseconds: 0 }),
    };
    [this.served, this.driver] = this.#mount();
  }

  remount(): void {
    this.unmount();
    [this.served, this.driver] = this.#mount();
  }

  unmount(): void {
    this.driver.closeAll();
    this.served.unmount();
    this.verify();
  }

  verify(): void {
    const { kernel, log } = this.served;
    const rules = kernel.violations.map(({ rule, detail }) => `${rule}: ${detail}`);
    const refusals = kernel.state.ioendRefusals.map(({ message }) => message);
    expect([...rules, ...refusals, ...log].join("\n")).toBe("");
  }

  #mount(): [ServedKernel, IomapDriver] {
    const seed = this.#random.below(1 << 30);
    const served = new ServedKernel(new MemoryDevice(this.bytes), { ...this.#options, seed });
    return [served, new IomapDriver(served.kernel, { random: this.#random })];
  }
}

function run(kind: Kind, image: Uint8Array, seed: number, calls: number): void {
  const random = randomFrom(seed);
  const model = new PosixModel({ ...kind, hasRangeMoves: false });
  const mounted = new Mounted(image, random, random.below(4) === 0 ? "post" : "v7");
  const { blockSize } = kind;
  const limits = {
    fileBytesMax: Math.max(FILE_BYTES_MAX, 4 * blockSize),
    ...{ entriesMax: 120, blockSize, xattrBytesMax: 600 },
  };
  const compare = (): void => {
    const found = iomapTree(mounted.served.kernel, random);
    expect(differences(found, model.tree()).join("\n")).toBe("");
    mounted.verify();
  };
  const done: string[] = [];
  try {
    for (let call = 1; call <= calls; call++) {
      const operation = randomOperation(model, random, limits);
      done.push(shown(operation));
      const wanted = model.apply(operation);
      expect(mounted.driver.apply(operation), shown(operation)).toBe(wanted);
      if (call % COMPARED_EVERY === 0) compare();
      if (random.below(UNMOUNT_EVERY) > 0) continue;
      done.push("unmount");
      model.closeAll();
      mounted.remount();
    }
    model.closeAll();
    mounted.remount();
    compare();
    mounted.unmount();
    expect(complaintsAbout(mounted.bytes)).toBe("");
  } catch (cause) {
    const report = done.slice(-LINES_OF_REPORT).join("\n");
    const parts = [`seed ${seed}`, report, (cause as Error).message];
    throw new Error(parts.join("\n"), { cause });
  }
}

describe.skipIf(skipBecause("iomap", whyNoE2fsprogs()))("random calls through iomap", () => {
  test.each(KINDS)("answer as the model does on an image with $name", (kind) => {
    const image = freshImage(kind.size, [
      "-t",
      "ext4",
      "-N",
      "1024",
      ...REPEATABLE,
      ...kind.mke2fs,
    ]);
    const seed = seedOfRun();
    console.log(`SEED=${seed} ${kind.name}`);
    for (let made = 0; made < CALLS_PER_KIND; made += CALLS_PER_RUN)
      run(kind, image, seed + made, Math.min(CALLS_PER_RUN, CALLS_PER_KIND - made));
  });
});
