/**
 * The main thread's side of a mount: starts the worker that serves it, knows when it is live, takes
 * it down, and asks for its statistics.
 *
 *     constructor ──► start(plan) ──► live ──► stop(), or somebody unmounts ──► ended
 *
 * The worker blocks in native code while it serves, so it is told to stop through the shim and
 * asked for its counts through shared memory, with a request of our own to wake it up.
 */
import { stat, statfs, statfsSync, statSync } from "node:fs";
import { Worker } from "node:worker_threads";
import type { Addon } from "../native/binding.ts";
import { CONTROL_BYTES, Control, type WorkerData, type WorkerMessage } from "./messages.ts";
import { MountFailure } from "./mount-failure.ts";
import { mountpointsOf } from "./mount-table.ts";
import { isDescriptor, type MountPlan } from "./plan.ts";
import type { Statistics } from "./statistics.ts";

const WORKER = new URL("./worker.js", import.meta.url);

/** A request leaves little garbage: a larger nursery would only be touched in full, over and over. */
const RESOURCE_LIMITS = { maxYoungGenerationSizeMb: 12 };

/** How a mount has ended. */
export interface Ending {
  readonly statistics: Statistics;
  /** Why the filesystem could not be closed properly, if so. */
  readonly closeFailure: string | undefined;
}

interface Mounted {
  readonly channelId: number;
  readonly fuseFd: number;
  readonly unmounter: string;
}

export class Server {
  readonly #control = new Int32Array(new SharedArrayBuffer(CONTROL_BYTES));
  readonly #worker: Worker;
  readonly #mounted = deferred<Mounted>();
  readonly #ready = deferred<void>();
  readonly #ended = deferred<Ending>();
  #report = deferred<Statistics>();
  #mountpoint = "";
  /** `st_dev` of the mount once it is live. */
  #dev: number | undefined;
  /** Set while the kernel has a mount of ours. */
  #mount: Mounted | undefined;
  #live = false;
  /** The worker has said its last word, or died. */
  #over = false;
  #stopped = false;
  /** What the worker died of. */
  #death = new Error("the worker ended without a word");
  #loading: Promise<Addon> | undefined;

