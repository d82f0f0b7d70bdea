/**
 * Where the entries of extended attributes lie: behind the extra fields of the inode, and in the
 * xattr block, which inodes with equal attributes may share.
 *
 * @see ext4/attributes.rst
 */
import { le32, setLe32 } from "../../base/layout.ts";
import type { FsBlock, InodeNumber } from "../../base/numbers.ts";
import { type Block, BlockKind, type Seal } from "../cache/block-cache.ts";
import { CorruptionError, type Place } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Checksums } from "../format/checksum.ts";
import { CLASSIC_INODE_SIZE, type Inode } from "../format/inode.ts";
import {
  parseXattrEntries,
  serializeXattrEntries,
  XATTR_BLOCK_HEADER_SIZE,
  XATTR_IBODY_HEADER_SIZE,
  XATTR_MAGIC,
  XattrBlockHeader,
  type XattrEntry,
  xattrsSize,
} from "../format/xattr.ts";

/** The attributes stored in the inode itself, in the order in which they were set. */
export function inodeXattrs(inode: Inode): XattrEntry[] {
  const { raw } = inode;
  const at = CLASSIC_INODE_SIZE + inode.extraSize;
  const first = at + XATTR_IBODY_HEADER_SIZE;
  if (inode.extraSize === 0 || first > raw.byteLength) return [];
  if (raw.getUint32(at, true) !== XATTR_MAGIC) return [];
  return parseXattrEntries(bytesOf(inode), first, first, { inode: inode.number });
}

/** Bytes that an inode has for entries and their values. */
export function roomInInode({ extraSize, raw }: Inode): number {
  if (extraSize === 0) return 0;
  const first = CLASSIC_INODE_SIZE + extraSize + XATTR_IBODY_HEADER_SIZE;
  return Math.max(0, raw.byteLength - first);
}

/** Whether `inode` has room for `entries` and no others. */
export function fitInInode(inode: Inode, entries: readonly XattrEntry[]): boolean {
  return xattrsSize(entries) <= roomInInode(inode);
}

/** Makes `entries` the in-inode attributes of an inode that a transaction has. They must fit. */
export function storeInodeXattrs(inode: Inode, entries: readonly XattrEntry[]): void {
  const at = CLASSIC_INODE_SIZE + inode.extraSize;
  const first = at + XATTR_IBODY_HEADER_SIZE;
  serializeXattrEntries(entries, bytesOf(inode), first, first);
  inode.raw.setUint32(at, entries.length > 0 ? XATTR_MAGIC : 0, true);
}

/** The attributes in the xattr block of `inode`, in the order of `compareXattrs`. */
export function blockXattrs(fs: Filesystem, inode: Inode): XattrEntry[] {
  const block = loadXattrBlock(fs, inode);
  return block === undefined ? [] : entriesOf(block, { inode: inode.number });
}

/** The attributes in an xattr block. @param user what refers to it. */
export function entriesOf(block: Block, user: Place = {}): XattrEntry[] {
  const place = { ...user, block: block.number };
  return parseXattrEntries(block.bytes, XATTR_BLOCK_HEADER_SIZE, 0, place);
}

/** The xattr block of `inode`, verified; undefined when it has none. */
export function loadXattrBlock(fs: Filesystem, inode: Inode): Block | undefined {
  const { xattrBlock, number } = inode;
  return xattrBlock === 0 ? undefined : xattrBlockAt(fs, xattrBlock, { inode: number });
}

/** The xattr block `number`, verified. @param user what refers to it. */
export function xattrBlockAt(fs: Filesystem, number: FsBlock, user: Place): Block {
  const place = { ...user, block: number };
  if (number <= fs.superblock.firstDataBlock) {
    throw new CorruptionError("block-range", place, "the xattr block lies before the data");
  }
  const block = fs.blocks.get(number);
  if (!block.isVerifiedAs(BlockKind.XATTR, 0)) {
    verifyBlock(fs, block, place);
    fs.verifyOwner((user.inode ?? 0) as InodeNumber, number, 1);
    block.markVerified(BlockKind.XATTR, 0);
  }
  return block;
}

function verifyBlock(fs: Filesystem, block: Block, place: Place): void {
  const magic = le32(block.view, 0, XattrBlockHeader.magic);
  const blocks = le32(block.view, 0, XattrBlockHeader.blocks);
  if (magic !== XATTR_MAGIC || blocks !== 1) {
    throw new CorruptionError("xattr-magic", place, `0x${magic.toString(16)}, ${blocks} blocks`);
  }
  if (!fs.checksums.enabled) return;
  const stored = le32(block.view, 0, XattrBlockHeader.checksum);
  const found = computeChecksum(fs.checksums, block);
  if (found !== stored) {
    throw new CorruptionError("xattr-checksum", place, `stored ${stored}, computed ${found}`);
  }
}

/** What keeps the checksum of an xattr block right. */
export function xattrSeal({ checksums }: Filesystem): Seal {
  return (block) => {
    if (!checksums.enabled) return;
    setLe32(block.view, 0, XattrBlockHeader.checksum, computeChecksum(checksums, block));
  };
}

/** Over the block's number and its bytes, in which the checksum counts as zero. */
function computeChecksum(checksums: Checksums, { number, bytes }: Block): number {
  const at = XattrBlockHeader.checksum;
  let crc = checksums.overLe64(checksums.seed, number);
  crc = checksums.over(crc, bytes, 0, at);
  crc = checksums.overZeros(crc, 4);
  return checksums.over(crc, bytes, at + 4);
}

function bytesOf({ raw }: Inode): Uint8Array {
  return new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength);
}
