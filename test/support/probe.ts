/** Questions to a mounted filesystem for which Node has no system calls: see probe.py. */
import { run } from "./run.ts";

export interface Positions {
  readonly names: readonly string[];
  readonly distinct: number;
  readonly distinctPositions: number;
  readonly wrong: readonly unknown[];
  readonly sameInSmallSteps: boolean;
}

export interface Contents {
  readonly sha256: string;
  /** Whether pieces read at random were the same bytes. */
  readonly pieces?: boolean;
  readonly tailIsZero?: boolean;
}

interface Answers {
  /** By path: an inode number, or the name of an errno. */
  readonly lookups: Readonly<Record<string, number | string>>;
  readonly positions: Positions;
  readonly direct: Contents;
  readonly mapped: Contents;
  readonly pieces: Contents;
}

const PROBE = new URL("probe.py", import.meta.url).pathname;

/** Asks `question` about each path. */
export function probe<Q extends keyof Answers>(question: Q, ...paths: string[]): Answers[Q][] {
  return ask(question, paths, "");
}

/** Looks every path up below `root`; none of them has to exist. */
export function lookUp(root: string, paths: readonly string[]): Answers["lookups"] {
  return ask("lookups", [root], JSON.stringify(paths))[0] ?? {};
}

function ask<Q extends keyof Answers>(
  question: Q,
  paths: readonly string[],
  input: string,
): Answers[Q][] {
  const { stdout } = run("python3", [PROBE, question, ...paths], { input });
  return JSON.parse(stdout.toString("utf8")) as Answers[Q][];
}
