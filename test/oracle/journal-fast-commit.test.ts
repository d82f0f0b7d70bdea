/**
 * Fast commits, judged by the kernel: it replays them on a copy of an image that was left dirty, and
 * then the tree in the copy must be the one that our overlay shows.
 *
 * Times of directories, and the change time of what was linked or unlinked, are left out: the kernel
 * sets them to the time of the replay.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { InodeNumber } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  closeFilesystem,
  type Filesystem,
  InodeFlags,
  lookup,
  openFilesystem,
  openWritableFilesystem,
  parentOf,
} from "../../src/ext4/index.ts";
import { e2fsck, mke2fs, sha256 } from "../support/e2fsprogs.ts";
import type { ExpectedInode } from "../support/images.ts";
import { bytesOf, inodeView, pathsOf } from "../support/library-view.ts";
import { copyImage, kernelMount } from "../support/mounts.ts";
import { run, skipBecause, whyNoE2fsprogs, whyNoKernelMount } from "../support/run.ts";
import { Scope } from "../support/scope.ts";

/** What is there before the first fast commit. */
const BEFORE = `
set -e
mkdir -p old/sub gone
for i in 1 2 3 4; do echo hello$i > old/f$i; done
head -c 300000 /dev/zero | tr '\\0' x > old/big
ln old/f1 old/hard
sync -f .
`;

interface Case {
  readonly name: string;
  readonly mke2fs?: readonly string[];
  readonly script: string;
  /** Fast commits that must be there, so that the case is about them. */
  readonly commits: number;
  /** The kernel here cannot replay it: the oracle is the tree as it was when it was mounted. */
  readonly isRefusedByKernel?: boolean;
  /** Paths whose block count the kernel's replay gets wrong: it forgets the xattr block. */
  readonly wrongBlocks?: readonly string[];
}

const cases: readonly Case[] = [
  {
    name: "files and directories are made",
    commits: 2,
    script: `
      echo new > old/new; sync old/new
      mkdir -p a/b/c; for i in $(seq 1 20); do echo $i > a/b/n$i; done; touch a/b/c/deep; sync a/b/n20`,
  },
  {
    name: "names come, go and move",
    commits: 3,
    script: `
      ln old/f3 old/link; mv old/f1 old/moved; sync old/f3
      rm old/f2; rmdir gone; mv old/link old/sub/link; echo f2 > old/f2; sync old/f2
      mv old/f4 old/f3; rm old/sub/link; touch last; sync last`,
  },
  {
    name: "a directory takes the inode of one that was removed",
    commits: 1,
    isRefusedByKernel: true,
    script: `rmdir gone; mkdir again; echo x > again/x; sync again/x`,
  },
  {
    name: "a name is made and removed again",
    commits: 2,
    script: `
      mkdir d; touch d/x d/y; sync d/x
      rm d/x d/y; rmdir d; rm old/hard; touch z; sync z`,
  },
  {
    name: "contents are overwritten, appended and cut off",
    commits: 4,
    script: `
      dd if=/dev/urandom of=old/big bs=4096 seek=100 count=3 conv=notrunc,fsync status=none
      truncate -s 5000 old/big; sync old/big
      dd if=/dev/urandom of=old/sparse bs=4096 seek=500 count=2 conv=fsync status=none
      dd if=/dev/urandom of=old/sparse bs=4096 seek=3 count=1 conv=notrunc,fsync status=none`,
  },
  {
    name: "a file of many extents, with blocks of 1 KiB",
    mke2fs: ["-b", "1024"],
    commits: 40,
    script: `
      for i in $(seq 1 40); do
        dd if=/dev/urandom of=frag bs=1k count=1 seek=$((i * 7 % 41 * 3)) conv=notrunc,fsync status=none
      done`,
  },
  {
    name: "attributes change",
    commits: 2,
    script: `
      chmod 4750 old/f1; chown 70000:80000 old/f2; touch -d 2150-01-01T01:02:03.456 old/f3
      sync old/f1; chmod 600 old/f1; sync old/f1`,
  },
  {
    name: "inodes of 128 bytes",
    mke2fs: ["-I", "128"],
    commits: 2,
    script: `mkdir d; echo x > d/x; sync d/x; echo more >> d/x; rm old/f1; sync d/x`,
  },
  {
    name: "inline data",
    mke2fs: ["-O", "inline_data"],
    commits: 1,
    script: `echo tiny > tiny; sync tiny; echo again >> old/f1; sync old/f1`,
  },
  {
    name: "a file with an xattr block grows",
    mke2fs: ["-I", "128"],
    commits: 1,
    wrongBlocks: ["/old/f1", "/old/hard"],
    script: `setfattr -n user.name -v value old/f1; sync .; echo more >> old/f1; sync old/f1`,
  },
];

