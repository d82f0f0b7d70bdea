/**
 * Workloads in the manner of ACE: every call alone and in pairs, on a small tree that is there
 * already, followed by fsync, fdatasync or sync of what it touched, or by nothing. And random runs.
 *
 * @see "Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing", OSDI 2018
 */
import type { PosixModel } from "../support/posix/model.ts";
import type { FallocateHow, Operation } from "../support/posix/operation.ts";
import { randomOperation } from "../support/posix/random-operation.ts";
import { type Random, randomFrom } from "../support/random.ts";

export interface Workload {
  readonly name: string;
  /** Done before the power may fail, so that the journal has come to another place. */
  readonly before?: readonly Operation[];
  readonly operations: readonly Operation[];
}

/** Enough small commits to come to any place of the smallest journal, and around its end. */
const COMMITS_MAX = 450;

/** `workload` after a random number of commits. */
export function laterInTheJournal(workload: Workload, random: Random): Workload {
  const count = random.below(COMMITS_MAX);
  const before = Array.from({ length: count }, (_, index): Operation[] => [
    { kind: "chmod", path: "/A/bar", mode: index % 2 === 0 ? 0o600 : 0o644 },
    { kind: "fsync", path: "/A/bar" },
  ]).flat();
  // The tree is as it was.
  before.push({ kind: "chmod", path: "/A/bar", mode: 0o644 }, { kind: "sync" });
  return { ...workload, name: `${workload.name}, after ${count} commits`, before };
}

/** What is on every image before a workload begins. */
export function baseTree(blockSize: number): Operation[] {
  let tag = 1;
  const file = (path: string, ...ranges: [offset: number, length: number][]): Operation[] => [
    { kind: "create", path, mode: 0o644 },
    ...ranges.map(
      ([offset, length]): Operation => ({ kind: "write", path, offset, length, tag: tag++ }),
    ),
  ];
  return [
    { kind: "mkdir", path: "/A", mode: 0o755 },
    { kind: "mkdir", path: "/A/sub", mode: 0o2775 },
    { kind: "mkdir", path: "/B", mode: 0o755 },
    { kind: "mkdir", path: "/B/empty", mode: 0o700 },
    ...file("/foo", [0, 2 * blockSize + 100]),
    ...file("/A/foo", [0, 40]),
    ...file("/A/bar", [0, 5 * blockSize]),
    ...file("/B/foo", [0, 700]),
    // Several extents; as a block map, an indirect block.
    ...file("/B/holes", [0, 300], [3 * blockSize, 2 * blockSize], [20 * blockSize, 900]),
    { kind: "link", from: "/B/foo", to: "/B/link" },
    { kind: "symlink", path: "/A/short", target: "foo" },
    { kind: "symlink", path: "/A/long", target: "l".repeat(200) },
    ...file("/A/gone", [0, 3 * blockSize]),
    { kind: "setxattr", path: "/foo", name: "user.a", length: 20, tag: 90, how: "any" },
    { kind: "setxattr", path: "/A/bar", name: "user.a", length: 400, tag: 91, how: "any" },
  ];
}

