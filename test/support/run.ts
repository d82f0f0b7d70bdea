/**
 * Runs the tools that tests rely on, and says whether this machine can run them. A tool that fails
 * throws with all that it printed, because that is what a reader of a test report needs.
 */
import { spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";

export interface RunOptions {
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Exit codes that do not throw. */
  readonly accept?: readonly number[];
  /** After this the command is killed: a server that hangs must not hang the tests. */
  readonly timeoutSeconds?: number;
}

export interface RunResult {
  readonly status: number;
  readonly stdout: Buffer;
  readonly stderr: string;
}

const OUTPUT_BYTES_MAX = 1 << 30;
const TIMEOUT_SECONDS_DEFAULT = 120;

/**
 * Runs `command` to its end.
 *
 * @throws Error when it cannot be started, dies of a signal, or exits with a code not accepted.
 */
export function run(command: string, args: readonly string[], options: RunOptions = {}): RunResult {
  const result = spawnSync(command, args, {
    input: options.input,
    cwd: options.cwd,
    env: { ...process.env, LC_ALL: "C", TZ: "UTC", ...options.env },
    maxBuffer: OUTPUT_BYTES_MAX,
    timeout: (options.timeoutSeconds ?? TIMEOUT_SECONDS_DEFAULT) * 1000,
    killSignal: "SIGKILL",
  });
  if (result.error !== undefined) throw result.error;
  const stderr = result.stderr.toString("utf8");
  if (result.status === null || !(options.accept ?? [0]).includes(result.status)) {
    const shown = `${result.stdout.subarray(0, 4000).toString("utf8")}${stderr.slice(0, 4000)}`;
    const ending = result.status === null ? `signal ${result.signal}` : `exit ${result.status}`;
    throw new Error(`${[command, ...args].join(" ")}: ${ending}\n${shown}`);
  }
  return { status: result.status, stdout: result.stdout, stderr };
}

/** What `command` printed, as text without the last newline. */
export function output(command: string, args: readonly string[], options?: RunOptions): string {
  return run(command, args, options).stdout.toString("utf8").trimEnd();
}

function canUse(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function hasTool(name: string): boolean {
  return spawnSync("which", [name]).status === 0;
}

/** Why the kernel's ext4 cannot be asked on this machine, or undefined when it can. */
export function whyNoKernelMount(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root for loop devices";
  if (!canUse("/dev/loop-control")) return "needs /dev/loop-control";
  for (const tool of ["mke2fs", "debugfs", "losetup", "python3", "xfs_io"])
    if (!hasTool(tool)) return `needs ${tool}`;
  return undefined;
}

/** Why a FUSE mount cannot be made on this machine, or undefined when it can. */
export function whyNoFuse(): string | undefined {
  return canUse("/dev/fuse") ? undefined : "needs /dev/fuse";
}

/** Why e2fsprogs cannot be asked on this machine, or undefined when it can. */
export function whyNoE2fsprogs(): string | undefined {
  for (const tool of ["mke2fs", "debugfs", "e2fsck", "tune2fs"])
    if (!hasTool(tool)) return `needs ${tool}`;
  return undefined;
}

/**
 * True when one of the reasons is given; prints it, so that a skipped suite says what is missing.
 * For `describe.skipIf(...)`.
 */
export function skipBecause(suite: string, ...reasons: readonly (string | undefined)[]): boolean {
  const reason = reasons.find((each) => each !== undefined);
  if (reason === undefined) return false;
  process.stderr.write(`skipped: ${suite}: ${reason}\n`);
  return true;
}
