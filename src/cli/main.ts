/**
 * The program. It serves in the foreground; `bin/fuse4fs-ts` starts it with `--background` as the
 * first word to have a server of its own session, and then waits until this process has written its
 * exit code to standard output: 0 when the mount is live, while the process goes on.
 *
 * The worker is started before anything else is loaded, because its start is the longest part of a
 * mount.
 */
import { writeFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { takeLockFile } from "../server/lock-file.ts";
import { MountFailure } from "../server/mount-failure.ts";
import { print, say } from "../server/print.ts";
import { Server } from "../server/server.ts";
import type { Statistics } from "../server/statistics.ts";
import type { MountCommand } from "./command-line.ts";
import { letGo, logErrorsTo, logFile, logOutputTo, writeOutput } from "./output.ts";

const ExitCode = { OK: 0, USAGE: 1, CRASH: 1, LOG_FILE: 2, MOUNT: 32 } as const;

const BACKGROUND = "--background";
const SIGNALS_TO_STOP = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const OOM_SCORE_FILE = "/proc/self/oom_score_adj";

const isBackground = process.argv[2] === BACKGROUND;
const words = process.argv.slice(isBackground ? 3 : 2);
const log = logFile(process.env);

function exit(code: number): never {
  if (isBackground) writeOutput(`${code}`);
  process.exit(code);
}

function fail(code: number, reason: string): never {
  say(reason);
  return exit(code);
}

/** One line about an error that nobody foresaw. */
function describeBug(error: unknown): string {
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `internal error: ${stack.split("\n", 2).join("").replace(/\s+/g, " ")}`;
}

if (log !== undefined) {
  try {
    logErrorsTo(log);
  } catch (error) {
    fail(ExitCode.LOG_FILE, `log file ${(error as Error).message}`);
  }
  if (!isBackground) logOutputTo(log);
}
// Node 20 compiles a function later than pays for mounts, most of which are short: by a fifth of the time
// of the first 5,000 files (bench/change.py create 5000). Later versions have no such setting.
if (process.versions.v8.startsWith("11.")) setFlagsFromString("--interrupt-budget=33000");
const server = new Server();
const { parseCommandLine } = await import("./command-line.ts");
const { UsageError } = await import("./usage-error.ts");

try {
  const command = parseCommandLine(words, process.getuid?.() === 0);
  if (command.kind === "mount") await mount(command);
  else await inform(command.kind);
} catch (error) {
  if (error instanceof UsageError) fail(ExitCode.USAGE, error.message);
  fail(ExitCode.CRASH, describeBug(error));
}

async function inform(about: "help" | "version"): Promise<never> {
  const { helpText, versionText } = await import("./help.ts");
  writeOutput(about === "help" ? helpText() : versionText());
  process.exit(ExitCode.OK);
}

async function mount(command: MountCommand): Promise<never> {
  const { plan, lockFile, stats } = command;
  for (const signal of SIGNALS_TO_STOP) process.on(signal, () => void server.stop());
  process.on("SIGUSR1", () => void server.statistics().then(printStatistics));
  let releaseLock = (): void => undefined;
  try {
    if (lockFile !== undefined) releaseLock = takeLockFile(lockFile);
    if (command.oomScoreAdjustment !== undefined) adjustOomScore(command.oomScoreAdjustment);
    await server.start(plan);
  } catch (error) {
    releaseLock();
    const reason = error instanceof MountFailure ? error.message : describeBug(error);
    fail(ExitCode.MOUNT, `${plan.device}: ${reason}`);
  }

  if (isBackground) await announce(stats);
  await server.prepareToStop();
  let code: number = ExitCode.OK;
  try {
    const { statistics, closeFailure } = await server.ended;
    if (stats) await printStatistics(statistics);
    if (closeFailure !== undefined) {
      say(`${plan.device}: not closed cleanly: ${closeFailure}`);
      code = ExitCode.CRASH;
    }
  } catch (error) {
    say(`${plan.device}: unmounted: ${describeBug(error)}`);
    code = ExitCode.CRASH;
  }
  releaseLock();
  return process.exit(code);
}

/** Tells the launcher that the mount is live, and lets go of the terminal. */
async function announce(keepErrors: boolean): Promise<void> {
  try {
    process.chdir("/");
    writeOutput(`${ExitCode.OK}`);
    letGo(log, keepErrors);
  } catch {
    // The launcher was killed: whoever asked for the mount did not want to wait for it.
    await server.stop();
  }
}

async function printStatistics(statistics: Statistics): Promise<void> {
  const { formatStatistics } = await import("../server/statistics.ts");
  print(formatStatistics(statistics));
}

function adjustOomScore(score: number): void {
  try {
    writeFileSync(OOM_SCORE_FILE, `${score}`);
  } catch (error) {
    say(`oom_score_adj=${score}: ${(error as Error).message}`);
  }
}
