/**
 * File contents that a kernel moves by itself: one with fuse+iomap asks where they lie, reads and
 * writes the device, and says afterwards what it did. The mappings are those of `iomapForRead` and
 * `iomapForWrite`; what differs is when things happen:
 *
 *     before a write    holes become unwritten blocks: a crash shows zeros where nothing was written
 *     after it          they become written, and the file grows to where the bytes end
 *     buffered writes   make the file longer in the kernel long before they reach the device; we are
 *                       told, and keep that in mind (`ends`) until the bytes are there, or somebody
 *                       wants the file as it is
 *
 * The kernel also fills partial blocks with zeros, and keeps the times. A file that grows gets more
 * than it asked for, so that it need not ask each time (`reserves`); what it did not use goes back
 * when nobody writes to it any more.
 */
import type { WritableDevice } from "../../base/block-device.ts";
import { Errno } from "../../base/errno.ts";
import type { FileBlock, InodeNumber } from "../../base/numbers.ts";
import type { BlockRun } from "../alloc/blocks.ts";
import { retryAfterCommit } from "../alloc/retry.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { extentLengthMax } from "../format/extent.ts";
import { type Inode, InodeFlags } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { ORPHAN_CREDITS } from "../orphans.ts";
import { allocateRun, freeInSteps, MAP_CREDITS } from "./change.ts";
import { contentsDevice } from "./contents-device.ts";
import { ExtentEditor } from "./extent-editor.ts";
import { moveOutOfLine } from "./inline-editor.ts";
import { answerRun, findRun, type Iomap, IomapType } from "./iomap.ts";
import { HOLE, newRun, type Run } from "./run.ts";
import { maxFileSize, setFileSize } from "./size.ts";
import { refuseUnwritable, SIZE_CREDITS } from "./write.ts";

/** The least and the most that a growing file gets besides what it asks for. */
const RESERVE_BYTES_MIN = 64 * 1024;
const RESERVE_BYTES_MAX = 128 * 1024 * 1024;
/** No file gets more than this share of what is free, and none anything of the last that is. */
const RESERVE_SHARE = 16;
/** All files together have so many such shares at the most. */
const RESERVES_SHARE = 4;
const FREE_BYTES_MIN = 16 * 1024 * 1024;

/** File blocks from `from` up to `end`. */
interface BlockRange {
  readonly from: number;
  readonly end: number;
}

/** The kernel has said so since `sinceSeconds`, or for longer. */
interface ToldEnd {
  readonly bytes: number;
  readonly sinceSeconds: number;
}

/** What a filesystem knows whose contents a kernel moves. */
export class KernelData {
  /**
   * Where contents are read and written when that is ours to do all the same: past the cache of the
   * device, which what the kernel writes does not go through.
   */
  readonly device: WritableDevice;
  /** Where files end that are longer in the kernel than on the device. */
  readonly ends = new Map<InodeNumber, ToldEnd>();
  /** Blocks that files were given behind their ends, as far as we did that by ourselves. */
  readonly reserves = new Map<InodeNumber, readonly BlockRange[]>();
  /**
   * Files with a block map that have blocks behind their ends on the device, with the end of the last.
   * No block of theirs can be unwritten, so nobody takes that for what fallocate(2) promised: they are
   * orphans until they end there, and the next mount after a crash cuts them.
   */
  readonly overlong = new Map<InodeNumber, FileBlock>();

  /**
   * Blocks that hold their bytes and are unwritten all the same: to say so takes a node of the extent
   * tree, and the device is full. There is less to say once their neighbours are written, too.
   */
  readonly unconverted = new Map<InodeNumber, readonly BlockRange[]>();

  constructor(device: WritableDevice) {
    this.device = device;
  }

  /** File blocks from `from` up to `end` are freed, or unwritten on purpose, in the handle `tx`. */
  forgetUnconverted(tx: Tx, number: InodeNumber, from: number, end: number): void {
    const ranges = this.unconverted.get(number);
    if (ranges === undefined) return;
    tx.onRollback(() => this.unconverted.set(number, ranges));
    const left = ranges.flatMap((range) => [
      { from: range.from, end: Math.min(range.end, from) },
      { from: Math.max(range.from, end), end: range.end },
    ]);
    this.unconverted.set(
      number,
      left.filter((range) => range.from < range.end),
    );
  }

  /** File `number` is gone, with all that it had. */
  forget(number: InodeNumber): void {
    this.ends.delete(number);
    this.reserves.delete(number);
    this.overlong.delete(number);
    this.unconverted.delete(number);
  }
}

const run = newRun();

/**
 * Whether contents lie on the device as mappings say: not where an unclean journal is laid over it.
 */
export function canLeaveData(fs: Filesystem): boolean {
  return fs.overlay === undefined && fs.recovered === undefined;
}

