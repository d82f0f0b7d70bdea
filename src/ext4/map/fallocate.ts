/**
 * fallocate(2): promises blocks to a file, takes some out, or moves what lies behind.
 *
 *     allocate          holes become unwritten blocks
 *     PUNCH_HOLE        whole blocks become holes, what sticks out is zeroed
 *     ZERO_RANGE        whole blocks become unwritten ones, what sticks out is zeroed
 *     COLLAPSE_RANGE    the range goes, what lies behind moves into its place
 *     INSERT_RANGE      what lies behind moves away, a hole comes into its place
 *
 * Each takes as many handles as it needs. After a crash in the middle of the last two, as with the
 * kernel, what lies behind may have moved in part.
 *
 * @see fs/ext4/extents.c, ext4_fallocate; fs/ext4/inode.c, ext4_punch_hole
 */
import { Errno } from "../../base/errno.ts";
import type { FileBlock, InodeNumber } from "../../base/numbers.ts";
import { discardPreallocation } from "../alloc/blocks.ts";
import { retryAfterCommit } from "../alloc/retry.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { FILE_BLOCK_END } from "../format/extent.ts";
import { type Inode, InodeFlags } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { Budget, STEP_CREDITS } from "./budget.ts";
import { allocateRun, freeRuns, MAP_CREDITS } from "./change.ts";
import { ExtentEditor } from "./extent-editor.ts";
import { moveOutOfLine } from "./inline-editor.ts";
import { findRun } from "./iomap.ts";
import { finishKernelUse } from "./kernel-completion.ts";
import { HOLE, newRun, type Run } from "./run.ts";
import { maxFileSize, setFileSize, touch } from "./size.ts";
import { syncIfWanted } from "./synchronous.ts";
import { refuseUnwritable, zeroTail, zeroWritten } from "./write.ts";

/** What fallocate(2) takes as its mode. @see include/uapi/linux/falloc.h */
export const FallocateMode = {
  ALLOCATE: 0,
  KEEP_SIZE: 0x1,
  PUNCH_HOLE: 0x2,
  COLLAPSE_RANGE: 0x8,
  ZERO_RANGE: 0x10,
  INSERT_RANGE: 0x20,
} as const;

/** A byte range of a file, and the blocks that lie wholly within it. */
interface Range {
  readonly offset: number;
  readonly end: number;
  readonly first: FileBlock;
  /** The block behind the last one; not behind `first` when there is none. */
  readonly stop: number;
}

/**
 * Does to the `length` bytes of file `number` from `offset` on what `mode` says.
 *
 * @param mode one of `FallocateMode`; ALLOCATE and ZERO_RANGE may have KEEP_SIZE, PUNCH_HOLE must.
 * @throws FsError EOPNOTSUPP for other modes, and for all but PUNCH_HOLE on a file without extents;
 *   EINVAL for a range that the mode does not allow; EFBIG; ENOSPC, when what was allocated until
 *   then stays; EISDIR, ENOKEY, EPERM.
 */
export function fallocate(
  fs: Filesystem,
  number: InodeNumber,
  mode: number,
  offset: number,
  length: number,
): void {
  const inode = fs.inode(number);
  if (offset < 0 || length <= 0) throw new FsError(Errno.EINVAL, `${length} bytes at ${offset}`);
  const perform = OPERATIONS.get(mode);
  if (perform === undefined) throw new FsError(Errno.EOPNOTSUPP, `fallocate mode ${mode}`);
  refuseUnwritable(inode);
  if (offset + length > maxFileSize(fs, inode)) {
    throw new FsError(Errno.EFBIG, `inode ${number} cannot have ${offset + length} bytes`);
  }
  finishKernelUse(fs, number);
  moveOutOfLine(fs, inode);
  perform(fs, inode, offset, length);
  syncIfWanted(fs, inode);
}

type Perform = (fs: Filesystem, inode: Inode, offset: number, length: number) => void;

const { KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE } = FallocateMode;
const OPERATIONS: ReadonlyMap<number, Perform> = new Map<number, Perform>([
  [FallocateMode.ALLOCATE, (fs, inode, offset, length) => promise(fs, inode, offset, length, true)],
  [KEEP_SIZE, (fs, inode, offset, length) => promise(fs, inode, offset, length, false)],
  [PUNCH_HOLE | KEEP_SIZE, punchHole],
  [COLLAPSE_RANGE, collapseRange],
  [ZERO_RANGE, (fs, inode, offset, length) => zeroRange(fs, inode, offset, length, true)],
  [
    ZERO_RANGE | KEEP_SIZE,
    (fs, inode, offset, length) => zeroRange(fs, inode, offset, length, false),
  ],
  [INSERT_RANGE, insertRange],
]);

