/**
 * Directories within their inode. They begin with the room that `i_block` has; when that is full,
 * all that the inode has left for xattrs is added, and when that is full too, a block takes over.
 *
 * @see ext4/inlinedata.rst, "Inline Directories"; fs/ext4/inline.c, ext4_try_add_inline_entry
 */
import type { InodeNumber } from "../../base/numbers.ts";
import type { Filesystem } from "../filesystem.ts";
import {
  clearDirents,
  DIRENT_HEAD_SIZE,
  type Dirents,
  type DirentTarget,
  DOTDOT_AT,
  direntInode,
  direntLength,
  direntNameLength,
  direntSize,
  direntType,
  findRoom,
  insertDirent,
  MODE_TYPE_SHIFT,
  setDirentLength,
  setDots,
} from "../format/dirent.ts";
import { I_BLOCK_SIZE, type Inode, InodeFlags } from "../format/inode.ts";
import { INLINE_DATA } from "../format/xattr.ts";
import type { Tx } from "../journal/transaction.ts";
import { initBlockMap } from "../map/change.ts";
import { inlineContinuation } from "../map/inline-data.ts";
import { inlineDataRoom, storeXattr } from "../ops/xattr-store.ts";
import { type Directory, directoryOf } from "./contents.ts";
import { appendEntries } from "./growth.ts";

/** Makes `inode` an empty inline directory. @returns false when it has no room for that. */
export function makeInlineDirectory(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  parent: InodeNumber,
): boolean {
  if (inlineDataRoom(inode) <= 0) return false;
  setContinuation(fs, tx, inode, new Uint8Array());
  inode.flags = (inode.flags & ~InodeFlags.EXTENTS) | InodeFlags.INLINE_DATA;
  inode.iBlock.fill(0);
  inode.sizeBytes = I_BLOCK_SIZE;
  const directory = directoryOf(fs, inode);
  const { iBlock } = inode;
  const view = new DataView(iBlock.buffer, iBlock.byteOffset, I_BLOCK_SIZE);
  const start = directory.startOf(0);
  clearDirents({ bytes: iBlock, view }, start, I_BLOCK_SIZE, directory.format.blockSize);
  directory.setParent(tx, parent);
  return true;
}

/** Adds an entry to an inline directory. @returns false when there is no room for it. */
export function insertInline(
  tx: Tx,
  directory: Directory,
  name: Uint8Array,
  target: DirentTarget,
): boolean {
  const last = directory.partCount - 1;
  for (let part = 0; part <= last; part++) {
    if (insertIntoPart(directory, part, name, target)) return true;
  }
  return extend(tx, directory) && insertIntoPart(directory, last, name, target);
}

function insertIntoPart(
  directory: Directory,
  part: number,
  name: Uint8Array,
  target: DirentTarget,
): boolean {
  const { format } = directory;
  const entries = directory.entries(part) as Dirents;
  const needed = direntSize(name.length);
  const at = findRoom(entries, directory.startOf(part), entries.bytes.length, format, needed);
  if (at < 0) return false;
  insertDirent(entries, at, format, name, target);
  return true;
}

/** Lets the second part have all the room that the inode has. @returns false when it did already. */
function extend(tx: Tx, directory: Directory): boolean {
  const { fs, inode, format } = directory;
  const { blockSize } = format;
  const before = inlineContinuation(inode);
  const room = inlineDataRoom(inode) & ~3;
  if (room < before.length + direntSize(1)) return false;
  const bytes = new Uint8Array(room);
  const view = new DataView(bytes.buffer);
  bytes.set(before);
  let last = 0;
  if (before.length > 0) {
    let next = direntLength(view, 0, blockSize);
    while (next < before.length) {
      last = next;
      next += direntLength(view, next, blockSize);
    }
  }
  setDirentLength(view, last, bytes.length - last, blockSize);
  setContinuation(fs, tx, inode, bytes);
  inode.sizeBytes = I_BLOCK_SIZE + bytes.length;
  return true;
}

/** Moves the entries of an inline directory to a block. @returns the directory as it is then. */
export function moveToBlock(tx: Tx, directory: Directory): Directory {
  const { fs, inode, number, format } = directory;
  const parent = directory.parent() as InodeNumber;
  const parts = [0, 1].map((part) => copyOf(directory.entries(part) as Dirents));
  setContinuation(fs, tx, inode, undefined);
  inode.flags &= ~InodeFlags.INLINE_DATA;
  initBlockMap(fs, inode);
  inode.sizeBytes = 0;
  const moved = directoryOf(fs, inode);
  const block = appendEntries(tx, moved);
  setDots(block, moved.endOf(0), format, { inode: number, mode: inode.mode }, parent);
  let last = DOTDOT_AT;
  parts.forEach((part, index) => {
    const { bytes, view } = part;
    let length: number;
    for (let at = directory.startOf(index); at < bytes.length; at += length) {
      length = direntLength(view, at, format.blockSize);
      const child = direntInode(view, at);
      if (child === 0) continue;
      const name = at + DIRENT_HEAD_SIZE;
      const stored = bytes.subarray(name, name + direntNameLength(view, at));
      const mode = direntType(view, at, format) << MODE_TYPE_SHIFT;
      last = insertDirent(block, last, format, stored, { inode: child, mode });
    }
  });
  return moved;
}

function setContinuation(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  value: Uint8Array | undefined,
): void {
  storeXattr(fs, tx, inode, INLINE_DATA.nameIndex, INLINE_DATA.name, value);
}

function copyOf({ bytes }: Dirents): Dirents {
  const copy = bytes.slice();
  return { bytes: copy, view: new DataView(copy.buffer) };
}
