/**
 * Extended attributes: entries that grow from one end and values that grow from the other.
 *
 *     in the inode   | magic 4 | entry | entry | 0000 | ...free... | value | value |
 *     in a block     | header 32 | entry | entry | 0000 | ...free... | value | value |
 *
 * A value's offset counts from the first entry (inode) or from the start of the block. A value with
 * `value_inum` lies in an inode of its own instead.
 *
 * @see ext4/attributes.rst
 */
import { layout, le16, le32, setLe16, setLe32, setU8, sizeOf, u8 } from "../../base/layout.ts";
import { CorruptionError, type Place } from "../errors.ts";

// biome-ignore format: a table
export const XattrBlockHeader = layout("ext4_xattr_header", 32, {
  magic:  [0x0, "le32"],  refcount: [0x4, "le32"],  blocks: [0x8, "le32"],
  hash:   [0xc, "le32"],  checksum: [0x10, "le32"],
});

// biome-ignore format: a table
export const XattrEntryLayout = layout("ext4_xattr_entry", 16, {
  nameLen:   [0x0, "u8"],    nameIndex: [0x1, "u8"],    valueOffs: [0x2, "le16"],
  valueInum: [0x4, "le32"],  valueSize: [0x8, "le32"],  hash:      [0xc, "le32"],
});

export const XATTR_MAGIC = 0xea020000;
/** Bytes of the magic number in front of the in-inode entries. */
export const XATTR_IBODY_HEADER_SIZE = 4;
/** Longest value, wherever it is stored. @see fs/ext4/xattr.h, EXT4_XATTR_SIZE_MAX */
const VALUE_SIZE_MAX = 1 << 24;
const ENTRY_SIZE = sizeOf(XattrEntryLayout);
/** Bytes of the zeros after the last entry. */
const END_SIZE = 4;
export const XATTR_BLOCK_HEADER_SIZE = sizeOf(XattrBlockHeader);

/** Name prefixes by number. @see ext4/attributes.rst, "Attribute Name Indices" */
export const XattrIndex = {
  USER: 1,
  POSIX_ACL_ACCESS: 2,
  POSIX_ACL_DEFAULT: 3,
  TRUSTED: 4,
  SECURITY: 6,
  SYSTEM: 7,
  RICHACL: 8,
  ENCRYPTION: 9,
  HURD: 10,
} as const;

/** What an attribute is called inside of ext4. */
export interface XattrKey {
  readonly nameIndex: number;
  /** What follows the prefix. */
  readonly name: Uint8Array;
}

/** The attribute that inline contents continue in. */
export const INLINE_DATA: XattrKey = {
  nameIndex: XattrIndex.SYSTEM,
  name: Uint8Array.of(0x64, 0x61, 0x74, 0x61), // "data"
};

/** One entry, in place. */
export interface XattrEntry extends XattrKey {
  /** The inode that holds the value, or 0. */
  readonly valueInode: number;
  readonly valueSize: number;
  /** The stored value, empty when it lies in an inode. */
  readonly value: Uint8Array;
  /** Over name and value; 0 in an inode unless the value lies in another. */
  readonly hash: number;
}

/**
 * Parses the entries that begin at `first` in `bytes`; values are found from `base` on.
 *
 * @throws CorruptionError `xattr-entry` or `xattr-value` when one runs over its end or another.
 */
export function parseXattrEntries(
  bytes: Uint8Array,
  first: number,
  base: number,
  place: Place,
): XattrEntry[] {
  const E = XattrEntryLayout;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries: XattrEntry[] = [];
  let at = first;
  const isEnd = (): boolean => at + 4 > bytes.length || view.getUint32(at, true) === 0;
  while (!isEnd()) {
    const nameEnd = at + ENTRY_SIZE + u8(view, at, E.nameLen);
    if (nameEnd > bytes.length) {
      throw new CorruptionError("xattr-entry", { ...place, offset: at }, "runs over the end");
    }
    entries.push(parseEntry(bytes, view, at, base, place));
    at = (nameEnd + 3) & ~3;
  }
  for (const entry of entries) {
    if (entry.value.length > 0 && entry.value.byteOffset - bytes.byteOffset < at) {
      throw new CorruptionError("xattr-value", place, "a value lies over the entries");
    }
  }
  return entries;
}

