/**
 * Our command in the foreground, with its count of requests: mounted, asked by SIGUSR1 what it has
 * served so far, and taken down by an unmount.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { COMMAND, isMounted } from "./mounts.ts";
import { run } from "./run.ts";
import type { Scope } from "./scope.ts";

export interface Requests {
  readonly served: number;
  /** Those that entered TypeScript. */
  readonly scripted: number;
}

const POLL_MS = 20;
const PATIENCE_MS = 20_000;
const LAST_LINE = /^total +\d+ +\d+$/m;

export class ForegroundServer {
  readonly path: string;
  readonly #child: ChildProcess;
  #printed = "";

  private constructor(child: ChildProcess, path: string) {
    this.#child = child;
    this.path = path;
    child.stderr?.on("data", (chunk: Buffer) => {
      this.#printed += chunk.toString("utf8");
    });
  }

  /** Mounts `image`, read-only unless `options` say `rw`, and resolves when the mount is live. */
  static async start(
    scope: Scope,
    image: string,
    options: readonly string[] = ["ro"],
  ): Promise<ForegroundServer> {
    const path = scope.temporaryFolder();
    const words = ["-f", "--stats", image, path, "-o", options.join(",")];
    const child = spawn(COMMAND, words, { stdio: ["ignore", "ignore", "pipe"] });
    const server = new ForegroundServer(child, path);
    scope.add(() => {
      if (isMounted(path)) run("umount", [path]);
      child.kill();
    });
    await until(() => isMounted(path), `a mount of ${image}`);
    return server;
  }

  /** What it said on standard error since the mount, or since `requests` was called. */
  get printed(): string {
    return this.#printed;
  }

  /** What was served so far, by opcode; `total` is the sum. */
  async requests(): Promise<Map<string, Requests>> {
    this.#printed = "";
    this.#child.kill("SIGUSR1");
    await until(() => LAST_LINE.test(this.#printed), "the count of requests");
    const rows = this.#printed.matchAll(/^(\S+) +(\d+) +(\d+)$/gm);
    return new Map(
      [...rows].map(([, name, served, scripted]) => [
        String(name),
        { served: Number(served), scripted: Number(scripted) },
      ]),
    );
  }

  /**
   * The requests that `action` causes, by opcode. STATFS is left out: asking for the counts sends
   * one.
   */
  async requestsOf(action: () => void): Promise<Map<string, Requests>> {
    const before = await this.requests();
    action();
    const caused = new Map<string, Requests>();
    for (const [name, after] of await this.requests()) {
      const { served, scripted } = before.get(name) ?? { served: 0, scripted: 0 };
      const more = { served: after.served - served, scripted: after.scripted - scripted };
      if (more.served > 0 && name !== "STATFS" && name !== "total") caused.set(name, more);
    }
    return caused;
  }

  /** Ends the server as a crash would, and takes away the mount that nobody serves any more. */
  async kill(): Promise<void> {
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
    run("umount", ["-l", this.path]);
  }

  /** Unmounts. @returns the exit code. */
  async stop(): Promise<number | null> {
    run("umount", [this.path]);
    return this.exited();
  }

  /** Asks the server to end. @returns the exit code. */
  async signal(signal: NodeJS.Signals): Promise<number | null> {
    this.#child.kill(signal);
    return this.exited();
  }

  /** Resolves when the server has ended. @returns the exit code, or null after a signal. */
  async exited(): Promise<number | null> {
    const { exitCode, signalCode } = this.#child;
    if (exitCode === null && signalCode === null) await once(this.#child, "exit");
    return this.#child.exitCode;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await sleep(POLL_MS);
  }
}
