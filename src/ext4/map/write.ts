/**
 * Where on the device do these bytes go? The counterpart of `iomapForRead` for those who are about
 * to write, and a writer for whoever has no shim.
 *
 * data=ordered: blocks are mapped as written by the same transaction in which their bytes are about
 * to be written. Commits happen between calls into this library, and flush the device first, so
 * whoever has an answer writes before the next call, and no crash shows what the blocks held before.
 */
import { Errno } from "../../base/errno.ts";
import type { FileBlock } from "../../base/numbers.ts";
import { retryAfterCommit } from "../alloc/retry.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { type Inode, InodeFlags } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { allocateRun, MAP_CREDITS } from "./change.ts";
import { contentsDevice } from "./contents-device.ts";
import { ExtentEditor } from "./extent-editor.ts";
import { fitsInline, moveOutOfLine, writeInline } from "./inline-editor.ts";
import { findRun, type Iomap, IomapType, newIomap } from "./iomap.ts";
import { HOLE, newRun } from "./run.ts";
import { maxFileSize, setFileSize, touch } from "./size.ts";
import { syncIfWanted } from "./synchronous.ts";

/** The inode, and the superblock for large_file. */
export const SIZE_CREDITS = 2;

const run = newRun();

/** @throws FsError when `inode` is none whose contents we may change. */
export function refuseUnwritable(inode: Inode): void {
  if (inode.isDirectory) throw new FsError(Errno.EISDIR, `inode ${inode.number} is a directory`);
  if (!inode.isRegular) throw new FsError(Errno.EINVAL, `inode ${inode.number} is no regular file`);
  if (inode.hasFlag(InodeFlags.ENCRYPT)) {
    throw new FsError(Errno.ENOKEY, `inode ${inode.number} is encrypted`);
  }
  if (inode.hasFlag(InodeFlags.VERITY)) {
    throw new FsError(Errno.EPERM, `inode ${inode.number} is sealed by fs-verity`);
  }
}

/**
 * Answers where the bytes of `inode` from `offset` on are to be written, and allocates blocks where
 * there are none yet. The size grows to what the answer covers of the bytes asked for, the times of
 * the file are set. The caller writes before it calls anything else here.
 *
 * @param length bytes that will be written, at least 1; the answer may be shorter or, up to the end
 *   of the last block, longer, never empty. For the rest ask again.
 * @param answer filled in and returned: MAPPED. Or INLINE, when `writeFile` has to write them.
 * @throws FsError EFBIG, ENOSPC; EISDIR, EINVAL, ENOKEY, EPERM from `refuseUnwritable`.
 * @throws CorruptionError when the map of `inode` cannot be trusted.
 */
export function iomapForWrite(
  fs: Filesystem,
  inode: Inode,
  offset: number,
  length: number,
  answer: Iomap,
): Iomap {
  refuseUnwritable(inode);
  const sizeMax = maxFileSize(fs, inode);
  if (offset >= sizeMax) throw new FsError(Errno.EFBIG, `inode ${inode.number} at ${offset}`);
  const end = Math.min(offset + length, sizeMax);
  if (fitsInline(fs, inode, end)) return inlineAnswer(offset, end, answer);
  moveOutOfLine(fs, inode);
  const { blockSize } = fs.superblock;
  const first = Math.floor(offset / blockSize) as FileBlock;
  if (end > inode.sizeBytes) fs.writer.staleTails.settle(fs, inode);
  findRun(fs, inode, first, run);
  answer.isNew = run.fsBlock === HOLE || run.unwritten;
  if (answer.isNew) retryAfterCommit(fs, () => mapNew(fs, inode, first, offset, end));
  else noteOverwrite(fs, inode, offset, Math.min(end, (first + run.count) * blockSize));
  const into = offset - first * blockSize;
  answer.type = IomapType.MAPPED;
  answer.offset = offset;
  answer.addr = run.fsBlock * blockSize + into;
  answer.length = run.count * blockSize - into;
  return answer;
}

function inlineAnswer(offset: number, end: number, answer: Iomap): Iomap {
  answer.type = IomapType.INLINE;
  answer.addr = -1;
  answer.offset = offset;
  answer.length = end - offset;
  answer.isNew = false;
  return answer;
}

