/** Damaged bitmaps: nothing is taken from their groups, and everything else goes on. */
import { describe, expect, test } from "vitest";
import type { FsBlock, GroupIndex } from "../../../../src/base/numbers.ts";
import { MemoryDevice } from "../../../../src/device/memory-device.ts";
import { clearBits } from "../../../../src/ext4/alloc/bits.ts";
import { allocateBlocks, freeBlocks } from "../../../../src/ext4/alloc/blocks.ts";
import { allocateInode, freeInode } from "../../../../src/ext4/alloc/inodes.ts";
import { GroupDescriptorLayout as D } from "../../../../src/ext4/format/group-descriptor.ts";
import { Inode } from "../../../../src/ext4/format/inode.ts";
import {
  type CorruptionRule,
  type Filesystem,
  openWritableFilesystem,
  ROOT_INODE,
} from "../../../../src/ext4/index.ts";
import { image } from "../../../support/images.ts";

const CREDITS = 20;
const BLOCK_SIZE = 1024;
/** Of an image with 1 KiB blocks, the block of descriptors. */
const DESCRIPTORS = 2;

interface Damage {
  readonly rule: CorruptionRule;
  readonly image: string;
  /** @param bitmap the block bitmap of group 0. */
  readonly damage: (bitmap: Uint8Array, descriptor: DataView) => void;
}

const DAMAGES: readonly Damage[] = [
  { rule: "bitmap-checksum", image: "ext4-1k", damage: (bitmap) => clearBits(bitmap, 60, 1) },
  { rule: "bitmap-count", image: "no-checksums", damage: (bitmap) => clearBits(bitmap, 0, 1) },
  {
    rule: "bitmap-system",
    image: "no-checksums",
    damage: (bitmap, descriptor) => {
      clearBits(bitmap, 0, 1);
      const count = descriptor.getUint16(D.freeBlocksCountLo, true);
      descriptor.setUint16(D.freeBlocksCountLo, count + 1, true);
    },
  },
];

function damaged({ image: name, damage }: Damage): { fs: Filesystem; told: string[] } {
  const bytes = image(name);
  const descriptor = new DataView(bytes.buffer, DESCRIPTORS * BLOCK_SIZE);
  const at = descriptor.getUint32(D.blockBitmapLo, true) * BLOCK_SIZE;
  damage(bytes.subarray(at, at + BLOCK_SIZE), descriptor);
  const told: string[] = [];
  const fs = openWritableFilesystem(new MemoryDevice(bytes), {
    errors: "continue",
    onDamage: (error) => told.push(error.rule),
  });
  return { fs, told };
}

describe("a group with a damaged block bitmap", () => {
  test.each(DAMAGES)("is told of once and has nothing free: $rule", (damage) => {
    const { fs, told } = damaged(damage);
    const allocate = (): void =>
      fs.transact(CREDITS, (tx) => {
        allocateBlocks(fs, tx, { goal: 500 as FsBlock, count: 1 });
      });
    expect(allocate).toThrow("no block is free");
    expect(allocate).toThrow("no block is free");
    expect(told).toEqual([damage.rule]);
    expect(fs.groups.countFree().clusters).toBe(0);
    expect(fs.writer.superblock.view.getUint32(0x194, true), "s_error_count").toBe(1);
  });

  test("keeps what was to be freed there", () => {
    const { fs } = damaged(DAMAGES[1] as Damage);
    fs.transact(CREDITS, (tx) => freeBlocks(fs, tx, 700 as FsBlock, 1, false));
    expect(fs.groups.countFree().clusters).toBe(0);
  });
});

describe("freeing what cannot be freed", () => {
  const open = (): Filesystem => openWritableFilesystem(new MemoryDevice(image("no-checksums")));
  const free = (fs: Filesystem, start: number, count: number) => (): void =>
    fs.transact(CREDITS, (tx) => freeBlocks(fs, tx, start as FsBlock, count, false));
  const corruption = (rule: CorruptionRule): unknown =>
    expect.objectContaining({ name: "CorruptionError", rule });

  test("is refused for free blocks, by bitmap-free", () => {
    const fs = open();
    expect(free(fs, 1500, 2)).toThrow(corruption("bitmap-free"));
    const before = { ...fs.groups.countFree() };
    expect(free(fs, 1500, 2)).toThrow(corruption("bitmap-free"));
    expect(fs.groups.countFree()).toEqual(before);
  });

  test("is refused for the filesystem's own blocks, by block-system", () => {
    const fs = open();
    const { inodeTable, blockBitmap } = fs.groups.descriptor(0 as GroupIndex);
    for (const start of [1, DESCRIPTORS, blockBitmap, inodeTable, inodeTable + 5]) {
      expect(free(fs, start, 1)).toThrow(corruption("block-system"));
    }
  });

  test("is refused for blocks that are not there, by block-range", () => {
    const fs = open();
    expect(free(fs, 0, 1)).toThrow(corruption("block-range"));
    expect(free(fs, 2047, 2)).toThrow(corruption("block-range"));
  });

  test("is refused for a free inode, by bitmap-free", () => {
    const fs = open();
    const number = fs.transact(CREDITS, (tx) => allocateInode(fs, tx, fs.inode(ROOT_INODE), false));
    const bytes = new Uint8Array(fs.superblock.inodeSize);
    const attributes = { mode: 0o100644, generation: 1, extraSize: 32 };
    const inode = Inode.blank(number, bytes, fs.superblock, fs.checksums, attributes);
    const freeIt = (): void => fs.transact(CREDITS, (tx) => freeInode(fs, tx, inode));
    freeIt();
    expect(freeIt).toThrow(corruption("bitmap-free"));
  });
});