/** From now on a kernel moves the contents of `fs`, which may be changed. */
export function leaveDataToKernel(fs: Filesystem, device: WritableDevice): void {
  fs.writer.kernelData = new KernelData(device);
}

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
 * @returns `answer`: MAPPED or UNWRITTEN.
 * @throws FsError ENOSPC, EFBIG; EISDIR, EINVAL, ENOKEY, EPERM from `refuseUnwritable`.
 */
export function iomapForKernelWrite(
  fs: Filesystem,
  inode: Inode,
  offset: number,
  length: number,
  answer: Iomap,
): Iomap {
  refuseUnwritable(inode);
  moveOutOfLine(fs, inode);
  iomapForKernel(fs, inode, offset, length, answer);
  if (answer.type !== IomapType.HOLE) return answer;
  const first = Math.floor(offset / fs.superblock.blockSize) as FileBlock;
  const end = Math.min(offset + length, maxFileSize(fs, inode));
  retryAfterCommit(fs, () => fillHole(fs, inode, first, end));
  return iomapForKernel(fs, inode, offset, length, answer);
}

/**
 * Gives blocks to the hole at `first`, as far as the bytes up to `end` reach and the blocks are in a
 * row: all that one extent can be, so that nobody has to ask twice about it.
 *
 * @throws FsError ENOSPC when there is not even one.
 */