/** Gives the hole or the unwritten blocks in `run` to the bytes from `offset` to `end`. */
function mapNew(fs: Filesystem, inode: Inode, first: FileBlock, offset: number, end: number): void {
  const { blockSize } = fs.superblock;
  findRun(fs, inode, first, run);
  const wanted = Math.min(run.count, Math.ceil(end / blockSize) - first);
  fs.writer.invalidateMappings(inode.number, first * blockSize, (first + wanted) * blockSize);
  let start = run.fsBlock;
  let count = wanted;
  fs.transact(MAP_CREDITS, (tx) => {
    if (offset > inode.sizeBytes) zeroTail(fs, inode);
    if (start === HOLE) {
      ({ start, count } = allocateRun(fs, tx, inode, first, wanted, false));
    } else {
      new ExtentEditor(fs, tx, inode).convert(first, count, false);
    }
    noteWritten(fs, tx, inode, Math.min(end, (first + count) * blockSize));
  });
  run.fsBlock = start;
  run.count = count;
}

function noteOverwrite(fs: Filesystem, inode: Inode, offset: number, end: number): void {
  if (end <= inode.sizeBytes) {
    fs.writer.times.noteWrite(inode, fs.writer.now());
    return;
  }
  fs.transact(SIZE_CREDITS, (tx) => {
    if (offset > inode.sizeBytes) zeroTail(fs, inode);
    noteWritten(fs, tx, inode, end);
  });
}

function noteWritten(fs: Filesystem, tx: Tx, inode: Inode, end: number): void {
  if (end > inode.sizeBytes) setFileSize(fs, tx, inode, end);
  touch(tx, inode);
}

/**
 * Zeroes what lies behind the end of the file in its last block, so that it does not show when the
 * file grows over it.
 */
export function zeroTail(fs: Filesystem, inode: Inode): void {
  if (inode.hasFlag(InodeFlags.INLINE_DATA)) return;
  const { blockSize } = fs.superblock;
  const { sizeBytes } = inode;
  zeroWritten(fs, inode, sizeBytes, Math.ceil(sizeBytes / blockSize) * blockSize);
}

/**
 * Zeroes the bytes from `from` up to `end` of the file where they are on the device and written. A
 * kernel that moves contents does so itself, through its page cache.
 */
export function zeroWritten(fs: Filesystem, inode: Inode, from: number, end: number): void {
  if (fs.writer.kernelData !== undefined) return;
  const { blockSize } = fs.superblock;
  const found = newRun();
  for (let at = from; at < end; ) {
    const block = Math.floor(at / blockSize) as FileBlock;
    findRun(fs, inode, block, found);
    const stop = Math.min(end, (block + found.count) * blockSize);
    if (found.fsBlock !== HOLE && !found.unwritten) {
      fs.writer.device.zero(found.fsBlock * blockSize + at - block * blockSize, stop - at);
    }
    at = stop;
  }
}

/**
 * Writes `bytes` at byte `offset` of the file.
 *
 * @returns bytes written: fewer than given only when there was no space or no room for more.
 * @throws FsError as `iomapForWrite` does, when nothing was written.
 */
export function writeFile(fs: Filesystem, inode: Inode, offset: number, bytes: Uint8Array): number {
  const written = writeBytes(fs, inode, offset, bytes);
  syncIfWanted(fs, inode);
  return written;
}

/** The same, whatever the flags of the file say about durability. */
export function writeBytes(
  fs: Filesystem,
  inode: Inode,
  offset: number,
  bytes: Uint8Array,
): number {
  const answer = newIomap();
  let done = 0;
  while (done < bytes.length) {
    try {
      iomapForWrite(fs, inode, offset + done, bytes.length - done, answer);
    } catch (error) {
      if (done > 0 && error instanceof FsError) return done;
      throw error;
    }
    const part = bytes.subarray(done, Math.min(bytes.length, done + answer.length));
    if (answer.type === IomapType.INLINE) writeInline(fs, inode, offset + done, part);
    else writeMapped(fs, answer, part);
    done += part.length;
  }
  return done;
}

/** Writes `part` where `answer` says, and zeros around it where nothing was before. */
function writeMapped(fs: Filesystem, { addr, isNew }: Iomap, part: Uint8Array): void {
  const device = contentsDevice(fs);
  const { blockSize } = fs.superblock;
  const end = addr + part.length;
  if (isNew) {
    const before = addr % blockSize;
    const behind = (blockSize - (end % blockSize)) % blockSize;
    if (before > 0) device.zero(addr - before, before);
    if (behind > 0) device.zero(end, behind);
  }
  device.write(addr, part);
}
