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
import { layout, le16, le32, setLe16, setLe32, sizeOf } from "../../base/layout.ts";
import type { FsBlock, InodeNumber } from "../../base/numbers.ts";
import { join32 } from "../../base/numbers.ts";
import { CorruptionError, FsError } from "../errors.ts";
import type { Checksums } from "./checksum.ts";
import type { ExtentNode } from "./extent.ts";
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
/** The most sectors that `i_blocks` can count. */
const BLOCKS_512_MAX = 0xffff_ffff_ffff;
const SECONDS_MIN = -0x8000_0000;
const SECONDS_MAX = 0x7fff_ffff;
const SECONDS_MAX_WIDE = 0x3_7fff_ffff;

/**
 * One inode in memory, checked. The same object serves everybody until it leaves the cache.
 *
 * Setters change the raw bytes and what was parsed from them together. They may be used only on an
 * inode that a transaction has (`Tx.edit`), which stores it, checksum and all, before it commits.
 */
export class Inode {
  readonly number: InodeNumber;
  /** The whole on-disk inode, `s_inode_size` bytes. */
  readonly raw: DataView;
  readonly #bytes: Uint8Array;
  readonly #superblock: Superblock;
  readonly #checksums: Checksums;
  #generation = 0;
  #mode = 0;
  #uid = 0;
  #gid = 0;
  #linkCount = 0;
  #sizeBytes = 0;
  #blocks512 = 0;
  #flags = 0;
  #projectId = PROJECT_DEFAULT;
  #extraSize = 0;
  #xattrBlock = 0 as FsBlock;
  #checksumSeed = 0;
  #iBlock: Uint8Array | undefined;
  /** The root of its extent tree, once that was checked. Of `map/extent-tree.ts`. */
  extentRoot: ExtentNode | undefined = undefined;
  /** The handle that saved it for a rollback last. The journal's. */
  savedBy = 0;
  /** The transaction that changed it last: what fsync has to see committed. The journal's. */
  changedIn = 0;
  /** The transaction that took in new times, and nothing else, last. The journal's. */
  timesChangedIn = 0;

  /**
   * Parses the inode that `bytes` hold, `s_inode_size` of them; the caller gives them away.
   *
   * @param verify whether they come from a device, and not from us.
   * @throws FsError ESTALE when the inode is not in use.
   * @throws CorruptionError when it fails its checksum or contradicts itself.
   */
  constructor(
    number: InodeNumber,
    bytes: Uint8Array,
    superblock: Superblock,
    checksums: Checksums,
    verify = true,
  ) {
    this.number = number;
    this.#bytes = bytes;
    this.raw = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#superblock = superblock;
    this.#checksums = checksums;
    this.#parse(verify);
  }

  /** A new inode: its bytes are zeros but for what is given here. */
  static blank(
    number: InodeNumber,
    bytes: Uint8Array,
    superblock: Superblock,
    checksums: Checksums,
    { mode, generation, extraSize }: { mode: number; generation: number; extraSize: number },
  ): Inode {
    const raw = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    setLe16(raw, 0, InodeLayout.mode, mode);
    setLe16(raw, 0, InodeLayout.linksCount, 1);
    setLe32(raw, 0, InodeLayout.generation, generation);
    if (bytes.length > CLASSIC_INODE_SIZE) setLe16(raw, 0, InodeLayout.extraIsize, extraSize);
    return new Inode(number, bytes, superblock, checksums, false);
  }

