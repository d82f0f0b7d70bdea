/**
 * Replay of full transactions, judged by e2fsck (by the kernel, for external journals): it replays
 * the journal of a copy and does nothing else, and then every block of the copy must be what our
 * overlay shows, but for the journal itself and the fields of the superblock that say whether there
 * is anything to replay.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { FileBlock } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import { type Filesystem, openFilesystem } from "../../src/ext4/index.ts";
import { findRun } from "../../src/ext4/map/iomap.ts";
import { newRun } from "../../src/ext4/map/run.ts";
import { debugfs, mke2fs, sha256 } from "../support/e2fsprogs.ts";
import { imageFile, imageNames } from "../support/images.ts";
import { copyImage, kernelMount, loopDevice } from "../support/mounts.ts";
import { run, skipBecause, whyNoE2fsprogs, whyNoKernelMount } from "../support/run.ts";
import { Scope, withScope } from "../support/scope.ts";

const SUPERBLOCK_OFFSET = 1024;
/** Fields of the superblock that e2fsck changes when it has replayed a journal. */
// biome-ignore format: a table
const SUPERBLOCK_IGNORED = [
  { name: "s_wtime", at: 0x30, size: 4 },            { name: "s_state", at: 0x3a, size: 2 },
  { name: "s_feature_incompat", at: 0x60, size: 4 }, { name: "s_jnl_backup", at: 0xfd, size: 1 },
  { name: "s_jnl_blocks", at: 0x10c, size: 68 },     { name: "s_kbytes_written", at: 0x178, size: 8 },
  { name: "s_checksum", at: 0x3fc, size: 4 },
];

/** Fields that the kernel brings up to date as well. */
const SUPERBLOCK_IGNORED_OF_KERNEL = [
  ...SUPERBLOCK_IGNORED,
  { name: "s_free_blocks_count_lo", at: 0xc, size: 4 },
  { name: "s_free_inodes_count", at: 0x10, size: 4 },
  { name: "s_journal_dev", at: 0xe4, size: 4 },
];

interface Replay {
  readonly fs: Filesystem;
  readonly warnings: readonly string[];
  /** Blocks that replay changed, and those of them that are not as e2fsck made them. */
  readonly changed: number;
  readonly different: readonly number[];
}

/** Replays the journal of `image` with the library and, on a copy, with the oracle. */
function replay(image: string, journal?: string): Replay {
  return withScope((scope) => {
    const copy = copyImage(scope, image);
    if (journal === undefined) {
      run("e2fsck", ["-y", "-E", "journal_only", copy], { accept: [0, 1] });
    } else {
      replayByKernel(scope, copy, copyImage(scope, journal));
    }
    const before = sha256(image);
    const warnings: string[] = [];
    const stored = new MemoryDevice(readFileSync(image));
    const fs = openFilesystem(stored, {
      onWarning: (message) => warnings.push(message),
      ...(journal !== undefined && { journalDevice: new MemoryDevice(readFileSync(journal)) }),
    });
    const ignored = journal === undefined ? SUPERBLOCK_IGNORED : SUPERBLOCK_IGNORED_OF_KERNEL;
    const found = compare(fs, stored, new MemoryDevice(readFileSync(copy)), ignored);
    expect(sha256(image)).toBe(before);
    return { fs, warnings, ...found };
  });
}

/** e2fsck -j checks more than the journal when the device has another number than before. */
function replayByKernel(scope: Scope, image: string, journal: string): void {
  const device = loopDevice(scope, journal, true);
  const folder = scope.temporaryFolder();
  run("mount", ["-o", `ro,journal_path=${device}`, loopDevice(scope, image, true), folder]);
  run("umount", [folder]);
}

function compare(
  fs: Filesystem,
  stored: MemoryDevice,
  oracle: MemoryDevice,
  ignored: typeof SUPERBLOCK_IGNORED,
): { changed: number; different: number[] } {
  const { blockSize, blockCount } = fs.superblock;
  const journal = journalBlocks(fs);
  const superblockBlock = Math.floor(SUPERBLOCK_OFFSET / blockSize);
  const ours = Buffer.alloc(blockSize);
  const theirs = Buffer.alloc(blockSize);
  const different: number[] = [];
  let changed = 0;
  for (let block = 0; block < blockCount; block++) {
    fs.device.read(block * blockSize, ours);
    stored.read(block * blockSize, theirs);
    if (!ours.equals(theirs)) changed++;
    oracle.read(block * blockSize, theirs);
    if (block === superblockBlock) {
      for (const { at, size } of ignored) {
        const from = (SUPERBLOCK_OFFSET % blockSize) + at;
        ours.fill(0, from, from + size);
        theirs.fill(0, from, from + size);
      }
    }
    if (!ours.equals(theirs) && !journal.has(block)) different.push(block);
  }
  return { changed, different };
}

