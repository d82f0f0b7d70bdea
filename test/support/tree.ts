/**
 * Walks a mounted tree and compares two of them: every path with all that an application can see of
 * it. The walk is a Python script (walk.py), because Node has no system calls for xattrs, statx,
 * getdents64 or SEEK_HOLE.
 */
import { run } from "./run.ts";

/** One line of walk.py: what it says is documented there. */
export interface TreeEntry {
  readonly path: string;
  /** What the directory says of the entry: inode number and DT_*; nulls for the root. */
  readonly dirent?: readonly [number | null, number | null];
  readonly [field: string]: unknown;
}

/** The lines of a walk by path, as JSON text: equal entries are equal strings. */
export type Tree = ReadonlyMap<string, string>;

export interface WalkOptions {
  /** False: contents of files are not read. */
  readonly content?: boolean;
}

const WALK = new URL("walk.py", import.meta.url).pathname;

export function walkTree(root: string, options: WalkOptions = {}): Tree {
  const flags = options.content === false ? ["--no-content"] : [];
  return parseTree(run("python3", [WALK, root, ...flags]).stdout.toString("utf8"));
}

function parseTree(lines: string): Tree {
  const tree = new Map<string, string>();
  for (const line of lines.split("\n")) {
    if (line === "") continue;
    tree.set((JSON.parse(line) as TreeEntry).path, line);
  }
  return tree;
}

/** Fields that a comparison leaves out: of every entry, or of the entries that `when` picks. */
export interface Exception {
  readonly fields: readonly string[];
  readonly when?: (entry: TreeEntry) => boolean;
}

const SHOWN_MAX = 20;

/**
 * What differs between `ours` and `oracle`, one line per field, first differences first; empty when
 * nothing does.
 */
export function diffTrees(
  ours: Tree,
  oracle: Tree,
  exceptions: readonly Exception[] = [],
): readonly string[] {
  const found: string[] = [];
  for (const [path, expected] of oracle) {
    const actual = ours.get(path);
    if (actual === undefined) found.push(`${show(path)}: missing; expected ${expected}`);
    else if (actual !== expected)
      found.push(...diffEntries(JSON.parse(actual), JSON.parse(expected), exceptions));
  }
  for (const [path, actual] of ours)
    if (!oracle.has(path)) found.push(`${show(path)}: should not exist: ${actual}`);
  const more = found.length - SHOWN_MAX;
  return more > 0 ? [...found.slice(0, SHOWN_MAX), `… and ${more} more`] : found;
}

function diffEntries(
  actual: TreeEntry,
  expected: TreeEntry,
  exceptions: readonly Exception[],
): string[] {
  const ignored = exceptions.flatMap(({ fields, when }) =>
    when === undefined || when(expected) ? fields : [],
  );
  const found: string[] = [];
  for (const field of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
    if (ignored.includes(field)) continue;
    const is = JSON.stringify(actual[field]);
    const wanted = JSON.stringify(expected[field]);
    if (is !== wanted)
      found.push(`${show(expected.path)}: ${field}: ${cut(is)}, expected ${cut(wanted)}`);
  }
  return found;
}

const cut = (text: string | undefined): string =>
  text !== undefined && text.length > 300 ? `${text.slice(0, 300)}…` : String(text);

const show = (path: string): string => JSON.stringify(path);
