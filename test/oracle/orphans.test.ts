/** Orphans that we record, judged by e2fsprogs; orphans that we or the kernel left, finished by us. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { InodeNumber } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import { allocateInode } from "../../src/ext4/alloc/inodes.ts";
import { Inode } from "../../src/ext4/format/inode.ts";
import {
  type CorruptionError,
  closeFilesystem,
  type Filesystem,
  FileType,
  openWritableFilesystem,
  ROOT_INODE,
  type WriteOptions,
  writeFile,
} from "../../src/ext4/index.ts";
import { initBlockMap } from "../../src/ext4/map/change.ts";
import { ORPHAN_CREDITS } from "../../src/ext4/orphans.ts";
import { debugfs, mke2fs } from "../support/e2fsprogs.ts";
import { kernelMount } from "../support/mounts.ts";
import { run, skipBecause, whyNoE2fsprogs, whyNoKernelMount } from "../support/run.ts";
import { withScope } from "../support/scope.ts";
import { askDebugfs, complaintsAbout } from "../support/writable-image.ts";

/** An image with the empty files f0, f1, … and their inode numbers. */
function imageWithFiles(count: number, args: readonly string[]): [Uint8Array, InodeNumber[]] {
  return withScope((scope) => {
    const image = join(scope.temporaryFolder(), "image");
    mke2fs(image, "16M", ["-t", "ext4", "-J", "size=4", ...args]);
    const names = Array.from({ length: count }, (_, index) => `f${index}`);
    debugfs(
      image,
      names.map((name) => `write /dev/null ${name}`),
      true,
    );
    const stats = debugfs(
      image,
      names.map((name) => `stat ${name}`),
    );
    const numbers = [...stats.matchAll(/^Inode: (\d+)/gm)].map(([, number]) => Number(number));
    return [new Uint8Array(readFileSync(image)), numbers as InodeNumber[]];
  });
}

function add(fs: Filesystem, ...numbers: InodeNumber[]): void {
  for (const number of numbers) {
    fs.transact(ORPHAN_CREDITS, (tx) => fs.writer.orphans.add(tx, fs.inode(number)));
  }
}
function remove(fs: Filesystem, ...numbers: InodeNumber[]): void {
  for (const number of numbers) {
    fs.transact(ORPHAN_CREDITS, (tx) => fs.writer.orphans.remove(tx, fs.inode(number)));
  }
}

/** The orphan list as debugfs shows it, newest first. */
function listOf(image: Uint8Array): number[] {
  const list: number[] = [];
  let next = Number(/First orphan inode: +(\d+)/.exec(askDebugfs(image, "stats -h"))?.[1] ?? 0);
  while (next !== 0) {
    list.push(next);
    next = Number.parseInt(
      /dtime: 0x([0-9a-f]+)/.exec(askDebugfs(image, `stat <${next}>`))?.[1] ?? "0",
      16,
    );
  }
  return list;
}

function freeBlocksOf(image: Uint8Array): number {
  return Number(/Free blocks: +(\d+)/.exec(askDebugfs(image, "stats -h"))?.[1]);
}

/** Opens `image` as after a crash. */
function opened(
  image: Uint8Array,
  options: WriteOptions = {},
): { warnings: string[]; fs: Filesystem } {
  const warnings: string[] = [];
  const onWarning = (message: string): void => {
    if (!message.includes("journal")) warnings.push(message);
  };
  return {
    warnings,
    fs: openWritableFilesystem(new MemoryDevice(image), { ...options, onWarning }),
  };
}

/**
 * Mounts and unmounts `image`, as after a crash, and compares the result with what `recover` makes
 * of it. @returns the warnings.
 */
function comparedWith(recover: (image: string) => void, image: Uint8Array): string[] {
  const theirs = withScope((scope) => {
    const file = join(scope.temporaryFolder(), "image");
    writeFileSync(file, image);
    recover(file);
    return new Uint8Array(readFileSync(file));
  });
  const { warnings, fs } = opened(image);
  closeFilesystem(fs);
  expect(complaintsAbout(image)).toBe("");
  const counts = /Free (blocks|inodes): +\d+/g;
  const ours = askDebugfs(image, "stats -h").match(counts);
  expect(ours).toEqual(askDebugfs(theirs, "stats -h").match(counts));
  return warnings;
}