function journalBlocks(fs: Filesystem): Set<number> {
  const blocks = new Set<number>();
  const { journalInode, blockSize } = fs.superblock;
  if (journalInode === 0) return blocks;
  const inode = fs.internalInode(journalInode);
  const found = newRun();
  for (let at = 0; at < inode.sizeBytes / blockSize; at++) {
    blocks.add(findRun(fs, inode, at as FileBlock, found).fsBlock);
  }
  return blocks;
}

const scope = new Scope();
afterAll(() => scope.close());

const noE2fsprogs = skipBecause("journals against e2fsck", whyNoE2fsprogs());

describe.skipIf(noE2fsprogs)("journals written by debugfs", () => {
  test.each(imageNames().filter((name) => name.startsWith("dirty-")))(
    "%s: every block is what e2fsck's replay makes it",
    (name) => {
      const { different, changed, warnings } = replay(imageFile(scope, name));
      expect(different).toEqual([]);
      expect(changed).toBeGreaterThan(5);
      expect(warnings).toEqual([expect.stringMatching(/^replayed [1-9]\d* transactions? /)]);
    },
  );

  test.each([
    ["^metadata_csum,^64bit", ""],
    ["^metadata_csum,64bit", ""],
    ["metadata_csum,^64bit", "-c -v 2"],
    ["metadata_csum,64bit", "-c -v 2"],
    ["metadata_csum,^64bit", "-c -v 3"],
    ["metadata_csum,64bit", "-c -v 3"],
  ])("%s, journal_open %s: revokes and escaped blocks", (features, open) => {
    const folder = scope.temporaryFolder();
    const image = join(folder, "image");
    const file = join(folder, "blocks");
    mke2fs(image, "16M", ["-b", "1024", "-t", "ext4", "-O", features]);
    const blocks = Buffer.alloc(3 * 1024, "some data ");
    blocks.writeUInt32BE(0xc03b_3998, 1024);
    writeFileSync(file, blocks);
    debugfs(
      image,
      [
        `journal_open ${open}`,
        `journal_write -b 9001,9002,9003 ${file}`,
        "journal_write -r 9001",
        `journal_write -b 9004,9005,9006 ${file}`,
        "journal_write -r 9006",
        `journal_write -b 9006,9007,9008 ${file}`,
        "journal_close",
      ],
      true,
    );
    const { fs, different, changed } = replay(image);
    expect(different).toEqual([]);
    expect(changed).toBe(7);
    const escaped = new Uint8Array(4);
    fs.device.read(9002 * 1024, escaped);
    expect([...escaped]).toEqual([0xc0, 0x3b, 0x39, 0x98]);
  });
});

const noKernel = skipBecause(
  "journals written by the kernel",
  whyNoE2fsprogs(),
  whyNoKernelMount(),
);

/**
 * Transactions of many kinds, one after another, with blocks journalled, freed and used again. An
 * fsync commits them and, unlike sync(2), leaves the blocks themselves unwritten.
 */
const HISTORY = `
set -e
for round in 1 2 3; do
  mkdir -p deep/$round/a/b/c many$round
  for i in $(seq 1 150); do echo "$round $i" > many$round/file$i; done
  ln -s target$round link$round; mkfifo fifo$round; mknod device$round c 4 $round
  setfattr -n user.round -v $round many$round/file7
  sync .
  rm -r many$round/file1*; mv deep/$round moved$round
  if [ $round != 1 ]; then rm -r many$((round - 1)) moved$((round - 1)); fi
  head -c 200000 /dev/urandom > data$round; truncate -s 5000 data$round
  sync .
done
`;

interface KernelCase {
  readonly name: string;
  readonly mke2fs: readonly string[];
  readonly mount?: readonly string[];
}

/** A journal that was caught full changes more blocks than this. */
const CHANGED_MIN = 20;
const ATTEMPTS = 8;

const kernelCases: readonly KernelCase[] = [
  { name: "ext4 as mke2fs makes it", mke2fs: ["-t", "ext4"] },
  { name: "blocks of 1 KiB", mke2fs: ["-t", "ext4", "-b", "1024"] },
  { name: "data=journal", mke2fs: ["-t", "ext4", "-b", "4096"], mount: ["data=journal"] },
  { name: "ext3", mke2fs: ["-t", "ext3", "-b", "1024"] },
  {
    name: "checksums v1",
    mke2fs: ["-t", "ext4", "-O", "^metadata_csum,^64bit"],
    mount: ["journal_checksum"],
  },
  {
    name: "checksums v3 and async commit",
    mke2fs: ["-t", "ext4"],
    mount: ["journal_async_commit", "data=writeback"],
  },
  {
    name: "async commit without checksums",
    mke2fs: ["-t", "ext4", "-O", "^metadata_csum"],
    mount: ["journal_async_commit", "data=writeback"],
  },
];

