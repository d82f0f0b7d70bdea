/** What does a walk of a tree of 10,000 files cost: reading names, attributes, contents, and again? */

import { dropNames, type Probe, probe, type Row, THIRD, timed } from "./harness.ts";
import { TREE_ENTRIES, TREE_FILES } from "./images.ts";

const WARM: Probe = { call: "lstat", names: TREE_FILES, times: 5 };

const find = (root: string): number => timed("find . -ls", root) / TREE_ENTRIES;

export const rows: readonly Row[] = [
  {
    name: "find",
    title: "cold find -ls, per entry",
    bar: { kernel: 12 / 13, fuse2fs: THIRD },
    sample: (bench, contender) => bench.onFreshMount(contender, "tree", find),
  },
  {
    name: "find-again",
    title: "find -ls, caches dropped, per entry",
    bar: {},
    sample: (bench, contender) =>
      bench.onFreshMount(contender, "tree", (root) => {
        for (let i = 0; i < 2; i++) {
          find(root);
          dropNames();
        }
        return find(root);
      }),
  },
  {
    name: "tar",
    title: "cold tar c, per file",
    bar: { kernel: 123 / 88, fuse2fs: THIRD },
    // Through a pipe: tar leaves out the contents when it sees that it writes to /dev/null.
    sample: (bench, contender) =>
      bench.onFreshMount(
        contender,
        "tree",
        (root) => timed("tar c . | cat", root) / TREE_FILES.length,
      ),
  },
  {
    name: "stat-warm",
    title: "warm stat, per call",
    bar: { kernel: 3.1 / 2.7, fuse2fs: THIRD },
    sample: (bench, contender) =>
      bench.onFreshMount(contender, "tree", (root) => {
        find(root);
        return probe(WARM, root);
      }),
    baseline: (bench) => probe(WARM, bench.images.plainFolder("tree", TREE_FILES)),
  },
];
