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
import { layout, le16, le32, sizeOf, u8 } from "../../base/layout.ts";
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

/** One entry, in place. */
export interface XattrEntry {
  readonly nameIndex: number;
  readonly name: Uint8Array;
  /** The inode that holds the value, or 0. */
  readonly valueInode: number;
  readonly valueSize: number;
  /** The stored value, empty when it lies in an inode. */
  readonly value: Uint8Array;
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
  };
}
