/** What do lookups in a directory of 100,000 entries cost, and a listing of it? */
import { dirname, join } from "node:path";
import {
  type Bench,
  type Contender,
  dropNames,
  type Probe,
  probe,
  type Row,
  THIRD,
} from "./harness.ts";
import { DIRECTORY, DIRECTORY_NAMES } from "./images.ts";

const LOOKUPS = 10_000;
/** fuse2fs reads the directory from its start for every lookup, so a few tell as much as many. */
const LOOKUPS_LINEAR = 500;
const STRIDE = 7919; // a prime, so that all names asked for are different and lie far apart

const PRESENT = Array.from(
  { length: LOOKUPS },
  (_, i) => DIRECTORY_NAMES[(i * STRIDE) % DIRECTORY_NAMES.length] ?? "",
);
const MISSING = PRESENT.map((name) => name.replace("entry", "absent"));

/** Each name once: no dentry is there yet. */
function asking(call: Probe["call"], names: readonly string[], contender?: Contender): Probe {
  return { call, names: contender === "F2" ? names.slice(0, LOOKUPS_LINEAR) : names, times: 1 };
}

const LISTING: Probe = { call: "listdir", names: [DIRECTORY], times: 1 };

const plain = (bench: Bench): string => bench.images.plainFolder(DIRECTORY, DIRECTORY_NAMES);

export const rows: readonly Row[] = [
  {
    name: "lookup",
    title: "lookup among 100,000 entries",
    bar: { kernel: 2, fuse2fs: THIRD },
    sample: (bench, contender) =>
      bench.onFreshMount(contender, "directory", (root) =>
        probe(asking("lstat", PRESENT, contender), join(root, DIRECTORY)),
      ),
    baseline: (bench) => probe(asking("lstat", PRESENT), plain(bench)),
  },
  {
    name: "lookup-again",
    title: "the same, caches dropped",
    bar: {},
    sample: (bench, contender) =>
      bench.onFreshMount(contender, "directory", (root) => {
        const present = asking("lstat", PRESENT, contender);
        const folder = join(root, DIRECTORY);
        for (let i = 0; i < 2; i++) {
          probe(present, folder);
          dropNames();
        }
        return probe(present, folder);
      }),
  },
  {
    name: "lookup-missing",
    title: "lookup of a name that is not there",
    bar: { kernel: 2, fuse2fs: THIRD },
    sample: (bench, contender) =>
      bench.onFreshMount(contender, "directory", (root) =>
        probe(asking("access", MISSING, contender), join(root, DIRECTORY)),
      ),
    baseline: (bench) => probe(asking("access", MISSING), plain(bench)),
  },
  {
    name: "readdir",
    title: "cold listing of 100,000, per entry",
    bar: { fuse2fs: THIRD },
    sample: (bench, contender) =>
      bench.onFreshMount(
        contender,
        "directory",
        (root) => probe(LISTING, root) / DIRECTORY_NAMES.length,
      ),
    baseline: (bench) => probe(LISTING, dirname(plain(bench))) / DIRECTORY_NAMES.length,
  },
];