/** The single calls. Tags of writes are not unique: two of a kind may follow each other. */
function calls(blockSize: number): readonly Operation[] {
  const block = blockSize;
  const write = (path: string, offset: number, length: number, tag: number): Operation => ({
    ...{ kind: "write", path, offset, length, tag },
  });
  const fallocate = (
    how: FallocateHow,
    path: string,
    offset: number,
    length: number,
  ): Operation => ({
    ...{ kind: "fallocate", how, path, offset, length },
  });
  const rename = (
    from: string,
    to: string,
    how: "replace" | "noReplace" | "exchange" | "whiteout" = "replace",
  ): Operation => ({ kind: "rename", from, to, how });
  return [
    { kind: "create", path: "/new", mode: 0o644 },
    { kind: "create", path: "/A/new", mode: 0o600 },
    { kind: "mkdir", path: "/B/dir", mode: 0o755 },
    { kind: "mkdir", path: "/A/sub/dir", mode: 0o755 },
    { kind: "mknod", path: "/B/fifo", mode: 0o010644, major: 0, minor: 0 },
    { kind: "mknod", path: "/A/device", mode: 0o060600, major: 300, minor: 70000 },
    { kind: "symlink", path: "/B/symlink", target: "new" },
    { kind: "symlink", path: "/A/symlink", target: "s".repeat(150) },
    { kind: "link", from: "/foo", to: "/A/hard" },
    { kind: "link", from: "/A/bar", to: "/B/hard" },
    { kind: "unlink", path: "/foo" },
    { kind: "unlink", path: "/A/bar" },
    { kind: "unlink", path: "/B/link" },
    { kind: "unlink", path: "/A/long" },
    { kind: "unlink", path: "/B/holes" },
    { kind: "rmdir", path: "/B/empty" },
    { kind: "rmdir", path: "/A/sub" },
    rename("/foo", "/renamed"),
    rename("/foo", "/A/bar"),
    rename("/A/foo", "/B/foo"),
    rename("/A/bar", "/A/moved", "noReplace"),
    rename("/A/sub", "/B/empty"),
    rename("/A", "/B/empty/A"),
    rename("/foo", "/B/holes", "exchange"),
    rename("/A/sub", "/B/foo", "exchange"),
    rename("/A/bar", "/B/bar", "whiteout"),
    rename("/foo", "/A/foo", "whiteout"),
    { kind: "truncate", path: "/foo", size: block + 10 },
    { kind: "truncate", path: "/A/bar", size: 0 },
    { kind: "truncate", path: "/B/holes", size: 4 * block },
    { kind: "truncate", path: "/A/foo", size: 9 * block + 5 },
    { kind: "truncate", path: "/B/foo", size: 50 },
    write("/foo", 2 * block + 100, block, 201),
    write("/foo", 100, 50, 202),
    write("/A/foo", 40, 30, 203),
    write("/A/foo", 0, 3 * block, 204),
    write("/A/bar", block, 2 * block, 205),
    write("/B/holes", 10 * block, 2 * block + 7, 206),
    write("/B/foo", 50 * block, 100, 207),
    fallocate("allocate", "/foo", 0, 10 * block),
    fallocate("keepSize", "/A/foo", 0, 4 * block),
    fallocate("punch", "/A/bar", block, 2 * block),
    fallocate("punch", "/foo", 100, block),
    fallocate("zero", "/A/bar", block + 7, 2 * block),
    fallocate("zeroExtend", "/B/foo", 300, 3 * block),
    fallocate("collapse", "/A/bar", block, 2 * block),
    fallocate("insert", "/A/bar", 2 * block, block),
    { kind: "copy", from: "/A/bar", fromOffset: 0, to: "/foo", toOffset: block, length: 2 * block },
    { kind: "setxattr", path: "/foo", name: "user.b", length: 10, tag: 1, how: "any" },
    { kind: "setxattr", path: "/foo", name: "user.a", length: 500, tag: 2, how: "replace" },
    { kind: "setxattr", path: "/A/bar", name: "user.b", length: 30, tag: 3, how: "create" },
    { kind: "setxattr", path: "/A", name: "trusted.x", length: 300, tag: 4, how: "any" },
    { kind: "removexattr", path: "/foo", name: "user.a" },
    { kind: "removexattr", path: "/A/bar", name: "user.a" },
    { kind: "chmod", path: "/foo", mode: 0o4711 },
    { kind: "chown", path: "/A/bar", uid: 70000, gid: 1000 },
    { kind: "tmpfile", directory: "/A", as: "#0" },
  ];
}

/** What follows a temporary file for it to leave anything behind. */
const AFTER_TMPFILE: readonly Operation[] = [
  { kind: "write", path: "#0", offset: 0, length: 3000, tag: 300 },
  { kind: "link", from: "#0", to: "/A/from-tmpfile" },
];

const whole = (call: Operation): readonly Operation[] =>
  call.kind === "tmpfile" ? [call, ...AFTER_TMPFILE] : [call];