function e2fsckRepair(image: string): void {
  run("e2fsck", ["-p", image], { accept: [0, 1] });
}
/** Where values lie in inodes or clusters have several blocks, e2fsck forgets some; the kernel does not. */
function kernelRecovery(image: string): void {
  withScope((scope) => kernelMount(scope, image, { write: true }).unmount());
}

const FEATURES: Record<string, readonly string[]> = {
  "orphan list": ["-b", "4096"],
  "orphan list, 1k blocks, no checksums": ["-b", "1024", "-O", "^metadata_csum"],
  "orphan file": ["-b", "4096", "-O", "orphan_file"],
  "orphan file, 1k blocks, no checksums": ["-b", "1024", "-O", "orphan_file,^metadata_csum"],
};

const skip = skipBecause("orphans", whyNoE2fsprogs());

describe.skipIf(skip)("Orphans", () => {
  test("chains inodes through i_dtime and unchains them from any place", () => {
    const [image, numbers] = imageWithFiles(4, []);
    const [a, b, c, d] = numbers as [InodeNumber, InodeNumber, InodeNumber, InodeNumber];
    const fs = openWritableFilesystem(new MemoryDevice(image));
    const committed = (): number[] => {
      fs.writer.transactions.checkpoint();
      return listOf(image);
    };
    add(fs, a, b, c, d);
    expect(committed()).toEqual([d, c, b, a]);
    remove(fs, b);
    expect(committed()).toEqual([d, c, a]);
    expect(() =>
      fs.transact(ORPHAN_CREDITS * 2, (tx) => {
        fs.writer.orphans.remove(tx, fs.inode(c));
        fs.writer.orphans.add(tx, fs.inode(b));
        throw new Error("no");
      }),
    ).toThrow("no");
    remove(fs, d);
    expect(committed()).toEqual([c, a]);
    remove(fs, a, c);
    expect(committed()).toEqual([]);
    expect([a, b, c, d].some((number) => fs.writer.orphans.has(number))).toBe(false);
    closeFilesystem(fs);
    expect(complaintsAbout(image)).toBe("");
  });

  test.each(Object.entries(FEATURES))("are gone after a clean unmount: %s", (_, args) => {
    const [image, numbers] = imageWithFiles(5, args);
    const fs = openWritableFilesystem(new MemoryDevice(image));
    add(fs, ...numbers);
    fs.writer.transactions.commit();
    remove(fs, ...numbers);
    closeFilesystem(fs);
    expect(complaintsAbout(image)).toBe("");
  });

  test.each(Object.entries(FEATURES))("truncate files at the next mount: %s", (_, args) => {
    const [image, numbers] = imageWithFiles(5, args);
    const [free, inode] = [freeBlocksOf(image), numbers[0] as InodeNumber];
    const crashed = openWritableFilesystem(new MemoryDevice(image));
    writeFile(crashed, crashed.inode(inode), 0, new Uint8Array(300_000).fill(0x61));
    add(crashed, ...numbers);
    crashed.transact(1, (tx) => {
      tx.edit(crashed.inode(inode)).sizeBytes = 5000;
    });
    crashed.writer.transactions.commit();

    expect(comparedWith(e2fsckRepair, image)).toEqual(["truncations finished: 5"]);
    const { blockSize } = crashed.superblock;
    expect(free - freeBlocksOf(image)).toBe(Math.ceil(5000 / blockSize));
    expect(askDebugfs(image, `stat <${inode}>`)).toContain("Size: 5000");
  });

  test("behind a record that cannot be followed are left to e2fsck", () => {
    const [image, numbers] = imageWithFiles(3, []);
    const crashed = openWritableFilesystem(new MemoryDevice(image));
    add(crashed, ...numbers);
    crashed.transact(1, (tx) => {
      tx.edit(crashed.inode(numbers[1] as InodeNumber)).deletionTime = 9;
    });
    crashed.writer.transactions.commit();

    const damage: CorruptionError[] = [];
    const { warnings, fs } = opened(image, {
      errors: "continue",
      onDamage: (error) => damage.push(error),
    });
    expect(damage).toMatchObject([{ rule: "orphan-inode", place: { inode: 9 } }]);
    expect(warnings).toEqual(["truncations finished: 2"]);
    closeFilesystem(fs);
    expect(listOf(image)).toEqual([]);
    expect(opened(image).warnings).toEqual(["the filesystem has errors: e2fsck should be run"]);
  });

  test("cannot make a mount go on forever by pointing to each other", () => {
    const [image, numbers] = imageWithFiles(3, []);
    const crashed = openWritableFilesystem(new MemoryDevice(image));
    add(crashed, ...numbers);
    crashed.transact(1, (tx) => {
      tx.edit(crashed.inode(numbers[0] as InodeNumber)).deletionTime = numbers[2] as number;
    });
    crashed.writer.transactions.commit();
    const { warnings, fs } = opened(image);
    expect(warnings).toEqual(["truncations finished: 4"]);
    closeFilesystem(fs);
    expect(complaintsAbout(image)).toBe("");
  });

  test("are freed at the unmount when they had been kept for a user", () => {
    const [image] = imageWithFiles(1, []);
    const fs = openWritableFilesystem(new MemoryDevice(image));
    const free = freeBlocksOf(image);
    fs.transact(20, (tx) => {
      const number = allocateInode(fs, tx, fs.inode(ROOT_INODE), false);
      const inode = Inode.blank(number, fs.takeInodeBytes(), fs.superblock, fs.checksums, {
        mode: FileType.REGULAR,
        generation: 1,
        extraSize: 32,
      });
      initBlockMap(fs, tx.createInode(inode));
      inode.linkCount = 0;
      fs.writer.orphans.add(tx, inode);
    });
    const [number] = fs.writer.orphans.numbers() as [InodeNumber];
    writeFile(fs, fs.inode(number), 0, new Uint8Array(100_000).fill(1));
    closeFilesystem(fs);
    expect(freeBlocksOf(image)).toBe(free);
    expect(complaintsAbout(image)).toBe("");
  });
});