  #parse(verify: boolean): void {
    const I = InodeLayout;
    const { number, raw } = this;
    const superblock = this.#superblock;
    const checksums = this.#checksums;
    this.#mode = le16(raw, 0, I.mode);
    this.#linkCount = le16(raw, 0, I.linksCount);
    if (verify && this.#mode === 0 && this.#linkCount === 0) {
      throw new FsError(Errno.ESTALE, `inode ${number} is not in use`);
    }
    this.#generation = le32(raw, 0, I.generation);
    this.#checksumSeed = checksums.enabled ? checksums.inodeSeed(number, this.#generation) : 0;
    const large = raw.byteLength > CLASSIC_INODE_SIZE;
    this.#extraSize = large ? le16(raw, 0, I.extraIsize) : 0;
    if (CLASSIC_INODE_SIZE + this.#extraSize > raw.byteLength || (this.#extraSize & 3) !== 0) {
      throw new CorruptionError(
        "inode-size",
        { inode: number },
        `i_extra_isize is ${this.#extraSize}`,
      );
    }
    if (verify && checksums.enabled) this.#verifyChecksum(checksums);
    if (verify && !isKnownType(this.#mode)) {
      throw new CorruptionError(
        "inode-mode",
        { inode: number },
        `i_mode is 0${this.#mode.toString(8)}`,
      );
    }

    const usage = parseUsage(raw, superblock);
    this.#uid = usage.uid;
    this.#gid = usage.gid;
    this.#projectId = usage.projectId;
    this.#blocks512 = usage.blocks512;
    this.#flags = le32(raw, 0, I.flags);
    const sizeHigh = this.#hasWideSize ? le32(raw, 0, I.sizeHigh) : 0;
    this.#sizeBytes = join32(sizeHigh, le32(raw, 0, I.sizeLo));
    if (!Number.isSafeInteger(this.#sizeBytes)) {
      throw new CorruptionError("inode-size", { inode: number }, `size is ${this.#sizeBytes}`);
    }
    const wideBlocks = superblock.hasIncompat(Incompat["64BIT"]);
    this.#xattrBlock = join32(
      wideBlocks ? le16(raw, 0, I.fileAclHigh) : 0,
      le32(raw, 0, I.fileAclLo),
    ) as FsBlock;
  }

