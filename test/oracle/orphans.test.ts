/** Orphans that we record, judged by e2fsprogs; orphans that we or the kernel left, finished by us. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { InodeNumber } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  closeFilesystem,
  type Filesystem,
  type Inode,
  openWritableFilesystem,
} from "../../src/ext4/index.ts";
import { ORPHAN_CREDITS } from "../../src/ext4/orphans.ts";
import { debugfs, mke2fs } from "../support/e2fsprogs.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
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

  test.each(Object.entries(FEATURES))("are finished by the next mount: %s", (_, args) => {
    const [image, numbers] = imageWithFiles(5, args);
    const crashed = openWritableFilesystem(new MemoryDevice(image));
    add(crashed, ...numbers);
    crashed.writer.transactions.checkpoint();

    const fs = openWritableFilesystem(new MemoryDevice(image));
    const truncated: Inode[] = [];
    const finished = fs.writer.orphans.finishAll({
      truncate: (inode) => truncated.push(inode),
      free: () => expect.unreachable(),
      onDamage: (error) => expect.unreachable(error.message),
    });
    expect(finished).toEqual({ freed: 0, truncated: 5 });
    expect(truncated.map(({ number }) => number).sort()).toEqual(numbers);
    closeFilesystem(fs);
    expect(complaintsAbout(image)).toBe("");
  });
});
