/**
 * Writes an inode's attributes as the kernel wants them: in `fuse_attr` (on its own and within
 * `fuse_entry_out`) and in `fuse_statx`. Here is decided what of the image is shown differently
 * (owner and permissions can be overridden) and how long the kernel may believe it.
 *
 * We are the only user of the device, so nothing changes behind the kernel's back and everything
 * may be kept without a limit, which the protocol can only say as a very long time.
 *
 * Times are signed 64-bit seconds; ext4 reaches from 1901 to 2446, and both ends must survive.
 */

import type { At } from "../base/layout.ts";
import { setLe16, setLe32, setLe64 } from "../base/layout.ts";
import { FileType, type Inode, type Timestamp } from "../ext4/index.ts";
import { Attr, AttrOut, EntryOut, Statx, StatxMask, StatxOut, SxTime } from "./abi.ts";
import { encodeDevice } from "./device-number.ts";
import { STATX_ATTRIBUTES_MASK, statxAttributes } from "./file-flags.ts";
import type { IomapState } from "./iomap-state.ts";
import type { Lifetimes } from "./lifetimes.ts";
import { nodeOf, ROOT_NODE } from "./nodes.ts";
import type { ServedFilesystem } from "./served.ts";

/** What the user may have different from the image. */
export interface AttributeOptions {
  /** How long the kernel may keep a name, in seconds; fractions count. Without a limit if absent. */
  readonly entryTimeout?: number;
  /** The same for attributes. */
  readonly attrTimeout?: number;
  /** The same for the fact that a name does not exist. */
  readonly negativeTimeout?: number;
  /** Everything belongs to this user, new files on the image as well. */
  readonly uid?: number;
  /** Everything belongs to this group. */
  readonly gid?: number;
  /** Permissions become 0777 less these bits; the set-id and sticky bits go. */
  readonly umask?: number;
  /** The same for all but directories, in place of `umask`. */
  readonly fmask?: number;
  /** The same for directories, in place of `umask`. */
  readonly dmask?: number;
}

/** 34 years: no kernel runs that long, and none overflows when it counts that in jiffies. */
const UNLIMITED_SECONDS = 2 ** 30;
const NANOSECONDS = 1_000_000_000;

const PERMISSIONS_ALL = 0o777;

interface Timeout {
  readonly seconds: number;
  readonly nanoseconds: number;
}

function timeout(seconds = UNLIMITED_SECONDS): Timeout {
  const whole = Math.floor(Math.min(seconds, UNLIMITED_SECONDS));
  const rest = Math.min(seconds, UNLIMITED_SECONDS) - whole;
  return { seconds: whole, nanoseconds: Math.floor(rest * NANOSECONDS) };
}

/** Stores signed seconds: the two's complement of a whole number within ±2^53. */
function setSeconds(view: DataView, base: number, at: At<"le64">, seconds: number): void {
  view.setUint32(base + at, seconds, true);
  view.setUint32(base + at + 4, Math.floor(seconds / 0x1_0000_0000), true);
}

/** True for a directory's mode. */
export function isDirectory(mode: number): boolean {
  return (mode & FileType.MASK) === FileType.DIRECTORY;
}

/** True for the mode of a regular file. */
export function isRegular(mode: number): boolean {
  return (mode & FileType.MASK) === FileType.REGULAR;
}

/** Writes attributes into replies. Long-lived; writing allocates nothing. */
export class AttributeWriter {
  readonly #fs: ServedFilesystem;
  readonly #lifetimes: Lifetimes | undefined;
  readonly #blockSize: number;
  readonly #entry: Timeout;
  readonly #attr: Timeout;
  readonly #negative: Timeout;
  readonly #uid: number | undefined;
  readonly #gid: number | undefined;
  readonly #fmask: number | undefined;
  readonly #dmask: number | undefined;
  readonly #iomap: IomapState | undefined;

  /**
   * @param lifetimes told of every node that a reply gives to the kernel.
   * @param iomap where the kernel may move file contents.
   */
  constructor(
    fs: ServedFilesystem,
    options: AttributeOptions,
    lifetimes?: Lifetimes,
    iomap?: IomapState,
  ) {
    this.#fs = fs;
    this.#lifetimes = lifetimes;
    this.#iomap = iomap;
    this.#blockSize = fs.blockSize;
    this.#entry = timeout(options.entryTimeout);
    this.#attr = timeout(options.attrTimeout);
    this.#negative = timeout(options.negativeTimeout);
    this.#uid = options.uid;
    this.#gid = options.gid;
    this.#fmask = options.fmask ?? options.umask;
    this.#dmask = options.dmask ?? options.umask;
  }