const scope = new Scope();
afterAll(() => scope.close());

const noKernel = skipBecause("fast commits", whyNoE2fsprogs(), whyNoKernelMount());

interface Dirty {
  /** A copy from while it was mounted, and the image after it was unmounted. */
  readonly dirty: string;
  readonly unmounted: string;
  readonly ours: Filesystem;
  readonly commits: number;
}

/** Anybody's sync(2) makes full commits of everything on the machine: then it is done again. */
const ATTEMPTS_MAX = 8;
/** Replays that are interrupted, of which one in `JUDGED_EVERY` is looked at: it takes long. */
const INTERRUPTED = 8;
const JUDGED_EVERY = 4;

function makeDirty(inner: Scope, each: Case): Dirty {
  for (let attempt = 1; ; attempt++) {
    const image = join(inner.temporaryFolder(), "image");
    mke2fs(image, "64M", [
      "-t",
      "ext4",
      "-O",
      "fast_commit",
      "-J",
      "size=8",
      ...(each.mke2fs ?? []),
    ]);
    const mounted = kernelMount(inner, image, { write: true, options: ["commit=300"] });
    run("bash", ["-c", BEFORE], { cwd: mounted.path });
    run("bash", ["-ec", each.script], { cwd: mounted.path });
    const dirty = copyImage(inner, image);
    mounted.unmount();
    const warnings: string[] = [];
    const ours = openFilesystem(new MemoryDevice(readFileSync(dirty)), {
      onWarning: (message) => warnings.push(message),
    });
    const commits = Number(/and (\d+) fast commits? /.exec(warnings.join())?.[1] ?? 0);
    if (commits >= each.commits || attempt === ATTEMPTS_MAX) {
      return { dirty, unmounted: image, ours, commits };
    }
  }
}

describe.skipIf(noKernel)("fast commits", () => {
  test.each(cases)("$name", (each) => {
    const inner = scope.child();
    const { dirty, unmounted, ours, commits } = makeDirty(inner, each);
    expect(commits).toBeGreaterThanOrEqual(each.commits);
    const before = sha256(dirty);
    const judge = each.isRefusedByKernel === true ? unmounted : replayedByKernel(inner, dirty);
    const oracle = openFilesystem(new MemoryDevice(readFileSync(judge)));

    const paths = pathsOf(oracle);
    expect(pathsOf(ours)).toEqual(paths);
    for (const [path, number] of Object.entries(paths)) {
      expect([path, shown(ours, path, number, each)]).toEqual([
        path,
        shown(oracle, path, number, each),
      ]);
      expectLookups(ours, path, paths);
    }
    expect(sha256(dirty)).toBe(before);
    expectReplayedForGood(inner, dirty, ours);
    inner.close();
  });
});

/** Power fails before one of the writes: that one and all after it are lost. */
class FailingDevice extends MemoryDevice {
  writes = 0;
  readonly #failsAt: number;

  constructor(bytes: Uint8Array, failsAt: number) {
    super(bytes);
    this.#failsAt = failsAt;
  }

