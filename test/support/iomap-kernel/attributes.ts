/** Attributes: stat, chmod, chown, utimes, truncate. */
import { Errno, FileType, Opcode } from "./abi.ts";
import { zeroRange } from "./buffered.ts";
import type { Inode } from "./inode.ts";
import { type Mount, refuse } from "./mount.ts";
import { dropPages } from "./pages.ts";
import { setattr, stripPrivileges, touch, withChangeTime, withoutSetid } from "./setattr.ts";
import { Body } from "./wire.ts";
import { writeBack } from "./writeback.ts";

const STATX_OUT_BYTES = 288;
/** BASIC, BTIME, DIOALIGN, SUBVOL, WRITE_ATOMIC. */
const STATX_MASK = 0x1_afff;
const PERMISSIONS = 0o7777;

export function chmod(mount: Mount, inode: Inode, mode: number): void {
  if (inode.isLink) refuse(Errno.EOPNOTSUPP);
  const whole = (inode.mode & FileType.MASK) | (mode & PERMISSIONS);
  setattr(mount, inode, withChangeTime(mount, inode, { mode: whole }));
  inode.acls.clear();
}

export function chown(mount: Mount, inode: Inode, uid: number, gid: number): void {
  const mode = withoutSetid(inode.mode);
  const isExplicit = inode.isIomap && mode !== inode.mode;
  const changes = { uid, gid, ...(isExplicit && { mode }) };
  setattr(mount, inode, withChangeTime(mount, inode, changes));
}

export function utimes(mount: Mount, inode: Inode, atime: bigint, mtime: bigint): void {
  inode.atime = atime;
  inode.mtime = mtime;
  setattr(mount, inode, withChangeTime(mount, inode, { atime, mtime }));
}

/** Section 10: the server only frees blocks and sets the size. */
export function truncate(mount: Mount, inode: Inode, size: number, isOpen = false): void {
  if (inode.isIomap) cut(mount, inode, size, isOpen);
  else setattr(mount, inode, { size });
}

function cut(mount: Mount, inode: Inode, size: number, isOpen: boolean): void {
  if (BigInt(size) > mount.superblock.maxBytes) refuse(Errno.EFBIG);
  const { blockSize } = inode;
  const endOfBlock = Math.ceil(size / blockSize) * blockSize;
  if (size > inode.size) zeroRange(mount, inode, inode.size, size);
  else if (endOfBlock > size) zeroRange(mount, inode, size, endOfBlock);
  stripPrivileges(mount, inode);
  inode.size = size;
  writeBackCut(mount, inode, size);
  touch(mount, inode, "write");
  const { mtime, ctime } = inode;
  setattr(mount, inode, { size, mtime, ctime, isOfHandle: isOpen });
  inode.dropMappings(size);
}

/** Drops the pages behind the new end once nobody needs them, and writes back all the others. */
function writeBackCut(mount: Mount, inode: Inode, size: number): void {
  const { blockSize } = inode;
  const end = Math.ceil(size / blockSize) * blockSize;
  for (const ioend of mount.ioends.filter(
    (each) => each.inode === inode && each.overlaps(end, Infinity),
  ))
    ioend.complete();
  dropPages(inode, end);
  // In memory alone: whoever makes the file longer again finds no old bytes there.
  inode.pages.get(Math.floor(size / blockSize))?.bytes.fill(0, size % blockSize);
  writeBack(mount, inode);
}

/** The result of stat(2): the kernel's own for an iomap file, but for what it does not know. */
export function stat(mount: Mount, inode: Inode): Inode {
  mount.revalidate(inode);
  return inode;
}

/** STATX, always sent. @returns the server's struct. */
export function statx(mount: Mount, inode: Inode): Uint8Array {
  // statx_in: getattr_flags 0 u32, fh 8, sx_flags 16 u32, sx_mask 20 u32.
  const body = new Body().zeros(16).u32(0).u32(STATX_MASK);
  return mount.ask(Opcode.STATX, inode.node, body, STATX_OUT_BYTES).bytes;
}
