/** What asks where a file lies without touching its data: lseek(2), FIEMAP, swapon(2). */
import { Errno, IoendFlag, MapFlag, MapType, NULL_ADDR, Opcode, OpFlag } from "./abi.ts";
import type { Inode } from "./inode.ts";
import { complete } from "./ioend.ts";
import { iterate } from "./iomap.ts";
import { isErrno, isPlaced, type Mapping } from "./mapping.ts";
import { type Mount, refuse } from "./mount.ts";
import { SystemError } from "./rules.ts";
import { Body } from "./wire.ts";
import { writeBack } from "./writeback.ts";

const FIEMAP_SYNC = 1;
const FIEMAP_XATTR = 2;
const LSEEK_OUT_BYTES = 8;
const WHENCE = { data: 3, hole: 4 } as const;

/** @throws SystemError ENXIO when there is none. */
export function seek(mount: Mount, inode: Inode, what: "data" | "hole", offset: number): number {
  mount.revalidate(inode);
  if (offset < 0 || offset >= inode.size) refuse(Errno.ENXIO);
  if (!inode.isIomap) return askForPlace(mount, inode, what, offset);
  let found = -1;
  try {
    iterate(mount, inode, OpFlag.REPORT, offset, inode.size - offset, (target, at, length) => {
      found = within(inode, target.mapping, what, at, length);
      return found < 0 ? length : 0;
    });
  } catch (error) {
    if (!isErrno(error, Errno.ENOSYS)) throw error;
    return askForPlace(mount, inode, what, offset);
  }
  if (found >= 0) return found;
  return what === "hole" ? inode.size : refuse(Errno.ENXIO);
}

/** Where in [at, at + length) of `mapping` there is data or a hole; -1 for nowhere. */
function within(
  inode: Inode,
  { type }: Mapping,
  what: "data" | "hole",
  at: number,
  length: number,
): number {
  if (type === MapType.HOLE) return what === "hole" ? at : -1;
  if (type !== MapType.UNWRITTEN) return what === "data" ? at : -1;
  // What was not written yet is data only where the page cache has something.
  for (let pos = at; pos < at + length; ) {
    const isCached = inode.pages.has(Math.floor(pos / inode.blockSize));
    if (isCached === (what === "data")) return pos;
    pos = (Math.floor(pos / inode.blockSize) + 1) * inode.blockSize;
  }
  return -1;
}

function askForPlace(mount: Mount, inode: Inode, what: "data" | "hole", offset: number): number {
  const body = new Body().u64(0).u64(offset).u32(WHENCE[what]).u32(0);
  return mount.ask(Opcode.LSEEK, inode.node, body, LSEEK_OUT_BYTES).number(0);
}

/** The extents of [pos, pos + length), as FIEMAP shows them. */
export function fiemap(
  mount: Mount,
  inode: Inode,
  pos: number,
  length: number,
  flags = FIEMAP_SYNC,
): Mapping[] {
  if (!inode.isIomap || (flags & FIEMAP_XATTR) !== 0) refuse(Errno.EOPNOTSUPP);
  if ((flags & FIEMAP_SYNC) !== 0) writeBack(mount, inode);
  const extents: Mapping[] = [];
  iterate(mount, inode, OpFlag.REPORT, pos, length, ({ mapping }, _at, count) => {
    if (mapping.type !== MapType.HOLE && !extents.includes(mapping)) extents.push(mapping);
    return count;
  });
  return extents;
}

/** Gives a file to the swapper. @throws SystemError EINVAL when it is not fit for that. */
export function swapOn(mount: Mount, inode: Inode): Mapping[] {
  if (!inode.isIomap) refuse(Errno.EINVAL);
  writeBack(mount, inode);
  const extents: Mapping[] = [];
  try {
    const opflags = OpFlag.REPORT | OpFlag.SWAPFILE;
    iterate(mount, inode, opflags, 0, inode.size, ({ mapping }, _at, length) => {
      if (!isFit(mapping) || mapping.dev !== (extents[0] ?? mapping).dev) refuse(Errno.EINVAL);
      extents.push(mapping);
      return length;
    });
  } catch (error) {
    if (error instanceof SystemError) endSwap(mount, inode, error.errno);
    throw error;
  }
  inode.swapIsActive = true;
  return extents;
}

const isFit = (mapping: Mapping): boolean =>
  isPlaced(mapping) && (mapping.flags & (MapFlag.DIRTY | MapFlag.SHARED)) === 0;

export function swapOff(mount: Mount, inode: Inode): void {
  inode.swapIsActive = false;
  endSwap(mount, inode, 0);
}

function endSwap(mount: Mount, inode: Inode, error: number): void {
  const flags = IoendFlag.SWAPOFF;
  complete(mount, inode, { flags, error, pos: 0, written: 0, newAddr: NULL_ADDR, dev: 0 });
}
