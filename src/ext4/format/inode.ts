/**
 * The inode: 128 bytes that every revision has, then `i_extra_isize` bytes of newer fields, then
 * room for xattrs, up to `s_inode_size`.
 *
 *     0       128            128 + i_extra_isize              s_inode_size
 *     | classic | extra fields | in-inode xattrs ...               |
 *               ^ absent when inodes have 128 bytes
 *
 * @see ext4/inodes.rst
 */

import { Errno } from "../../base/errno.ts";
import { layout, le16, le32, setLe16 } from "../../base/layout.ts";
import type { FsBlock, InodeNumber } from "../../base/numbers.ts";
import { join32 } from "../../base/numbers.ts";
import { CorruptionError, FsError } from "../errors.ts";
import type { Checksums } from "./checksum.ts";
import { Incompat, RoCompat } from "./features.ts";
import type { Superblock } from "./superblock.ts";

// biome-ignore format: a table
export const InodeLayout = layout("ext4_inode", 160, {
  mode:        [0x0, "le16"],   uid:         [0x2, "le16"],   sizeLo:     [0x4, "le32"],
  atime:       [0x8, "le32"],   ctime:       [0xc, "le32"],   mtime:      [0x10, "le32"],
  dtime:       [0x14, "le32"],  gid:         [0x18, "le16"],  linksCount: [0x1a, "le16"],
  blocksLo:    [0x1c, "le32"],  flags:       [0x20, "le32"],  version:    [0x24, "le32"],
  block:       [0x28, 60],      generation:  [0x64, "le32"],  fileAclLo:  [0x68, "le32"],
  sizeHigh:    [0x6c, "le32"],  blocksHigh:  [0x74, "le16"],  fileAclHigh:[0x76, "le16"],
  uidHigh:     [0x78, "le16"],  gidHigh:     [0x7a, "le16"],  checksumLo: [0x7c, "le16"],
  extraIsize:  [0x80, "le16"],  checksumHi:  [0x82, "le16"],  ctimeExtra: [0x84, "le32"],
  mtimeExtra:  [0x88, "le32"],  atimeExtra:  [0x8c, "le32"],  crtime:     [0x90, "le32"],
  crtimeExtra: [0x94, "le32"],  versionHi:   [0x98, "le32"],  projid:     [0x9c, "le32"],
});

/** Bytes of an inode that every revision has. */
export const CLASSIC_INODE_SIZE = 128;
/** Bytes of `i_block`: block map, extent root, inline data, or a short symlink's target. */
export const I_BLOCK_SIZE = 60;

/** `i_flags`. @see ext4/inodes.rst, "i_flags" */
// biome-ignore format: a table
export const InodeFlags = {
  SYNC: 0x8, IMMUTABLE: 0x10, APPEND: 0x20, NODUMP: 0x40, NOATIME: 0x80, COMPR: 0x4,
  ENCRYPT: 0x800, INDEX: 0x1000, JOURNAL_DATA: 0x4000, DIRSYNC: 0x10000, TOPDIR: 0x20000,
  HUGE_FILE: 0x40000, EXTENTS: 0x80000, VERITY: 0x100000, EA_INODE: 0x200000, DAX: 0x2000000,
  INLINE_DATA: 0x10000000, PROJINHERIT: 0x20000000, CASEFOLD: 0x40000000,
} as const;

/** The type bits of a mode. @see inode(7) */
// biome-ignore format: a table
export const FileType = {
  MASK: 0o170000, SOCKET: 0o140000, SYMLINK: 0o120000, REGULAR: 0o100000, BLOCK: 0o060000,
  DIRECTORY: 0o040000, CHARACTER: 0o020000, FIFO: 0o010000,
} as const;

/** An instant: seconds since 1970, negative before, and the nanoseconds after that second. */
export interface Timestamp {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** The low bits of an "extra" time field extend the seconds, the others are nanoseconds. */
const EPOCH_BITS = 2;
const EPOCH_MASK = 3;
const SECTOR_SIZE = 512;
const PROJECT_DEFAULT = 0;

/** One inode in memory, checked. The same object serves everybody until it leaves the cache. */
export class Inode {
  readonly number: InodeNumber;
  /** The whole on-disk inode, `s_inode_size` bytes. */
  readonly raw: DataView;
  readonly #bytes: Uint8Array;
  readonly generation: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly linkCount: number;
  readonly sizeBytes: number;
  /** Blocks in use, in units of 512 bytes. */
  readonly blocks512: number;
  readonly flags: number;
  readonly projectId: number;
  /** Bytes of newer fields behind the classic 128; the in-inode xattrs start after them. */
  readonly extraSize: number;
  /** The block of xattrs, or 0. */
  readonly xattrBlock: FsBlock;
  /** What the checksums of this inode's extent and directory blocks start from. */
  readonly checksumSeed: number;

