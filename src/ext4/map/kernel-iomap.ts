/**
 * Answers a kernel that moves file contents by itself (kernel-data.ts): where the bytes are, and where
 * those are to go that it will write.
 */
import { Errno } from "../../base/errno.ts";
import type { FileBlock } from "../../base/numbers.ts";
import type { BlockRun } from "../alloc/blocks.ts";
import { retryAfterCommit } from "../alloc/retry.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { extentLengthMax } from "../format/extent.ts";
import { type Inode, InodeFlags } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { ORPHAN_CREDITS } from "../orphans.ts";
import { allocateRun, MAP_CREDITS } from "./change.ts";
import { contentsDevice } from "./contents-device.ts";
import { moveOutOfLine } from "./inline-editor.ts";
import { answerRun, findRun, type Iomap, IomapType } from "./iomap.ts";
import { knownEnd } from "./kernel-data.ts";
import { noteOverlong } from "./overlong.ts";
import { newRun, type Run } from "./run.ts";
import { maxFileSize } from "./size.ts";
import { refuseUnwritable } from "./write.ts";

/** The least and the most that a growing file gets besides what it asks for. */
const RESERVE_BYTES_MIN = 64 * 1024;
const RESERVE_BYTES_MAX = 128 * 1024 * 1024;
/** No file gets more than this share of what is free, and none anything of the last that is. */
const RESERVE_SHARE = 16;
/** All files together have so many such shares at the most. */
const RESERVES_SHARE = 4;
const FREE_BYTES_MIN = 16 * 1024 * 1024;

const run = newRun();

/**
 * Answers where the contents around byte `offset` of `inode` lie, in whole blocks and whatever the
 * size of the file is, without changing anything.
 *
 * @param length bytes that are wanted, at least 1: a hole behind the last block ends with them.
 * @param answer filled in and returned: HOLE, MAPPED, UNWRITTEN; or INLINE for the first block of a file
 *   that `readFile` and `writeFile` have the contents of.
 * @throws FsError EFBIG where no file can have bytes; EISDIR, EINVAL, ENOKEY.
 * @throws CorruptionError when the map of `inode` cannot be trusted.
 */
export function iomapForKernel(
  fs: Filesystem,
  inode: Inode,
  offset: number,
  length: number,
  answer: Iomap,
): Iomap {
  refuseUnreadable(inode);
  const { blockSize } = fs.superblock;
  if (offset >= maxFileSize(fs, inode)) {
    throw new FsError(Errno.EFBIG, `inode ${inode.number} at ${offset}`);
  }
  const fileBlock = Math.floor(offset / blockSize);
  answer.offset = fileBlock * blockSize;
  answer.isNew = false;
  const wantedEnd = Math.ceil(Math.max(offset + length, inode.sizeBytes) / blockSize) * blockSize;
  if (inode.hasFlag(InodeFlags.INLINE_DATA)) {
    answer.type = fileBlock === 0 ? IomapType.INLINE : IomapType.HOLE;
    answer.addr = -1;
    answer.length = fileBlock === 0 ? blockSize : wantedEnd - answer.offset;
    return answer;
  }
  findRun(fs, inode, fileBlock as FileBlock, run);
  if (run.unwritten) takeOutWritten(fs, inode, fileBlock, run);
  answerRun(fs, run, 0, answer);
  if (answer.type === IomapType.HOLE) {
    answer.length = Math.min(answer.length, wantedEnd - answer.offset);
  }
  return answer;
}

/** Makes `found`, which is unwritten, what it would be if all that holds its bytes was converted. */
function takeOutWritten(fs: Filesystem, inode: Inode, block: number, found: Run): void {
  if (!fs.isWritable) return;
  for (const { from, end } of fs.writer.kernelData?.unconverted.get(inode.number) ?? []) {
    if (end <= block || from >= block + found.count) continue;
    found.unwritten = from > block;
    found.count = Math.min(found.count, (found.unwritten ? from : end) - block);
    if (!found.unwritten) return;
  }
}

/** @throws FsError when `inode` is none whose contents anybody may have. */
function refuseUnreadable(inode: Inode): void {
  if (inode.isDirectory) throw new FsError(Errno.EISDIR, `inode ${inode.number} is a directory`);
  if (!inode.isRegular) throw new FsError(Errno.EINVAL, `inode ${inode.number} is no regular file`);
  if (inode.hasFlag(InodeFlags.ENCRYPT)) {
    throw new FsError(Errno.ENOKEY, `inode ${inode.number} is encrypted`);
  }
}

/**
 * The same for a write: holes get blocks. Those of a file with extents are unwritten; one with a block
 * map cannot have such, and gets blocks full of zeros. Contents within the inode move out of it.
 *
 * @param length bytes that will be written, at least 1. The answer is for the first of them; for what
 *   it does not cover ask again.
 * @param grows the file will end behind them if it ends before; otherwise they are pages of it.
 * @returns `answer`: MAPPED or UNWRITTEN.
 * @throws FsError ENOSPC, EFBIG; EISDIR, EINVAL, ENOKEY, EPERM from `refuseUnwritable`.
 */
