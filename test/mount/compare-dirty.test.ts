/**
 * Images whose journal has work to do, left by the kernel's own ext4: copied while they were
 * mounted, or shut down. Our read-only mount must show what the kernel shows after its replay, and
 * must not change a byte of the image; with `norecovery` it must show what the kernel's `noload`
 * shows.
 */
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  churn,
  type Ending,
  formatWithExternalJournal,
  type JournaledImage,
} from "../support/build.ts";
import { mke2fs, sha256 } from "../support/e2fsprogs.ts";
import {
  copyImage,
  kernelMount,
  kernelMountOfCopy,
  kernelMountWithJournal,
  type Mounted,
  ourMount,
} from "../support/mounts.ts";
import { output, skipBecause, whyNoFuse, whyNoKernelMount } from "../support/run.ts";
import { type Scope, withScope } from "../support/scope.ts";
import { diffTrees, type Exception, walkTree } from "../support/tree.ts";

const S_IFDIR = 0o040000;

interface DirtyConfiguration {
  readonly format: string;
  readonly mke2fs: readonly string[];
  readonly options?: readonly string[];
  /** Workloads of churn.py, each with what becomes of the mount then. */
  readonly workloads: readonly (readonly [workload: string, ending: Ending])[];
}

const ext4 = (features: string, ...rest: string[]): string[] => [
  ...["-t", "ext4", "-b", "4096", "-N", "4096", "-J", "size=8", "-O", features],
  ...rest,
];
const OLD = "^metadata_csum";

const CONFIGURATIONS: readonly DirtyConfiguration[] = [
  {
    format: "ext4, checksums v3",
    mke2fs: ext4("has_journal"),
    workloads: [
      ["nothing", "running"],
      ["creates", "sync"],
      ["deletes", "sync"],
      ["renames", "running"],
      ["truncates", "shutdown"],
      ["attributes", "logflush"],
      ["grows_a_directory", "sync"],
      ["orphans", "sync"],
      ["everything", "shutdown"],
    ],
  },
  {
    format: "1 KiB blocks",
    mke2fs: ext4("has_journal", "-b", "1024", "-J", "size=2"),
    workloads: [
      ["deletes", "sync"],
      ["many_commits", "running"],
      ["everything", "sync"],
    ],
  },
  {
    format: "ext3, no checksums",
    mke2fs: ["-t", "ext3", "-b", "1024", "-N", "4096", "-J", "size=4"],
    workloads: [
      ["deletes", "sync"],
      ["everything", "shutdown"],
    ],
  },
  {
    format: "^64bit",
    mke2fs: ext4("^64bit"),
    workloads: [["everything", "sync"]],
  },
  {
    format: "journal_checksum, v1",
    mke2fs: ext4(OLD),
    options: ["journal_checksum"],
    workloads: [
      ["deletes", "sync"],
      ["everything", "running"],
    ],
  },
  {
    format: "journal_async_commit",
    mke2fs: ext4("has_journal"),
    options: ["journal_async_commit", "data=writeback"],
    workloads: [
      ["deletes", "running"],
      ["everything", "sync"],
    ],
  },
  {
    format: "journal_async_commit, v1",
    mke2fs: ext4(OLD),
    options: ["journal_async_commit", "data=writeback"],
    workloads: [["everything", "running"]],
  },
  {
    format: "data=journal",
    mke2fs: ext4("has_journal"),
    options: ["data=journal"],
    workloads: [
      ["looks_like_a_journal", "sync"],
      ["deletes", "sync"],
      ["everything", "shutdown"],
    ],
  },
  {
    format: "data=journal, ^64bit, no checksums",
    mke2fs: ext4(`^64bit,${OLD}`, "-b", "1024"),
    options: ["data=journal"],
    workloads: [["looks_like_a_journal", "running"]],
  },
  {
    format: "bigalloc, inline_data and ea_inode",
    mke2fs: ext4("bigalloc,inline_data,ea_inode", "-C", "16384"),
    workloads: [
      ["everything", "sync"],
      ["attributes", "shutdown"],
    ],
  },
  {
    format: "orphan_file",
    mke2fs: ext4("orphan_file"),
    workloads: [
      ["orphans", "sync"],
      ["orphans", "shutdown"],
      ["everything", "running"],
    ],
  },
  {
    format: "fast_commit",
    mke2fs: ext4("fast_commit"),
    workloads: [
      ["fast_creates", "sync"],
      ["fast_names", "sync"],
      ["fast_data", "running"],
      ["fast_xattrs", "sync"],
      ["fast_many", "sync"],
      ["fast_many", "shutdown"],
      ["everything", "sync"],
    ],
  },
  {
    format: "fast_commit on 1 KiB blocks",
    mke2fs: ext4("fast_commit", "-b", "1024"),
    workloads: [
      ["fast_creates", "running"],
      ["fast_names", "shutdown"],
      ["fast_data", "sync"],
    ],
  },
  {
    format: "fast_commit without checksums",
    mke2fs: ext4(`fast_commit,${OLD}`),
    workloads: [
      ["fast_names", "sync"],
      ["fast_data", "sync"],
    ],
  },
  {
    format: "fast_commit with inline_data",
    mke2fs: ext4("fast_commit,inline_data"),
    workloads: [
      ["fast_inline", "sync"],
      ["fast_creates", "sync"],
    ],
  },
];

