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
 *
 * Here is what is kept in mind for that; kernel-iomap.ts answers the kernel's questions, and
 * kernel-completion.ts takes in what it says.
 */
import type { WritableDevice } from "../../base/block-device.ts";
import type { FileBlock, InodeNumber } from "../../base/numbers.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Inode } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";

/** File blocks from `from` up to `end`. */
export interface BlockRange {
  readonly from: number;
  readonly end: number;
}

/** A file has blocks up to `end`, for bytes up to `bytes`. */
export interface Overlong {
  readonly end: FileBlock;
  readonly bytes: number;
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
  /** Files with a block map that have blocks behind their ends on the device (overlong.ts). */
  readonly overlong = new Map<InodeNumber, Overlong>();

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

/** Where `inode` ends as far as we or the kernel know. */
export function knownEnd(fs: Filesystem, inode: Inode): number {
  if (!fs.isWritable) return inode.sizeBytes;
  return Math.max(inode.sizeBytes, fs.writer.kernelData?.ends.get(inode.number)?.bytes ?? 0);
}

/** Whether a crash now would take back some of what was done to `inode`, times aside. */
export function isUncommitted(fs: Filesystem, inode: Inode): boolean {
  if (!fs.isWritable) return false;
  const { transactions, kernelData } = fs.writer;
  const isToldOnly = kernelData?.ends.has(inode.number) === true;
  const isUnsaid = kernelData?.unconverted.has(inode.number) === true;
  return inode.changedIn >= transactions.runningId || isToldOnly || isUnsaid;
}