export function iomapForKernelWrite(
  fs: Filesystem,
  inode: Inode,
  offset: number,
  length: number,
  answer: Iomap,
  grows = true,
): Iomap {
  refuseUnwritable(inode);
  moveOutOfLine(fs, inode);
  iomapForKernel(fs, inode, offset, length, answer);
  if (answer.type !== IomapType.HOLE) return answer;
  const first = Math.floor(offset / fs.superblock.blockSize) as FileBlock;
  const end = Math.min(offset + length, maxFileSize(fs, inode));
  retryAfterCommit(fs, () => fillHole(fs, inode, first, end, grows));
  return iomapForKernel(fs, inode, offset, length, answer);
}

/**
 * Gives blocks to the hole at `first`, as far as the bytes up to `end` reach and the blocks are in a
 * row: all that one extent can be, so that nobody has to ask twice about it.
 *
 * @throws FsError ENOSPC when there is not even one.
 */
function fillHole(
  fs: Filesystem,
  inode: Inode,
  first: FileBlock,
  end: number,
  grows: boolean,
): void {
  const endsAt = grows ? end : knownEnd(fs, inode);
  const hasExtents = inode.hasFlag(InodeFlags.EXTENTS);
  findRun(fs, inode, first, run);
  const wanted = Math.ceil(end / fs.superblock.blockSize) - first;
  const extra = hasExtents ? reserveFor(fs, inode, end) : 0;
  const most = Math.min(run.count, wanted + extra, extentLengthMax(hasExtents));
  for (let done = 0; done < most; ) {
    const block = (first + done) as FileBlock;
    const taken = takeUnlessFull(done > 0, () =>
      fs.transact(MAP_CREDITS + ORPHAN_CREDITS, (tx) =>
        promise(fs, tx, inode, { block, most: most - done, exact: done > 0, endsAt }),
      ),
    );
    if (taken === undefined) return;
    done += taken.count;
  }
}

/** What `take` returns; undefined when there is no space, or none that will do, and that may be. */
function takeUnlessFull(mayBeFull: boolean, take: () => BlockRun): BlockRun | undefined {
  try {
    return take();
  } catch (error) {
    if (mayBeFull && error instanceof FsError && error.errno === Errno.ENOSPC) return undefined;
    throw error;
  }
}

/** What of a hole is to get blocks: up to `most` from `block` on; the file will end at `endsAt`. */
interface Wanted {
  readonly block: FileBlock;
  readonly most: number;
  /** Only those will do that continue the blocks before. */
  readonly exact: boolean;
  readonly endsAt: number;
}

/** Allocates blocks for a hole: as many as there are in one piece. */
function promise(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  { block: first, most, exact, endsAt }: Wanted,
): BlockRun {
  const { blockSize } = fs.superblock;
  const hasExtents = inode.hasFlag(InodeFlags.EXTENTS);
  const taken = allocateRun(fs, tx, inode, first, most, hasExtents, exact);
  const end = first + taken.count;
  if (!hasExtents) {
    contentsDevice(fs).zero(taken.start * blockSize, taken.count * blockSize);
    const bytes = Math.min(end * blockSize, endsAt);
    noteOverlong(fs, tx, inode, { end: end as FileBlock, bytes });
  }
  const used = Math.ceil(knownEnd(fs, inode) / blockSize);
  const behind = Math.max(first, used);
  const reserves = fs.writer.kernelData?.reserves;
  if (reserves === undefined || behind >= end) return taken;
  const before = reserves.get(inode.number) ?? [];
  const unused = before.filter((range) => range.end > used);
  reserves.set(inode.number, [...unused, { from: behind, end }]);
  tx.onRollback(() => reserves.set(inode.number, before));
  return taken;
}

/**
 * Blocks that a file may have besides those up to `end`, which are asked for: when it grows on. They
 * are the kernel's to write to, without another word, as long as somebody has the file open: even if the
 * device becomes full meanwhile.
 */
function reserveFor(fs: Filesystem, inode: Inode, end: number): number {
  const { blockSize, clusterBlocks } = fs.superblock;
  const endBefore = knownEnd(fs, inode);
  if (endBefore === 0 || end <= endBefore) return 0;
  const free = fs.groups.countFree().clusters * clusterBlocks;
  if (free * blockSize < FREE_BYTES_MIN) return 0;
  const bytes = Math.min(Math.max(RESERVE_BYTES_MIN, endBefore), RESERVE_BYTES_MAX);
  const share = Math.floor(free / RESERVE_SHARE);
  const left = Math.max(0, RESERVES_SHARE * share - heldBlocks(fs));
  return Math.min(Math.floor(bytes / blockSize), share, left);
}

/** Blocks that files hold and have not used, as far as is known. */
function heldBlocks(fs: Filesystem): number {
  let sum = 0;
  for (const [number, ranges] of fs.writer.kernelData?.reserves ?? []) {
    const used = Math.ceil(knownEnd(fs, fs.inode(number)) / fs.superblock.blockSize);
    for (const { from, end } of ranges) sum += Math.max(0, end - Math.max(from, used));
  }
  return sum;
}