  /**
   * Parses the inode that `bytes` hold, `s_inode_size` of them; the caller gives them away.
   *
   * @throws FsError ESTALE when the inode is not in use.
   * @throws CorruptionError when it fails its checksum or contradicts itself.
   */
  constructor(
    number: InodeNumber,
    bytes: Uint8Array,
    superblock: Superblock,
    checksums: Checksums,
  ) {
    const I = InodeLayout;
    const raw = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.number = number;
    this.#bytes = bytes;
    this.raw = raw;
    this.mode = le16(raw, 0, I.mode);
    this.linkCount = le16(raw, 0, I.linksCount);
    if (this.mode === 0 && this.linkCount === 0) {
      throw new FsError(Errno.ESTALE, `inode ${number} is not in use`);
    }
    this.generation = le32(raw, 0, I.generation);
    this.checksumSeed = checksums.enabled ? checksums.inodeSeed(number, this.generation) : 0;
    const large = raw.byteLength > CLASSIC_INODE_SIZE;
    this.extraSize = large ? le16(raw, 0, I.extraIsize) : 0;
    if (CLASSIC_INODE_SIZE + this.extraSize > raw.byteLength || (this.extraSize & 3) !== 0) {
      throw new CorruptionError(
        "inode-size",
        { inode: number },
        `i_extra_isize is ${this.extraSize}`,
      );
    }
    if (checksums.enabled) this.#verifyChecksum(checksums);
    if (!isKnownType(this.mode)) {
      throw new CorruptionError(
        "inode-mode",
        { inode: number },
        `i_mode is 0${this.mode.toString(8)}`,
      );
    }

    this.uid = le16(raw, 0, I.uid) + le16(raw, 0, I.uidHigh) * 0x1_0000;
    this.gid = le16(raw, 0, I.gid) + le16(raw, 0, I.gidHigh) * 0x1_0000;
    this.flags = le32(raw, 0, I.flags);
    const wideSize = this.isRegular || superblock.hasIncompat(Incompat.LARGEDIR);
    this.sizeBytes = join32(wideSize ? le32(raw, 0, I.sizeHigh) : 0, le32(raw, 0, I.sizeLo));
    if (!Number.isSafeInteger(this.sizeBytes)) {
      throw new CorruptionError("inode-size", { inode: number }, `size is ${this.sizeBytes}`);
    }
    this.blocks512 = this.#blocks512(superblock);
    const wideBlocks = superblock.hasIncompat(Incompat["64BIT"]);
    this.xattrBlock = join32(
      wideBlocks ? le16(raw, 0, I.fileAclHigh) : 0,
      le32(raw, 0, I.fileAclLo),
    ) as FsBlock;

    this.projectId =
      superblock.hasRoCompat(RoCompat.PROJECT) && this.#holds(I.projid, 4)
        ? le32(raw, 0, I.projid)
        : PROJECT_DEFAULT;
  }

  get accessedAt(): Timestamp {
    return this.#time(InodeLayout.atime, InodeLayout.atimeExtra);
  }
  get modifiedAt(): Timestamp {
    return this.#time(InodeLayout.mtime, InodeLayout.mtimeExtra);
  }
  get changedAt(): Timestamp {
    return this.#time(InodeLayout.ctime, InodeLayout.ctimeExtra);
  }
  /** Unknown on inodes that are too small to hold it. */
  get createdAt(): Timestamp | undefined {
    if (!this.#holds(InodeLayout.crtime, 4)) return undefined;
    return this.#time(InodeLayout.crtime, InodeLayout.crtimeExtra);
  }

  /**
   * What stat(2) tells as `st_blocks`: contents within the inode count as sectors although they
   * take none, so that no tool thinks the file is a hole. @see fs/ext4/inode.c, ext4_file_getattr
   */
  get blocksForStat(): number {
    const inline = this.isRegular && this.hasFlag(InodeFlags.INLINE_DATA);
    return this.blocks512 + (inline ? Math.ceil(this.sizeBytes / SECTOR_SIZE) : 0);
  }

  get type(): number {
    return this.mode & FileType.MASK;
  }
  get isDirectory(): boolean {
    return this.type === FileType.DIRECTORY;
  }
  get isRegular(): boolean {
    return this.type === FileType.REGULAR;
  }
  get isSymlink(): boolean {
    return this.type === FileType.SYMLINK;
  }
  hasFlag(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }

  /** The 60 bytes of `i_block`, in place. */
  get iBlock(): Uint8Array {
    return this.#bytes.subarray(InodeLayout.block, InodeLayout.block + I_BLOCK_SIZE);
  }

  /**
   * Major number of a device. The old form (two bytes) is used where it fits, and lies in the first
   * word of `i_block`; the new form lies in the second. @see include/linux/kdev_t.h
   */
  get rdevMajor(): number {
    const [old, wide] = this.#deviceWords();
    return old !== 0 ? (old >>> 8) & 0xff : (wide & 0xfff00) >>> 8;
  }
  get rdevMinor(): number {
    const [old, wide] = this.#deviceWords();
    return old !== 0 ? old & 0xff : (wide & 0xff) | ((wide >>> 12) & 0xfff00);
  }

  #deviceWords(): [number, number] {
    const isDevice = this.type === FileType.CHARACTER || this.type === FileType.BLOCK;
    if (!isDevice) return [0, 0];
    const at = InodeLayout.block;
    return [this.raw.getUint32(at, true), this.raw.getUint32(at + 4, true)];
  }

