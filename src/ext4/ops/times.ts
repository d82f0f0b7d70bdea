/** What happens to the times of a file that is read, or that the shim has written by itself. */
import type { InodeNumber } from "../../base/numbers.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Timestamp } from "../format/inode.ts";

/** Says that `number` was read. Changes nothing on a filesystem that is open for reading only. */
export function noteAccess(fs: Filesystem, number: InodeNumber): void {
  if (fs.isWritable) fs.writer.times.noteAccess(fs.inode(number));
}

/** Whether that would change its access time. */
export function isAccessDue(fs: Filesystem, number: InodeNumber): boolean {
  return fs.isWritable && fs.writer.times.isAccessDue(fs.inode(number));
}

/** Says that data of `number` was written at `time`, without an operation of ours. */
export function noteWrite(fs: Filesystem, number: InodeNumber, time: Timestamp): void {
  fs.writer.times.noteWrite(fs.inode(number), time);
}

/** Makes times that only memory knows part of the next commit: those of one file, or all. */
export function storeTimes(fs: Filesystem, number?: InodeNumber): void {
  fs.writer.times.store(number);
}

/** The same for all, if the oldest of them waits for `ageSeconds` or longer. */
export function storeExpiredTimes(fs: Filesystem, ageSeconds: number): void {
  fs.writer.times.storeExpired(ageSeconds);
}