function promise(
  fs: Filesystem,
  inode: Inode,
  offset: number,
  length: number,
  canGrow: boolean,
): void {
  refuseWithoutExtents(inode);
  allocateUnwritten(fs, inode, offset, offset + length, canGrow);
}

/**
 * Allocates blocks for the holes between `offset` and `end`; the size follows if it may. A kernel that moves
 * contents takes a call that fails for one that has not changed the size: then it is set at last.
 */
function allocateUnwritten(
  fs: Filesystem,
  inode: Inode,
  offset: number,
  end: number,
  canGrow: boolean,
): void {
  const { blockSize } = fs.superblock;
  if (canGrow && end > inode.sizeBytes) fs.writer.staleTails.settle(fs, inode);
  const stop = Math.ceil(end / blockSize);
  let block = Math.floor(offset / blockSize) as FileBlock;
  while (block < stop) {
    const next = retryAfterCommit(fs, () =>
      fs.transact(MAP_CREDITS, (tx) => {
        const promised = block + promiseRun(fs, tx, inode, block, stop - block);
        const covered = Math.min(end, promised * blockSize);
        const growsNow = canGrow && (promised >= stop || fs.writer.kernelData === undefined);
        if (growsNow && covered > inode.sizeBytes) {
          zeroTail(fs, inode);
          setFileSize(fs, tx, inode, covered);
        }
        touch(tx, inode);
        return promised;
      }),
    );
    block = next as FileBlock;
  }
}

/** @returns how many file blocks from `block` on have blocks now. */
function promiseRun(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  block: FileBlock,
  wanted: number,
): number {
  const run = findRun(fs, inode, block, newRun());
  if (run.fsBlock !== HOLE) return run.count;
  return allocateRun(fs, tx, inode, block, Math.min(run.count, wanted), true).count;
}

function punchHole(fs: Filesystem, inode: Inode, offset: number, length: number): void {
  if (offset >= inode.sizeBytes) {
    fs.transact(STEP_CREDITS, (tx) => touch(tx, inode));
    return;
  }
  const { blockSize } = fs.superblock;
  // Nothing behind the block in which the file ends: what is promised there stays.
  const sizeInBlocks = Math.ceil(inode.sizeBytes / blockSize) * blockSize;
  const range = rangeOf(fs, offset, Math.min(offset + length, sizeInBlocks));
  fs.writer.invalidateMappings(inode.number, range.offset, range.end);
  zeroEdges(fs, inode, range);
  let at = Math.max(range.first, range.stop);
  do {
    retryAfterCommit(fs, () =>
      fs.transact(STEP_CREDITS, (tx) => {
        at = freeRuns(fs, tx, inode, range.first, at, new Budget(fs));
        touch(tx, inode);
      }),
    );
  } while (at > range.first);
}

function zeroRange(
  fs: Filesystem,
  inode: Inode,
  offset: number,
  length: number,
  canGrow: boolean,
): void {
  refuseWithoutExtents(inode);
  const range = rangeOf(fs, offset, offset + length);
  allocateUnwritten(fs, inode, offset, range.end, canGrow);
  fs.writer.invalidateMappings(inode.number, range.offset, range.end);
  zeroEdges(fs, inode, range);
  const run = newRun();
  for (let block = range.first as number; block < range.stop; block += run.count) {
    findRun(fs, inode, block as FileBlock, run);
    run.count = Math.min(run.count, range.stop - block);
    if (run.fsBlock !== HOLE && !run.unwritten) {
      retryAfterCommit(fs, () => makeUnwritten(fs, inode, block as FileBlock, run));
    }
  }
}

function makeUnwritten(fs: Filesystem, inode: Inode, block: FileBlock, { count }: Run): void {
  fs.transact(MAP_CREDITS, (tx) => {
    fs.writer.kernelData?.forgetUnconverted(tx, inode.number, block, block + count);
    new ExtentEditor(fs, tx, inode).convert(block, count, true);
  });
}

