/**
 * Sets and removes attributes within an operation. Where one goes is decided as the kernel does it,
 * the first place that has room:
 *
 *     in the inode ──► in the xattr block ──► its value in an inode of its own (feature ea_inode),
 *                                             its entry in the inode or else in the block
 *
 * With ea_inode, a value that would fill most of a block gets an inode at once. `system.data`, the
 * inline contents of a file, stays in the inode whatever else there is.
 *
 * @see fs/ext4/xattr.c, ext4_xattr_set_handle
 */
import { Errno } from "../../base/errno.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { Compat, Incompat } from "../format/features.ts";
import type { Inode } from "../format/inode.ts";
import {
  compareXattrs,
  hashXattr,
  INLINE_DATA,
  XATTR_BLOCK_HEADER_SIZE,
  type XattrEntry,
  type XattrKey,
  xattrEntrySize,
  xattrsSize,
} from "../format/xattr.ts";
import type { Tx } from "../journal/transaction.ts";
import { fitInBlock, storeBlockXattrs } from "./xattr-block.ts";
import {
  blockXattrs,
  fitInInode,
  inodeXattrs,
  roomInInode,
  storeInodeXattrs,
} from "./xattr-entries.ts";
import { findXattr } from "./xattr-find.ts";
import {
  adjustReferences,
  blocks512OfValue,
  isLustreValue,
  storeValueInode,
} from "./xattr-value-inode.ts";

const NOTHING = new Uint8Array();
/** What stands for the number of an inode that is yet to be made. */
const UNKNOWN_INODE = 0xffff_ffff;
/** With ea_inode, values leave this share of a block to names, but not more bytes than that. */
const NAMES_SHARE = 8;
const NAMES_BYTES_MAX = 1024;
/** A short name, as which the kernel reckons when it decides what value is large. */
const SHORT_NAME_LENGTH = 3;

/**
 * Sets the attribute `name` of `inode` to `value`, or removes it when that is undefined.
 *
 * @returns false when there was nothing to change.
 * @throws FsError ENOSPC when there is no room for it.
 */
export function storeXattr(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  nameIndex: number,
  name: Uint8Array,
  value: Uint8Array | undefined,
): boolean {
  const key = { nameIndex, name };
  const before = { inside: inodeXattrs(inode), inBlock: blockXattrs(fs, inode) };
  const old = findXattr(before.inside, key) ?? findXattr(before.inBlock, key);
  if (value === undefined) {
    if (old === undefined) return false;
    replace(fs, tx, inode, before, without(before.inside, key), without(before.inBlock, key));
    return true;
  }
  if (old !== undefined && old.valueInode === 0 && isEqual(old.value, value)) return false;

  tx.edit(inode);
  fs.writer.superblock.setFeature(tx, "compat", Compat.EXT_ATTR, true);
  for (const form of formsOf(fs, key, value)) {
    if (fitInInode(inode, withEntry(before.inside, form))) {
      const entry = completed(fs, tx, inode, form, value, false);
      const inside = withEntry(before.inside, entry);
      replace(fs, tx, inode, before, inside, without(before.inBlock, key));
      return true;
    }
    if (!isInlineData(key) && blockTakes(fs, before.inBlock, form)) {
      const entry = completed(fs, tx, inode, form, value, true);
      const inBlock = withEntry(before.inBlock, entry);
      replace(fs, tx, inode, before, without(before.inside, key), inBlock);
      return true;
    }
  }
  throw new FsError(Errno.ENOSPC, `${value.length} bytes of xattr do not fit`);
}

/** Gives up what the attributes of an inode that is being deleted hold outside of it. */
export function freeXattrs(fs: Filesystem, tx: Tx, inode: Inode): void {
  const before = { inside: inodeXattrs(inode), inBlock: blockXattrs(fs, inode) };
  tx.edit(inode);
  const inside = before.inside.filter(({ valueInode }) => valueInode === 0);
  replace(fs, tx, inode, before, inside, []);
}

/**
 * Moves one attribute from the inode to its xattr block: the smallest that makes `missing` bytes of
 * room, or else the last. Inline contents stay.
 *
 * @returns false when there is none that the block has room for.
 */
export function moveOutOfInode(fs: Filesystem, tx: Tx, inode: Inode, missing: number): boolean {
  const before = { inside: inodeXattrs(inode), inBlock: blockXattrs(fs, inode) };
  const movable = before.inside.filter(
    (entry) => !isInlineData(entry) && fitInBlock(fs, withEntry(before.inBlock, entry)),
  );
  const bySize = movable
    .filter((entry) => fullSize(entry) >= missing)
    .toSorted((a, b) => fullSize(a) - fullSize(b));
  const moved = bySize[0] ?? movable.at(-1);
  if (moved === undefined) return false;
  const hash = moved.valueInode === 0 ? hashXattr(moved.name, moved.value) : moved.hash;
  const inBlock = withEntry(before.inBlock, { ...moved, hash });
  replace(fs, tx, inode, before, without(before.inside, moved), inBlock);
  return true;
}

