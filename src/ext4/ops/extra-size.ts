/**
 * Gives older inodes the newer fields, `i_extra_isize` bytes of them, that new ones have. The
 * in-inode xattrs, which lie behind them, have to make room.
 *
 * @see fs/ext4/xattr.c, ext4_expand_extra_isize_ea
 */
import { Errno } from "../../base/errno.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { CLASSIC_INODE_SIZE, type Inode, wantedExtraSize } from "../format/inode.ts";
import { XATTR_IBODY_HEADER_SIZE, xattrsSize } from "../format/xattr.ts";
import type { Tx } from "../journal/transaction.ts";
import { inodeXattrs, storeInodeXattrs } from "./xattr-entries.ts";
import { moveOutOfInode } from "./xattr-store.ts";

/**
 * Gives `inode` the extra fields that new inodes have. Attributes that have no room behind them any
 * more move to the xattr block; when they cannot, the inode grows less or not at all.
 */
export function expandExtraSize(fs: Filesystem, tx: Tx, inode: Inode): void {
  const wanted = wantedExtraSize(fs.superblock);
  for (const size of [wanted, Math.min(wanted, fs.superblock.minExtraSize & ~3)]) {
    if (inode.extraSize >= size) return;
    if (!makeRoom(fs, tx, inode, size)) continue;
    const entries = inodeXattrs(inode);
    const { raw } = tx.edit(inode);
    const { buffer, byteOffset } = raw;
    const at = CLASSIC_INODE_SIZE + inode.extraSize;
    const rest = new Uint8Array(buffer, byteOffset + at, raw.byteLength - at);
    const values = entries.map((entry) => ({
      ...entry,
      name: entry.name.slice(),
      value: entry.value.slice(),
    }));
    rest.fill(0);
    inode.extraSize = size;
    if (values.length > 0) storeInodeXattrs(inode, values);
    return;
  }
}

/** Moves attributes out of the inode until the others fit behind `extraSize` bytes of fields. */
function makeRoom(fs: Filesystem, tx: Tx, inode: Inode, extraSize: number): boolean {
  const room = inode.raw.byteLength - CLASSIC_INODE_SIZE - extraSize - XATTR_IBODY_HEADER_SIZE;
  for (;;) {
    const entries = inodeXattrs(inode);
    const missing = xattrsSize(entries) - room;
    if (entries.length === 0 || missing <= 0) return true;
    try {
      if (!moveOutOfInode(fs, tx, inode, missing)) return false;
    } catch (error) {
      if (error instanceof FsError && error.errno === Errno.ENOSPC) return false;
      throw error;
    }
  }
}
