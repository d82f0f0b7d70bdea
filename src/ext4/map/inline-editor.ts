/**
 * Changes inline contents of regular files, and moves them to a block when they outgrow the inode.
 *
 *     new, empty ──► inline ──► in blocks, for good
 *                            inline data never comes back, unless the file becomes empty
 *
 * The xattr `system.data` is there even if `i_block` holds everything; it says that the inode has
 * room set aside.
 *
 * @see inline-data.ts; fs/ext4/inline.c
 */
import type { FileBlock } from "../../base/numbers.ts";
import { retryAfterCommit } from "../alloc/retry.ts";
import type { Filesystem } from "../filesystem.ts";
import { Incompat } from "../format/features.ts";
import { I_BLOCK_SIZE, type Inode, InodeFlags } from "../format/inode.ts";
import { INLINE_DATA } from "../format/xattr.ts";
import type { Tx } from "../journal/transaction.ts";
import { inlineDataRoom, storeXattr } from "../ops/xattr-store.ts";
import { allocateRun, initBlockMap, MAP_CREDITS } from "./change.ts";
import { contentsDevice } from "./contents-device.ts";
import { inlineData } from "./inline-data.ts";
import { setFileSize, touch } from "./size.ts";

/** The inode, and the superblock for ext_attr. */
const INLINE_CREDITS = 2;
const SECTOR_SIZE = 512;
const EMPTY = new Uint8Array();

/** Whether the contents of `inode` are, or may become, inline with `sizeBytes` bytes. */
export function fitsInline(fs: Filesystem, inode: Inode, sizeBytes: number): boolean {
  if (!inode.hasFlag(InodeFlags.INLINE_DATA) && !canStartInline(fs, inode)) return false;
  const continuation = inlineDataRoom(inode);
  return continuation >= 0 && sizeBytes <= I_BLOCK_SIZE + continuation;
}

function canStartInline(fs: Filesystem, inode: Inode): boolean {
  if (inode.sizeBytes > 0 || !fs.superblock.hasIncompat(Incompat.INLINE_DATA)) return false;
  if (!inode.isRegular || inode.hasFlag(InodeFlags.DAX | InodeFlags.EA_INODE)) return false;
  return !hasBlocks(fs, inode);
}

/** Whether blocks were promised to an empty file: it needs its map then. */
function hasBlocks(fs: Filesystem, inode: Inode): boolean {
  const { blockSize, clusterBlocks } = fs.superblock;
  const forXattrs = inode.xattrBlock === 0 ? 0 : (blockSize * clusterBlocks) / SECTOR_SIZE;
  return inode.blocks512 > forXattrs;
}

/** Writes `bytes` at byte `offset` of a file that has room for them. */
export function writeInline(fs: Filesystem, inode: Inode, offset: number, bytes: Uint8Array): void {
  fs.writer.invalidateMappings(inode.number, 0, Number.MAX_SAFE_INTEGER);
  fs.transact(INLINE_CREDITS, (tx) => {
    const whole = resized(contentsOf(inode), Math.max(inode.sizeBytes, offset + bytes.length));
    whole.set(bytes, offset);
    store(fs, tx, inode, whole);
  });
}

/** Gives inline contents another size, for which there is room. */
export function resizeInline(fs: Filesystem, inode: Inode, sizeBytes: number): void {
  fs.writer.invalidateMappings(inode.number, 0, Number.MAX_SAFE_INTEGER);
  fs.transact(INLINE_CREDITS, (tx) => store(fs, tx, inode, resized(contentsOf(inode), sizeBytes)));
}

/** Moves the contents of `inode`, if they are inline, to where blocks are. */
export function moveOutOfLine(fs: Filesystem, inode: Inode): void {
  if (!inode.hasFlag(InodeFlags.INLINE_DATA)) return;
  fs.writer.invalidateMappings(inode.number, 0, Number.MAX_SAFE_INTEGER);
  retryAfterCommit(fs, () => fs.transact(MAP_CREDITS, (tx) => moveOut(fs, tx, inode)));
}

function moveOut(fs: Filesystem, tx: Tx, inode: Inode): void {
  const { blockSize } = fs.superblock;
  const bytes = inlineData(inode);
  storeContinuation(fs, tx, inode, undefined);
  tx.edit(inode).flags &= ~InodeFlags.INLINE_DATA;
  initBlockMap(fs, inode);
  if (bytes.length === 0) return;
  const { start } = allocateRun(fs, tx, inode, 0 as FileBlock, 1, false);
  contentsDevice(fs).write(start * blockSize, resized(bytes, blockSize));
}

function store(fs: Filesystem, tx: Tx, inode: Inode, whole: Uint8Array): void {
  tx.edit(inode).flags = (inode.flags & ~InodeFlags.EXTENTS) | InodeFlags.INLINE_DATA;
  const { iBlock } = inode;
  iBlock.fill(0);
  iBlock.set(whole.subarray(0, I_BLOCK_SIZE));
  storeContinuation(fs, tx, inode, whole.slice(I_BLOCK_SIZE));
  setFileSize(fs, tx, inode, whole.length);
  touch(tx, inode);
}

function storeContinuation(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  value: Uint8Array | undefined,
): void {
  storeXattr(fs, tx, inode, INLINE_DATA.nameIndex, INLINE_DATA.name, value);
}

function contentsOf(inode: Inode): Uint8Array {
  return inode.hasFlag(InodeFlags.INLINE_DATA) ? inlineData(inode) : EMPTY;
}

function resized(bytes: Uint8Array, sizeBytes: number): Uint8Array {
  const result = new Uint8Array(sizeBytes);
  result.set(bytes.subarray(0, sizeBytes));
  return result;
}
