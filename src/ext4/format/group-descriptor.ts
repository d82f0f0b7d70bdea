/**
 * The group descriptor: where one block group keeps its bitmaps and its inode table.
 *
 * 32 bytes, or with the 64bit feature `s_desc_size` bytes, of which 64 are defined.
 *
 * @see ext4/group_descr.rst
 */

import { layout, le16, le32, setLe16 } from "../../base/layout.ts";
import type { FsBlock, GroupIndex } from "../../base/numbers.ts";
import { join32 } from "../../base/numbers.ts";
import { CorruptionError } from "../errors.ts";
import { type Checksums, crc16 } from "./checksum.ts";
import { RoCompat } from "./features.ts";
import type { Superblock } from "./superblock.ts";

// biome-ignore format: a table
export const GroupDescriptorLayout = layout("ext4_group_desc", 64, {
  blockBitmapLo:     [0x0, "le32"],   inodeBitmapLo:     [0x4, "le32"],
  inodeTableLo:      [0x8, "le32"],   freeBlocksCountLo: [0xc, "le16"],
  freeInodesCountLo: [0xe, "le16"],   usedDirsCountLo:   [0x10, "le16"],
  flags:             [0x12, "le16"],  excludeBitmapLo:   [0x14, "le32"],
  blockBitmapCsumLo: [0x18, "le16"],  inodeBitmapCsumLo: [0x1a, "le16"],
  itableUnusedLo:    [0x1c, "le16"],  checksum:          [0x1e, "le16"],
  blockBitmapHi:     [0x20, "le32"],  inodeBitmapHi:     [0x24, "le32"],
  inodeTableHi:      [0x28, "le32"],  freeBlocksCountHi: [0x2c, "le16"],
  freeInodesCountHi: [0x2e, "le16"],  usedDirsCountHi:   [0x30, "le16"],
  itableUnusedHi:    [0x32, "le16"],  excludeBitmapHi:   [0x34, "le32"],
  blockBitmapCsumHi: [0x38, "le16"],  inodeBitmapCsumHi: [0x3a, "le16"],
});

const DESC_SIZE_WIDE = 64;

/** Flags of a group. @see ext4/group_descr.rst, "bg_flags" */
export const GroupFlags = { INODE_UNINIT: 0x1, BLOCK_UNINIT: 0x2, INODE_ZEROED: 0x4 } as const;

/** What one descriptor says, checked. Changed through `BlockGroups.change` alone. */
export interface GroupDescriptor {
  readonly blockBitmap: FsBlock;
  readonly inodeBitmap: FsBlock;
  readonly inodeTable: FsBlock;
  /** Free clusters, in spite of the field's name. */
  freeClusters: number;
  freeInodes: number;
  usedDirectories: number;
  flags: number;
  /** Inodes at the end of the table that were never used. Means nothing without checksums. */
  unusedInodes: number;
  blockBitmapChecksum: number;
  inodeBitmapChecksum: number;
}

/**
 * Parses the descriptor of `group` at `at` and checks it.
 *
 * @throws CorruptionError `descriptor-checksum`, or `descriptor-location` when a table lies outside
 *   the filesystem.
 */
export function parseGroupDescriptor(
  view: DataView,
  at: number,
  group: GroupIndex,
  superblock: Superblock,
  checksums: Checksums,
): GroupDescriptor {
  const D = GroupDescriptorLayout;
  verifyChecksum(view, at, group, superblock, checksums);
  const wide = superblock.descriptorSize >= DESC_SIZE_WIDE;
  const block = (lo: typeof D.blockBitmapLo, hi: typeof D.blockBitmapHi): FsBlock =>
    join32(wide ? le32(view, at, hi) : 0, le32(view, at, lo)) as FsBlock;
  const half = (lo: typeof D.checksum, hi: typeof D.checksum): number =>
    le16(view, at, lo) + (wide ? le16(view, at, hi) * 0x1_0000 : 0);

  const descriptor: GroupDescriptor = {
    blockBitmap: block(D.blockBitmapLo, D.blockBitmapHi),
    inodeBitmap: block(D.inodeBitmapLo, D.inodeBitmapHi),
    inodeTable: block(D.inodeTableLo, D.inodeTableHi),
    freeClusters: half(D.freeBlocksCountLo, D.freeBlocksCountHi),
    freeInodes: half(D.freeInodesCountLo, D.freeInodesCountHi),
    usedDirectories: half(D.usedDirsCountLo, D.usedDirsCountHi),
    flags: le16(view, at, D.flags),
    unusedInodes: half(D.itableUnusedLo, D.itableUnusedHi),
    blockBitmapChecksum: half(D.blockBitmapCsumLo, D.blockBitmapCsumHi),
    inodeBitmapChecksum: half(D.inodeBitmapCsumLo, D.inodeBitmapCsumHi),
  };
  const tableBlocks = Math.ceil(
    (superblock.inodesPerGroup * superblock.inodeSize) / superblock.blockSize,
  );
  mustLieInside(descriptor.blockBitmap, 1, group, superblock);
  mustLieInside(descriptor.inodeBitmap, 1, group, superblock);
  mustLieInside(descriptor.inodeTable, tableBlocks, group, superblock);
  return descriptor;
}

