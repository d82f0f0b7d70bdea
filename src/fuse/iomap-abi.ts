/**
 * The part of the FUSE wire protocol with which a kernel moves file contents by itself (fuse+iomap). It is
 * in no released kernel and in no header yet: the numbers are those of the seventh posting of the
 * patch series, of February 2026. docs/iomap.md says what of it is where.
 *
 * @see the patches "fuse: allow servers to use iomap for better file IO performance", version 7, and
 *   include/uapi/linux/fuse.h as they leave it
 */
import { layout } from "../base/layout.ts";

/** The minor version that a kernel with the series offers, and wants to be answered. */
export const IOMAP_MINOR = 99;

// biome-ignore format: a table
export const IomapOpcode = {
  FREEZE_FS: 4089, UNFREEZE_FS: 4090, SHUTDOWN_FS: 4091, IOMAP_CONFIG: 4092, IOMAP_IOEND: 4093,
  IOMAP_BEGIN: 4094, IOMAP_END: 4095,
} as const;

/** The `error` of a reply that answers no request. */
// biome-ignore format: a table
export const IomapNotification = {
  DEV_INVAL: 99, UPSERT_MAPPINGS: 100, INVAL_MAPPINGS: 101,
} as const;

/** One mapping. `addr` is in bytes from the start of the device. */
// biome-ignore format: a table
export const IomapIo = layout("fuse_iomap_io", 32, {
  offset: [0, "le64"],
  length: [8, "le64"],
  addr:   [16, "le64"],
  type:   [24, "le16"],
  flags:  [26, "le16"],
  dev:    [28, "le32"],
});

/** `fuse_iomap_io.type`, besides those of `IomapType`, which have the same numbers. */
// biome-ignore format: a table
export const MappingType = {
  /** In an upsert: what the kernel keeps of this kind of access stays as it is. */
  NOCACHE: 253,
  /** In a reply to IOMAP_BEGIN: the mapping is in the kernel's cache now. */
  RETRY_CACHE: 254,
  /** Of a write: it goes to where reads come from. */
  PURE_OVERWRITE: 255,
} as const;

/** `fuse_iomap_io.flags`. */
// biome-ignore format: a table
export const MappingFlag = {
  NEW: 1 << 0,
  /** A crash would take the mapping back. */
  DIRTY: 1 << 1,
  /** A write is one that the device does wholly or not at all. */
  ATOMIC_BIO: 1 << 6,
  /** From the kernel, in IOMAP_END: the file became longer. */
  SIZE_CHANGED: 1 << 8,
} as const;

/** `opflags` of IOMAP_BEGIN and IOMAP_END: what the mapping is for. */
// biome-ignore format: a table
export const OpFlag = {
  WRITE: 1 << 0, ZERO: 1 << 1, REPORT: 1 << 2, FAULT: 1 << 3, DIRECT: 1 << 4, NOWAIT: 1 << 5,
  OVERWRITE_ONLY: 1 << 6, UNSHARE: 1 << 7, DAX: 1 << 8, ATOMIC: 1 << 9, DONTCACHE: 1 << 10,
  SWAPFILE: 1 << 30, WRITEBACK: 1 << 31,
} as const;

/** `flags` of IOMAP_IOEND. */
// biome-ignore format: a table
export const IoendFlag = {
  SHARED: 1 << 0, UNWRITTEN: 1 << 1, BOUNDARY: 1 << 2, DIRECT: 1 << 3, APPEND: 1 << 4,
  WRITEBACK: 1 << 5, SWAPOFF: 1 << 6,
} as const;

/** `flags` of IOMAP_CONFIG: which fields are meant. */
// biome-ignore format: a table
export const ConfigFlag = {
  SID: 1 << 0, UUID: 1 << 1, BLOCKSIZE: 1 << 2, MAX_LINKS: 1 << 3, TIME: 1 << 4, MAXBYTES: 1 << 5,
  CACHE_MAXBYTES: 1 << 6,
} as const;

