/**
 * The feature bits of the superblock and the kernel's rule for the ones we do not know: an unknown
 * COMPAT bit is ignored, an unknown RO_COMPAT bit forbids writing, an unknown INCOMPAT bit forbids
 * mounting.
 *
 * @see ext4/super.rst, "s_feature_compat", "s_feature_incompat", "s_feature_ro_compat"
 */

// biome-ignore format: a table
export const Compat = {
  DIR_PREALLOC: 0x1, IMAGIC_INODES: 0x2, HAS_JOURNAL: 0x4, EXT_ATTR: 0x8, RESIZE_INODE: 0x10,
  DIR_INDEX: 0x20, SPARSE_SUPER2: 0x200, FAST_COMMIT: 0x400, STABLE_INODES: 0x800,
  ORPHAN_FILE: 0x1000,
} as const;

// biome-ignore format: a table
export const Incompat = {
  COMPRESSION: 0x1, FILETYPE: 0x2, RECOVER: 0x4, JOURNAL_DEV: 0x8, META_BG: 0x10, EXTENTS: 0x40,
  "64BIT": 0x80, MMP: 0x100, FLEX_BG: 0x200, EA_INODE: 0x400, DIRDATA: 0x1000, CSUM_SEED: 0x2000,
  LARGEDIR: 0x4000, INLINE_DATA: 0x8000, ENCRYPT: 0x10000, CASEFOLD: 0x20000,
} as const;

// biome-ignore format: a table
export const RoCompat = {
  SPARSE_SUPER: 0x1, LARGE_FILE: 0x2, BTREE_DIR: 0x4, HUGE_FILE: 0x8, GDT_CSUM: 0x10,
  DIR_NLINK: 0x20, EXTRA_ISIZE: 0x40, HAS_SNAPSHOT: 0x80, QUOTA: 0x100, BIGALLOC: 0x200,
  METADATA_CSUM: 0x400, REPLICA: 0x800, READONLY: 0x1000, PROJECT: 0x2000, SHARED_BLOCKS: 0x4000,
  VERITY: 0x8000, ORPHAN_PRESENT: 0x10000,
} as const;

/** The INCOMPAT features that we read. */
export const INCOMPAT_SUPPORTED =
  Incompat.FILETYPE |
  Incompat.RECOVER |
  Incompat.META_BG |
  Incompat.EXTENTS |
  Incompat["64BIT"] |
  Incompat.MMP |
  Incompat.FLEX_BG |
  Incompat.EA_INODE |
  Incompat.CSUM_SEED |
  Incompat.LARGEDIR |
  Incompat.INLINE_DATA |
  Incompat.ENCRYPT |
  Incompat.CASEFOLD;

/** The RO_COMPAT features with which we write. READONLY, for one, forbids it. */
export const ROCOMPAT_SUPPORTED =
  RoCompat.SPARSE_SUPER |
  RoCompat.LARGE_FILE |
  RoCompat.BTREE_DIR |
  RoCompat.HUGE_FILE |
  RoCompat.GDT_CSUM |
  RoCompat.DIR_NLINK |
  RoCompat.EXTRA_ISIZE |
  RoCompat.QUOTA |
  RoCompat.BIGALLOC |
  RoCompat.METADATA_CSUM |
  RoCompat.PROJECT |
  RoCompat.VERITY |
  RoCompat.ORPHAN_PRESENT;

/** The names of the set bits of an INCOMPAT word, e2fsprogs' way: `"64bit"`, `"FEATURE_I31"`. */
export function incompatNames(bits: number): string[] {
  return namesOf(bits, Incompat, "I");
}

/** The same for a RO_COMPAT word. */
export function roCompatNames(bits: number): string[] {
  return namesOf(bits, RoCompat, "R");
}

function namesOf(bits: number, table: Readonly<Record<string, number>>, letter: string): string[] {
  const names: string[] = [];
  for (let index = 0; index < 32; index++) {
    const bit = 2 ** index;
    if ((bits & bit) === 0) continue;
    const known = Object.entries(table).find(([, value]) => value === bit);
    names.push(known === undefined ? `FEATURE_${letter}${index}` : known[0].toLowerCase());
  }
  return names;
}
