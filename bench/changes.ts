/**
 * What do changes cost: making, filling, renaming and deleting files, and having that on stable
 * storage? Each sample works on an image of its own, mounted for writing.
 */
import { output, run } from "../test/support/run.ts";
import { type Bar, type Bench, type Contender, type Row, THIRD, timed } from "./harness.ts";
import { type ImageName, TREE_ENTRIES, TREE_FILES } from "./images.ts";

const CHANGE = new URL("./change.py", import.meta.url).pathname;

const SMALL_FILES = 20_000;
const ENTRIES = 100_000;
/** fuse2fs searches the directory from its start, and would take minutes for all of them. */
const ENTRIES_LINEAR = 5000;
const RENAMES = 10_000;
const OVERWRITES = 20_000;
const APPENDS = 1000;
const CLIENTS = 4;
const WRITTEN_MIB = 512;
const OVERWRITTEN_MIB = 256;

/** Microseconds of all that `change.py` does. */
function change(root: string, work: string, count: number, ...more: string[]): number {
  return Number(output("python3", [CHANGE, work, String(count), ...more], { cwd: root })) / 1000;
}

const entriesFor = (contender: Contender): number =>
  contender === "F2" ? ENTRIES_LINEAR : ENTRIES;

/** @param work answers microseconds per operation. */
function row(
  name: string,
  title: string,
  bar: Bar,
  work: (root: string, bench: Bench, contender: Contender) => number,
  image: ImageName = "empty",
): Row {
  return {
    name,
    title,
    bar,
    sample: (bench, contender) =>
      bench.onFreshMount(contender, image, (root) => work(root, bench, contender), true),
  };
}

export const rows: readonly Row[] = [
  row(
    "untar",
    "tar x of 10,000 files, per file",
    { kernel: 328 / 48, fuse2fs: THIRD },
    (root, bench) => timed(`tar xf '${bench.images.archive()}'`, root) / TREE_FILES.length,
  ),
  row(
    "create",
    "make a file of 4 KiB",
    { kernel: 68 / 31, fuse2fs: THIRD },
    (root) => change(root, "create", SMALL_FILES) / SMALL_FILES,
  ),
  row("clients", "the same, 4 processes at once", { fuse2fs: THIRD }, (root) => {
    const one = (client: number): string =>
      `python3 '${CHANGE}' create ${SMALL_FILES / CLIENTS} client-${client} & pids+=($!)`;
    const all = Array.from({ length: CLIENTS }, (_, client) => one(client)).join("; ");
    return timed(`${all}; for p in "\${pids[@]}"; do wait $p; done`, root) / SMALL_FILES;
  }),
  row(
    "enter",
    "make an entry, up to 100,000",
    { kernel: 326 / 21, fuse2fs: THIRD },
    (root, _, contender) => {
      const count = entriesFor(contender);
      return change(root, "enter", count) / count;
    },
  ),
  row(
    "delete",
    "delete one of 100,000 entries",
    { kernel: 53 / 26, fuse2fs: THIRD },
    (root, _, contender) => {
      const count = entriesFor(contender);
      change(root, "enter", count);
      return change(root, "delete", count) / count;
    },
  ),
  row(
    "rename",
    "rename to another folder",
    { kernel: 212 / 27, fuse2fs: THIRD },
    (root) => change(root, "rename", RENAMES) / RENAMES,
  ),
  row(
    "rm",
    "rm -r of 10,000 files, per entry",
    { kernel: 53 / 26, fuse2fs: THIRD },
    (root) => timed("rm -r [0-9]*", root) / TREE_ENTRIES,
    "tree",
  ),
  row(
    "write",
    "sequential write and fsync, per MiB",
    { kernel: 1915 / 570, fuse2fs: THIRD },
    (root) =>
      timed(`dd if=/dev/zero of=data bs=1M count=${WRITTEN_MIB} conv=fsync status=none`, root) /
      WRITTEN_MIB,
  ),
  row(
    "overwrite",
    "4 KiB at random places, then fsync",
    { kernel: 22 / 6, fuse2fs: THIRD },
    (root) => {
      const fill = `of=data bs=1M count=${OVERWRITTEN_MIB} conv=fsync status=none`;
      run("dd", ["if=/dev/zero", ...fill.split(" ")], { cwd: root });
      return change(root, "overwrite", OVERWRITES) / OVERWRITES;
    },
  ),
  row(
    "append",
    "append 4 KiB and fsync",
    { kernel: 1, fuse2fs: THIRD },
    (root) => change(root, "append", APPENDS) / APPENDS,
  ),
];