/** What the kernel's ext4 leaves when the power goes while deleted files are open. */
const LEAVE_ORPHANS = `
import os, sys
os.chdir(sys.argv[1])
held = []
def hold(path, flags):
    held.append(os.open(path, flags))
for index in range(40):
    with open(f"file{index}", "wb") as file:
        file.write(os.urandom(5000 * index))
    hold(f"file{index}", os.O_RDWR)
os.truncate("file39", 1 << 33)
with open("sparse", "wb") as file:
    for index in range(400):
        file.seek(index * 9000)
        file.write(b"x")
hold("sparse", os.O_RDWR)
with open("attributes", "wb") as file:
    pass
os.setxattr("attributes", "user.small", b"y" * 700)
if sys.argv[2] == "large":
    os.setxattr("attributes", "user.large", b"z" * 20000)
hold("attributes", os.O_RDWR)
os.mkdir("directory")
hold("directory", os.O_RDONLY)
os.symlink("t" * 200, "link")
hold("link", os.O_PATH | os.O_NOFOLLOW)
with open("stays", "wb") as file:
    file.write(b"s" * 3000)
for name in [f"file{index}" for index in range(40)] + ["sparse", "attributes", "link"]:
    os.unlink(name)
os.rmdir("directory")
os.sync()
sys.stdout.buffer.write(open(sys.argv[3], "rb").read())
`;

const KERNEL_FEATURES: Record<string, readonly string[]> = {
  ...FEATURES,
  "block maps": ["-b", "1024", "-O", "^extent,^64bit"],
  "values in inodes": ["-b", "4096", "-O", "ea_inode"],
  "inline data": ["-b", "4096", "-I", "512", "-O", "inline_data"],
  bigalloc: ["-b", "1024", "-O", "bigalloc", "-C", "4096"],
};

const skipKernel = skipBecause("orphans of the kernel", whyNoKernelMount());

describe.skipIf(skip || skipKernel)("Orphans that the kernel left", () => {
  test.each(Object.entries(KERNEL_FEATURES))(
    "are freed as the kernel frees them: %s",
    (name, args) => {
      const image = withScope((scope) => {
        const file = join(scope.temporaryFolder(), "image");
        mke2fs(file, "64M", ["-t", "ext4", ...args]);
        const { path, unmount } = kernelMount(scope, file, { write: true });
        const values = name === "values in inodes" ? "large" : "small";
        const { stdout } = run("python3", ["-c", LEAVE_ORPHANS, path, values, file]);
        unmount();
        return new Uint8Array(stdout);
      });
      const warnings = comparedWith(kernelRecovery, image);
      expect(warnings).toContain("orphans freed: 44");
    },
  );
});
