/** Reads and writes past the page cache (O_DIRECT), untorn ones (RWF_ATOMIC) among them. */
import { Errno, IoendFlag, MapFlag, MapType, NULL_ADDR, OpFlag } from "./abi.ts";
import { readBuffered, writeBuffered, zeroRange } from "./buffered.ts";
import { fsync } from "./fsync.ts";
import type { Inode } from "./inode.ts";
import { complete } from "./ioend.ts";
import { iterate, type Target } from "./iomap.ts";
import { isErrno } from "./mapping.ts";
import { type Mount, refuse } from "./mount.ts";
import { dropPages } from "./pages.ts";
import { SystemError } from "./rules.ts";
import { stripPrivileges, touch } from "./setattr.ts";
import { writeBack } from "./writeback.ts";

const SECTOR_BYTES = 512;

export interface DirectOptions {
  /** The server has asked for it in its reply to OPEN: there is no other way. */
  readonly isForced?: boolean;
  readonly isAtomic?: boolean;
  /** As with O_DSYNC: what was written survives a crash. */
  readonly isDataSync?: boolean;
}

const isAligned = (...numbers: readonly number[]): boolean =>
  numbers.every((each) => each % SECTOR_BYTES === 0);

export function readDirect(
  mount: Mount,
  inode: Inode,
  pos: number,
  length: number,
  { isForced = false }: DirectOptions = {},
): Uint8Array {
  if (!isAligned(pos, length)) refuse(Errno.EINVAL, "unaligned direct read");
  if (pos >= inode.size) return new Uint8Array(0);
  writeBack(mount, inode, pos, pos + length);
  const bytes = new Uint8Array(Math.min(length, inode.size - pos));
  try {
    iterate(mount, inode, OpFlag.DIRECT, pos, length, (target, at, count) => {
      const wanted = Math.min(count, inode.size - at);
      if (wanted > 0) bytes.set(read(mount, inode, target, at, wanted), at - pos);
      return count;
    });
  } catch (error) {
    if (!isErrno(error, Errno.ENOSYS, Errno.ENOTBLK)) throw error;
    if (isForced) refuse(Errno.EIO, "the server refuses direct I/O, and everything else");
    return readBuffered(mount, inode, pos, length);
  }
  touch(mount, inode, "read");
  return bytes;
}

function read(mount: Mount, inode: Inode, target: Target, pos: number, length: number): Uint8Array {
  const { mapping, inline } = target;
  const from = pos - mapping.offset;
  if (inline !== undefined) return inline.slice(from, from + length);
  const bytes = new Uint8Array(Math.ceil(length / SECTOR_BYTES) * SECTOR_BYTES);
  if (mapping.type === MapType.DELALLOC) refusePromise(mount, inode, pos);
  if (mapping.type === MapType.MAPPED) mount.devices.read(mapping.addr + from, bytes);
  return bytes.subarray(0, length);
}

function refusePromise(mount: Mount, inode: Inode, pos: number): never {
  return mount.violations.fail("direct-delalloc", `node ${inode.node} at ${pos}`, Errno.EIO);
}

export function writeDirect(
  mount: Mount,
  inode: Inode,
  pos: number,
  bytes: Uint8Array,
  options: DirectOptions = {},
): number {
  const { length } = bytes;
  if (!isAligned(pos, length)) refuse(Errno.EINVAL, "unaligned direct write");
  const isBlock = length === inode.blockSize && pos % inode.blockSize === 0;
  if (options.isAtomic === true) {
    if (!inode.isAtomic) refuse(Errno.EOPNOTSUPP);
    if (!isBlock) refuse(Errno.EINVAL, "an untorn write is one block");
  }
  if (BigInt(pos + length) > mount.superblock.maxBytes) refuse(Errno.EFBIG);
  if (pos > inode.size) zeroRange(mount, inode, inode.size, pos);
  stripPrivileges(mount, inode);
  touch(mount, inode, "write");
  dropAround(mount, inode, pos, pos + length);
  try {
    return write(mount, inode, pos, bytes, options);
  } catch (error) {
    if (!isErrno(error, Errno.ENOSYS, Errno.ENOTBLK)) throw error;
    if (options.isForced === true) refuse(Errno.EIO, "the server refuses direct I/O");
    const done = writeBuffered(mount, inode, pos, bytes);
    dropAround(mount, inode, pos, pos + done);
    if (options.isDataSync === true) fsync(mount, inode, true);
    return done;
  }
}

