/**
 * Puts one image in front of three contenders and times the same work on each: K, the kernel's ext4
 * on a loop device; F2, Debian's fuse2fs; T, fuse4fs-ts. All mount with default options: read-only, or
 * for rows that change something a copy of the image for writing.
 *
 * What makes the three comparable: the image lies in memory (tmpfs), so no contender waits for a
 * disk; every cold sample has a mount of its own, and a new superblock starts with no dentry, inode
 * or page; rounds go K F2 T K F2 T …, so that a slow minute of the machine hits all of them; work
 * is timed inside the process that does it, so that starting it counts for none.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isMounted, isServed } from "../test/support/mounts.ts";
import { output, run } from "../test/support/run.ts";
import type { Scope } from "../test/support/scope.ts";
import { type ImageName, Images } from "./images.ts";

export type Contender = "K" | "F2" | "T";

const SERVERS = {
  F2: "fuse2fs",
  T: new URL("../bin/fuse4fs-ts", import.meta.url).pathname,
} as const;

/** The most that a row may cost, as multiples of what others need. */
export interface Bar {
  /** Times the kernel's time. */
  readonly kernel?: number;
  /** Times fuse2fs's time. */
  readonly fuse2fs?: number;
}

/** Every metadata figure is to take at most a third of fuse2fs's time. */
export const THIRD = 1 / 3;

/** One line of the report: a question with a number for an answer. */
export interface Row {
  readonly name: string;
  /** What one operation is. */
  readonly title: string;
  readonly bar: Bar;
  sample(bench: Bench, contender: Contender): Promise<Sample>;
  /** Microseconds that the same work takes on tmpfs: the price of asking. */
  baseline?(bench: Bench): number;
}

export interface Sample {
  readonly microseconds: number;
  /** What the server process used up; none for the kernel. */
  readonly server?: ServerCost;
}

export interface ServerCost {
  readonly cpuSeconds: number;
  readonly peakBytes: number;
}

const POLL_MS = 2;
const DEADLINE_MS = 20_000;
const CLOCK_TICKS_PER_SECOND = 100;

export class Bench {
  readonly #scope: Scope;
  readonly #folder: string;
  readonly #mountpoint: string;
  readonly images: Images;
  #logs = 0;

