/**
 * Where standard output and standard error lead: to the terminal, to a log file, or nowhere.
 *
 * A descriptor is moved by closing it and opening the new target, which gets the lowest number that
 * is free. Nothing else may open files meanwhile.
 */
import { closeSync, openSync, writeSync } from "node:fs";

const STANDARD_INPUT = 0;
const STANDARD_OUTPUT = 1;
const STANDARD_ERROR = 2;
const NOWHERE = "/dev/null";
const OWNER_WRITES = 0o600;

/** The log file that the environment asks for. */
export function logFile(environment: NodeJS.ProcessEnv): string | undefined {
  return environment["FUSE4FS_LOGFILE"] || environment["FUSE2FS_LOGFILE"] || undefined;
}

/** Appends what goes to standard error to `path` from now on. @throws Error when it cannot be opened. */
export function logErrorsTo(path: string): void {
  closeSync(openSync(path, "a", OWNER_WRITES));
  reopen(STANDARD_ERROR, path, "a");
}

/** The same for standard output. */
export function logOutputTo(path: string): void {
  reopen(STANDARD_OUTPUT, path, "a");
}

/** Writes `text` to standard output. @throws Error EPIPE when nobody reads it. */
export function writeOutput(text: string): void {
  writeSync(STANDARD_OUTPUT, text);
}

/**
 * Lets go of the terminal, so that nobody waits for this process to close it. Standard output comes
 * last: the launcher waits for its end.
 *
 * @param log where output goes from now on.
 * @param keepErrors leave standard error where it leads.
 */
export function letGo(log: string | undefined, keepErrors: boolean): void {
  reopen(STANDARD_INPUT, NOWHERE, "r");
  if (log === undefined && !keepErrors) reopen(STANDARD_ERROR, NOWHERE, "a");
  reopen(STANDARD_OUTPUT, log ?? NOWHERE, "a");
}

function reopen(descriptor: number, path: string, flags: string): void {
  closeSync(descriptor);
  openSync(path, flags, OWNER_WRITES);
}
