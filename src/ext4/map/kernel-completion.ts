/**
 * Takes in what a kernel that moves file contents by itself (kernel-data.ts) says it has done, and gives back
 * what it had no use for.
 */
import { Errno } from "../../base/errno.ts";
import type { FileBlock, InodeNumber } from "../../base/numbers.ts";
import { retryAfterCommit } from "../alloc/retry.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Inode } from "../format/inode.ts";
import { ORPHAN_CREDITS } from "../orphans.ts";
import { freeInSteps, MAP_CREDITS } from "./change.ts";
import { ExtentEditor } from "./extent-editor.ts";
import { findRun } from "./iomap.ts";
import { type BlockRange, knownEnd } from "./kernel-data.ts";
import { endsOverlong, forgetOverlong } from "./overlong.ts";
import { HOLE, newRun } from "./run.ts";
import { maxFileSize, setFileSize } from "./size.ts";
import { refuseUnwritable, SIZE_CREDITS } from "./write.ts";

const run = newRun();

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
  overlong.set(number, { end: keep as FileBlock, bytes: knownEnd(fs, inode) });
  if (!endsOverlong(fs, inode, inode.sizeBytes)) return;
  fs.transact(ORPHAN_CREDITS, (tx) => forgetOverlong(fs, tx, inode));
}