function parseEntry(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  base: number,
  place: Place,
): XattrEntry {
  const E = XattrEntryLayout;
  const valueInode = le32(view, at, E.valueInum);
  const valueSize = le32(view, at, E.valueSize);
  const start = base + le16(view, at, E.valueOffs);
  const stored = valueInode === 0 ? valueSize : 0;
  if (valueSize > VALUE_SIZE_MAX || (stored > 0 && start + stored > bytes.length)) {
    throw new CorruptionError(
      "xattr-value",
      { ...place, offset: at },
      `${valueSize} bytes at ${start}`,
    );
  }
  const name = at + ENTRY_SIZE;
  return {
    nameIndex: u8(view, at, E.nameIndex),
    name: bytes.subarray(name, name + u8(view, at, E.nameLen)),
    valueInode,
    valueSize,
    value: stored > 0 ? bytes.subarray(start, start + stored) : bytes.subarray(0, 0),
    hash: le32(view, at, E.hash),
  };
}

/** Bytes that the entry takes away from the room at the front, name included. */
export function xattrEntrySize(nameLength: number): number {
  return padded(ENTRY_SIZE + nameLength);
}

/** Bytes that `entries` need in all: with their values, and with the zeros that end the list. */
export function xattrsSize(entries: readonly XattrEntry[]): number {
  let size = END_SIZE;
  for (const { name, value } of entries) size += xattrEntrySize(name.length) + padded(value.length);
  return size;
}

/**
 * Stores `entries` from `first` up to the end of `bytes`, in place of all that was there, which
 * they may still point into. They must fit (`xattrsSize`).
 *
 * @param base what the offsets of values count from.
 */
export function serializeXattrEntries(
  entries: readonly XattrEntry[],
  bytes: Uint8Array,
  first: number,
  base: number,
): void {
  const E = XattrEntryLayout;
  const made = new Uint8Array(bytes.length - first);
  const view = new DataView(made.buffer);
  let at = 0;
  let end = made.length;
  for (const { nameIndex, name, valueInode, valueSize, value, hash } of entries) {
    setU8(view, at, E.nameLen, name.length);
    setU8(view, at, E.nameIndex, nameIndex);
    setLe32(view, at, E.valueInum, valueInode);
    setLe32(view, at, E.valueSize, valueSize);
    setLe32(view, at, E.hash, hash);
    made.set(name, at + ENTRY_SIZE);
    if (value.length > 0) {
      end -= padded(value.length);
      made.set(value, end);
      setLe16(view, at, E.valueOffs, first + end - base);
    }
    at += xattrEntrySize(name.length);
  }
  bytes.set(made, first);
}

/**
 * The order of the entries in a block, which is also how a search knows that there is none: negative
 * when `a` comes first, 0 when both are the same.
 */
export function compareXattrs(a: XattrKey, b: XattrKey): number {
  const difference = a.nameIndex - b.nameIndex || a.name.length - b.name.length;
  if (difference !== 0) return difference;
  const at = a.name.findIndex((byte, index) => byte !== b.name[index]);
  return at < 0 ? 0 : (a.name[at] as number) - (b.name[at] as number);
}

/**
 * The hash of an entry over its name, whose bytes count as unsigned, and the 32-bit words of its
 * value, the last one filled up with zeros. For a value in an inode the one word is its crc32c.
 *
 * @see fs/ext4/xattr.c, ext4_xattr_hash_entry
 */
export function hashXattr(name: Uint8Array, value: Uint8Array): number {
  let hash = 0;
  for (const byte of name) hash = (hash << 5) ^ (hash >>> 27) ^ byte;
  for (let at = 0; at < value.length; at += 4) {
    let word = 0;
    for (let index = 0; index < 4; index++) word |= (value[at + index] ?? 0) << (8 * index);
    hash = (hash << 16) ^ (hash >>> 16) ^ word;
  }
  return hash >>> 0;
}

/** The hash of a block of `entries`; 0 says that it must not be shared. */
export function hashXattrBlock(entries: readonly XattrEntry[]): number {
  let hash = 0;
  for (const entry of entries) {
    if (entry.hash === 0) return 0;
    hash = (hash << 16) ^ (hash >>> 16) ^ entry.hash;
  }
  return hash >>> 0;
}

/** Entries and values begin at multiples of four. */
const padded = (length: number): number => (length + 3) & ~3;
