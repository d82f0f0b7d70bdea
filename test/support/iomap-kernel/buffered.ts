/** Reads and writes through the page cache, page faults, and zeroing. */
import { Errno, MapFlag, MapType, OpFlag } from "./abi.ts";
import type { Inode } from "./inode.ts";
import { iterate, type Target } from "./iomap.ts";
import { type Mount, refuse } from "./mount.ts";
import { addPage, fillPages, type Piece, pageFor, piecesOf } from "./pages.ts";
import { stripPrivileges, touch } from "./setattr.ts";
import { waitForIoends, writeBack } from "./writeback.ts";

/** @returns fewer bytes than asked for at the end of the file. */
export function readBuffered(mount: Mount, inode: Inode, pos: number, length: number): Uint8Array {
  const bytes = new Uint8Array(Math.max(0, Math.min(length, inode.size - pos)));
  for (let done = 0; done < bytes.length; ) {
    fillPages(mount, inode, pos + done, bytes.length - done);
    for (const { block, from, to } of piecesOf(inode.blockSize, pos + done, bytes.length - done)) {
      const page = inode.pages.get(block);
      // It was dropped again meanwhile.
      if (page === undefined) break;
      bytes.set(page.bytes.subarray(from, to), done);
      done += to - from;
    }
  }
  touch(mount, inode, "read");
  return bytes;
}

/** One write in so many ends early where the kernel does things by itself: what it copies cannot be read. */
const SHORT_EVERY = 30;

/** @returns how many bytes were written, before there was no more space, or nothing more to be had. */
export function writeBuffered(mount: Mount, inode: Inode, pos: number, bytes: Uint8Array): number {
  if (bytes.length === 0) return 0;
  const { maxBytes } = mount.superblock;
  if (BigInt(pos) >= maxBytes) refuse(Errno.EFBIG);
  const length = Number(
    BigInt(pos + bytes.length) > maxBytes ? maxBytes - BigInt(pos) : bytes.length,
  );
  if (pos > inode.size) zeroRange(mount, inode, inode.size, pos);
  stripPrivileges(mount, inode);
  touch(mount, inode, "write");
  const { backgroundEvery = 0 } = mount.options;
  const isShort = backgroundEvery > 0 && length > 1 && mount.random.below(SHORT_EVERY) === 0;
  const readable = isShort ? 1 + mount.random.below(length - 1) : length;
  let done = 0;
  try {
    iterate(mount, inode, OpFlag.WRITE, pos, length, (target, at, wanted) => {
      const count = Math.min(wanted, readable - done);
      if (count === 0) return 0;
      copyIn(mount, inode, target, at, bytes.subarray(at - pos, at - pos + count));
      done += count;
      if (at + count > inode.size) {
        inode.size = at + count;
        target.flags |= MapFlag.SIZE_CHANGED;
      }
      return count;
    });
  } catch (error) {
    if (done === 0) throw error;
  }
  return done;
}

/** Changes bytes through a shared mapping: each page faults once, if it is not writable yet. */
export function writeMapped(mount: Mount, inode: Inode, pos: number, bytes: Uint8Array): void {
  if (pos + bytes.length > inode.size) refuse(Errno.EFBIG, "a fault behind the end of the file");
  for (const { block, from, to, pos: at } of piecesOf(inode.blockSize, pos, bytes.length)) {
    fillPages(mount, inode, at, to - from);
    stripPrivileges(mount, inode);
    touch(mount, inode, "write");
    const start = block * inode.blockSize;
    const length = Math.min(inode.blockSize, inode.size - start);
    iterate(mount, inode, OpFlag.WRITE | OpFlag.FAULT, start, length, (target, _at, count) => {
      noteHole(mount, inode, target, start);
      const page = pageFor(mount, inode, block, target);
      page.isDirty = true;
      page.bytes.set(bytes.subarray(at - pos, at - pos + to - from), from);
      return count;
    });
  }
}

function noteHole(mount: Mount, inode: Inode, { mapping }: Target, pos: number): void {
  if (mapping.type === MapType.HOLE)
    mount.violations.note("write-to-hole", `node ${inode.node} at ${pos}`);
}

function copyIn(mount: Mount, inode: Inode, target: Target, pos: number, bytes: Uint8Array): void {
  noteHole(mount, inode, target, pos);
  for (const piece of piecesOf(inode.blockSize, pos, bytes.length)) {
    const from = piece.pos - pos;
    change(mount, inode, target, piece, bytes.subarray(from, from + piece.to - piece.from));
  }
}

/** Puts bytes into a page, and into the inode where the data lies there. */
function change(mount: Mount, inode: Inode, target: Target, piece: Piece, bytes: Uint8Array): void {
  const isWhole = bytes.length === inode.blockSize && target.inline === undefined;
  const page = isWhole
    ? (inode.pages.get(piece.block) ?? addPage(inode, piece.block, new Uint8Array(inode.blockSize)))
    : pageFor(mount, inode, piece.block, target);
  page.bytes.set(bytes, piece.from);
  if (target.inline === undefined) page.isDirty = true;
  else target.inline.set(bytes, piece.pos - target.mapping.offset);
}

/**
 * Makes [start, end) read as zeros. Holes and unwritten blocks do already, unless there are pages on
 * their way to them: those are written back, and the mapping looked at again.
 */
export function zeroRange(mount: Mount, inode: Inode, start: number, end: number): void {
  const { blockSize } = inode;
  iterate(mount, inode, OpFlag.ZERO, start, end - start, (target, at, length) => {
    const { type, flags } = target.mapping;
    const isZero = type === MapType.HOLE || type === MapType.UNWRITTEN;
    if (isZero && (flags & MapFlag.SHARED) === 0) {
      if (!isInFlight(inode, at, at + length)) return length;
      writeBack(mount, inode, at, at + length);
      waitForIoends(mount, inode, at, at + length);
      // Beyond the end of the file nothing is written back, nor any more in the way.
      if (at >= inode.size) return length;
      target.flags |= MapFlag.STALE;
      return 0;
    }
    const zeros = new Uint8Array(Math.min(length, blockSize));
    for (const piece of piecesOf(blockSize, at, length))
      change(mount, inode, target, piece, zeros.subarray(0, piece.to - piece.from));
    return length;
  });
}

function isInFlight(inode: Inode, start: number, end: number): boolean {
  const { blockSize } = inode;
  for (const [block, page] of inode.pages) {
    const at = block * blockSize;
    const overlaps = at < end && at + blockSize > start;
    if (overlaps && (page.isDirty || page.isUnderWriteback)) return true;
  }
  return false;
}
