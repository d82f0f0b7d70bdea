/**
 * The numbers of the FUSE protocol with the iomap series, as a kernel that has it sends and expects
 * them. On purpose not those of src/fuse: a number that is wrong there has to meet the right one here.
 *
 * @see fuse_kernel.h 7.45, and 7.99 of the fuse + iomap series, v7
 */

// biome-ignore format: a table
export const Opcode = {
  LOOKUP: 1, FORGET: 2, GETATTR: 3, SETATTR: 4, READLINK: 5, SYMLINK: 6, MKNOD: 8, MKDIR: 9,
  UNLINK: 10, RMDIR: 11, RENAME: 12, LINK: 13, OPEN: 14, READ: 15, WRITE: 16, STATFS: 17,
  RELEASE: 18, FSYNC: 20, SETXATTR: 21, GETXATTR: 22, LISTXATTR: 23, REMOVEXATTR: 24, FLUSH: 25,
  INIT: 26, OPENDIR: 27, READDIR: 28, RELEASEDIR: 29, FSYNCDIR: 30, CREATE: 35, DESTROY: 38,
  BATCH_FORGET: 42, FALLOCATE: 43, READDIRPLUS: 44, RENAME2: 45, LSEEK: 46, COPY_FILE_RANGE: 47,
  SYNCFS: 50, TMPFILE: 51, STATX: 52, COPY_FILE_RANGE_64: 53,
  FREEZE_FS: 4089, UNFREEZE_FS: 4090, SHUTDOWN_FS: 4091, IOMAP_CONFIG: 4092, IOMAP_IOEND: 4093,
  IOMAP_BEGIN: 4094, IOMAP_END: 4095,
} as const;
export type Opcode = (typeof Opcode)[keyof typeof Opcode];

const names = new Map<number, string>(Object.entries(Opcode).map(([name, code]) => [code, name]));

/** `"IOMAP_BEGIN"` for 4094; the number itself where there is no name. */
export const opcodeName = (opcode: number): string => names.get(opcode) ?? String(opcode);

export const IN_HEADER_BYTES = 40;
export const OUT_HEADER_BYTES = 16;
export const ROOT_NODE = 1;

export const MINOR_IOMAP = 99;
/** What a kernel with the series was seen to offer. */
export const OFFERED_FLAGS = 0x73ff_fffb;
export const OFFERED_FLAGS2 = 0xdfd;
/** `FUSE_IOMAP`, bit 43 of both words. */
export const INIT2_IOMAP = 1 << 11;
// biome-ignore format: a table
export const InitFlag = {
  DONT_MASK: 1 << 6, NO_OPEN: 1 << 17, POSIX_ACL: 1 << 20, NO_OPENDIR: 1 << 24,
  SETXATTR_EXT: 1 << 29, INIT_EXT: 1 << 30,
} as const;

/** The `type` of a mapping. */
// biome-ignore format: a table
export const MapType = {
  HOLE: 0, DELALLOC: 1, MAPPED: 2, UNWRITTEN: 3, INLINE: 4,
  NOCACHE: 253, RETRY_CACHE: 254, PURE_OVERWRITE: 255,
} as const;

/** The `flags` of a mapping; those from SIZE_CHANGED on are the kernel's. */
// biome-ignore format: a table
export const MapFlag = {
  NEW: 0x001, DIRTY: 0x002, SHARED: 0x004, MERGED: 0x008, BOUNDARY: 0x010, ANON_WRITE: 0x020,
  ATOMIC_BIO: 0x040, WANT_IOMAP_END: 0x080, SIZE_CHANGED: 0x100, STALE: 0x200,
} as const;
/** Those that a server may set. */
export const SERVER_FLAGS = 0xff;

/** What an operation is about, in IOMAP_BEGIN and IOMAP_END. */
// biome-ignore format: a table
export const OpFlag = {
  WRITE: 1, ZERO: 2, REPORT: 4, FAULT: 8, DIRECT: 0x10, NOWAIT: 0x20, UNSHARE: 0x80, ATOMIC: 0x200,
  SWAPFILE: 0x4000_0000, WRITEBACK: 0x8000_0000,
} as const;

/** The `flags` of IOMAP_IOEND. */
// biome-ignore format: a table
export const IoendFlag = {
  SHARED: 1, UNWRITTEN: 2, BOUNDARY: 4, DIRECT: 8, APPEND: 16, WRITEBACK: 32, SWAPOFF: 64,
} as const;

// biome-ignore format: a table
export const ConfigFlag = {
  SID: 1, UUID: 2, BLOCKSIZE: 4, MAX_LINKS: 8, TIME: 16, MAXBYTES: 32, CACHE_MAXBYTES: 64,
} as const;
export const CONFIG_FLAGS_ALL = 0x7f;

/** `fuse_attr.flags`. */
// biome-ignore format: a table
export const AttrFlag = {
  EXCLUSIVE: 4, IOMAP: 8, ATOMIC: 16, SYNC: 32, IMMUTABLE: 64, APPEND: 128,
} as const;

// biome-ignore format: a table
export const SetattrValid = {
  MODE: 1, UID: 2, GID: 4, SIZE: 8, ATIME: 0x10, MTIME: 0x20, FH: 0x40, LOCKOWNER: 0x200,
  CTIME: 0x400,
} as const;

/** `fuse_open_out.open_flags`. */
// biome-ignore format: a table
export const OpenFlag = {
  DIRECT_IO: 1, KEEP_CACHE: 2, NONSEEKABLE: 4, STREAM: 16, PASSTHROUGH: 128,
} as const;

export const Notification = { DEV_INVAL: 99, UPSERT_MAPPINGS: 100, INVAL_MAPPINGS: 101 } as const;

export const NULL_ADDR = 0xffff_ffff_ffff_ffffn;
export const NULL_DEV = 0;
export const MAX_BYTES = 0x7fff_ffff_ffff_ffffn;

// biome-ignore format: a table
export const Errno = {
  EPERM: 1, ENOENT: 2, EINTR: 4, EIO: 5, ENXIO: 6, EBADF: 9, EACCES: 13, ENOTBLK: 15, EBUSY: 16,
  EEXIST: 17, ENODEV: 19, ENOTDIR: 20, EISDIR: 21, EINVAL: 22, EFBIG: 27, ENOSPC: 28, EROFS: 30,
  ENAMETOOLONG: 36, ENOSYS: 38, ENOTEMPTY: 39, ENODATA: 61, EOPNOTSUPP: 95, ESTALE: 116,
  EUCLEAN: 117,
} as const;

export const FileType = { MASK: 0o170000, REGULAR: 0o100000, DIRECTORY: 0o040000, LINK: 0o120000 };

/** True for operations that put data somewhere, or take it away. */
export function isWriteClass(opflags: number): boolean {
  return (
    opflags >= OpFlag.WRITEBACK || (opflags & (OpFlag.WRITE | OpFlag.ZERO | OpFlag.UNSHARE)) !== 0
  );
}
