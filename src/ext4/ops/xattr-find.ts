/** Finds attributes of an inode, wherever they are stored. */
import type { Filesystem } from "../filesystem.ts";
import type { Inode } from "../format/inode.ts";
import { compareXattrs, type XattrEntry, type XattrKey } from "../format/xattr.ts";
import { blockXattrs, inodeXattrs } from "./xattr-entries.ts";
import { readValueInode } from "./xattr-value-inode.ts";

/** The entry of `key` among `entries`, or undefined. */
export function findXattr(entries: readonly XattrEntry[], key: XattrKey): XattrEntry | undefined {
  return entries.find((entry) => compareXattrs(entry, key) === 0);
}

function findEntry(fs: Filesystem, inode: Inode, key: XattrKey): XattrEntry | undefined {
  return findXattr(inodeXattrs(inode), key) ?? findXattr(blockXattrs(fs, inode), key);
}

export function hasXattr(fs: Filesystem, inode: Inode, key: XattrKey): boolean {
  return findEntry(fs, inode, key) !== undefined;
}

/** The value of the attribute `key` of `inode`, or undefined when it has none of that name. */
export function findValue(fs: Filesystem, inode: Inode, key: XattrKey): Uint8Array | undefined {
  const entry = findEntry(fs, inode, key);
  if (entry === undefined) return undefined;
  return entry.valueInode === 0 ? entry.value : readValueInode(fs, inode, entry);
}
