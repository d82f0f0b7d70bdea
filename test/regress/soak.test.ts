/**
 * The server under all that the exercises do at once, for a long time: first half of the time in one
 * piece, then again and again until somebody kills it. After each life the contents are as promised,
 * e2fsck finds nothing, and memory has stayed within bounds; the figures are printed.
 * `SOAK_SECONDS=3600` in front makes it long, `SEED=n` replays the work, not the moments.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { e2fsck, mke2fs } from "../support/e2fsprogs.ts";
import { fsxCommand, Stress } from "../support/exercises.ts";
import { ForegroundServer } from "../support/foreground-server.ts";
import { randomFrom, seedOfRun } from "../support/random.ts";
import { skipBecause, whyNoE2fsprogs, whyNoFuse } from "../support/run.ts";
import { Scope } from "../support/scope.ts";

const SOAK_SECONDS = Number(process.env["SOAK_SECONDS"] ?? 24);
/** A life that is cut short takes this share of the whole at the most. */
const SHORT_LIFE_SHARE = 1 / 12;
const SHORT_LIFE_SECONDS_MIN = 2;
const IMAGE_MIB = 1024;
/** One file of each process only grows. */
const IMAGE_MIB_PER_SECOND = 4;
const SAMPLE_MS = 1000;

const MEMORY_MIB_MAX = 400;
/** From here on a server has all that it ever needs. */
const WARM_SECONDS = 300;
const GROWTH_MAX = 1.1;

const DBENCH_LOAD = "/usr/share/dbench/client.txt";
const DBENCH_CLIENTS = "2";

/** What says that the filesystem has gone away. */
const GONE = /not connected|connection abort|Input\/output error|Stale file handle|No such device/;

/** MiB of memory that process `pid` has; 0 when it has ended. */
function memoryOf(pid: number): number {
  try {
    const [, kib = "0"] =
      /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    return Number(kib) / 1024;
  } catch {
    return 0;
  }
}

/** A program that works on the mount. */
class Job {
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #printed = "";

  constructor([program = "", ...args]: readonly string[]) {
    this.#name = [program, ...args].slice(0, 2).join(" ");
    this.#child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.on("data", (chunk: Buffer) => {
        this.#printed = `${this.#printed}${chunk}`.slice(-4000);
      });
    this.#ended = once(this.#child, "close");
  }

  /** @returns what went wrong; that the filesystem went away is nothing, if it was to. */
  async complaint(mayBeGone: boolean): Promise<string> {
    await this.#ended;
    const { exitCode, signalCode } = this.#child;
    // A page of a mapping that nobody can read any more is a SIGBUS.
    const isGone = GONE.test(this.#printed) || signalCode === "SIGBUS";
    if (exitCode === 0 || (mayBeGone && isGone)) return "";
    return `${this.#name}: exit ${exitCode ?? signalCode}\n${this.#printed}`;
  }
}

function startJobs(root: string, seed: number, seconds: number): Job[] {
  const dbench = join(root, "dbench");
  rmSync(dbench, { recursive: true, force: true });
  mkdirSync(dbench);
  const time = ["-t", String(Math.ceil(seconds)), "-c", DBENCH_LOAD, "-D", dbench];
  const jobs = [new Job(fsxCommand(join(root, "fsx"), { seed, seconds }))];
  if (existsSync(DBENCH_LOAD)) jobs.push(new Job(["dbench", ...time, DBENCH_CLIENTS]));
  return jobs;
}

interface Life {
  readonly seconds: number;
  readonly killed: boolean;
  /** Of the processes that work on a tree; 0 when they could not say. */
  readonly calls: number;
  /** MiB, once in each SAMPLE_MS. */
  readonly memory: readonly number[];
}

const highest = (samples: readonly number[]): number => Math.max(0, ...samples);
const inMiB = (figure: number): string => `${Math.round(figure)} MiB`;

function describeLife({ seconds, killed, calls, memory }: Life): string {
  const tenth = Math.max(1, Math.floor(memory.length / 10));
  const course: string[] = [];
  for (let at = 0; at < memory.length; at += tenth)
    course.push(Math.round(highest(memory.slice(at, at + tenth))).toString());
  const end = killed ? "kill -9" : `unmount after ${calls} calls on the tree`;
  return `${seconds.toFixed(0)} s, ${end}, memory ${course.join(" ")} MiB`;
}

describe.skipIf(skipBecause("soak", whyNoE2fsprogs(), whyNoFuse()))("a server", () => {
  test("stays sound and small for long", { timeout: (SOAK_SECONDS * 3 + 600) * 1000 }, async () => {
    const seed = seedOfRun();
    const random = randomFrom(seed);
    const scope = new Scope();
    if (!existsSync(DBENCH_LOAD)) console.log("soak: without dbench, which is not installed");
    try {
      const image = join(scope.temporaryFolder(), "image");
      mke2fs(image, `${IMAGE_MIB + IMAGE_MIB_PER_SECOND * SOAK_SECONDS}M`, ["-t", "ext4"]);
      const stress = new Stress(scope);

      const live = async (round: number, seconds: number, killed: boolean): Promise<Life> => {
        const server = await ForegroundServer.start(scope, image, ["rw"]);
        const workSeconds = killed ? seconds * 10 : seconds;
        const working = stress.run(server.path, { seed: seed + round, seconds: workSeconds });
        const jobs = startJobs(server.path, seed + round, workSeconds);
        const memory: number[] = [];
        const end = Date.now() + seconds * 1000;
        while (Date.now() < end) {
          await sleep(Math.min(SAMPLE_MS, end - Date.now()));
          memory.push(memoryOf(server.pid));
        }
        if (killed) await server.kill();
        const calls = await working;
        for (const job of jobs) expect(await job.complaint(killed), `SEED=${seed}`).toBe("");
        if (!killed) expect(await server.stop(), `SEED=${seed}`).toBe(0);
        return { seconds, killed, calls, memory };
      };

      const verify = async (where: string): Promise<void> => {
        const server = await ForegroundServer.start(scope, image, ["rw"]);
        expect(stress.verify(server.path), where).toBe("");
        expect(await server.stop(), where).toBe(0);
        expect(e2fsck(image), where).toBe("");
      };

      const lives: Life[] = [];
      for (let rest = SOAK_SECONDS; rest > 0; rest -= lives.at(-1)?.seconds ?? 0) {
        const round = lives.length;
        const short =
          SHORT_LIFE_SECONDS_MIN + (SOAK_SECONDS * SHORT_LIFE_SHARE * random.below(1000)) / 1000;
        const life = await live(round, round === 0 ? SOAK_SECONDS / 2 : short, round > 0);
        await verify(`SEED=${seed}, life ${round}`);
        lives.push(life);
        console.log(`soak, life ${round}: ${describeLife(life)}`);
      }
      const peak = highest(lives.flatMap(({ memory }) => memory));
      console.log(`soak: ${lives.length} lives, peak memory ${inMiB(peak)}`);
      expect(peak).toBeLessThan(MEMORY_MIB_MAX);
      const [warm = [], late = []] = halves(lives[0]?.memory.slice(WARM_SECONDS) ?? []);
      if (late.length > 0) expect(highest(late)).toBeLessThan(highest(warm) * GROWTH_MAX);
    } finally {
      scope.close();
    }
  });
});

function halves(samples: readonly number[]): [readonly number[], readonly number[]] {
  const middle = Math.floor(samples.length / 2);
  return [samples.slice(0, middle), samples.slice(middle)];
}
