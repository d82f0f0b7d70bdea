/**
 * The quota file: a hidden file for each kind of quota that says what every user, group or project
 * uses. It has blocks of its own, 1,024 bytes whatever those of the filesystem are:
 *
 *     0        header 8 | info 24             how many blocks there are, and the heads of two lists
 *     1        root of the tree               256 block numbers, by bits 31 to 24 of the id
 *     ...      three more levels of the tree  by the next 8 bits each; a lowest points to entries
 *     ...      header 16 | entry | entry ...  14 entries of 72 bytes; one of all zeros is free
 *
 * Lists: of blocks that nothing uses, through `nextFree`; of blocks with a free entry, both ways.
 *
 * @see fs/quota/quotaio_v2.h, fs/quota/quota_tree.h and quota_tree.c
 */
import { layout, sizeOf } from "../../base/layout.ts";

/** @see struct v2_disk_dqheader and, behind it, struct v2_disk_dqinfo */
// biome-ignore format: a table
export const QuotaHeader = layout("v2_disk_dqheader", 32, {
  magic:      [0x0, "le32"],   version:   [0x4, "le32"],
  blockGrace: [0x8, "le32"],   inodeGrace: [0xc, "le32"],  flags:     [0x10, "le32"],
  blocks:     [0x14, "le32"],  freeBlock: [0x18, "le32"],  freeEntry: [0x1c, "le32"],
});

/** In front of the entries of a block. @see struct qt_disk_dqdbheader */
// biome-ignore format: a table
export const QuotaBlockHeader = layout("qt_disk_dqdbheader", 16, {
  nextFree: [0x0, "le32"],  prevFree: [0x4, "le32"],  entries: [0x8, "le16"],
});

/** Limits are in units of 1,024 bytes, the space in use is in bytes. @see struct v2r1_disk_dqblk */
// biome-ignore format: a table
export const QuotaEntry = layout("v2r1_disk_dqblk", 72, {
  id:             [0x0, "le32"],
  inodeHardLimit: [0x8, "le64"],   inodeSoftLimit: [0x10, "le64"],  inodes:    [0x18, "le64"],
  spaceHardLimit: [0x20, "le64"],  spaceSoftLimit: [0x28, "le64"],  space:     [0x30, "le64"],
  spaceDeadline:  [0x38, "le64"],  inodeDeadline:  [0x40, "le64"],
});

/** What a quota file begins with, by what it counts for. */
export const QuotaMagic = { USER: 0xd9c01f11, GROUP: 0xd9c01927, PROJECT: 0xd9c03f14 } as const;
export const QUOTA_VERSION = 1;
export const QUOTA_BLOCK_SIZE = 1024;
/** The block with the root of the tree. */
export const QUOTA_ROOT = 1;
/** Levels of the tree, the root included. */
export const QUOTA_DEPTH = 4;
/** Entries in one block. */
export const QUOTA_ENTRIES = Math.floor(
  (QUOTA_BLOCK_SIZE - sizeOf(QuotaBlockHeader)) / sizeOf(QuotaEntry),
);

/** Where in a block of the tree, `level` levels below the root, the pointer for `id` lies. */
export function quotaPointerAt(id: number, level: number): number {
  return 4 * ((id >>> (8 * (QUOTA_DEPTH - 1 - level))) & 0xff);
}

/** Where in its block entry `index` lies. */
export function quotaEntryAt(index: number): number {
  return sizeOf(QuotaBlockHeader) + index * sizeOf(QuotaEntry);
}
