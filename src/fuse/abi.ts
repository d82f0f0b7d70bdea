/**
 * The structs and constants of the FUSE wire protocol, 7.31 to 7.45, as far as this server meets
 * them. Numbers are in the byte order of the host, which on every machine that Node runs on
 * with Linux is little-endian.
 *
 *     request  | fuse_in_header 40 | struct of the operation | names, data |
 *     reply    | fuse_out_header 16 | struct of the operation | data |
 *
 * @see fuse_kernel.h 7.45; the changelog at its top says which minor brought what
 */
import { layout } from "../base/layout.ts";
import { IomapOpcode } from "./iomap-abi.ts";

export const KERNEL_VERSION = 7;
/** The newest minor whose meaning is known here. */
export const MINOR_VERSION_MAX = 45;
/** The oldest minor that is served: 7.31 is Linux 5.4. */
export const MINOR_VERSION_MIN = 31;

/** `enum fuse_opcode`. */
// biome-ignore format: a table
export const Opcode = {
  LOOKUP: 1, FORGET: 2, GETATTR: 3, SETATTR: 4, READLINK: 5, SYMLINK: 6, MKNOD: 8, MKDIR: 9,
  UNLINK: 10, RMDIR: 11, RENAME: 12, LINK: 13, OPEN: 14, READ: 15, WRITE: 16, STATFS: 17,
  RELEASE: 18, FSYNC: 20, SETXATTR: 21, GETXATTR: 22, LISTXATTR: 23, REMOVEXATTR: 24, FLUSH: 25,
  INIT: 26, OPENDIR: 27, READDIR: 28, RELEASEDIR: 29, FSYNCDIR: 30, GETLK: 31, SETLK: 32,
  SETLKW: 33, ACCESS: 34, CREATE: 35, INTERRUPT: 36, BMAP: 37, DESTROY: 38, IOCTL: 39, POLL: 40,
  NOTIFY_REPLY: 41, BATCH_FORGET: 42, FALLOCATE: 43, READDIRPLUS: 44, RENAME2: 45, LSEEK: 46,
  COPY_FILE_RANGE: 47, SETUPMAPPING: 48, REMOVEMAPPING: 49, SYNCFS: 50, TMPFILE: 51, STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;

const opcodeNames = new Map<number, string>(
  Object.entries({ ...Opcode, ...IomapOpcode }).map(([name, opcode]) => [opcode, name]),
);

/** `"LOOKUP"` for 1; `"opcode 999"` for a number that has no name here. */
export function opcodeName(opcode: number): string {
  return opcodeNames.get(opcode) ?? `opcode ${opcode}`;
}

/** What stands before every request. */
// biome-ignore format: a table
export const InHeader = layout("fuse_in_header", 40, {
  len:         [0, "le32"],
  opcode:      [4, "le32"],
  unique:      [8, 8],
  nodeid:      [16, "le64"],
  uid:         [24, "le32"],
  gid:         [28, "le32"],
  pid:         [32, "le32"],
  totalExtlen: [36, "le16"],
  padding:     [38, "le16"],
});

/** What stands before every reply. `error` is zero or a negative errno. */
// biome-ignore format: a table
export const OutHeader = layout("fuse_out_header", 16, {
  len:    [0, "le32"],
  error:  [4, "le32"],
  unique: [8, 8],
});

/** Times are signed 64-bit seconds, stored as their two's complement. */
// biome-ignore format: a table
export const Attr = layout("fuse_attr", 88, {
  ino:       [0, "le64"],
  size:      [8, "le64"],
  blocks:    [16, "le64"],
  atime:     [24, "le64"],
  mtime:     [32, "le64"],
  ctime:     [40, "le64"],
  atimensec: [48, "le32"],
  mtimensec: [52, "le32"],
  ctimensec: [56, "le32"],
  mode:      [60, "le32"],
  nlink:     [64, "le32"],
  uid:       [68, "le32"],
  gid:       [72, "le32"],
  rdev:      [76, "le32"],
  blksize:   [80, "le32"],
  flags:     [84, "le32"],
});

// biome-ignore format: a table
export const EntryOut = layout("fuse_entry_out", 128, {
  nodeid:         [0, "le64"],
  generation:     [8, "le64"],
  entryValid:     [16, "le64"],
  attrValid:      [24, "le64"],
  entryValidNsec: [32, "le32"],
  attrValidNsec:  [36, "le32"],
  attr:           [40, 88],
});

// biome-ignore format: a table
export const AttrOut = layout("fuse_attr_out", 104, {
  attrValid:     [0, "le64"],
  attrValidNsec: [8, "le32"],
  dummy:         [12, "le32"],
  attr:          [16, 88],
});

// biome-ignore format: a table
export const GetattrIn = layout("fuse_getattr_in", 16, {
  getattrFlags: [0, "le32"],
  dummy:        [4, "le32"],
  fh:           [8, "le64"],
});

// biome-ignore format: a table
export const SetattrIn = layout("fuse_setattr_in", 88, {
  valid:     [0, "le32"],
  padding:   [4, "le32"],
  fh:        [8, "le64"],
  size:      [16, "le64"],
  lockOwner: [24, "le64"],
  atime:     [32, "le64"],
  mtime:     [40, "le64"],
  ctime:     [48, "le64"],
  atimensec: [56, "le32"],
  mtimensec: [60, "le32"],
  ctimensec: [64, "le32"],
  mode:      [68, "le32"],
  unused4:   [72, "le32"],
  uid:       [76, "le32"],
  gid:       [80, "le32"],
  unused5:   [84, "le32"],
});

/** `fuse_setattr_in.valid`: which fields are meant. Those about handles and locks are not here. */
// biome-ignore format: a table
export const SetattrValid = {
  MODE: 1 << 0, UID: 1 << 1, GID: 1 << 2, SIZE: 1 << 3, ATIME: 1 << 4, MTIME: 1 << 5,
  ATIME_NOW: 1 << 7, MTIME_NOW: 1 << 8, CTIME: 1 << 10, KILL_SUIDGID: 1 << 11,
} as const;

/** A name follows. */
// biome-ignore format: a table
export const MknodIn = layout("fuse_mknod_in", 16, {
  mode:    [0, "le32"],
  rdev:    [4, "le32"],
  umask:   [8, "le32"],
  padding: [12, "le32"],
});

/** A name follows. */
// biome-ignore format: a table
export const MkdirIn = layout("fuse_mkdir_in", 8, {
  mode:  [0, "le32"],
  umask: [4, "le32"],
});

/** The body of CREATE and TMPFILE. A name follows, which for TMPFILE means nothing. */
// biome-ignore format: a table
export const CreateIn = layout("fuse_create_in", 16, {
  flags:     [0, "le32"],
  mode:      [4, "le32"],
  umask:     [8, "le32"],
  openFlags: [12, "le32"],
});

/** The new name follows. */
// biome-ignore format: a table
export const LinkIn = layout("fuse_link_in", 8, {
  oldnodeid: [0, "le64"],
});

/** The old and the new name follow. */
// biome-ignore format: a table
export const RenameIn = layout("fuse_rename_in", 8, {
  newdir: [0, "le64"],
});

/** The old and the new name follow. */
// biome-ignore format: a table
export const Rename2In = layout("fuse_rename2_in", 16, {
  newdir:  [0, "le64"],
  flags:   [8, "le32"],
  padding: [12, "le32"],
});

/** `fuse_rename2_in.flags`. @see rename(2) */
export const RenameFlag = { NOREPLACE: 1, EXCHANGE: 2, WHITEOUT: 4 } as const;

/** One instant within `fuse_statx`. */
// biome-ignore format: a table
export const SxTime = layout("fuse_sx_time", 16, {
  tvSec:    [0, "le64"],
  tvNsec:   [8, "le32"],
  reserved: [12, "le32"],
});

// biome-ignore format: a table
export const Statx = layout("fuse_statx", 256, {
  mask:           [0, "le32"],
  blksize:        [4, "le32"],
  attributes:     [8, "le64"],
  nlink:          [16, "le32"],
  uid:            [20, "le32"],
  gid:            [24, "le32"],
  mode:           [28, "le16"],
  spare0:         [30, "le16"],
  ino:            [32, "le64"],
  size:           [40, "le64"],
  blocks:         [48, "le64"],
  attributesMask: [56, "le64"],
  atime:          [64, 16],
  btime:          [80, 16],
  ctime:          [96, 16],
  mtime:          [112, 16],
  rdevMajor:      [128, "le32"],
  rdevMinor:      [132, "le32"],
  devMajor:       [136, "le32"],
  devMinor:       [140, "le32"],
  // From here on spare, but for a kernel with fuse+iomap.
  mntId:                  [144, "le64"],
  dioMemAlign:            [152, "le32"],
  dioOffsetAlign:         [156, "le32"],
  subvol:                 [160, "le64"],
  atomicWriteUnitMin:     [168, "le32"],
  atomicWriteUnitMax:     [172, "le32"],
  atomicWriteSegmentsMax: [176, "le32"],
  dioReadOffsetAlign:     [180, "le32"],
  atomicWriteUnitMaxOpt:  [184, "le32"],
  spare2:                 [188, 68],
});

// biome-ignore format: a table
export const StatxIn = layout("fuse_statx_in", 24, {
  getattrFlags: [0, "le32"],
  reserved:     [4, "le32"],
  fh:           [8, "le64"],
  sxFlags:      [16, "le32"],
  sxMask:       [20, "le32"],
});

// biome-ignore format: a table
export const StatxOut = layout("fuse_statx_out", 288, {
  attrValid:     [0, "le64"],
  attrValidNsec: [8, "le32"],
  flags:         [12, "le32"],
  spare:         [16, 16],
  stat:          [32, 256],
});

/** `fuse_statx.mask`: which fields are meant. @see statx(2) */
export const StatxMask = {
  BASIC_STATS: 0x7ff,
  BTIME: 0x800,
  DIOALIGN: 0x2000,
  WRITE_ATOMIC: 0x1_0000,
} as const;

// biome-ignore format: a table
export const ForgetIn = layout("fuse_forget_in", 8, {
  nlookup: [0, "le64"],
});

// biome-ignore format: a table
export const BatchForgetIn = layout("fuse_batch_forget_in", 8, {
  count: [0, "le32"],
  dummy: [4, "le32"],
});

/** So many of these follow `fuse_batch_forget_in` as it says. */
// biome-ignore format: a table
export const ForgetOne = layout("fuse_forget_one", 16, {
  nodeid:  [0, "le64"],
  nlookup: [8, "le64"],
});

/** `flags` are those of open(2), but for those that are about creating. */
// biome-ignore format: a table
export const OpenIn = layout("fuse_open_in", 8, {
  flags:     [0, "le32"],
  openFlags: [4, "le32"],
});

// biome-ignore format: a table
export const OpenOut = layout("fuse_open_out", 16, {
  fh:        [0, "le64"],
  openFlags: [8, "le32"],
  backingId: [12, "le32"],
});

/** `fuse_open_out.open_flags`. */
export const OpenFlag = { KEEP_CACHE: 1 << 1, CACHE_DIR: 1 << 3 } as const;

/** The body of READ, READDIR and READDIRPLUS. */
// biome-ignore format: a table
export const ReadIn = layout("fuse_read_in", 40, {
  fh:        [0, "le64"],
  offset:    [8, "le64"],
  size:      [16, "le32"],
  readFlags: [20, "le32"],
  lockOwner: [24, "le64"],
  flags:     [32, "le32"],
  padding:   [36, "le32"],
});

/** `size` bytes of data follow. */
// biome-ignore format: a table
export const WriteIn = layout("fuse_write_in", 40, {
  fh:         [0, "le64"],
  offset:     [8, "le64"],
  size:       [16, "le32"],
  writeFlags: [20, "le32"],
  lockOwner:  [24, "le64"],
  flags:      [32, "le32"],
  padding:    [36, "le32"],
});

/** `fuse_write_in.write_flags`: the owner of locks is named, which the kernel does past its page cache only. */
export const WRITE_LOCKOWNER = 1 << 1;
/** `fuse_write_in.write_flags`: take set-id bits and capabilities from the file. */
export const WRITE_KILL_SUIDGID = 1 << 2;

/** Answers WRITE and COPY_FILE_RANGE. */
// biome-ignore format: a table
export const WriteOut = layout("fuse_write_out", 8, {
  size:    [0, "le32"],
  padding: [4, "le32"],
});

/** The body of FSYNC and FSYNCDIR. */
// biome-ignore format: a table
export const FsyncIn = layout("fuse_fsync_in", 16, {
  fh:         [0, "le64"],
  fsyncFlags: [8, "le32"],
  padding:    [12, "le32"],
});

/** `fuse_fsync_in.fsync_flags`: the contents, and no more of the inode than they need. */
export const FSYNC_FDATASYNC = 1 << 0;

// biome-ignore format: a table
export const FallocateIn = layout("fuse_fallocate_in", 32, {
  fh:      [0, "le64"],
  offset:  [8, "le64"],
  length:  [16, "le64"],
  mode:    [24, "le32"],
  padding: [28, "le32"],
});

/** The body of COPY_FILE_RANGE and COPY_FILE_RANGE_64. */
// biome-ignore format: a table
export const CopyFileRangeIn = layout("fuse_copy_file_range_in", 56, {
  fhIn:      [0, "le64"],
  offIn:     [8, "le64"],
  nodeidOut: [16, "le64"],
  fhOut:     [24, "le64"],
  offOut:    [32, "le64"],
  len:       [40, "le64"],
  flags:     [48, "le64"],
});

// biome-ignore format: a table
export const CopyFileRangeOut = layout("fuse_copy_file_range_out", 8, {
  bytesCopied: [0, "le64"],
});

/** A name of `namelen` bytes follows; records start at multiples of 8. */
// biome-ignore format: a table
export const Dirent = layout("fuse_dirent", 24, {
  ino:     [0, "le64"],
  off:     [8, "le64"],
  namelen: [16, "le32"],
  type:    [20, "le32"],
});

/** A name follows, as after `fuse_dirent`. */
// biome-ignore format: a table
export const Direntplus = layout("fuse_direntplus", 152, {
  entryOut: [0, 128],
  dirent:   [128, 24],
});

/** A name and `size` bytes of value follow. Without SETXATTR_EXT, only the first 8 bytes are sent. */
// biome-ignore format: a table
export const SetxattrIn = layout("fuse_setxattr_in", 16, {
  size:          [0, "le32"],
  flags:         [4, "le32"],
  setxattrFlags: [8, "le32"],
  padding:       [12, "le32"],
});

/** The start of `fuse_setxattr_in` that every kernel sends. */
// biome-ignore format: a table
export const SetxattrInCompat = layout("fuse_setxattr_in_compat", 8, {
  size:  [0, "le32"],
  flags: [4, "le32"],
});

/** `fuse_setxattr_in.setxattr_flags`: the ACL takes the setgid bit away. */
export const SETXATTR_ACL_KILL_SGID = 1 << 0;

// biome-ignore format: a table
export const GetxattrIn = layout("fuse_getxattr_in", 8, {
  size:    [0, "le32"],
  padding: [4, "le32"],
});

// biome-ignore format: a table
export const GetxattrOut = layout("fuse_getxattr_out", 8, {
  size:    [0, "le32"],
  padding: [4, "le32"],
});

// biome-ignore format: a table
export const Kstatfs = layout("fuse_kstatfs", 80, {
  blocks:  [0, "le64"],
  bfree:   [8, "le64"],
  bavail:  [16, "le64"],
  files:   [24, "le64"],
  ffree:   [32, "le64"],
  bsize:   [40, "le32"],
  namelen: [44, "le32"],
  frsize:  [48, "le32"],
  padding: [52, "le32"],
  spare:   [56, 24],
});

// biome-ignore format: a table
export const LseekIn = layout("fuse_lseek_in", 24, {
  fh:      [0, "le64"],
  offset:  [8, "le64"],
  whence:  [16, "le32"],
  padding: [20, "le32"],
});

// biome-ignore format: a table
export const LseekOut = layout("fuse_lseek_out", 8, {
  offset: [0, "le64"],
});

/** `fuse_lseek_in.whence`; the kernel answers the other kinds itself. @see lseek(2) */
export const Whence = { SEEK_DATA: 3, SEEK_HOLE: 4 } as const;

// biome-ignore format: a table
export const BmapIn = layout("fuse_bmap_in", 16, {
  block:     [0, "le64"],
  blocksize: [8, "le32"],
  padding:   [12, "le32"],
});

// biome-ignore format: a table
export const BmapOut = layout("fuse_bmap_out", 8, {
  block: [0, "le64"],
});

/** `in_size` bytes of input follow. */
// biome-ignore format: a table
export const IoctlIn = layout("fuse_ioctl_in", 32, {
  fh:      [0, "le64"],
  flags:   [8, "le32"],
  cmd:     [12, "le32"],
  arg:     [16, "le64"],
  inSize:  [24, "le32"],
  outSize: [28, "le32"],
});

/** At most `out_size` bytes of output follow. */
// biome-ignore format: a table
export const IoctlOut = layout("fuse_ioctl_out", 16, {
  result:  [0, "le32"],
  flags:   [4, "le32"],
  inIovs:  [8, "le32"],
  outIovs: [12, "le32"],
});

/** Kernels before 7.36 send only the first 16 bytes. */
// biome-ignore format: a table
export const InitIn = layout("fuse_init_in", 64, {
  major:        [0, "le32"],
  minor:        [4, "le32"],
  maxReadahead: [8, "le32"],
  flags:        [12, "le32"],
  flags2:       [16, "le32"],
  unused:       [20, 44],
});

/** The length of `fuse_init_in` before 7.36. */
export const INIT_IN_SHORT = 16;

// biome-ignore format: a table
export const InitOut = layout("fuse_init_out", 64, {
  major:               [0, "le32"],
  minor:               [4, "le32"],
  maxReadahead:        [8, "le32"],
  flags:               [12, "le32"],
  maxBackground:       [16, "le16"],
  congestionThreshold: [18, "le16"],
  maxWrite:            [20, "le32"],
  timeGran:            [24, "le32"],
  maxPages:            [28, "le16"],
  mapAlignment:        [30, "le16"],
  flags2:              [32, "le32"],
  maxStackDepth:       [36, "le32"],
  requestTimeout:      [40, "le16"],
  unused:              [42, 22],
});

/** `flags` of `fuse_init_in` and `fuse_init_out`: those that this server wants. */
// biome-ignore format: a table
export const InitFlag = {
  ASYNC_READ: 1 << 0, EXPORT_SUPPORT: 1 << 4, BIG_WRITES: 1 << 5, DONT_MASK: 1 << 6,
  HAS_IOCTL_DIR: 1 << 11,
  DO_READDIRPLUS: 1 << 13, READDIRPLUS_AUTO: 1 << 14, ASYNC_DIO: 1 << 15,
  NO_OPEN_SUPPORT: 1 << 17, PARALLEL_DIROPS: 1 << 18, POSIX_ACL: 1 << 20, ABORT_ERROR: 1 << 21,
  MAX_PAGES: 1 << 22, CACHE_SYMLINKS: 1 << 23, NO_OPENDIR_SUPPORT: 1 << 24,
  EXPLICIT_INVAL_DATA: 1 << 25, HANDLE_KILLPRIV_V2: 1 << 28, SETXATTR_EXT: 1 << 29,
  INIT_EXT: 1 << 30,
} as const;

/** `flags2`, which hold the flags from bit 32 on. */
export const InitFlag2 = {
  ALLOW_IDMAP: 1 << 8,
  /** From minor version 99 on; to others it is HAS_IO_URING_BUFPOOL. @see iomap-abi.ts */
  IOMAP: 1 << 11,
} as const;