function collapseRange(fs: Filesystem, inode: Inode, offset: number, length: number): void {
  refuseWithoutExtents(inode);
  refuseUnaligned(fs, offset, length);
  if (offset + length >= inode.sizeBytes) {
    throw new FsError(Errno.EINVAL, "the range reaches the end of the file");
  }
  const { first, stop } = rangeOf(fs, offset, offset + length);
  const distance = stop - first;
  let freedFrom: number = stop;
  let movedTo: number = stop;
  inSteps(fs, inode, offset, (tx, budget) => {
    if (freedFrom > first) freedFrom = freeRuns(fs, tx, inode, first, freedFrom, budget);
    if (freedFrom > first || budget.isUsedUp) return false;
    const editor = new ExtentEditor(fs, tx, inode);
    movedTo = editor.moveDown(movedTo as FileBlock, distance, budget);
    if (movedTo < FILE_BLOCK_END) return false;
    editor.joinAt(first);
    setFileSize(fs, tx, inode, inode.sizeBytes - length);
    return true;
  });
}

function insertRange(fs: Filesystem, inode: Inode, offset: number, length: number): void {
  refuseWithoutExtents(inode);
  refuseUnaligned(fs, offset, length);
  if (length > maxFileSize(fs, inode) - inode.sizeBytes) {
    throw new FsError(Errno.EFBIG, `inode ${inode.number} would have too many bytes`);
  }
  if (offset >= inode.sizeBytes) {
    throw new FsError(Errno.EINVAL, "the range lies behind the end of the file");
  }
  const { first, stop } = rangeOf(fs, offset, offset + length);
  refuseLast(fs, inode, stop - first);
  let movedFrom: number = FILE_BLOCK_END;
  let isSplit = false;
  inSteps(fs, inode, offset, (tx, budget) => {
    const editor = new ExtentEditor(fs, tx, inode);
    if (!isSplit) {
      setFileSize(fs, tx, inode, inode.sizeBytes + length);
      editor.split(first);
    }
    movedFrom = editor.moveUp(first, movedFrom, stop - first, budget);
    isSplit = true;
    return movedFrom <= first;
  });
}

/** Runs `step` in handles of their own until it says that it is done. */
function inSteps(
  fs: Filesystem,
  inode: Inode,
  offset: number,
  step: (tx: Tx, budget: Budget) => boolean,
): void {
  fs.writer.invalidateMappings(inode.number, offset, Number.MAX_SAFE_INTEGER);
  discardPreallocation(fs, inode.number);
  let isDone = false;
  while (!isDone) {
    isDone = retryAfterCommit(fs, () =>
      fs.transact(STEP_CREDITS, (tx) => {
        touch(tx, inode);
        return step(tx, new Budget(fs));
      }),
    );
  }
}

/** @throws FsError EINVAL when the last extent would move to where none can be. */
function refuseLast(fs: Filesystem, inode: Inode, distance: number): void {
  const last = findRun(fs, inode, (FILE_BLOCK_END - distance) as FileBlock, newRun());
  if (last.fsBlock === HOLE && FILE_BLOCK_END - distance + last.count >= FILE_BLOCK_END) return;
  throw new FsError(Errno.EINVAL, "blocks behind the end of the file cannot move as far");
}

function refuseWithoutExtents(inode: Inode): void {
  if (inode.hasFlag(InodeFlags.EXTENTS)) return;
  throw new FsError(Errno.EOPNOTSUPP, `inode ${inode.number} has no extents`);
}

/** Whole clusters only: a file block and its block keep their places in their clusters. */
function refuseUnaligned(fs: Filesystem, offset: number, length: number): void {
  const clusterBytes = fs.superblock.blockSize * fs.superblock.clusterBlocks;
  if (offset % clusterBytes === 0 && length % clusterBytes === 0) return;
  throw new FsError(Errno.EINVAL, `not in units of ${clusterBytes} bytes`);
}

function rangeOf(fs: Filesystem, offset: number, end: number): Range {
  const { blockSize } = fs.superblock;
  const first = Math.ceil(offset / blockSize) as FileBlock;
  return { offset, end, first, stop: Math.floor(end / blockSize) };
}

/** Zeroes what the range has of blocks that stick out of it. */
function zeroEdges(fs: Filesystem, inode: Inode, { offset, end, first, stop }: Range): void {
  const { blockSize } = fs.superblock;
  if (first > stop) {
    zeroWritten(fs, inode, offset, end);
    return;
  }
  zeroWritten(fs, inode, offset, first * blockSize);
  zeroWritten(fs, inode, stop * blockSize, end);
}
