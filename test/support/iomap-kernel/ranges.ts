/** Calls on ranges of a file: fallocate(2) and copy_file_range(2). */
import { Errno, Opcode } from "./abi.ts";
import { zeroRange } from "./buffered.ts";
import type { Inode } from "./inode.ts";
import { type Mount, refuse } from "./mount.ts";
import { dropPages } from "./pages.ts";
import { stripPrivileges, touch } from "./setattr.ts";
import { Body } from "./wire.ts";
import { writeBack } from "./writeback.ts";

/** `FALLOC_FL_*`. @see include/uapi/linux/falloc.h */
const KEEP_SIZE = 0x01;
const PUNCH_HOLE = 0x02;
const ZERO_RANGE = 0x10;
const PAGE_BYTES = 4096;
const COPY_OUT_BYTES = 8;

export function fallocate(
  mount: Mount,
  inode: Inode,
  mode: number,
  offset: number,
  length: number,
): void {
  if (offset < 0 || length <= 0) refuse(Errno.EINVAL);
  if ((mode & ~(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE)) !== 0) refuse(Errno.EOPNOTSUPP);
  if (inode.isIomap && BigInt(offset + length) > mount.superblock.maxBytes) refuse(Errno.EFBIG);
  const end = offset + length;
  const clears = (mode & (PUNCH_HOLE | ZERO_RANGE)) !== 0;
  const extendsTo = (mode & KEEP_SIZE) === 0 && end > inode.size ? end : 0;
  if (inode.isIomap) {
    if (clears) dropRange(mount, inode, offset, end);
    stripPrivileges(mount, inode);
  }
  const body = new Body().u64(0).u64(offset).u64(length).u32(mode).u32(0);
  const isAble = mount.askIfAble(Opcode.FALLOCATE, inode.node, body) !== undefined;
  if (!isAble) refuse(Errno.EOPNOTSUPP);
  if (!inode.isIomap) {
    inode.attributesAreValid = false;
    return;
  }
  inode.dropMappings(offset, end);
  if (clears) zeroEdges(mount, inode, offset, Math.min(end, inode.size));
  if (extendsTo > 0) {
    zeroRange(mount, inode, inode.size, extendsTo);
    writeBack(mount, inode);
    inode.size = extendsTo;
  }
  touch(mount, inode, "write");
}

/** Writes back and drops what the call will change, in whole pages. */
function dropRange(mount: Mount, inode: Inode, start: number, end: number): void {
  const unit = Math.max(PAGE_BYTES, inode.blockSize);
  const from = start - (start % unit);
  const to = Math.ceil(end / unit) * unit;
  writeBack(mount, inode, from, to);
  dropPages(inode, from, to);
}

/** The parts of blocks at the ends of [start, end), which the server leaves alone. */
function zeroEdges(mount: Mount, inode: Inode, start: number, end: number): void {
  const { blockSize } = inode;
  if (start >= end) return;
  const firstWhole = Math.ceil(start / blockSize) * blockSize;
  const lastWhole = end - (end % blockSize);
  if (firstWhole > lastWhole) zeroRange(mount, inode, start, end);
  else {
    if (start < firstWhole) zeroRange(mount, inode, start, firstWhole);
    if (lastWhole < end) zeroRange(mount, inode, lastWhole, end);
  }
  if (end === inode.size) writeBack(mount, inode, end - 1, end);
}

/** @returns bytes copied, fewer at the end of the source. */
export function copyRange(
  mount: Mount,
  from: Inode,
  fromOffset: number,
  to: Inode,
  toOffset: number,
  wanted: number,
): number {
  const length = Math.max(0, Math.min(wanted, from.size - fromOffset));
  const overlaps = fromOffset < toOffset + length && toOffset < fromOffset + length;
  if (from === to && overlaps) refuse(Errno.EINVAL);
  if (length === 0) return 0;
  if (from.isIomap) writeBack(mount, from, fromOffset, fromOffset + length);
  if (to.isIomap) {
    stripPrivileges(mount, to);
    dropRange(mount, to, toOffset, toOffset + length);
  }
  // copy_file_range_in: fh_in 0, off_in 8, nodeid_out 16, fh_out 24, off_out 32, len 40, flags 48.
  const body = new Body().u64(0).u64(fromOffset).u64(to.node).u64(0);
  body.u64(toOffset).u64(length).u64(0);
  const copied = askForCopy(mount, from, body);
  if (!to.isIomap) to.attributesAreValid = false;
  else {
    to.dropMappings(toOffset, toOffset + copied);
    to.size = Math.max(to.size, toOffset + copied);
    touch(mount, to, "write");
  }
  return copied;
}

/** By the call with a 64-bit answer, or the older one. */
function askForCopy(mount: Mount, from: Inode, body: Body): number {
  const wide = mount.askIfAble(Opcode.COPY_FILE_RANGE_64, from.node, body, COPY_OUT_BYTES);
  if (wide !== undefined) return wide.number(0);
  const narrow = mount.askIfAble(Opcode.COPY_FILE_RANGE, from.node, body, COPY_OUT_BYTES);
  return narrow === undefined ? refuse(Errno.EOPNOTSUPP) : narrow.u32(0);
}
