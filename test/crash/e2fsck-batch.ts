/**
 * Asks e2fsck about many small images at once: one shell works through the files of a batch while
 * the next one is being filled.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { PAGE_SIZE } from "./overlay-device.ts";

/** An image as the pages that differ from the one it was made from, in layers. */
export type Pages = ReadonlyMap<number, Uint8Array>;

export interface Question {
  /** What the file has beyond the common image. */
  readonly pages: readonly Pages[];
  /** `-fn` looks, `-fy` repairs; a journal is replayed only by the second. */
  readonly mode: "-fn" | "-fy";
  /** Called with what e2fsck printed, and its exit code; the file is as e2fsck left it. */
  readonly answer: (printed: string, status: number, file: string) => void;
}

/** It would make extent trees flatter, too, and forget to take that off the quotas. */
const NO_EXTRAS = "-E no_optimize_extents";

export class E2fsckBatch {
  readonly #folder: string;
  readonly #image: Uint8Array;
  readonly #runs: readonly (readonly [start: number, end: number])[];
  readonly #size: number;
  #waiting: Question[] = [];
  #running: Promise<void> = Promise.resolve();
  #generation = 0;

  /** @param image what all images of the batch have in common. */
  constructor(folder: string, image: Uint8Array, size: number) {
    this.#folder = folder;
    this.#image = image;
    this.#runs = usedRuns(image);
    this.#size = size;
  }

  /** Writes the file of `question` now, and asks when the batch is full. */
  async add(question: Question): Promise<void> {
    this.#store(question, this.#waiting.length);
    this.#waiting.push(question);
    if (this.#waiting.length >= this.#size) await this.#start();
  }

  /** Waits for all answers. */
  async finish(): Promise<void> {
    await this.#start();
    await this.#running;
  }

  async #start(): Promise<void> {
    await this.#running;
    const questions = this.#waiting;
    const generation = this.#generation;
    this.#waiting = [];
    this.#generation = 1 - generation;
    this.#running = this.#ask(questions, generation);
    // A failure is reported to whoever waits next.
    this.#running.catch(() => {});
  }

  async #ask(questions: readonly Question[], generation: number): Promise<void> {
    const script = questions
      .map(({ mode }, index) => {
        const file = this.#file(index, generation);
        return `e2fsck ${mode} ${NO_EXTRAS} ${file} >${file}.out 2>&1; echo "status $?" >>${file}.out`;
      })
      .join("\n");
    const shell = spawn("sh", ["-s"], { stdio: ["pipe", "ignore", "inherit"] });
    shell.stdin.end(script);
    await once(shell, "exit");
    for (const [index, { answer }] of questions.entries()) {
      const file = this.#file(index, generation);
      const printed = readFileSync(`${file}.out`, "latin1");
      answer(printed, Number(/status (\d+)\n$/.exec(printed)?.[1]), file);
    }
  }

  #file(index: number, generation: number): string {
    return join(this.#folder, `${generation}-${index}`);
  }

  #store({ pages }: Question, index: number): void {
    storeImage(this.#file(index, this.#generation), this.#image, this.#runs, pages);
  }
}

function storeImage(
  file: string,
  image: Uint8Array,
  runs: readonly (readonly [start: number, end: number])[],
  pages: readonly Pages[],
): void {
  const fd = openSync(file, "w");
  ftruncateSync(fd, image.length);
  for (const [start, end] of runs) writeSync(fd, image, start, end - start, start);
  for (const layer of pages)
    for (const [page, bytes] of layer) writeSync(fd, bytes, 0, bytes.length, page * PAGE_SIZE);
  closeSync(fd);
}

/** Byte ranges of whole pages that are not all zeros. */
function usedRuns(image: Uint8Array): [number, number][] {
  const runs: [number, number][] = [];
  const zeros = Buffer.alloc(PAGE_SIZE);
  for (let at = 0; at < image.length; at += PAGE_SIZE) {
    if (Buffer.compare(image.subarray(at, at + PAGE_SIZE), zeros) === 0) continue;
    const last = runs.at(-1);
    if (last !== undefined && last[1] === at) last[1] = at + PAGE_SIZE;
    else runs.push([at, at + PAGE_SIZE]);
  }
  return runs;
}