/** The longest value of `system.data` that `inode` has room for; negative when there is none. */
export function inlineDataRoom(inode: Inode): number {
  const others = without(inodeXattrs(inode), INLINE_DATA);
  const empty = { ...INLINE_DATA, valueInode: 0, valueSize: 0, value: NOTHING, hash: 0 };
  return roomInInode(inode) - xattrsSize([...others, empty]);
}

interface Attributes {
  readonly inside: readonly XattrEntry[];
  readonly inBlock: readonly XattrEntry[];
}

/** The entry for `value`, in the forms that it may be stored in. The last one has no inode yet. */
function formsOf(fs: Filesystem, key: XattrKey, value: Uint8Array): XattrEntry[] {
  const valueSize = value.length;
  const plain = { ...key, valueInode: 0, valueSize, value, hash: 0 };
  const mayBeOutside = fs.superblock.hasIncompat(Incompat.EA_INODE) && valueSize > 0;
  if (!mayBeOutside || isInlineData(key)) return [plain];
  const outside = { ...plain, valueInode: UNKNOWN_INODE, value: NOTHING };
  const large =
    fs.superblock.blockSize - xattrEntrySize(SHORT_NAME_LENGTH) - XATTR_BLOCK_HEADER_SIZE - 4;
  return paddedSize(plain) > large ? [outside] : [plain, outside];
}

/** Whether the block has room for `form`, or a new block would. */
function blockTakes(fs: Filesystem, inBlock: readonly XattrEntry[], form: XattrEntry): boolean {
  const entries = withEntry(inBlock, form);
  if (!fitInBlock(fs, entries)) return false;
  if (form.value.length === 0 || !fs.superblock.hasIncompat(Incompat.EA_INODE)) return true;
  const old = findXattr(inBlock, form);
  if (old !== undefined && paddedSize(old) === paddedSize(form)) return true;
  const { blockSize } = fs.superblock;
  const values = entries.reduce((sum, entry) => sum + paddedSize(entry), 0);
  return blockSize - values >= Math.min(blockSize / NAMES_SHARE, NAMES_BYTES_MAX);
}

/** `form` with its hash, and with the inode that holds its value if it is that form. */
function completed(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  form: XattrEntry,
  value: Uint8Array,
  inBlock: boolean,
): XattrEntry {
  if (form.valueInode === 0) return inBlock ? { ...form, hash: hashXattr(form.name, value) } : form;
  const stored = storeValueInode(fs, tx, inode, value);
  return { ...form, valueInode: stored.inode, hash: hashXattr(form.name, stored.hash) };
}

/** Stores the attributes where they differ from what was before, and accounts for the values. */
function replace(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  before: Attributes,
  inside: readonly XattrEntry[],
  inBlock: readonly XattrEntry[],
): void {
  tx.edit(inode);
  account(fs, tx, inode, [...before.inside, ...before.inBlock], [...inside, ...inBlock]);
  if (isChanged(before.inBlock, inBlock)) storeBlockXattrs(fs, tx, inode, inBlock);
  if (isChanged(before.inside, inside)) {
    adjustReferences(fs, tx, inode, inside, before.inside);
    storeInodeXattrs(inode, inside);
  }
}

/** Counts values in inodes of their own among the blocks of `inode`, as if it alone had them. */
function account(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  before: readonly XattrEntry[],
  after: readonly XattrEntry[],
): void {
  for (const entry of before) {
    if (entry.valueInode === 0 || after.includes(entry) || isLustreValue(fs, inode, entry))
      continue;
    inode.blocks512 -= blocks512OfValue(fs, entry.valueSize);
    fs.writer.quotas?.noteValueInodes(tx, inode, -1);
  }
  for (const entry of after) {
    if (entry.valueInode === 0 || before.includes(entry)) continue;
    inode.blocks512 += blocks512OfValue(fs, entry.valueSize);
    fs.writer.quotas?.noteValueInodes(tx, inode, 1);
  }
}

function without(entries: readonly XattrEntry[], key: XattrKey): XattrEntry[] {
  return entries.filter((entry) => compareXattrs(entry, key) !== 0);
}
/** `entries` with `entry` in the place of the one of its name, or else at the end. */
function withEntry(entries: readonly XattrEntry[], entry: XattrEntry): XattrEntry[] {
  const at = entries.findIndex((each) => compareXattrs(each, entry) === 0);
  return at < 0 ? [...entries, entry] : entries.with(at, entry);
}

function isChanged(before: readonly XattrEntry[], after: readonly XattrEntry[]): boolean {
  return before.length !== after.length || before.some((entry, index) => entry !== after[index]);
}
function isInlineData(key: XattrKey): boolean {
  return compareXattrs(key, INLINE_DATA) === 0;
}
function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
/** Bytes that an entry takes in all. */
function fullSize(entry: XattrEntry): number {
  return xattrEntrySize(entry.name.length) + paddedSize(entry);
}
function paddedSize({ value }: XattrEntry): number {
  return (value.length + 3) & ~3;
}
