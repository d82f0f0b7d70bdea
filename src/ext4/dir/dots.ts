/** The entries "." and "..": how a directory begins, and where it lies. */
import type { InodeNumber } from "../../base/numbers.ts";
import type { Filesystem } from "../filesystem.ts";
import { setDots } from "../format/dirent.ts";
import { Incompat } from "../format/features.ts";
import { type Inode, InodeFlags } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { directoryOf } from "./contents.ts";
import { appendEntries } from "./growth.ts";
import { makeInlineDirectory } from "./inline-directory.ts";

/**
 * Makes a new inode, whose map of blocks is empty, an empty directory: inline where the filesystem
 * has that and the inode has room for it, otherwise with one block. Sets its size.
 *
 * @throws FsError ENOSPC.
 */
export function initDirectory(fs: Filesystem, tx: Tx, inode: Inode, parent: InodeNumber): void {
  tx.edit(inode);
  const mayBeInline =
    fs.superblock.hasIncompat(Incompat.INLINE_DATA) && !inode.hasFlag(InodeFlags.ENCRYPT);
  if (mayBeInline && makeInlineDirectory(fs, tx, inode, parent)) return;
  const directory = directoryOf(fs, inode);
  const block = appendEntries(tx, directory);
  const self = { inode: inode.number, mode: inode.mode };
  setDots(block, directory.endOf(0), directory.format, self, parent);
}

/** Lets ".." of `directory` name the inode `parent`. */
export function setParent(fs: Filesystem, tx: Tx, directory: Inode, parent: InodeNumber): void {
  directoryOf(fs, directory).setParent(tx, parent);
}
