/**
 * Values that have inodes of their own (feature ea_inode). Equal values share one, and it counts
 * the entries that refer to it. Its times are no times:
 *
 *     i_atime     crc32c of the value        i_ctime     upper half of the reference count
 *     i_mtime     when it was made           i_version   lower half
 *
 * Lustre's own, older form has none of this: it belongs to one entry, whose inode it names in
 * i_mtime and i_generation.
 *
 * Space and inodes are accounted for as if nothing were shared: the inode with the attribute counts
 * the value's blocks among its own.
 *
 * @see ext4/attributes.rst, "ea_inode"; fs/ext4/xattr.c
 */
import { le32, setLe32 } from "../../base/layout.ts";
import { type FileBlock, type InodeNumber, join32 } from "../../base/numbers.ts";
import { allocateInode, freeInode } from "../alloc/inodes.ts";
import { CorruptionError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { FileType, Inode, InodeFlags, InodeLayout, wantedExtraSize } from "../format/inode.ts";
import type { XattrEntry } from "../format/xattr.ts";
import type { Tx } from "../journal/transaction.ts";
import { createFileBlock, freeFileBlocks, initBlockMap } from "../map/change.ts";
import { readFileBlock } from "../map/iomap.ts";

const SECTOR_SIZE = 512;
const MODE = FileType.REGULAR | 0o600;

/**
 * The value of an entry of `owner` that lies in an inode of its own.
 *
 * @throws CorruptionError `xattr-inode` when that inode does not hold it.
 */
export function readValueInode(fs: Filesystem, owner: Inode, entry: XattrEntry): Uint8Array {
  const holder = valueInodeAt(fs, entry.valueInode);
  const place = { inode: holder.number };
  if (holder.sizeBytes !== entry.valueSize) {
    const found = `does not hold ${entry.valueSize} bytes of xattr`;
    throw new CorruptionError("xattr-inode", place, found);
  }
  const value = bytesOfValue(fs, holder);
  if (isLustre(holder, owner)) return value;
  const stored = hashOf(holder);
  const found = fs.checksums.over(fs.checksums.seed, value);
  if (found !== stored) {
    throw new CorruptionError("xattr-inode", place, `hash stored ${stored}, computed ${found}`);
  }
  return value;
}

/** Where a value lies, and what the hash of its entry is computed from. */
export interface StoredValue {
  readonly inode: InodeNumber;
  /** The crc32c of the value, as four bytes. */
  readonly hash: Uint8Array;
}

/**
 * Finds or makes an inode that holds `value`, for an attribute of `owner`. Nothing refers to a new
 * one until `adjustReferences` is told of the entry.
 *
 * @throws FsError ENOSPC when there is no free inode, or too few blocks.
 */
export function storeValueInode(
  fs: Filesystem,
  tx: Tx,
  owner: Inode,
  value: Uint8Array,
): StoredValue {
  const crc = fs.checksums.over(fs.checksums.seed, value);
  const hash = new Uint8Array(4);
  new DataView(hash.buffer).setUint32(0, crc, true);
  const known = fs.writer.xattrHints.valueInodes.find(crc);
  if (known !== undefined && holds(fs, known, value)) return { inode: known, hash };

  const inode = createValueInode(fs, tx, owner, crc);
  const { blockSize } = fs.superblock;
  for (let at = 0; at < value.length; at += blockSize) {
    const block = createFileBlock(fs, tx, inode, (at / blockSize) as FileBlock);
    block.bytes.set(value.subarray(at, at + blockSize));
  }
  inode.sizeBytes = value.length;
  fs.writer.xattrHints.valueInodes.remember(tx, crc, inode.number);
  return { inode: inode.number, hash };
}

function createValueInode(fs: Filesystem, tx: Tx, owner: Inode, crc: number): Inode {
  const { superblock, checksums, writer } = fs;
  const number = allocateInode(fs, tx, owner, false);
  const generation = Math.floor(writer.random() * 0x1_0000_0000);
  const extraSize = wantedExtraSize(superblock);
  const attributes = { mode: MODE, generation, extraSize };
  const bytes = fs.takeInodeBytes();
  const inode = tx.createInode(Inode.blank(number, bytes, superblock, checksums, attributes));
  inode.uid = owner.uid;
  inode.gid = owner.gid;
  inode.flags = InodeFlags.EA_INODE;
  inode.accessedAt = { seconds: crc, nanoseconds: 0 };
  inode.modifiedAt = tx.now;
  inode.createdAt = tx.now;
  initBlockMap(fs, inode);
  return inode;
}

/**
 * Counts entries of `owner`, or of its xattr block, that have come and gone. A value goes with the
 * last entry that refers to it.
 */
export function adjustReferences(
  fs: Filesystem,
  tx: Tx,
  owner: Inode,
  gained: readonly XattrEntry[],
  lost: readonly XattrEntry[],
): void {
  const changes = new Map<number, number>();
  const count = (entries: readonly XattrEntry[], change: number): void => {
    for (const { valueInode } of entries) {
      if (valueInode !== 0) changes.set(valueInode, (changes.get(valueInode) ?? 0) + change);
    }
  };
  count(gained, 1);
  count(lost, -1);
  for (const [number, change] of changes) {
    if (change !== 0) changeReferences(fs, tx, owner, number, change);
  }
}

function changeReferences(
  fs: Filesystem,
  tx: Tx,
  owner: Inode,
  number: number,
  change: number,
): void {
  const inode = tx.edit(valueInodeAt(fs, number));
  const before = isLustre(inode, owner) ? 1 : referencesOf(inode);
  const references = before + change;
  if (references < 0) {
    const found = `${-change} entries are gone, ${before} referred to it`;
    throw new CorruptionError("xattr-references", { inode: number }, found);
  }
  if (references > 0) setReferences(inode, references);
  else freeValueInode(fs, tx, inode);
}

function freeValueInode(fs: Filesystem, tx: Tx, inode: Inode): void {
  fs.writer.xattrHints.valueInodes.forget(hashOf(inode), inode.number);
  const end = Math.ceil(inode.sizeBytes / fs.superblock.blockSize);
  freeFileBlocks(fs, tx, inode, 0 as FileBlock, end as FileBlock);
  setReferences(inode, 0);
  inode.sizeBytes = 0;
  inode.linkCount = 0;
  freeInode(fs, tx, inode);
}

/** What a value of `length` bytes adds to `i_blocks` of the inode with the attribute. */
export function blocks512OfValue({ superblock }: Filesystem, length: number): number {
  const clusterSize = superblock.blockSize * superblock.clusterBlocks;
  return Math.ceil(length / clusterSize) * (clusterSize / SECTOR_SIZE);
}

function holds(fs: Filesystem, number: InodeNumber, value: Uint8Array): boolean {
  const inode = valueInodeAt(fs, number);
  if (inode.sizeBytes !== value.length) return false;
  const found = bytesOfValue(fs, inode);
  return found.every((byte, index) => byte === value[index]);
}

/** The bytes come through the block cache, where those of a running transaction are. */
function bytesOfValue(fs: Filesystem, inode: Inode): Uint8Array {
  const { blockSize } = fs.superblock;
  const value = new Uint8Array(inode.sizeBytes);
  for (let at = 0; at < value.length; at += blockSize) {
    const block = readFileBlock(fs, inode, (at / blockSize) as FileBlock);
    if (block !== undefined) value.set(block.bytes.subarray(0, value.length - at), at);
  }
  return value;
}

function valueInodeAt(fs: Filesystem, number: number): Inode {
  const inode = fs.internalInode(number);
  if (inode.hasFlag(InodeFlags.EA_INODE)) return inode;
  throw new CorruptionError("xattr-inode", { inode: number }, "holds no xattr");
}

/** Whether the value of an entry is in Lustre's form, which is not accounted for. */
export function isLustreValue(fs: Filesystem, owner: Inode, entry: XattrEntry): boolean {
  return isLustre(valueInodeAt(fs, entry.valueInode), owner);
}

function isLustre(holder: Inode, owner: Inode): boolean {
  const mtime = le32(holder.raw, 0, InodeLayout.mtime);
  return mtime === owner.number && holder.generation === owner.generation;
}

function hashOf(inode: Inode): number {
  return le32(inode.raw, 0, InodeLayout.atime);
}

function referencesOf({ raw }: Inode): number {
  return join32(le32(raw, 0, InodeLayout.ctime), le32(raw, 0, InodeLayout.version));
}
function setReferences({ raw }: Inode, references: number): void {
  setLe32(raw, 0, InodeLayout.ctime, Math.floor(references / 0x1_0000_0000));
  setLe32(raw, 0, InodeLayout.version, references % 0x1_0000_0000);
}