  get generation(): number {
    return this.#generation;
  }
  /** Changes what every checksum of this inode's blocks starts from, too. */
  set generation(value: number) {
    setLe32(this.raw, 0, InodeLayout.generation, value);
    this.#generation = value;
    if (this.#checksums.enabled) this.#checksumSeed = this.#checksums.inodeSeed(this.number, value);
  }

  get mode(): number {
    return this.#mode;
  }
  set mode(value: number) {
    setLe16(this.raw, 0, InodeLayout.mode, value);
    this.#mode = value;
  }

  get uid(): number {
    return this.#uid;
  }
  set uid(value: number) {
    setLe16(this.raw, 0, InodeLayout.uid, value & 0xffff);
    setLe16(this.raw, 0, InodeLayout.uidHigh, value >>> 16);
    this.#uid = value;
  }

  get gid(): number {
    return this.#gid;
  }
  set gid(value: number) {
    setLe16(this.raw, 0, InodeLayout.gid, value & 0xffff);
    setLe16(this.raw, 0, InodeLayout.gidHigh, value >>> 16);
    this.#gid = value;
  }

  get linkCount(): number {
    return this.#linkCount;
  }
  set linkCount(value: number) {
    setLe16(this.raw, 0, InodeLayout.linksCount, value);
    this.#linkCount = value;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }
  set sizeBytes(value: number) {
    setLe32(this.raw, 0, InodeLayout.sizeLo, value % 0x1_0000_0000);
    const high = Math.floor(value / 0x1_0000_0000);
    if (this.#hasWideSize) setLe32(this.raw, 0, InodeLayout.sizeHigh, high);
    this.#sizeBytes = value;
  }

  /** Blocks in use, in units of 512 bytes. */
  get blocks512(): number {
    return this.#blocks512;
  }
  /**
   * Counts in filesystem blocks (HUGE_FILE_FL) where 48 bits of sectors do not suffice. What would
   * be less than none, since too few were counted before, is none.
   */
  set blocks512(count: number) {
    const value = Math.max(0, count);
    const huge = value > BLOCKS_512_MAX;
    if (huge !== this.hasFlag(InodeFlags.HUGE_FILE)) {
      this.flags = huge ? this.#flags | InodeFlags.HUGE_FILE : this.#flags & ~InodeFlags.HUGE_FILE;
    }
    const stored = huge ? value / (this.#superblock.blockSize / SECTOR_SIZE) : value;
    setLe32(this.raw, 0, InodeLayout.blocksLo, stored % 0x1_0000_0000);
    if (this.#superblock.hasRoCompat(RoCompat.HUGE_FILE)) {
      setLe16(this.raw, 0, InodeLayout.blocksHigh, Math.floor(stored / 0x1_0000_0000));
    }
    this.#blocks512 = value;
  }

  get flags(): number {
    return this.#flags;
  }
  set flags(value: number) {
    setLe32(this.raw, 0, InodeLayout.flags, value >>> 0);
    this.#flags = value >>> 0;
  }

  get projectId(): number {
    return this.#projectId;
  }
  /** Does nothing where there is no room for it. */
  set projectId(value: number) {
    if (!this.#hasProjectId) return;
    setLe32(this.raw, 0, InodeLayout.projid, value);
    this.#projectId = value;
  }

  /** Bytes of newer fields behind the classic 128; the in-inode xattrs start after them. */
  get extraSize(): number {
    return this.#extraSize;
  }
  set extraSize(value: number) {
    setLe16(this.raw, 0, InodeLayout.extraIsize, value);
    this.#extraSize = value;
  }

  /** The block of xattrs, or 0. */
  get xattrBlock(): FsBlock {
    return this.#xattrBlock;
  }
  set xattrBlock(value: FsBlock) {
    setLe32(this.raw, 0, InodeLayout.fileAclLo, value % 0x1_0000_0000);
    const high = Math.floor(value / 0x1_0000_0000);
    if (this.#superblock.hasIncompat(Incompat["64BIT"])) {
      setLe16(this.raw, 0, InodeLayout.fileAclHigh, high);
    }
    this.#xattrBlock = value;
  }

  /** What the checksums of this inode's extent and directory blocks start from. */
  get checksumSeed(): number {
    return this.#checksumSeed;
  }

  /** Copies the inode to `into`, for `restore`. */
  save(into: Uint8Array): void {
    into.set(this.#bytes);
  }
  /** Makes the inode again what it was when it was saved. */
  restore(saved: Uint8Array): void {
    this.#bytes.set(saved);
    this.#parse(false);
  }

  /** Copies the inode, with its checksum up to date, to `at` in a block of the inode table. */
  serialize(into: Uint8Array, at: number): void {
    if (this.#checksums.enabled) {
      const checksum = computeInodeChecksum(this.raw, this.#checksumSeed, this.#checksums);
      setInodeChecksum(this.raw, checksum);
    }
    into.set(this.#bytes, at);
  }

  get #hasWideSize(): boolean {
    return this.isRegular || this.#superblock.hasIncompat(Incompat.LARGEDIR);
  }
  get #hasProjectId(): boolean {
    return hasProjectId(this.raw, this.#superblock);
  }

  get accessedAt(): Timestamp {
    return this.#time(InodeLayout.atime, InodeLayout.atimeExtra);
  }
  set accessedAt(time: Timestamp) {
    this.#setTime(InodeLayout.atime, InodeLayout.atimeExtra, time);
  }
  get modifiedAt(): Timestamp {
    return this.#time(InodeLayout.mtime, InodeLayout.mtimeExtra);
  }
  set modifiedAt(time: Timestamp) {
    this.#setTime(InodeLayout.mtime, InodeLayout.mtimeExtra, time);
  }
  get changedAt(): Timestamp {
    return this.#time(InodeLayout.ctime, InodeLayout.ctimeExtra);
  }
  set changedAt(time: Timestamp) {
    this.#setTime(InodeLayout.ctime, InodeLayout.ctimeExtra, time);
  }
  /** Unknown on inodes that are too small to hold it. */
  get createdAt(): Timestamp | undefined {
    if (!this.#holds(InodeLayout.crtime, 4)) return undefined;
    return this.#time(InodeLayout.crtime, InodeLayout.crtimeExtra);
  }

  /** Does nothing where there is no room for it. */
  set createdAt(time: Timestamp) {
    if (!this.#holds(InodeLayout.crtime, 4)) return;
    this.#setTime(InodeLayout.crtime, InodeLayout.crtimeExtra, time);
  }

  /** The low 32 bits of `i_version`. */
  get version(): number {
    return le32(this.raw, 0, InodeLayout.version);
  }

  /** Moves `i_version` on, which tells NFS servers of a change that timestamps may be too coarse for. */
  advanceVersion(): void {
    const low = (this.version + 1) >>> 0;
    setLe32(this.raw, 0, InodeLayout.version, low);
    if (low > 0 || !this.#holds(InodeLayout.versionHi, 4)) return;
    const high = le32(this.raw, 0, InodeLayout.versionHi);
    setLe32(this.raw, 0, InodeLayout.versionHi, (high + 1) >>> 0);
  }

  /**
   * When the inode was freed, in seconds. While it is on the orphan list: the next inode there.
   */
  get deletionTime(): number {
    return le32(this.raw, 0, InodeLayout.dtime);
  }
  set deletionTime(value: number) {
    setLe32(this.raw, 0, InodeLayout.dtime, value);
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
    const end = InodeLayout.block + I_BLOCK_SIZE;
    this.#iBlock ??= this.#bytes.subarray(InodeLayout.block, end);
    return this.#iBlock;
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
  /** Stores the number of a device in the form that it fits. */
  setDevice(major: number, minor: number): void {
    const at = InodeLayout.block;
    const isOld = major <= 0xff && minor <= 0xff;
    this.raw.setUint32(at, isOld ? (major << 8) | minor : 0, true);
    const wide = (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12);
    this.raw.setUint32(at + 4, isOld ? 0 : wide, true);
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

  /** Clamps to what the field can say: 1901 to 2446, or to 2038 where there is only the short one. */
  #setTime(
    at: typeof InodeLayout.atime,
    extraAt: typeof InodeLayout.atime,
    { seconds, nanoseconds }: Timestamp,
  ): void {
    const wide = this.#holds(extraAt, 4);
    const clamped = Math.max(SECONDS_MIN, Math.min(seconds, wide ? SECONDS_MAX_WIDE : SECONDS_MAX));
    this.raw.setInt32(at, clamped | 0, true);
    if (!wide) return;
    const epoch = (clamped - (clamped | 0)) / 0x1_0000_0000;
    setLe32(this.raw, 0, extraAt, nanoseconds * 2 ** EPOCH_BITS + epoch);
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

/** Whom an inode belongs to and what it takes: what quotas count. */
export interface Usage {
  readonly uid: number;
  readonly gid: number;
  readonly projectId: number;
  /** Blocks in use, in units of 512 bytes. */
  readonly blocks512: number;
}

/** Parses the usage of the on-disk inode that `raw` holds. */
export function parseUsage(raw: DataView, superblock: Superblock): Usage {
  const I = InodeLayout;
  return {
    uid: le16(raw, 0, I.uid) + le16(raw, 0, I.uidHigh) * 0x1_0000,
    gid: le16(raw, 0, I.gid) + le16(raw, 0, I.gidHigh) * 0x1_0000,
    projectId: hasProjectId(raw, superblock) ? le32(raw, 0, I.projid) : PROJECT_DEFAULT,
    blocks512: parseBlocks512(raw, superblock),
  };
}

function parseBlocks512(raw: DataView, superblock: Superblock): number {
  const low = le32(raw, 0, InodeLayout.blocksLo);
  if (!superblock.hasRoCompat(RoCompat.HUGE_FILE)) return low;
  const count = join32(le16(raw, 0, InodeLayout.blocksHigh), low);
  const inBlocks = (le32(raw, 0, InodeLayout.flags) & InodeFlags.HUGE_FILE) !== 0;
  return inBlocks ? count * (superblock.blockSize / SECTOR_SIZE) : count;
}

function hasProjectId(raw: DataView, superblock: Superblock): boolean {
  if (!superblock.hasRoCompat(RoCompat.PROJECT) || raw.byteLength <= CLASSIC_INODE_SIZE) {
    return false;
  }
  const end = CLASSIC_INODE_SIZE + le16(raw, 0, InodeLayout.extraIsize);
  return end >= InodeLayout.projid + 4;
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

/** Bytes of the extra fields that we know. */
const EXTRA_SIZE_KNOWN = sizeOf(InodeLayout) - CLASSIC_INODE_SIZE;

/** `i_extra_isize` of new inodes. @see fs/ext4/super.c, ext4_clamp_want_extra_isize */
export function wantedExtraSize(superblock: Superblock): number {
  const { inodeSize, wantExtraSize, minExtraSize } = superblock;
  if (inodeSize === CLASSIC_INODE_SIZE) return 0;
  if (!superblock.hasRoCompat(RoCompat.EXTRA_ISIZE)) return EXTRA_SIZE_KNOWN;
  const wanted = Math.max(EXTRA_SIZE_KNOWN, wantExtraSize, minExtraSize) & ~3;
  return CLASSIC_INODE_SIZE + wanted > inodeSize ? EXTRA_SIZE_KNOWN : wanted;
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