  /** Whether the field of `width` bytes at `at` lies within this inode's extra fields. */
  #holds(at: number, width: number): boolean {
    return at + width <= CLASSIC_INODE_SIZE + this.extraSize;
  }

  #time(at: typeof InodeLayout.atime, extraAt: typeof InodeLayout.atime): Timestamp {
    const low = this.raw.getInt32(at, true);
    if (!this.#holds(extraAt, 4)) return { seconds: low, nanoseconds: 0 };
    const extra = le32(this.raw, 0, extraAt);
    return {
      seconds: low + (extra & EPOCH_MASK) * 0x1_0000_0000,
      nanoseconds: extra >>> EPOCH_BITS,
    };
  }

  #blocks512(superblock: Superblock): number {
    const low = le32(this.raw, 0, InodeLayout.blocksLo);
    if (!superblock.hasRoCompat(RoCompat.HUGE_FILE)) return low;
    const count = join32(le16(this.raw, 0, InodeLayout.blocksHigh), low);
    return this.hasFlag(InodeFlags.HUGE_FILE)
      ? count * (superblock.blockSize / SECTOR_SIZE)
      : count;
  }

  #verifyChecksum(checksums: Checksums): void {
    const stored = storedChecksum(this.raw);
    const found = computeInodeChecksum(this.raw, this.checksumSeed, checksums);
    if (found !== stored) {
      throw new CorruptionError(
        "inode-checksum",
        { inode: this.number },
        `stored ${stored}, computed ${found}`,
      );
    }
  }
}

/** Whether an inode has room for the upper half of its checksum. */
function hasWideChecksum(raw: DataView): boolean {
  if (raw.byteLength <= CLASSIC_INODE_SIZE) return false;
  const end = CLASSIC_INODE_SIZE + le16(raw, 0, InodeLayout.extraIsize);
  return end >= InodeLayout.checksumHi + 2;
}

function storedChecksum(raw: DataView): number {
  const hi = hasWideChecksum(raw) ? le16(raw, 0, InodeLayout.checksumHi) : 0;
  return hi * 0x1_0000 + le16(raw, 0, InodeLayout.checksumLo);
}

/** Stores `checksum` in the inode that `raw` holds, as far as there is room for it. */
export function setInodeChecksum(raw: DataView, checksum: number): void {
  setLe16(raw, 0, InodeLayout.checksumLo, checksum & 0xffff);
  if (hasWideChecksum(raw)) setLe16(raw, 0, InodeLayout.checksumHi, checksum >>> 16);
}

/**
 * The checksum that the inode in `raw` should have, 16 or 32 bits; a stored one counts as zero.
 *
 * @param seed from `Checksums.inodeSeed`.
 * @see fs/ext4/inode.c, ext4_inode_csum
 */
export function computeInodeChecksum(raw: DataView, seed: number, checksums: Checksums): number {
  const stored = storedChecksum(raw);
  setInodeChecksum(raw, 0);
  const crc = checksums.over(seed, new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength));
  setInodeChecksum(raw, stored);
  return hasWideChecksum(raw) ? crc : crc & 0xffff;
}

function isKnownType(mode: number): boolean {
  switch (mode & FileType.MASK) {
    case FileType.REGULAR:
    case FileType.DIRECTORY:
    case FileType.SYMLINK:
    case FileType.CHARACTER:
    case FileType.BLOCK:
    case FileType.FIFO:
    case FileType.SOCKET:
      return true;
    default:
      return false;
  }
}
