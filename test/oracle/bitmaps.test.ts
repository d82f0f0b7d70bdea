/** The bitmaps of every group, against the free blocks and inodes that dumpe2fs lists. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { GroupIndex } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import { loadBlockBitmap, loadInodeBitmap, openFilesystem } from "../../src/ext4/index.ts";
import { mke2fs } from "../support/e2fsprogs.ts";
import { imageFile, imageNames } from "../support/images.ts";
import { run, skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { withScope } from "../support/scope.ts";

/** First and last numbers that are free. With bigalloc, blocks stand for the clusters they begin. */
type Ranges = readonly (readonly [first: number, last: number])[];

interface Free {
  readonly blocks: Ranges;
  readonly inodes: Ranges;
}

function dumped(path: string): Free[] {
  const text = run("dumpe2fs", [path]).stdout.toString("latin1");
  const field = (group: string, name: string): Ranges => {
    const list = new RegExp(`^  Free ${name}: (.*)$`, "m").exec(group)?.[1] ?? "";
    return [...list.matchAll(/(\d+)(?:-(\d+))?/g)].map(([, first, last]) => [
      Number(first),
      Number(last ?? first),
    ]);
  };
  return text
    .split(/^Group \d+: /m)
    .slice(1)
    .map((group) => ({ blocks: field(group, "blocks"), inodes: field(group, "inodes") }));
}

/** The numbers of the clear bits among the first `count`: `first`, then one `step` further each. */
function clear(bitmap: Uint8Array, count: number, first: number, step: number): number[] {
  const numbers: number[] = [];
  for (let bit = 0; bit < count; bit++) {
    const isSet = ((bitmap[bit >> 3] as number) & (1 << (bit & 7))) !== 0;
    if (!isSet) numbers.push(first + bit * step);
  }
  return numbers;
}

function expand(ranges: Ranges, step: number): number[] {
  return ranges.flatMap(([first, last]) =>
    Array.from(
      { length: Math.floor((last - first) / step) + 1 },
      (_, index) => first + index * step,
    ),
  );
}

function compare(path: string): void {
  const fs = openFilesystem(new MemoryDevice(readFileSync(path)), { noRecovery: true });
  const { clusterBlocks, clustersPerGroup, inodesPerGroup, groupCount } = fs.superblock;
  const groups = dumped(path);
  expect(groups.length).toBe(groupCount);
  groups.forEach(({ blocks, inodes }, index) => {
    const group = index as GroupIndex;
    const firstBlock = fs.groups.firstBlock(group);
    expect(
      clear(loadBlockBitmap(fs, group), clustersPerGroup, firstBlock, clusterBlocks),
      `blocks of group ${index}`,
    ).toEqual(expand(blocks, clusterBlocks));
    expect(
      clear(loadInodeBitmap(fs, group), inodesPerGroup, index * inodesPerGroup + 1, 1),
      `inodes of group ${index}`,
    ).toEqual(expand(inodes, 1));
  });
}

const skipped = skipBecause("bitmaps", whyNoE2fsprogs());

describe.skipIf(skipped)("bitmaps are what dumpe2fs says", () => {
  test.each(imageNames())("of the golden image %s", (name) => {
    withScope((scope) => compare(imageFile(scope, name)));
  });

  // New filesystems of many groups, most of which have no bitmap on the device yet.
  test.each([
    ["with flex_bg", "flex_bg"],
    ["without flex_bg", "^flex_bg"],
    ["with meta_bg", "meta_bg,^resize_inode"],
    ["with meta_bg and without flex_bg", "meta_bg,^resize_inode,^flex_bg"],
    ["with two superblock copies", "sparse_super2,^resize_inode"],
    ["with a copy in every group", "^sparse_super,^resize_inode"],
    ["with gdt_csum", "^metadata_csum,uninit_bg"],
    ["with gdt_csum and without flex_bg", "^metadata_csum,uninit_bg,^flex_bg"],
  ])("of a new filesystem %s", (_, features) => {
    withScope((scope) => {
      const path = join(scope.temporaryFolder(), "new.img");
      mke2fs(path, "99M", ["-t", "ext4", "-b", "1024", "-O", features]);
      compare(path);
    });
  });
});
