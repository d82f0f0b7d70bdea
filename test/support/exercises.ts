/** The Python scripts of this folder that exercise a mounted filesystem, and how long they may. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { output, run } from "./run.ts";
import type { Scope } from "./scope.ts";

const script = (name: string): string => new URL(name, import.meta.url).pathname;
const GRACE_SECONDS = 120;

/** How long an exercise runs: `EXERCISE_SECONDS` of the environment, or a short time. */
export function exerciseSeconds(short: number): number {
  return Number(process.env["EXERCISE_SECONDS"] ?? short);
}

/** How often something is repeated: `ROUNDS` of the environment, or a few times. */
export function rounds(few: number): number {
  return Number(process.env["ROUNDS"] ?? few);
}

export interface ExerciseOptions {
  readonly seed: number;
  readonly seconds: number;
}

/** What changes one file in all ways, and fails at the first difference. Prints how many calls it made. */
export function fsxCommand(file: string, { seed, seconds }: ExerciseOptions): readonly string[] {
  const args = [file, `--seed=${seed}`, `--seconds=${seconds}`, "--no-moves"];
  return ["python3", script("fsx.py"), ...args];
}

/** Does that, and throws at the first difference. @returns calls made. */
export function fsx(file: string, options: ExerciseOptions, more: readonly string[] = []): number {
  const [program = "", ...args] = fsxCommand(file, options);
  const timeoutSeconds = options.seconds + GRACE_SECONDS;
  return Number(output(program, [...args, ...more], { timeoutSeconds }));
}

/** Lets several processes loose on the new folder `folder`, and throws at what they must not see. */
export function race(
  name: string,
  folder: string,
  { seed, seconds }: ExerciseOptions,
  more: readonly string[],
): void {
  const args = [script("race.py"), name, folder, `--seed=${seed}`, `--seconds=${seconds}`];
  run("python3", [...args, ...more], { timeoutSeconds: seconds + GRACE_SECONDS });
}

/** Several processes that work on a tree, and the log of what has to be left of it. */
export class Stress {
  readonly #log: string;

  constructor(scope: Scope) {
    this.#log = join(scope.temporaryFolder(), "log");
  }

  /** Resolves with the number of calls when the time is over or the filesystem has gone away. */
  async run(root: string, { seed, seconds }: ExerciseOptions): Promise<number> {
    const args = ["run", root, this.#log, `--seed=${seed}`, `--seconds=${seconds}`];
    const child = spawn("python3", [script("stress.py"), ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [printed, complaints] = [text(child.stdout), text(child.stderr)];
    const [code] = (await once(child, "exit")) as [number | null];
    if (code !== 0) throw new Error(await complaints);
    return (await printed)
      .split("\n")
      .map(Number)
      .reduce((sum, count) => sum + count, 0);
  }

  /** What is not as the log says: empty when all is. */
  verify(root: string): string {
    const args = [script("stress.py"), "verify", root, this.#log];
    return output("python3", args, { accept: [0, 1] });
  }
}

async function text(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

/** Fills a filesystem up and empties it again. @returns how much fitted in, per round. */
export function fill(root: string, what: string, roundCount: number): number[] {
  const args = [script("fill.py"), root, what, `--rounds=${roundCount}`];
  const timeoutSeconds = GRACE_SECONDS + roundCount * 60;
  return output("python3", args, { timeoutSeconds }).split("\n").map(Number);
}

/** Makes the same random calls in two directories. @returns what was different, a line each. */
export function sideBySide(
  one: string,
  other: string,
  seed: number,
  calls: number,
  more: readonly string[],
): string[] {
  const args = [script("side_by_side.py"), one, other, `--seed=${seed}`, `--calls=${calls}`];
  const result = run("python3", [...args, ...more], { timeoutSeconds: 60 + calls / 50 });
  return result.stdout.toString("utf8").split("\n").slice(0, -1);
}