  constructor(scope: Scope) {
    this.#scope = scope;
    this.#folder = scope.temporaryFolder();
    this.#mountpoint = join(this.#folder, "mount");
    mkdirSync(this.#mountpoint);
    this.images = new Images(this.#folder);
  }

  /**
   * Mounts `image`, calls `work` with the mount point, unmounts, and waits until all is gone.
   *
   * @param write mount a copy of it, for writing.
   */
  async onFreshMount(
    contender: Contender,
    image: ImageName,
    work: (mountpoint: string) => number,
    write = false,
  ): Promise<Sample> {
    const path = write ? this.images.copy(image) : this.images.get(image);
    const access = write ? "rw" : "ro";
    const scope = this.#scope.child();
    try {
      if (contender === "K") {
        this.#unmountLater(scope);
        run("mount", ["-t", "ext4", "-o", `loop,${access}`, path, this.#mountpoint]);
        return { microseconds: work(this.#mountpoint) };
      }
      const server = await this.#serve(scope, contender, path, access);
      const before = cpuSeconds(server);
      const microseconds = work(this.#mountpoint);
      const cost = { cpuSeconds: cpuSeconds(server) - before, peakBytes: peakBytes(server) };
      return { microseconds, server: cost };
    } finally {
      scope.close();
      await this.#settle(path);
    }
  }

  /** The time from "mount it" to "it is unmounted", with one lookup in between. */
  async mountAndUnmount(contender: Contender, image: ImageName): Promise<Sample> {
    const path = this.images.get(image);
    const scope = this.#scope.child();
    const start = contender === "K" ? "mount -t ext4 -o loop,ro" : `'${SERVERS[contender]}' -o ro`;
    this.#unmountLater(scope);
    try {
      const work = `${start} '${path}' '${this.#mountpoint}' && [ -d '${this.#mountpoint}/lost+found' ]`;
      return { microseconds: timed(`${work} && umount '${this.#mountpoint}'`, "/") };
    } finally {
      scope.close();
      await this.#settle(path);
    }
  }

  #unmountLater(scope: Scope): void {
    scope.add(() => {
      if (isMounted(this.#mountpoint)) run("umount", ["--lazy", this.#mountpoint]);
    });
  }

  async #serve(
    scope: Scope,
    contender: "F2" | "T",
    path: string,
    access: "ro" | "rw",
  ): Promise<ChildProcess> {
    const log = join(this.#folder, `server-${++this.#logs}.log`);
    const out = openSync(log, "w");
    const server = spawn(SERVERS[contender], ["-f", "-o", access, path, this.#mountpoint], {
      stdio: ["ignore", out, out],
    });
    scope.add(() => server.kill());
    this.#unmountLater(scope);
    const deadline = Date.now() + DEADLINE_MS;
    while (!isMounted(this.#mountpoint)) {
      if (server.exitCode !== null || Date.now() > deadline)
        throw new Error(`${SERVERS[contender]} did not mount: ${readFileSync(log, "utf8")}`);
      await sleep(POLL_MS);
    }
    readdirSync(this.#mountpoint);
    return server;
  }

  /** Waits until no loop device and no server holds the image any more. */
  async #settle(path: string): Promise<void> {
    const deadline = Date.now() + DEADLINE_MS;
    while (isServed(path) || output("losetup", ["-j", path]) !== "") {
      if (Date.now() > deadline) throw new Error(`${path} is still in use`);
      await sleep(POLL_MS);
    }
  }
}

/** User and system time so far. @see proc_pid_stat(5), utime and stime */
function cpuSeconds(server: ChildProcess): number {
  const fields = readFileSync(`/proc/${server.pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_PER_SECOND;
}

/** The largest resident size so far. @see proc_pid_status(5), VmHWM */
function peakBytes(server: ChildProcess): number {
  const status = readFileSync(`/proc/${server.pid}/status`, "utf8");
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? Number.NaN) * 1024;
}

/** Microseconds that a line of bash takes, without those for starting bash. */
export function timed(script: string, cwd: string): number {
  const clocked = `set -e -o pipefail; a=$EPOCHREALTIME; { ${script}; } >/dev/null; echo $a $EPOCHREALTIME`;
  const [from, to] = output("bash", ["-c", clocked], { cwd }).split(" ").map(Number);
  if (from === undefined || to === undefined) throw new Error(`no time for: ${script}`);
  return (to - from) * 1e6;
}

/**
 * Makes the kernel forget all names and attributes, with the pages of the files: what follows meets
 * a server, or an ext4, that is no longer new. @see Documentation/admin-guide/sysctl/vm.rst
 */
export function dropNames(): void {
  writeFileSync("/proc/sys/vm/drop_caches", "2");
}

/** How many calls `probe` makes of each name, and which. */
export interface Probe {
  readonly call: "lstat" | "access" | "listdir";
  readonly names: readonly string[];
  readonly times: number;
}

const PROBE = new URL("./probe.py", import.meta.url).pathname;

/** Microseconds per call, with names relative to `folder`. */
export function probe({ call, names, times }: Probe, folder: string): number {
  const args = [PROBE, call, String(times)];
  const nanoseconds = output("python3", args, { cwd: folder, input: names.join("\n") });
  return Number(nanoseconds) / 1000 / (names.length * times);
}

/** Microseconds per read of fio(1) with these arguments on `file`. */
export function fio(file: string, args: readonly string[]): number {
  const common = ["--name=read", "--readonly", "--rw=randread", "--bs=4k", "--time_based"];
  const all = [...common, "--runtime=1", "--output-format=json", `--filename=${file}`, ...args];
  const report = JSON.parse(output("fio", all));
  const { runtime, total_ios } = report.jobs[0].read;
  return (runtime * 1000) / total_ios;
}

/** Why nothing can be measured on this machine, or undefined when it can. */
export function whyNoBench(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root, for loop devices and mounts";
  for (const tool of ["mke2fs", "losetup", "unshare", "bash", "python3", "fio", SERVERS.F2])
    if (spawnSync("which", [tool]).status !== 0) return `needs ${tool}`;
  return undefined;
}
