/**
 * The one question that file data asks: where on the device are these bytes? Whoever moves bytes
 * (the shim, a kernel with fuse+iomap, a program using the library) gets the same answers.
 *
 * @see struct iomap in the kernel's include/linux/iomap.h
 */
import type { FileBlock, FsBlock } from "../../base/numbers.ts";
import type { Block } from "../cache/block-cache.ts";
import { CorruptionError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { FILE_BLOCK_END } from "../format/extent.ts";
import { type Inode, InodeFlags } from "../format/inode.ts";
import { findMappedRun } from "./block-map.ts";
import { findExtentRun } from "./extent-tree.ts";
import { HOLE, newRun, type Run } from "./run.ts";

/** The numbers of include/linux/iomap.h. */
export const IomapType = {
  /** Nothing is stored: reads as zeros. */
  HOLE: 0,
  /** Stored at `addr`. */
  MAPPED: 2,
  /** Allocated at `addr` but never written: reads as zeros. */
  UNWRITTEN: 3,
  /** Not on the device as such: `readFile` has the bytes. */
  INLINE: 4,
} as const;

export interface Iomap {
  type: (typeof IomapType)[keyof typeof IomapType];
  /** Where on the device, in bytes; -1 unless mapped or unwritten. */
  addr: number;
  /** The first byte of the file that this answer is about: the one asked for. */
  offset: number;
  /** Bytes that it holds for. */
  length: number;
  /**
   * The blocks have just been allocated, or were unwritten until now: whoever writes to them has to
   * fill the first and the last one up with zeros. Only `iomapForWrite` says so.
   */
  isNew: boolean;
}

/** An answer to be filled in by `iomapForRead` or `iomapForWrite`. */
export function newIomap(): Iomap {
  return { type: IomapType.HOLE, addr: -1, offset: 0, length: 0, isNew: false };
}

const run = newRun();

/**
 * Finds the run of blocks at `fileBlock` of `inode`, whatever kind of map it has.
 *
 * @throws CorruptionError when the map cannot be trusted; `block-system` when it leads to blocks
 *   that no file can have.
 */
export function findRun(fs: Filesystem, inode: Inode, fileBlock: FileBlock, into: Run): Run {
  const recovered = fs.recovered?.findRun(inode.number, fileBlock, into);
  if (recovered !== undefined) return recovered;
  if (inode.hasFlag(InodeFlags.EXTENTS)) findExtentRun(fs, inode, fileBlock, into);
  else findMappedRun(fs, inode, fileBlock, into);
  if (into.fsBlock !== HOLE) fs.verifyOwner(inode.number, into.fsBlock as FsBlock, into.count);
  return into;
}

/** Whether the contents of `inode` go through the block cache and the journal. */
export function holdsMetadata(inode: Inode): boolean {
  return !inode.isRegular || inode.hasFlag(InodeFlags.EA_INODE);
}

/** Block `fileBlock` of the file's contents through the block cache; undefined in a hole. */
export function readFileBlock(
  fs: Filesystem,
  inode: Inode,
  fileBlock: FileBlock,
): Block | undefined {
  findRun(fs, inode, fileBlock, run);
  return run.fsBlock === HOLE || run.unwritten ? undefined : fs.blocks.get(run.fsBlock as FsBlock);
}

/**
 * Answers where the bytes of `inode` from `offset` on lie, without changing anything.
 *
 * @param offset first byte asked for, below 2^53; at or past the end of the file it is a hole.
 * @param length bytes asked for, at least 1; the answer may be shorter or longer, never empty.
 * @param answer filled in and returned, so that a request allocates nothing.
 * @throws CorruptionError when the extent tree of `inode` cannot be trusted.
 */
export function iomapForRead(
  fs: Filesystem,
  inode: Inode,
  offset: number,
  length: number,
  answer: Iomap,
): Iomap {
  const { blockSize } = fs.superblock;
  answer.offset = offset;
  answer.addr = -1;
  answer.isNew = false;
  if (offset >= inode.sizeBytes) {
    answer.type = IomapType.HOLE;
    answer.length = length;
    return answer;
  }
  if (inode.hasFlag(InodeFlags.INLINE_DATA)) {
    answer.type = IomapType.INLINE;
    answer.length = inode.sizeBytes - offset;
    return answer;
  }
  const fileBlock = Math.floor(offset / blockSize);
  if (fileBlock >= FILE_BLOCK_END) {
    throw new CorruptionError("inode-size", { inode: inode.number }, `size is ${inode.sizeBytes}`);
  }
  findRun(fs, inode, fileBlock as FileBlock, run);
  const into = offset - fileBlock * blockSize;
  answerRun(fs, run, into, answer);
  if (answer.type === IomapType.MAPPED) takeOutReplayed(fs, run, into, answer);
  return answer;
}

/** Makes `answer` what `found` says, from byte `into` of it on. */
export function answerRun(fs: Filesystem, found: Run, into: number, answer: Iomap): void {
  const { blockSize } = fs.superblock;
  answer.length = found.count * blockSize - into;
  answer.addr = found.fsBlock === HOLE ? -1 : found.fsBlock * blockSize + into;
  if (found.fsBlock === HOLE) answer.type = IomapType.HOLE;
  else answer.type = found.unwritten ? IomapType.UNWRITTEN : IomapType.MAPPED;
}

/** Data blocks that the journal holds newer bytes of are not (yet) right on the device. */
function takeOutReplayed(fs: Filesystem, mapped: Run, into: number, answer: Iomap): void {
  const overlay = fs.overlay;
  if (overlay === undefined) return;
  const { blockSize } = fs.superblock;
  const until = overlay.untilReplayed(mapped.fsBlock, mapped.count);
  if (until > 0) {
    answer.length = until * blockSize - into;
    return;
  }
  answer.type = IomapType.INLINE;
  answer.addr = -1;
  answer.length = blockSize - into;
}