const CASES = CONFIGURATIONS.flatMap((configuration) =>
  configuration.workloads.map(
    ([workload, ending]) =>
      [`${configuration.format}: ${workload}, ${ending}`, configuration, workload, ending] as const,
  ),
);

/** The kernel frees what is on the orphan list before it counts; we do not free, reading only. */
const FREE_COUNTS: Exception = {
  fields: ["bfree", "bavail", "ffree", "favail"],
  when: ({ path }) => path === "statvfs",
};

/**
 * Fast commits do not log what happens to a directory but its entries: the kernel adds them when it
 * replays, at that time and in blocks of its choice. Nor do they log what is free.
 */
const FAST_COMMIT: readonly Exception[] = [
  FREE_COUNTS,
  { fields: ["mtime", "ctime", "size", "blocks512"], when: ({ type }) => type === S_IFDIR },
];

/** The kernel's replay forgets the block of the xattrs when it counts the blocks of an inode. */
const XATTR_BLOCK: Exception = { fields: ["blocks512"], when: ({ path }) => path === "./file" };

function exceptionsFor(workload: string): readonly Exception[] {
  if (workload === "orphans") return [FREE_COUNTS];
  if (workload === "fast_xattrs") return [...FAST_COMMIT, XATTR_BLOCK];
  return workload.startsWith("fast") ? FAST_COMMIT : [];
}

const skip = skipBecause("compare-dirty", whyNoKernelMount(), whyNoFuse());

describe.skipIf(skip)("our mount of a dirty image shows what the kernel's replay shows", () => {
  test.each(CASES)("%s", (_, configuration, workload, ending) => {
    withScope((scope) => {
      const fresh = join(scope.temporaryFolder(), "image");
      mke2fs(fresh, "96M", configuration.mke2fs);
      const options = ["commit=300", ...(configuration.options ?? [])];
      const mount = kernelMount(scope, fresh, { write: true, options });
      churn(mount.path, workload, ending);
      if (workload.startsWith("fast")) expect(fastCommits(mount)).toBeGreaterThan(0);
      const image = leave(scope, mount, fresh, ending);
      expect(output("debugfs", ["-R", "stats -h", image])).toContain("needs_recovery");

      const before = sha256(image);
      const exceptions = exceptionsFor(workload);
      const kernel = walkTree(kernelMountOfCopy(scope, image).path);
      expect(diffTrees(walkTree(ourMount(scope, image).path), kernel, exceptions)).toEqual([]);
      expect(sha256(image)).toBe(before);

      const unrecovered = walkTree(kernelMount(scope, image, { options: ["noload"] }).path);
      const ours = ourMount(scope, image, { options: ["norecovery"] });
      expect(diffTrees(walkTree(ours.path), unrecovered)).toEqual([]);
      expect(sha256(image)).toBe(before);
    });
  });

  test.each<["everything" | "deletes", Ending, string]>([
    ["everything", "sync", "4096"],
    ["everything", "shutdown", "1024"],
    ["deletes", "sync", "4096"],
  ])("an external journal: %s, %s, %s-byte blocks", (workload, ending, blockSize) => {
    withScope((scope) => {
      const fresh = formatWithExternalJournal(scope, "96M", ["-b", blockSize, "-N", "4096"]);
      const mount = kernelMountWithJournal(scope, fresh.image, fresh.journal, {
        write: true,
        options: ["commit=300"],
      });
      churn(mount.path, workload, ending);
      const { image, journal }: JournaledImage =
        ending === "sync"
          ? { image: copyImage(scope, fresh.image), journal: copyImage(scope, fresh.journal) }
          : fresh;
      mount.unmount();

      const before = [sha256(image), sha256(journal)];
      const ours = ourMount(scope, image, { options: [`journal_path=${journal}`] });
      const tree = walkTree(ours.path);
      expect([sha256(image), sha256(journal)]).toEqual(before);
      const copies = [copyImage(scope, image), copyImage(scope, journal)] as const;
      expect(diffTrees(tree, walkTree(kernelMountWithJournal(scope, ...copies).path))).toEqual([]);
    });
  });
});

/** The image as a power cut would leave it. */
function leave(scope: Scope, mount: Mounted, image: string, ending: Ending): string {
  const isShutDown = ending === "shutdown" || ending === "logflush";
  const left = isShutDown ? image : copyImage(scope, image);
  mount.unmount();
  return left;
}

/** How many fast commits the kernel has written since it mounted. */
function fastCommits({ source }: Mounted): number {
  const statistics = join("/proc/fs/ext4", basename(source), "fc_info");
  return Number(/(\d+) commits/.exec(readFileSync(statistics, "utf8"))?.[1]);
}
