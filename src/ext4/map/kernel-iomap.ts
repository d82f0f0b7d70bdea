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

/** A growing file gets, besides what it asks for, as much as it has, or so many times what it asks for. */
const RESERVE_TIMES = 64;
const RESERVE_BYTES_MAX = 1024 * 1024 * 1024;
/** All files together hold one in so many of the blocks that are free. */
const RESERVES_SHARE = 4;
/** Nothing is given besides when only one in so many of all blocks is free. */
const LAST_SHARE = 16;
/** A hole gets so many pieces at once, if there is no larger one. */
const PIECES_MAX = 32;
/** Blocks that are filled with zeros before anybody is answered. */
const ZEROED_MAX = 32_768;

const run = newRun();

/**
 * Answers where the contents around byte `offset` of `inode` lie, in whole blocks and whatever the
 * size of the file is, without changing anything.
 *
 * @param length bytes that are wanted, at least 1: a hole behind the last block ends with them.
 * @param answer filled in and returned: HOLE, MAPPED, UNWRITTEN; or INLINE for the first block of a file
 *   that `readFile` and `writeFile` have the contents of.
 * @throws FsError EISDIR, EINVAL, ENOKEY.
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
  const fileBlock = Math.floor(offset / blockSize);
  answer.offset = fileBlock * blockSize;
  answer.isNew = false;
  const wantedEnd = Math.ceil(Math.max(offset + length, inode.sizeBytes) / blockSize) * blockSize;
  // The kernel has one limit for all files; those with a block map end before it.
  if (inode.hasFlag(InodeFlags.INLINE_DATA) || offset >= maxFileSize(fs, inode)) {
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
  if (offset >= maxFileSize(fs, inode)) {
    throw new FsError(Errno.EFBIG, `inode ${inode.number} at ${offset}`);
  }
  moveOutOfLine(fs, inode);
  iomapForKernel(fs, inode, offset, length, answer);
  if (answer.type !== IomapType.HOLE) return answer;
  const first = Math.floor(offset / fs.superblock.blockSize) as FileBlock;
  const end = Math.min(offset + length, maxFileSize(fs, inode));
  retryAfterCommit(fs, () => fillHole(fs, inode, first, end, grows));
  return iomapForKernel(fs, inode, offset, length, answer);
}

/**
 * Gives blocks to the hole at `first`, as far as the bytes up to `end` reach: in as few pieces as there
 * are, so that nobody has to ask once for each.
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
  const extra = hasExtents ? reserveFor(fs, inode, end, wanted) : 0;
  const most = Math.min(run.count, hasExtents ? wanted + extra : Math.min(wanted, ZEROED_MAX));
  for (let done = 0, pieces = 0; done < most && pieces < PIECES_MAX; pieces++) {
    const block = (first + done) as FileBlock;
    try {
      const { count } = fs.transact(MAP_CREDITS + ORPHAN_CREDITS, (tx) =>
        promise(fs, tx, inode, block, most - done, endsAt),
      );
      done += count;
    } catch (error) {
      const isFull = error instanceof FsError && error.errno === Errno.ENOSPC;
      if (isFull && done > 0) return;
      throw error;
    }
  }
}

/**
 * Allocates blocks for the hole at `first`: as many of `most` as there are in one piece. The file will end
 * at `endsAt`.
 */
function promise(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  first: FileBlock,
  most: number,
  endsAt: number,
): BlockRun {
  const { blockSize } = fs.superblock;
  const hasExtents = inode.hasFlag(InodeFlags.EXTENTS);
  const taken = allocateRun(fs, tx, inode, first, most, hasExtents);
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
 * Blocks that a file may have besides the `wanted` ones up to `end`: when it grows on. They
 * are the kernel's to write to, without another word, as long as somebody has the file open: even if the
 * device becomes full meanwhile.
 */
function reserveFor(fs: Filesystem, inode: Inode, end: number, wanted: number): number {
  const { blockSize, blockCount, clusterBlocks } = fs.superblock;
  const endBefore = knownEnd(fs, inode);
  if (endBefore === 0 || end <= endBefore) return 0;
  const free = fs.groups.countFree().clusters * clusterBlocks;
  if (free < blockCount / LAST_SHARE) return 0;
  const blocks = Math.max(Math.floor(endBefore / blockSize), RESERVE_TIMES * wanted);
  const left = Math.floor(free / RESERVES_SHARE) - heldBlocks(fs);
  return Math.max(0, Math.min(blocks, RESERVE_BYTES_MAX / blockSize, left));
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