/** The paths that a call names, which exist when it has succeeded. */
function targets(call: Operation): string[] {
  switch (call.kind) {
    case "unlink":
    case "rmdir":
      return [parent(call.path)];
    case "rename":
      return [call.to, parent(call.from)];
    case "link":
      return [call.to];
    case "copy":
      return [call.to];
    case "tmpfile":
      return ["#0"];
    case "sync":
      return [];
    default:
      return [call.path];
  }
}

const parent = (path: string): string => path.slice(0, path.lastIndexOf("/")) || "/";

type Ending = "none" | "fsync" | "fdatasync" | "sync";
const ENDINGS: readonly Ending[] = ["none", "fsync", "fdatasync", "sync"];

function ended(call: Operation, ending: Ending): readonly Operation[] {
  if (ending === "none") return whole(call);
  if (ending === "sync") return [...whole(call), { kind: "sync" }];
  return [...whole(call), ...targets(call).map((path): Operation => ({ kind: ending, path }))];
}

/** Every call alone, with every ending. */
export function singles(blockSize: number): Workload[] {
  return calls(blockSize).flatMap((call, index) =>
    ENDINGS.map((ending) => ({
      name: `${call.kind} ${index}, ${ending}`,
      operations: ended(call, ending),
    })),
  );
}

/** Two calls after each other, by number from 0 up to, not including, `pairCount`. */
export function pair(blockSize: number, number: number): Workload {
  const all = calls(blockSize);
  const { length: count } = ENDINGS;
  const ending = ENDINGS[number % count] as Ending;
  const between = ENDINGS[Math.floor(number / count) % count] as Ending;
  const which = Math.floor(number / count ** 2);
  const first = all[which % all.length] as Operation;
  const second = all[Math.floor(which / all.length)] as Operation;
  return {
    name: `pair ${number}: ${first.kind}, ${between}, ${second.kind}, ${ending}`,
    operations: [...ended(first, between), ...ended(second, ending)],
  };
}

export function pairCount(blockSize: number): number {
  return calls(blockSize).length ** 2 * ENDINGS.length ** 2;
}

/** Calls that change the contents of files, and nothing else. */
const ON_FILES: readonly Operation["kind"][] = [
  ...["write", "write", "write", "truncate", "fallocate", "fallocate", "copy"],
  ...["fsync", "fdatasync"],
] as Operation["kind"][];

/** A longer random run on the base tree: in the manner of fsx on its files, or of fsstress on all. */
export function randomRun(
  model: PosixModel,
  blockSize: number,
  seed: number,
  on: "files" | "tree",
): Workload {
  const random = randomFrom(seed);
  const limits = {
    fileBytesMax: 40 * 1024,
    ...{ entriesMax: 40, blockSize, xattrBytesMax: 500 },
    ...(on === "files" && { kinds: ON_FILES }),
  };
  const operations: Operation[] = [];
  for (let count = 15 + random.below(40); count > 0; count--) {
    const operation = randomOperation(model, random, limits);
    model.apply(operation);
    operations.push(operation);
  }
  return { name: `random run ${seed} on ${on}`, operations };
}

const BURST_NAMES = 70;

/** Many names that come and go: directories grow an index, transactions grow large. */
export function burst(random: Random): Workload {
  const folder = random.below(2) === 0 ? "/A/sub" : "/B/empty";
  const name = (index: number): string => `${folder}/${"long-name-".repeat(5)}${index}`;
  const count = 20 + random.below(BURST_NAMES);
  const operations: Operation[] = [];
  for (let index = 0; index < count; index++) {
    const kind = random.below(4) === 0 ? "mkdir" : "create";
    operations.push({ kind, path: name(index), mode: 0o755 });
    if (random.below(30) === 0) operations.push({ kind: "sync" });
  }
  operations.push({ kind: "fsync", path: folder });
  for (let index = 0; index < count; index += 1 + random.below(3)) {
    const path = name(index);
    const isFolder = operations.some((each) => each.kind === "mkdir" && each.path === path);
    operations.push({ kind: isFolder ? "rmdir" : "unlink", path });
    if (random.below(40) === 0) operations.push({ kind: "fdatasync", path: folder });
  }
  return { name: `burst of ${count} names in ${folder}`, operations };
}