  /** Fills a `fuse_entry_out`: the kernel may now use the node, and holds one lookup on it. */
  writeEntry(view: DataView, base: number, inode: Inode): void {
    const node = nodeOf(inode.number);
    this.#lifetimes?.add(node);
    setLe64(view, base, EntryOut.nodeid, node);
    // The kernel makes the root by itself, with generation 0, and warns about any other.
    setLe64(view, base, EntryOut.generation, node === ROOT_NODE ? 0 : inode.generation);
    setLe64(view, base, EntryOut.entryValid, this.#entry.seconds);
    setLe32(view, base, EntryOut.entryValidNsec, this.#entry.nanoseconds);
    setLe64(view, base, EntryOut.attrValid, this.#attr.seconds);
    setLe32(view, base, EntryOut.attrValidNsec, this.#attr.nanoseconds);
    this.#writeAttr(view, base + EntryOut.attr, inode);
  }

  /** Fills a zeroed `fuse_entry_out`: there is no such name, and the kernel may remember that. */
  writeNegativeEntry(view: DataView, base: number): void {
    setLe64(view, base, EntryOut.entryValid, this.#negative.seconds);
    setLe32(view, base, EntryOut.entryValidNsec, this.#negative.nanoseconds);
  }

  /** Fills a zeroed `fuse_attr_out`. */
  writeAttrOut(view: DataView, base: number, inode: Inode): void {
    setLe64(view, base, AttrOut.attrValid, this.#attr.seconds);
    setLe32(view, base, AttrOut.attrValidNsec, this.#attr.nanoseconds);
    this.#writeAttr(view, base + AttrOut.attr, inode);
  }

  /** Fills a zeroed `fuse_statx_out` with everything known, whatever was asked for. */
  writeStatxOut(view: DataView, base: number, inode: Inode): void {
    setLe64(view, base, StatxOut.attrValid, this.#attr.seconds);
    setLe32(view, base, StatxOut.attrValidNsec, this.#attr.nanoseconds);
    const at = base + StatxOut.stat;
    const born = inode.createdAt;
    const mask = StatxMask.BASIC_STATS | (born === undefined ? 0 : StatxMask.BTIME);
    setLe32(view, at, Statx.mask, mask);
    setLe32(view, at, Statx.blksize, this.#blockSize);
    setLe64(view, at, Statx.attributes, statxAttributes(inode.flags));
    setLe32(view, at, Statx.nlink, inode.linkCount);
    setLe32(view, at, Statx.uid, this.#uid ?? inode.uid);
    setLe32(view, at, Statx.gid, this.#gid ?? inode.gid);
    setLe16(view, at, Statx.mode, this.#mode(inode.mode));
    setLe64(view, at, Statx.ino, inode.number);
    setLe64(view, at, Statx.size, this.#fs.sizeForStat(inode));
    setLe64(view, at, Statx.blocks, inode.blocksForStat);
    setLe64(view, at, Statx.attributesMask, STATX_ATTRIBUTES_MASK);
    this.#writeSxTime(view, at + Statx.atime, inode.accessedAt);
    if (born !== undefined) this.#writeSxTime(view, at + Statx.btime, born);
    this.#writeSxTime(view, at + Statx.ctime, inode.changedAt);
    this.#writeSxTime(view, at + Statx.mtime, inode.modifiedAt);
    setLe32(view, at, Statx.rdevMajor, inode.rdevMajor);
    setLe32(view, at, Statx.rdevMinor, inode.rdevMinor);
    if (this.#iomap?.isActive === true && isRegular(inode.mode)) {
      this.#writeDeviceLimits(view, at, inode, this.#iomap, mask);
    }
  }

  /** What the device wants of direct I/O, which the kernel sends to it past us. */
  #writeDeviceLimits(
    view: DataView,
    at: number,
    inode: Inode,
    iomap: IomapState,
    mask: number,
  ): void {
    setLe32(view, at, Statx.dioMemAlign, iomap.host.directMemoryBytes);
    setLe32(view, at, Statx.dioOffsetAlign, iomap.host.directOffsetBytes);
    const atomic = iomap.isAtomic(inode) ? this.#blockSize : 0;
    setLe32(view, at, Statx.atomicWriteUnitMin, atomic);
    setLe32(view, at, Statx.atomicWriteUnitMax, atomic);
    setLe32(view, at, Statx.atomicWriteSegmentsMax, atomic > 0 ? 1 : 0);
    const known = StatxMask.DIOALIGN | (atomic > 0 ? StatxMask.WRITE_ATOMIC : 0);
    setLe32(view, at, Statx.mask, mask | known);
  }

  #writeSxTime(view: DataView, base: number, instant: Timestamp): void {
    setSeconds(view, base, SxTime.tvSec, instant.seconds);
    setLe32(view, base, SxTime.tvNsec, instant.nanoseconds);
  }

  #writeAttr(view: DataView, base: number, inode: Inode): void {
    setLe64(view, base, Attr.ino, inode.number);
    setLe64(view, base, Attr.size, this.#fs.sizeForStat(inode));
    setLe64(view, base, Attr.blocks, inode.blocksForStat);
    setSeconds(view, base, Attr.atime, inode.accessedAt.seconds);
    setSeconds(view, base, Attr.mtime, inode.modifiedAt.seconds);
    setSeconds(view, base, Attr.ctime, inode.changedAt.seconds);
    setLe32(view, base, Attr.atimensec, inode.accessedAt.nanoseconds);
    setLe32(view, base, Attr.mtimensec, inode.modifiedAt.nanoseconds);
    setLe32(view, base, Attr.ctimensec, inode.changedAt.nanoseconds);
    setLe32(view, base, Attr.mode, this.#mode(inode.mode));
    setLe32(view, base, Attr.nlink, inode.linkCount);
    setLe32(view, base, Attr.uid, this.#uid ?? inode.uid);
    setLe32(view, base, Attr.gid, this.#gid ?? inode.gid);
    setLe32(view, base, Attr.rdev, encodeDevice(inode.rdevMajor, inode.rdevMinor));
    setLe32(view, base, Attr.blksize, this.#blockSize);
    setLe32(view, base, Attr.flags, this.#iomap?.attrFlags(inode) ?? 0);
  }

  #mode(mode: number): number {
    const mask = isDirectory(mode) ? this.#dmask : this.#fmask;
    return mask === undefined ? mode : (mode & FileType.MASK) | (PERMISSIONS_ALL & ~mask);
  }
}