/** `fuse_attr.flags` of a kernel with the series. */
// biome-ignore format: a table
export const AttrFlag = {
  /** Only this mount changes the inode. */
  EXCLUSIVE: 1 << 2,
  /** The kernel moves its contents. */
  IOMAP: 1 << 3,
  /** Writes to it can be atomic. */
  ATOMIC: 1 << 4,
  SYNC: 1 << 5, IMMUTABLE: 1 << 6, APPEND: 1 << 7,
} as const;

// biome-ignore format: a table
export const IomapBeginIn = layout("fuse_iomap_begin_in", 32, {
  opflags:  [0, "le32"],
  reserved: [4, "le32"],
  attrIno:  [8, "le64"],
  pos:      [16, "le64"],
  count:    [24, "le64"],
});

// biome-ignore format: a table
export const IomapBeginOut = layout("fuse_iomap_begin_out", 64, {
  read:  [0, 32],
  write: [32, 32],
});

// biome-ignore format: a table
export const IomapEndIn = layout("fuse_iomap_end_in", 72, {
  opflags:  [0, "le32"],
  reserved: [4, "le32"],
  attrIno:  [8, "le64"],
  pos:      [16, "le64"],
  count:    [24, "le64"],
  written:  [32, "le64"],
  map:      [40, 32],
});

/** `new_addr` is a hint: some kernels send it in units of 512 bytes. */
// biome-ignore format: a table
export const IomapIoendIn = layout("fuse_iomap_ioend_in", 48, {
  flags:   [0, "le32"],
  error:   [4, "le32"],
  attrIno: [8, "le64"],
  pos:     [16, "le64"],
  newAddr: [24, "le64"],
  written: [32, "le64"],
  dev:     [40, "le32"],
  pad:     [44, "le32"],
});

// biome-ignore format: a table
export const IomapIoendOut = layout("fuse_iomap_ioend_out", 8, {
  newsize: [0, "le64"],
});

// biome-ignore format: a table
export const IomapConfigIn = layout("fuse_iomap_config_in", 64, {
  flags:         [0, "le64"],
  maxbytes:      [8, "le64"],
  cacheMaxbytes: [16, "le32"],
  zero:          [20, "le32"],
  padding:       [24, 40],
});

/** Without the padding that the compiler adds at the end, which no server sends. */
// biome-ignore format: a table
export const IomapConfigOut = layout("fuse_iomap_config_out", 100, {
  flags:         [0, "le64"],
  sId:           [8, 32],
  sUuid:         [40, 16],
  sUuidLen:      [56, "u8"],
  sPad:          [57, 3],
  sBlocksize:    [60, "le32"],
  sMaxLinks:     [64, "le32"],
  sTimeGran:     [68, "le32"],
  sTimeMin:      [72, "le64"],
  sTimeMax:      [80, "le64"],
  sMaxbytes:     [88, "le64"],
  cacheMaxbytes: [96, "le32"],
});

/** `unlinked` inodes are open and have no name. */
// biome-ignore format: a table
export const FreezefsIn = layout("fuse_freezefs_in", 8, {
  unlinked: [0, "le64"],
});

// biome-ignore format: a table
export const ShutdownfsIn = layout("fuse_shutdownfs_in", 8, {
  flags: [0, "le64"],
});

// biome-ignore format: a table
export const FuseRange = layout("fuse_range", 16, {
  offset: [0, "le64"],
  length: [8, "le64"],
});

// biome-ignore format: a table
export const IomapDevInvalOut = layout("fuse_iomap_dev_inval_out", 24, {
  dev:      [0, "le32"],
  reserved: [4, "le32"],
  range:    [8, 16],
});

// biome-ignore format: a table
export const IomapInvalMappingsOut = layout("fuse_iomap_inval_mappings_out", 48, {
  nodeid:  [0, "le64"],
  attrIno: [8, "le64"],
  read:    [16, 16],
  write:   [32, 16],
});

// biome-ignore format: a table
export const IomapUpsertMappingsOut = layout("fuse_iomap_upsert_mappings_out", 80, {
  nodeid:  [0, "le64"],
  attrIno: [8, "le64"],
  read:    [16, 32],
  write:   [48, 32],
});
