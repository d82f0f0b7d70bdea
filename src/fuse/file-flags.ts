/**
 * The flags of an inode as programs see them: through FS_IOC_GETFLAGS they are the numbers that
 * ext4 stores, statx(2) and FS_IOC_FSGETXATTR have numbers of their own.
 *
 * @see include/uapi/linux/fs.h (FS_*_FL, FS_XFLAG_*) and include/uapi/linux/stat.h (STATX_ATTR_*)
 */

import { InodeFlags, USER_VISIBLE, XFLAGS } from "../ext4/index.ts";

type Translation = readonly (readonly [stored: number, shown: number])[];

// biome-ignore format: a table
const STATX_ATTRIBUTES: Translation = [
  [InodeFlags.COMPR, 0x4], [InodeFlags.IMMUTABLE, 0x10], [InodeFlags.APPEND, 0x20],
  [InodeFlags.NODUMP, 0x40], [InodeFlags.ENCRYPT, 0x800], [InodeFlags.VERITY, 0x10_0000],
];

function translate(table: Translation, flags: number): number {
  let shown = 0;
  for (const [stored, bit] of table) if ((flags & stored) !== 0) shown |= bit;
  return shown;
}

/**
 * The attributes that ext4 reports at all. DAX is not one of them: statx(2) has it for files that
 * are mapped without a page cache at this moment, and that a FUSE server cannot offer.
 *
 * @see ext4_getattr() in fs/ext4/inode.c
 */
export const STATX_ATTRIBUTES_MASK = translate(STATX_ATTRIBUTES, ~0);

/** `stx_attributes` for the inode flags `flags`. */
export function statxAttributes(flags: number): number {
  return translate(STATX_ATTRIBUTES, flags);
}

/** What FS_IOC_GETFLAGS answers. PROJINHERIT is meant for directories and hidden on files. */
export function visibleFlags(flags: number, isDirectory: boolean): number {
  const hidden = isDirectory ? 0 : InodeFlags.PROJINHERIT;
  return flags & USER_VISIBLE & ~hidden;
}

/** `fsx_xflags` for what `visibleFlags` returned. */
export function xflags(flags: number): number {
  return translate(XFLAGS, flags);
}