  /**
   * Starts the worker, so that it loads its code while the command line is read.
   *
   * @param script what the worker runs.
   */
  constructor(script = WORKER) {
    const workerData: WorkerData = { control: this.#control.buffer };
    this.#worker = new Worker(script, { workerData, resourceLimits: RESOURCE_LIMITS });
    this.#worker.on("message", (message: WorkerMessage) => this.#hear(message));
    // An error overtakes the messages that were sent before it; the exit does not.
    this.#worker.on("error", (error) => {
      this.#death = error;
    });
    this.#worker.on("exit", () => this.#lose(this.#death));
    this.#mounted.promise.catch(ignore);
    this.#ended.promise.catch(ignore);
  }

  /**
   * Mounts. Resolves when the mount is live: the kernel's INIT is answered and the root can be
   * reached.
   *
   * @throws MountFailure when it cannot be made; nothing is left mounted then.
   */
  async start(plan: MountPlan): Promise<void> {
    this.#mountpoint = plan.mountpoint;
    const devBefore = isDescriptor(plan.mountpoint) ? undefined : deviceBefore(plan.mountpoint);
    this.#worker.postMessage(plan);
    const mount = await this.#mounted.promise;
    try {
      await Promise.race([this.#ready.promise, this.#endTooSoon()]);
      if (!isDescriptor(plan.mountpoint))
        this.#dev = await Promise.race([this.#reach(devBefore), this.#endTooSoon()]);
      this.#live = true;
    } catch (error) {
      await this.#takeDown(mount);
      await this.#ended.promise;
      throw error;
    }
    if (this.#stopped) await this.stop();
  }

  /** Resolves when nothing is mounted any more; rejects when the worker died of a bug. */
  get ended(): Promise<Ending> {
    return this.#ended.promise;
  }

  /** Unmounts and lets the worker end: at once, or else as soon as the mount is live. */
  async stop(): Promise<void> {
    this.#stopped = true;
    if (!this.#live || this.#mount === undefined) return;
    const [mountpoint] = this.#dev === undefined ? [] : mountpointsOf(this.#dev);
    if (mountpoint !== undefined && !this.#over) (await this.#addon()).syncMount(mountpoint);
    if (this.#mount !== undefined) await this.#takeDown(this.#mount);
  }

  /** The counts as they are now. Waits for the next request where no path leads to the mount. */
  statistics(): Promise<Statistics> {
    Atomics.store(this.#control, Control.REPORT, 1);
    // statfs is the one request that no cache of the kernel answers.
    if (!isDescriptor(this.#mountpoint)) statfs(this.#mountpoint, ignore);
    return this.#report.promise;
  }

  /** Loads what `stop` needs, so that a server outlives the removal of its own files. */
  async prepareToStop(): Promise<void> {
    await this.#addon();
  }

  #hear(message: WorkerMessage): void {
    switch (message.kind) {
      case "mounted":
        this.#mount = message;
        this.#mounted.resolve(message);
        break;
      case "ready":
        this.#ready.resolve();
        break;
      case "failed":
        this.#over = true;
        this.#mount = undefined;
        this.#mounted.reject(new MountFailure(message.reason));
        this.#ended.reject(new MountFailure(message.reason));
        break;
      case "statistics":
        this.#report.resolve(message.statistics);
        this.#report = deferred();
        break;
      case "ended":
        this.#over = true;
        // Whoever aborts a connection leaves its mount behind. After an unmount there is nothing to
        // look for: its device number may belong to another mount already.
        if (message.unmounted) this.#mount = undefined;
        void this.#unmount().finally(() => this.#ended.resolve(message));
        break;
    }
  }

  /** The worker is gone: it died, unless it has said goodbye. */
  #lose(error: Error): void {
    if (this.#over) return;
    this.#over = true;
    this.#mounted.reject(error);
    void this.#cutOff().finally(() => this.#ended.reject(error));
  }

  /** Ends the connection, so that nobody waits for an answer, and removes the mount. */
  async #cutOff(): Promise<void> {
    const mount = this.#mount;
    if (mount !== undefined) (await this.#addon()).closeDescriptor(mount.fuseFd);
    await this.#unmount();
  }

  /** Waits until the root directory answers. @returns the `st_dev` of the mount. */
  async #reach(devBefore: number | undefined): Promise<number> {
    const dev = await new Promise<number>((resolve, reject) => {
      stat(this.#mountpoint, (error, found) => {
        if (error === null) resolve(found.dev);
        else reject(new MountFailure(`the root directory cannot be reached: ${error.message}`));
      });
    });
    if (dev === devBefore) throw new MountFailure(UNMOUNTED_EARLY);
    return dev;
  }

  async #endTooSoon(): Promise<never> {
    await this.#ended.promise;
    throw new MountFailure(UNMOUNTED_EARLY);
  }

  /** Unmounts, then ends the connection for those who still have files open. */
  async #takeDown(mount: Mounted): Promise<void> {
    await this.#unmount();
    if (!this.#over) (await this.#addon()).interruptChannel(mount.channelId);
  }

  /** Removes what is left of the mount, once. */
  async #unmount(): Promise<void> {
    const mount = this.#mount;
    this.#mount = undefined;
    if (mount === undefined || isDescriptor(this.#mountpoint)) return;
    const mountpoints = this.#dev === undefined ? [this.#mountpoint] : mountpointsOf(this.#dev);
    if (mountpoints.length === 0) return;
    const addon = await this.#addon();
    for (const mountpoint of mountpoints) addon.unmount(mountpoint, mount.unmounter);
  }

  #addon(): Promise<Addon> {
    this.#loading ??= import("../native/binding.ts").then((binding) => binding.loadAddon());
    return this.#loading;
  }
}

const UNMOUNTED_EARLY = "unmounted before the mount was ready";

/**
 * `st_dev` of what is at `path` before we mount there, or undefined when that cannot be told.
 *
 * @throws MountFailure when it is a mount whose server was killed, which would stay under ours.
 */
function deviceBefore(path: string): number | undefined {
  try {
    // Attributes of a dead mount may still be cached; this is not.
    statfsSync(path);
    return statSync(path).dev;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOTCONN") return undefined;
    throw new MountFailure(`mount point ${path} is a mount whose server is gone: umount it first`);
  }
}

function ignore(): void {}

interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

function deferred<T>(): Deferred<T> {
  let resolve: (value: T) => void = ignore;
  let reject: (error: Error) => void = ignore;
  const promise = new Promise<T>((onValue, onError) => {
    resolve = onValue;
    reject = onError;
  });
  return { promise, resolve, reject };
}