function fillHole(fs: Filesystem, inode: Inode, first: FileBlock, end: number): void {
  const hasExtents = inode.hasFlag(InodeFlags.EXTENTS);
  findRun(fs, inode, first, run);
  const wanted = Math.ceil(end / fs.superblock.blockSize) - first;
  const extra = hasExtents ? reserveFor(fs, inode, end) : 0;
  const most = Math.min(run.count, wanted + extra, extentLengthMax(hasExtents));
  for (let done = 0; done < most; ) {
    const block = (first + done) as FileBlock;
    const taken = takeUnlessFull(done > 0, () =>
      fs.transact(MAP_CREDITS + ORPHAN_CREDITS, (tx) =>
        promise(fs, tx, inode, block, most - done, done > 0),
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

/** Allocates blocks for the hole at `first`: as many of `most` as there are in one piece. */
function promise(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  first: FileBlock,
  most: number,
  exact: boolean,
): BlockRun {
  const { blockSize } = fs.superblock;
  const hasExtents = inode.hasFlag(InodeFlags.EXTENTS);
  const taken = allocateRun(fs, tx, inode, first, most, hasExtents, exact);
  const end = first + taken.count;
  if (!hasExtents) {
    contentsDevice(fs).zero(taken.start * blockSize, taken.count * blockSize);
    noteOverlong(fs, tx, inode, end as FileBlock);
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

/** `inode`, which has a block map, has blocks up to `end` now. */
function noteOverlong(fs: Filesystem, tx: Tx, inode: Inode, end: FileBlock): void {
  const { kernelData, orphans } = fs.writer;
  const before = kernelData?.overlong.get(inode.number);
  if (kernelData === undefined || end * fs.superblock.blockSize <= inode.sizeBytes) return;
  if (before !== undefined && before >= end) return;
  kernelData.overlong.set(inode.number, end);
  tx.onRollback(() => {
    if (before === undefined) kernelData.overlong.delete(inode.number);
    else kernelData.overlong.set(inode.number, before);
  });
  orphans.add(tx, inode);
}

/** Whether `inode` was overlong and is so no longer with `sizeBytes` bytes. */
function endsOverlong(fs: Filesystem, inode: Inode, sizeBytes: number): boolean {
  const end = fs.writer.kernelData?.overlong.get(inode.number);
  return end !== undefined && Math.ceil(sizeBytes / fs.superblock.blockSize) >= end;
}

/** `inode` ends behind its last block again. One without a name stays an orphan. */
function forgetOverlong(fs: Filesystem, tx: Tx, inode: Inode): void {
  const { kernelData, orphans } = fs.writer;
  const end = kernelData?.overlong.get(inode.number);
  if (kernelData === undefined || end === undefined) return;
  kernelData.overlong.delete(inode.number);
  tx.onRollback(() => kernelData.overlong.set(inode.number, end));
  if (inode.linkCount > 0) orphans.remove(tx, inode);
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

/** Where `inode` ends as far as we or the kernel know. */
export function knownEnd(fs: Filesystem, inode: Inode): number {
  if (!fs.isWritable) return inode.sizeBytes;
  return Math.max(inode.sizeBytes, fs.writer.kernelData?.ends.get(inode.number)?.bytes ?? 0);
}

/**
 * Frees what `number` was given behind its end and has not used. The kernel must not write to it now.
 *
 * @throws FsError EIO.
 */
export function giveReserveBack(fs: Filesystem, number: InodeNumber): void {
  const reserves = fs.writer.kernelData?.reserves;
  const ranges = reserves?.get(number);
  if (reserves === undefined || ranges === undefined) return;
  const inode = fs.inode(number);
  const keep = Math.ceil(knownEnd(fs, inode) / fs.superblock.blockSize);
  const { blockSize } = fs.superblock;
  for (const range of [...ranges].reverse()) {
    const from = Math.max(range.from, keep);
    if (from >= range.end) continue;
    fs.writer.invalidateMappings(number, from * blockSize, range.end * blockSize);
    freeInSteps(fs, inode, from as FileBlock, range.end, 0, () => {});
  }
  reserves.delete(number);
  const overlong = fs.writer.kernelData?.overlong;
  if (overlong?.has(number) !== true) return;
  overlong.set(number, keep as FileBlock);
  if (!endsOverlong(fs, inode, inode.sizeBytes)) return;
  fs.transact(ORPHAN_CREDITS, (tx) => forgetOverlong(fs, tx, inode));
}

/**
 * The kernel has written to file `number`, and its bytes are on the device, if maybe in a cache of it.
 *
 * @param converts blocks among them were unwritten.
 * @returns the size of the file.
 * @throws FsError EINVAL when none of them has a place; EFBIG; EIO.
 */
export function finishKernelWrite(
  fs: Filesystem,
  number: InodeNumber,
  offset: number,
  length: number,
  converts: boolean,
): number {
  const inode = fs.inode(number);
  refuseUnwritable(inode);
  const { blockSize } = fs.superblock;
  const end = offset + length;
  if (end > maxFileSize(fs, inode)) {
    throw new FsError(Errno.EFBIG, `inode ${number} cannot have ${end} bytes`);
  }
  const from = Math.floor(offset / blockSize);
  const stop = Math.ceil(end / blockSize);
  let isMapped = false;
  for (let block = from; block < stop && !isMapped; block += run.count) {
    findRun(fs, inode, block as FileBlock, run);
    isMapped = run.fsBlock !== HOLE;
  }
  if (!isMapped) {
    throw new FsError(Errno.EINVAL, `inode ${number} has nothing at ${offset} up to ${end}`);
  }
  if (converts) noteWritten(fs, inode, { from, end: stop });
  growTo(fs, inode, end);
  const { kernelData } = fs.writer;
  if ((kernelData?.ends.get(number)?.bytes ?? 0) <= end) kernelData?.ends.delete(number);
  return inode.sizeBytes;
}

/** The blocks of `range` hold their bytes now. */
function noteWritten(fs: Filesystem, inode: Inode, range: BlockRange): void {
  const { unconverted } = fs.writer.kernelData ?? {};
  const waiting = withRange(unconverted?.get(inode.number) ?? [], range);
  unconverted?.delete(inode.number);
  const left = waiting.filter(({ from, end }) => !convertRange(fs, inode, from, end));
  const runs = left.flatMap(({ from, end }) => unwrittenRuns(fs, inode, from, end));
  if (runs.length > 0) unconverted?.set(inode.number, runs);
}

/** What is unwritten between `from` and `end`. */
function unwrittenRuns(fs: Filesystem, inode: Inode, from: number, end: number): BlockRange[] {
  const found: BlockRange[] = [];
  for (let block = from; block < end; block += run.count) {
    findRun(fs, inode, block as FileBlock, run);
    const stop = Math.min(block + run.count, end);
    if (run.unwritten) found.push({ from: block, end: stop });
  }
  return found;
}

/** `ranges`, which are in order and apart from each other, with `added`. */
function withRange(ranges: readonly BlockRange[], added: BlockRange): BlockRange[] {
  const apart = ranges.filter(({ from, end }) => end < added.from || from > added.end);
  const joined = ranges.filter((range) => !apart.includes(range));
  const from = Math.min(added.from, ...joined.map((range) => range.from));
  const end = Math.max(added.end, ...joined.map((range) => range.end));
  return [...apart, { from, end }].sort((a, b) => a.from - b.from);
}

/** Makes what is unwritten in the range written. @returns false when there was no space for that. */
function convertRange(fs: Filesystem, inode: Inode, from: number, end: number): boolean {
  try {
    retryAfterCommit(fs, () => {
      for (let block = from; block < end; block += run.count) {
        findRun(fs, inode, block as FileBlock, run);
        run.count = Math.min(run.count, end - block);
        if (run.unwritten) convert(fs, inode, block as FileBlock, run.count);
      }
    });
    return true;
  } catch (error) {
    if (error instanceof FsError && error.errno === Errno.ENOSPC) return false;
    throw error;
  }
}

function convert(fs: Filesystem, inode: Inode, block: FileBlock, count: number): void {
  fs.transact(MAP_CREDITS, (tx) => {
    new ExtentEditor(fs, tx, inode).convert(block, count, false);
  });
}

/** Converts what could not be converted before, as far as there is space by now. */
function convertRest(fs: Filesystem, number: InodeNumber): void {
  const [first] = fs.writer.kernelData?.unconverted.get(number) ?? [];
  if (first !== undefined) noteWritten(fs, fs.inode(number), first);
}

/**
 * @throws FsError ENOSPC when bytes of file `number`, or of any, would not survive a crash, since there
 *   is no space to say which blocks hold them.
 */
export function refuseUnconverted(fs: Filesystem, number?: InodeNumber): void {
  for (const [each, ranges] of fs.writer.kernelData?.unconverted ?? []) {
    if (ranges.length === 0 || (number !== undefined && each !== number)) continue;
    throw new FsError(Errno.ENOSPC, `no space for the map of inode ${each}`);
  }
}

function growTo(fs: Filesystem, inode: Inode, end: number): void {
  if (end <= inode.sizeBytes) return;
  fs.transact(SIZE_CREDITS + ORPHAN_CREDITS, (tx) => {
    setFileSize(fs, tx, inode, end);
    if (endsOverlong(fs, inode, end)) forgetOverlong(fs, tx, inode);
  });
}

/**
 * The kernel has bytes up to `end` of file `number` in its page cache, which may make it longer.
 *
 * @throws FsError EFBIG; EISDIR, EINVAL, ENOKEY, EPERM.
 */
export function noteKernelEnd(fs: Filesystem, number: InodeNumber, end: number): void {
  const inode = fs.inode(number);
  refuseUnwritable(inode);
  if (end > maxFileSize(fs, inode)) {
    throw new FsError(Errno.EFBIG, `inode ${number} cannot have ${end} bytes`);
  }
  const { kernelData } = fs.writer;
  if (kernelData === undefined || end <= knownEnd(fs, inode)) return;
  const sinceSeconds = kernelData.ends.get(number)?.sinceSeconds ?? fs.writer.now().seconds;
  kernelData.ends.set(number, { bytes: end, sinceSeconds });
}

/**
 * Lets file `number` be as long as the kernel has said: somebody wants it as it is. Where its bytes
 * have not reached the device, it reads as zeros after a crash.
 *
 * @throws FsError EIO.
 */
export function settleKernelEnd(fs: Filesystem, number: InodeNumber): void {
  const { kernelData } = fs.writer;
  convertRest(fs, number);
  const end = kernelData?.ends.get(number);
  if (end === undefined) return;
  growTo(fs, fs.inode(number), end.bytes);
  kernelData?.ends.delete(number);
}

/**
 * The same for all files of which it was said at least `ageSeconds` ago: their bytes are on the device
 * by now, and there are kernels that do not say when.
 */
export function settleKernelEnds(fs: Filesystem, ageSeconds = 0): void {
  if (ageSeconds === 0) {
    for (const number of [...(fs.writer.kernelData?.unconverted.keys() ?? [])]) {
      settleKernelEnd(fs, number);
    }
  }
  const until = fs.writer.now().seconds - ageSeconds;
  for (const [number, { sinceSeconds }] of [...(fs.writer.kernelData?.ends ?? [])]) {
    if (ageSeconds === 0 || sinceSeconds <= until) settleKernelEnd(fs, number);
  }
}

/** Nobody uses file `number` any more: lets it be as long as it is, and frees what it did not use. */
export function finishKernelUse(fs: Filesystem, number: InodeNumber): void {
  settleKernelEnd(fs, number);
  giveReserveBack(fs, number);
}

/**
 * The same for all files, also when something prevents it for one of them.
 *
 * @throws what the first of them met.
 */
export function finishKernelUses(fs: Filesystem): void {
  const { ends, reserves, unconverted } = fs.writer.kernelData ?? {};
  const failures: unknown[] = [];
  for (const number of new Set([...keysOf(unconverted), ...keysOf(ends), ...keysOf(reserves)])) {
    try {
      finishKernelUse(fs, number);
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}

const keysOf = (map: ReadonlyMap<InodeNumber, unknown> | undefined): InodeNumber[] => [
  ...(map?.keys() ?? []),
];

/** Whether a crash now would take back some of what was done to `inode`, times aside. */
export function isUncommitted(fs: Filesystem, inode: Inode): boolean {
  if (!fs.isWritable) return false;
  const { transactions, kernelData } = fs.writer;
  const isToldOnly = kernelData?.ends.has(inode.number) === true;
  const isUnsaid = kernelData?.unconverted.has(inode.number) === true;
  return inode.changedIn >= transactions.runningId || isToldOnly || isUnsaid;
}
