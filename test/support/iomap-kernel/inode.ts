/** One inode in the kernel's cache. */
import { AttrFlag, FileType } from "./abi.ts";
import { MappingCache } from "./mapping-cache.ts";
import type { Fields } from "./wire.ts";

/** A block of a file in the page cache, with all of its bytes up to date. */
export interface Page {
  readonly bytes: Uint8Array;
  isDirty: boolean;
  /** On its way to the device: for as long, nobody drops it. */
  isUnderWriteback: boolean;
}

/** `fuse_attr`, of 88 bytes. */
export interface Attributes {
  readonly ino: bigint;
  readonly size: number;
  readonly blocks: number;
  readonly atime: bigint;
  readonly mtime: bigint;
  readonly ctime: bigint;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly blksize: number;
  readonly flags: number;
}

const NANOSECONDS = 1_000_000_000n;

export function readAttributes(fields: Fields, at: number): Attributes {
  const time = (seconds: number, nanoseconds: number): bigint =>
    fields.s64(at + seconds) * NANOSECONDS + BigInt(fields.u32(at + nanoseconds));
  return {
    ino: fields.u64(at),
    size: fields.number(at + 8),
    blocks: fields.number(at + 16),
    atime: time(24, 48),
    mtime: time(32, 52),
    ctime: time(40, 56),
    mode: fields.u32(at + 60),
    nlink: fields.u32(at + 64),
    uid: fields.u32(at + 68),
    gid: fields.u32(at + 72),
    rdev: fields.u32(at + 76),
    blksize: fields.u32(at + 80),
    flags: fields.u32(at + 84),
  };
}

/** What of a connection decides how an inode is treated; looked at once, when it is made. */
export interface InodeContext {
  readonly blockSize: number;
  /** The connection has iomap and the minor that belongs to it. */
  readonly hasIomap: boolean;
  readonly isRoot: boolean;
}

export class Inode {
  readonly node: number;
  readonly generation: bigint;
  readonly attrIno: bigint;
  readonly blockSize: number;
  /** `fuse_attr.flags` of the reply that made it. */
  readonly flags: number;
  readonly isExclusive: boolean;
  /** Data goes through iomap. */
  readonly isIomap: boolean;
  readonly isAtomic: boolean;

  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  blocks: number;
  atime: bigint;
  mtime: bigint;
  ctime: bigint;
  size: number;
  /** The size that the kernel takes for the one on disk. */
  diskSize: number;
  /** Times that the server does not know yet. */
  timesAreDirty = false;
  attributesAreValid = true;

  readonly pages = new Map<number, Page>();
  mappings: MappingCache | undefined;
  swapIsActive = false;
  /** What fsync has to report, once. */
  writebackError = 0;

  /** The count of lookups that FORGET will give back. */
  lookups = 0;
  opens = 0;
  /** Names in the dentry cache. */
  dentries = 0;
  isEvicted = false;
  /** Of directories: names that are known, and those known not to exist. */
  readonly entries = new Map<string, Inode | undefined>();
  /** Of directories: where they hang. */
  parent: Inode | undefined;
  /** Values of ACL xattrs that are known; undefined for none. */
  readonly acls = new Map<string, Uint8Array | undefined>();

  constructor(node: number, generation: bigint, attributes: Attributes, context: InodeContext) {
    this.node = node;
    this.generation = generation;
    this.attrIno = attributes.ino;
    this.blockSize = context.blockSize;
    this.flags = context.isRoot ? 0 : attributes.flags;
    this.isExclusive = context.hasIomap && (this.flags & AttrFlag.EXCLUSIVE) !== 0;
    this.mode = attributes.mode;
    this.isIomap = this.isExclusive && (this.flags & AttrFlag.IOMAP) !== 0 && this.isRegular;
    this.isAtomic = this.isIomap && (this.flags & AttrFlag.ATOMIC) !== 0;
    this.nlink = attributes.nlink;
    this.uid = attributes.uid;
    this.gid = attributes.gid;
    this.rdev = attributes.rdev;
    this.blocks = attributes.blocks;
    this.atime = attributes.atime;
    this.mtime = attributes.mtime;
    this.ctime = attributes.ctime;
    this.size = attributes.size;
    this.diskSize = attributes.size;
  }

  get type(): number {
    return this.mode & FileType.MASK;
  }
  get isRegular(): boolean {
    return this.type === FileType.REGULAR;
  }
  get isDirectory(): boolean {
    return this.type === FileType.DIRECTORY;
  }
  get isLink(): boolean {
    return this.type === FileType.LINK;
  }

  get hasDirtyPages(): boolean {
    for (const page of this.pages.values()) if (page.isDirty) return true;
    return false;
  }

  /** What was upserted first makes it. */
  makeMappings(): MappingCache {
    this.mappings ??= new MappingCache();
    return this.mappings;
  }

  /** Drops what is cached of the blocks of [start, end): half of a block's mapping would be no mapping. */
  dropMappings(start: number, end = Number.POSITIVE_INFINITY): void {
    const first = start - (start % this.blockSize);
    const last = Math.ceil(end / this.blockSize) * this.blockSize;
    this.mappings?.invalidate("read", first, last);
    this.mappings?.invalidate("write", first, last);
  }
}