function mustLieInside(
  first: FsBlock,
  count: number,
  group: GroupIndex,
  superblock: Superblock,
): void {
  if (first > superblock.firstDataBlock && first + count <= superblock.blockCount) return;
  throw new CorruptionError(
    "descriptor-location",
    { group, block: first },
    `${count} blocks from ${first}`,
  );
}

/** Writes what may change of the descriptor of `group`, and its checksum, to `at`. */
export function serializeGroupDescriptor(
  view: DataView,
  at: number,
  group: GroupIndex,
  descriptor: GroupDescriptor,
  superblock: Superblock,
  checksums: Checksums,
): void {
  const D = GroupDescriptorLayout;
  const wide = superblock.descriptorSize >= DESC_SIZE_WIDE;
  const setHalves = (lo: typeof D.checksum, hi: typeof D.checksum, value: number): void => {
    setLe16(view, at, lo, value & 0xffff);
    if (wide) setLe16(view, at, hi, value >>> 16);
  };
  setHalves(D.freeBlocksCountLo, D.freeBlocksCountHi, descriptor.freeClusters);
  setHalves(D.freeInodesCountLo, D.freeInodesCountHi, descriptor.freeInodes);
  setHalves(D.usedDirsCountLo, D.usedDirsCountHi, descriptor.usedDirectories);
  setHalves(D.itableUnusedLo, D.itableUnusedHi, descriptor.unusedInodes);
  setHalves(D.blockBitmapCsumLo, D.blockBitmapCsumHi, descriptor.blockBitmapChecksum);
  setHalves(D.inodeBitmapCsumLo, D.inodeBitmapCsumHi, descriptor.inodeBitmapChecksum);
  setLe16(view, at, D.flags, descriptor.flags);
  const checksum = computeChecksum(view, at, group, superblock, checksums);
  if (checksum !== undefined) setLe16(view, at, D.checksum, checksum);
}

function verifyChecksum(
  view: DataView,
  at: number,
  group: GroupIndex,
  superblock: Superblock,
  checksums: Checksums,
): void {
  const stored = le16(view, at, GroupDescriptorLayout.checksum);
  const found = computeChecksum(view, at, group, superblock, checksums);
  if (found !== undefined && found !== stored) {
    throw new CorruptionError(
      "descriptor-checksum",
      { group },
      `stored ${stored}, computed ${found}`,
    );
  }
}

/** The checksum that a descriptor should have; undefined without the features that ask for one. */
function computeChecksum(
  view: DataView,
  at: number,
  group: GroupIndex,
  superblock: Superblock,
  checksums: Checksums,
): number | undefined {
  const size = superblock.descriptorSize;
  const bytes = new Uint8Array(view.buffer, view.byteOffset + at, size);
  const { checksum } = GroupDescriptorLayout;
  if (checksums.enabled) {
    let crc = checksums.overLe32(checksums.seed, group);
    crc = checksums.over(crc, bytes, 0, checksum);
    crc = checksums.overZeros(crc, 2);
    return checksums.over(crc, bytes, checksum + 2) & 0xffff;
  }
  if (!superblock.hasRoCompat(RoCompat.GDT_CSUM)) return undefined;
  const number = new Uint8Array(4);
  new DataView(number.buffer).setUint32(0, group, true);
  const start = crc16(crc16(crc16(0xffff, superblock.uuid), number), bytes.subarray(0, checksum));
  return crc16(start, bytes.subarray(checksum + 2));
}