function dropAround(mount: Mount, inode: Inode, start: number, end: number): void {
  const { blockSize } = inode;
  writeBack(mount, inode, start, end);
  dropPages(inode, start - (start % blockSize), Math.ceil(end / blockSize) * blockSize);
}

function write(
  mount: Mount,
  inode: Inode,
  pos: number,
  bytes: Uint8Array,
  { isAtomic = false, isDataSync = false }: DirectOptions,
): number {
  const opflags = OpFlag.WRITE | OpFlag.DIRECT | (isAtomic ? OpFlag.ATOMIC : 0);
  let needsFsync = false;
  let flags: number = IoendFlag.DIRECT;
  let done = 0;
  let failure: SystemError | undefined;
  try {
    iterate(mount, inode, opflags, pos, bytes.length, (target, at, count) => {
      transfer(mount, inode, target, at, bytes.subarray(at - pos, at - pos + count));
      needsFsync ||= !isDurableAtOnce(target);
      if (target.mapping.type === MapType.UNWRITTEN) flags |= IoendFlag.UNWRITTEN;
      if ((target.mapping.flags & MapFlag.SHARED) !== 0) flags |= IoendFlag.SHARED;
      done += count;
      return count;
    });
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    if (isErrno(error, Errno.ENOTBLK) && done === 0) throw error;
    failure = error;
  }
  dropPages(
    inode,
    pos - (pos % inode.blockSize),
    Math.ceil((pos + bytes.length) / inode.blockSize) * inode.blockSize,
  );
  // One piece that fails is the failure of all.
  const error = failure?.errno ?? 0;
  if (done > 0 || error !== 0)
    complete(mount, inode, { flags, error, pos, written: done, newAddr: NULL_ADDR, dev: 0 });
  if (failure !== undefined) throw failure;
  if (isDataSync && needsFsync) fsync(mount, inode, true);
  return done;
}

/** Whether writing data past the cache of the device is enough: nothing else has to be remembered. */
const isDurableAtOnce = ({ mapping, inline }: Target): boolean =>
  inline === undefined &&
  mapping.type === MapType.MAPPED &&
  (mapping.flags & (MapFlag.DIRTY | MapFlag.SHARED)) === 0;

/** Writes to where `target` is, and zeros to what is left of blocks that had no data before. */
function transfer(
  mount: Mount,
  inode: Inode,
  target: Target,
  pos: number,
  bytes: Uint8Array,
): void {
  const { mapping, inline } = target;
  const where = `node ${inode.node} at ${pos}`;
  if (inline !== undefined) {
    inline.set(bytes, pos - mapping.offset);
    return;
  }
  if (mapping.type === MapType.DELALLOC) refusePromise(mount, inode, pos);
  if (mapping.type === MapType.HOLE) mount.violations.fail("write-to-hole", where, Errno.EIO);
  const end = pos + bytes.length;
  const isEmpty = mapping.type === MapType.UNWRITTEN || (mapping.flags & MapFlag.NEW) !== 0;
  const head = isEmpty ? pos % inode.blockSize : 0;
  const rest = (inode.blockSize - (end % inode.blockSize)) % inode.blockSize;
  const tail = isEmpty || end > inode.size ? rest : 0;
  const whole = new Uint8Array(head + bytes.length + tail);
  whole.set(bytes, head);
  mount.devices.write(mapping.addr + (pos - head - mapping.offset), whole);
}
