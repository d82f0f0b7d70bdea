/**
 * Changes the xattr block of an inode. Inodes with equal attributes share a block, which counts
 * them; one that is about to differ gets a copy.
 *
 *     h_refcount  1        this inode's alone: changed in place
 *                 2..1024  shared: left to the others, and never changed but for this count
 *
 * Space is accounted for as if nothing were shared: each inode counts the block as its own.
 *
 * @see fs/ext4/xattr.c, ext4_xattr_block_set and ext4_xattr_release_block
 */
import { le32, setLe32 } from "../../base/layout.ts";
import type { FsBlock } from "../../base/numbers.ts";
import { allocateBlocks, freeBlocks, goalFor } from "../alloc/blocks.ts";
import { type Block, BlockKind } from "../cache/block-cache.ts";
import { CorruptionError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Inode } from "../format/inode.ts";
import {
  compareXattrs,
  hashXattrBlock,
  serializeXattrEntries,
  XATTR_BLOCK_HEADER_SIZE,
  XATTR_MAGIC,
  XattrBlockHeader,
  type XattrEntry,
  xattrsSize,
} from "../format/xattr.ts";
import type { Tx } from "../journal/transaction.ts";
import { endOverlong } from "../map/overlong.ts";
import { entriesOf, loadXattrBlock, xattrBlockAt, xattrSeal } from "./xattr-entries.ts";
import { adjustReferences } from "./xattr-value-inode.ts";

/** @see fs/ext4/xattr.h, EXT4_XATTR_REFCOUNT_MAX */
const REFCOUNT_MAX = 1024;
const SECTOR_SIZE = 512;

/** Whether a block has room for `entries`. */
export function fitInBlock({ superblock }: Filesystem, entries: readonly XattrEntry[]): boolean {
  return XATTR_BLOCK_HEADER_SIZE + xattrsSize(entries) <= superblock.blockSize;
}

/**
 * Makes `entries` the attributes in the block of `inode`, which gets or loses one if need be. They
 * must fit, and have their hashes.
 *
 * @throws FsError ENOSPC when there is no free block.
 */
export function storeBlockXattrs(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  entries: readonly XattrEntry[],
): void {
  const old = loadXattrBlock(fs, inode);
  const next = entries.length > 0 ? blockFor(fs, tx, inode, old, entries) : undefined;
  if (next === old) return;
  if (old !== undefined) releaseBlock(fs, tx, inode, old);
  tx.edit(inode);
  inode.xattrBlock = next?.number ?? (0 as FsBlock);
  const change = (next === undefined ? 0 : 1) - (old === undefined ? 0 : 1);
  const { clusterBlocks, blockSize } = fs.superblock;
  inode.blocks512 += change * clusterBlocks * (blockSize / SECTOR_SIZE);
  if (inode.xattrBlock !== 0) endOverlong(fs, tx, inode);
}

/** The block that holds `entries` now, with this inode counted among those that refer to it. */
function blockFor(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  old: Block | undefined,
  entries: readonly XattrEntry[],
): Block {
  const sorted = entries.toSorted(compareXattrs);
  const hash = hashXattrBlock(sorted);
  const equal = findEqual(fs, hash, sorted);
  if (equal === old && old !== undefined) return old;
  if (equal !== undefined) {
    tx.modify(equal, xattrSeal(fs));
    setRefcount(equal, refcountOf(equal) + 1);
    return equal;
  }
  const isOwn = old !== undefined && refcountOf(old) === 1;
  const block = isOwn ? tx.modify(old, xattrSeal(fs)) : createBlock(fs, tx, inode);
  const { blocks } = fs.writer.xattrHints;
  if (isOwn) blocks.forget(le32(block.view, 0, XattrBlockHeader.hash), block.number);
  adjustReferences(fs, tx, inode, sorted, isOwn ? entriesOf(block) : []);
  serializeXattrEntries(sorted, block.bytes, XATTR_BLOCK_HEADER_SIZE, 0);
  setLe32(block.view, 0, XattrBlockHeader.hash, hash);
  if (hash !== 0) blocks.remember(tx, hash, block.number);
  return block;
}

function createBlock(fs: Filesystem, tx: Tx, inode: Inode): Block {
  const goal = goalFor(fs, inode);
  const { number } = inode;
  const { start } = allocateBlocks(fs, tx, { goal, count: 1, inode: number, isMetadata: true });
  const block = tx.create(start, xattrSeal(fs));
  block.markVerified(BlockKind.XATTR, 0);
  setLe32(block.view, 0, XattrBlockHeader.magic, XATTR_MAGIC);
  setLe32(block.view, 0, XattrBlockHeader.blocks, 1);
  setRefcount(block, 1);
  return block;
}

/** A block that one more inode can share. */
function findEqual(
  fs: Filesystem,
  hash: number,
  entries: readonly XattrEntry[],
): Block | undefined {
  const number = fs.writer.xattrHints.blocks.find(hash);
  if (number === undefined) return undefined;
  const block = xattrBlockAt(fs, number, {});
  if (refcountOf(block) >= REFCOUNT_MAX) return undefined;
  const found = entriesOf(block);
  const isEqual =
    found.length === entries.length &&
    found.every((entry, index) => isSameEntry(entry, entries[index] as XattrEntry));
  return isEqual ? block : undefined;
}

function isSameEntry(a: XattrEntry, b: XattrEntry): boolean {
  return (
    compareXattrs(a, b) === 0 &&
    a.valueInode === b.valueInode &&
    a.valueSize === b.valueSize &&
    a.value.every((byte, index) => byte === b.value[index])
  );
}

/** One inode less refers to `block`; it goes with the last. */
function releaseBlock(fs: Filesystem, tx: Tx, inode: Inode, block: Block): void {
  const refcount = refcountOf(block);
  if (refcount > 1) {
    setRefcount(tx.modify(block, xattrSeal(fs)), refcount - 1);
    return;
  }
  const hash = le32(block.view, 0, XattrBlockHeader.hash);
  fs.writer.xattrHints.blocks.forget(hash, block.number);
  adjustReferences(fs, tx, inode, [], entriesOf(block));
  freeBlocks(fs, tx, block.number, 1, true);
}

/** @throws CorruptionError `xattr-references` when nothing refers to it, which somebody does. */
function refcountOf(block: Block): number {
  const refcount = le32(block.view, 0, XattrBlockHeader.refcount);
  if (refcount > 0) return refcount;
  throw new CorruptionError("xattr-references", { block: block.number }, "nothing refers to it");
}
function setRefcount(block: Block, refcount: number): void {
  setLe32(block.view, 0, XattrBlockHeader.refcount, refcount);
}