describe.skipIf(noKernel)("journals written by the kernel", () => {
  test.each(kernelCases)(
    "$name: a copy of the mounted image",
    ({ mke2fs: options, mount = [] }) => {
      // A sync(2) anywhere on the machine can empty the journal before it is copied.
      for (let attempt = 1, changed = 0; changed <= CHANGED_MIN; attempt++) {
        expect(attempt, "attempts to catch the journal full").toBeLessThanOrEqual(ATTEMPTS);
        const inner = scope.child();
        const image = join(inner.temporaryFolder(), "image");
        mke2fs(image, "64M", options);
        const mounted = kernelMount(inner, image, { write: true, options: mount });
        run("bash", ["-c", HISTORY], { cwd: mounted.path });
        const copy = copyImage(inner, image);
        mounted.unmount();
        const replayed = replay(copy);
        expect(replayed.different).toEqual([]);
        changed = replayed.changed;
        inner.close();
      }
    },
  );

  test.each(["shutdown", "shutdown -f"])("a filesystem that ended with %s", (command) => {
    const inner = scope.child();
    const image = join(inner.temporaryFolder(), "image");
    mke2fs(image, "64M", ["-t", "ext4", "-b", "1024"]);
    const mounted = kernelMount(inner, image, { write: true });
    run("bash", ["-c", `${HISTORY} echo late > late; mkdir later`], { cwd: mounted.path });
    run("xfs_io", ["-x", "-c", command, mounted.path]);
    const copy = copyImage(inner, image);
    mounted.unmount();
    const { different, changed } = replay(copy);
    expect(different).toEqual([]);
    expect(changed).toBeGreaterThan(20);
    inner.close();
  });

  test("a log that has gone round its journal many times", () => {
    const inner = scope.child();
    const image = join(inner.temporaryFolder(), "image");
    mke2fs(image, "64M", ["-t", "ext4", "-b", "1024", "-J", "size=1"]);
    const mounted = kernelMount(inner, image, { write: true, options: ["data=journal"] });
    for (let round = 0; round < 4; round++) {
      run("bash", ["-c", `${HISTORY} rm -r *`], { cwd: mounted.path });
    }
    run("bash", ["-c", HISTORY], { cwd: mounted.path });
    const copy = copyImage(inner, image);
    mounted.unmount();
    const { different, changed } = replay(copy);
    expect(different).toEqual([]);
    expect(changed).toBeGreaterThan(20);
    inner.close();
  });

  test.each([1024, 4096])("an external journal with blocks of %i bytes", (blockSize) => {
    const inner = scope.child();
    const folder = inner.temporaryFolder();
    const journal = join(folder, "journal");
    const image = join(folder, "image");
    mke2fs(journal, "8M", ["-O", "journal_dev", "-b", String(blockSize)]);
    const device = loopDevice(inner, journal, true);
    mke2fs(image, "64M", ["-t", "ext4", "-b", String(blockSize), "-J", `device=${device}`]);
    const mounted = kernelMount(inner, image, {
      write: true,
      options: [`journal_path=${device}`],
    });
    run("bash", ["-c", HISTORY], { cwd: mounted.path });
    const [imageCopy, journalCopy] = [copyImage(inner, image), copyImage(inner, journal)];
    mounted.unmount();
    const { different, changed } = replay(imageCopy, journalCopy);
    expect(different).toEqual([]);
    expect(changed).toBeGreaterThan(20);

    const uuid = /UUID: +(\S+)/i.exec(
      run("dumpe2fs", ["-h", journal]).stdout.toString("utf8"),
    )?.[1];
    const stored = new MemoryDevice(readFileSync(imageCopy));
    expect(() => openFilesystem(stored)).toThrow(
      `the journal is on another device, with UUID ${uuid}: name it with journal_path=`,
    );
    const wrong = readFileSync(journalCopy);
    wrong.writeUInt8(wrong.readUInt8(1024 + 0x68) ^ 1, 1024 + 0x68);
    expect(() => openFilesystem(stored, { journalDevice: new MemoryDevice(wrong) })).toThrow();
    expect(() => openFilesystem(stored, { journalDevice: stored })).toThrow(
      "the journal device holds no ext4 journal",
    );
    inner.close();
  });
});