  override write(offset: number, bytes: Uint8Array): void {
    if (this.writes++ >= this.#failsAt) throw new Error("power failure");
    super.write(offset, bytes);
  }
}

/**
 * Our own replay into the image has to come to what our view shows, and e2fsck has to like it, also
 * when it was interrupted and begins again.
 */
function expectReplayedForGood(inner: Scope, dirty: string, view: Filesystem): void {
  const read = (): Uint8Array => new Uint8Array(readFileSync(dirty));
  const whole = read();
  const device = new FailingDevice(whole, Number.POSITIVE_INFINITY);
  const opened = openWritableFilesystem(device);
  const { writes } = device;
  closeFilesystem(opened);
  expectAsShown(inner, whole, view);
  for (let count = 0; count < INTERRUPTED; count++) {
    const image = read();
    const failsAt = Math.floor((writes * count) / INTERRUPTED);
    expect(() => openWritableFilesystem(new FailingDevice(image, failsAt))).toThrow();
    closeFilesystem(openWritableFilesystem(new MemoryDevice(image)));
    if (count % JUDGED_EVERY === 0) expectAsShown(inner, image, view);
  }
}

/** Directories count their links right in the image, and have their blocks in their own way. */
function expectAsShown(inner: Scope, image: Uint8Array, view: Filesystem): void {
  const file = join(inner.temporaryFolder(), "replayed");
  writeFileSync(file, image);
  expect(e2fsck(file)).toBe("");
  const replayed = openFilesystem(new MemoryDevice(image));
  const paths = pathsOf(view);
  expect(pathsOf(replayed)).toEqual(paths);
  for (const [path, number] of Object.entries(paths)) {
    const [found, shown] = [replayed, view].map((fs) => {
      const { blocks512: _blocks, ...all } = inodeView(fs, number as InodeNumber);
      if (all.type !== "directory") return all;
      const { flags: _flags, linkCount: _links, sizeBytes: _size, ...rest } = all;
      return rest;
    });
    expect([path, found]).toEqual([path, shown]);
    expectLookups(replayed, path, paths);
  }
}

function replayedByKernel(inner: Scope, dirty: string): string {
  const copy = copyImage(inner, dirty);
  kernelMount(inner, copy, { write: true }).unmount();
  return copy;
}

/** What is compared of an inode. A directory that fast commits made has no blocks, and no extents. */
function shown(
  fs: Filesystem,
  path: string,
  number: number,
  { wrongBlocks, isRefusedByKernel }: Case,
): Partial<ExpectedInode> {
  const { changedAt: _changedAt, ...view } = inodeView(fs, number as InodeNumber);
  if (wrongBlocks?.includes(path) === true) return { ...view, blocks512: 0 };
  if (view.type !== "directory") return view;
  const { accessedAt: _accessedAt, modifiedAt: _modifiedAt, ...rest } = view;
  const flags = view.flags & ~(InodeFlags.EXTENTS | InodeFlags.INLINE_DATA);
  return isRefusedByKernel === true
    ? { ...rest, flags, linkCount: 0, blocks512: 0 }
    : { ...rest, flags };
}

function expectLookups(
  fs: Filesystem,
  path: string,
  paths: Readonly<Record<string, number>>,
): void {
  if (path === "/") return;
  const [, parentPath, name] = /^(.*)\/(.*)$/.exec(path) as unknown as [string, string, string];
  const parent = paths[parentPath === "" ? "/" : parentPath] as InodeNumber;
  expect(lookup(fs, parent, bytesOf(name)), path).toBe(paths[path]);
  expect(lookup(fs, parent, bytesOf(`${name}x`)), path).toBe(paths[`${path}x`] ?? 0);
  const number = paths[path] as InodeNumber;
  if (fs.inode(number).isDirectory) expect(parentOf(fs, number), path).toBe(parent);
}
