/**
 * POSIX ACLs as attributes: set by users, inherited by new inodes, and kept in step with the mode.
 *
 * An access ACL that says no more than the permission bits is not stored.
 *
 * @see fs/ext4/acl.c; fs/posix_acl.c
 */
import { Errno } from "../../base/errno.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import {
  type AclEntry,
  aclMaskedBy,
  aclWithMode,
  isExtended,
  modeFromAcl,
  parseAcl,
  serializeAcl,
  verifyAcl,
} from "../format/acl.ts";
import { FileType, type Inode } from "../format/inode.ts";
import { XattrIndex } from "../format/xattr.ts";
import type { Tx } from "../journal/transaction.ts";
import { findValue } from "./xattr-find.ts";
import { storeXattr } from "./xattr-store.ts";

/** ACLs have no name but that of their index. */
const NAME = new Uint8Array();
const MODE_SETGID = 0o2000;

/**
 * Sets an ACL of `inode`, or removes it when `acl` is undefined. An access ACL sets the permission
 * bits; removing one leaves them.
 *
 * @param nameIndex POSIX_ACL_ACCESS or POSIX_ACL_DEFAULT.
 * @throws FsError EOPNOTSUPP on a symlink, EACCES for a default ACL of anything but a directory,
 *   EINVAL when `acl` is not sound.
 */
export function setAcl(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  nameIndex: number,
  acl: readonly AclEntry[] | undefined,
  killSetgid: boolean,
): void {
  if (inode.isSymlink) throw new FsError(Errno.EOPNOTSUPP, "symlinks have no ACLs");
  const isAccess = nameIndex === XattrIndex.POSIX_ACL_ACCESS;
  if (!isAccess && !inode.isDirectory) {
    if (acl === undefined) return;
    throw new FsError(Errno.EACCES, "only directories have default ACLs");
  }
  if (acl !== undefined) verifyAcl(acl);
  if (!isAccess || acl === undefined) {
    if (storeAcl(fs, tx, inode, nameIndex, acl)) tx.edit(inode).changedAt = tx.now;
    return;
  }
  const permitted = modeFromAcl(acl, inode.mode);
  const mode = killSetgid ? permitted & ~MODE_SETGID : permitted;
  const isStored = storeAcl(fs, tx, inode, nameIndex, isExtended(acl) ? acl : undefined);
  if (!isStored && mode === inode.mode) return;
  tx.edit(inode);
  inode.mode = mode;
  inode.changedAt = tx.now;
}

/**
 * Gives a new inode the ACLs that the default ACL of its parent asks for.
 *
 * @param mode with type bits, as the caller of mkdir(2) or open(2) wants it.
 * @returns the mode that the inode shall have: without what the default ACL or, when there is none,
 *   the umask takes away. It is not stored.
 */
export function inheritAcl(
  fs: Filesystem,
  tx: Tx,
  parent: Inode,
  child: Inode,
  mode: number,
  { umask, ignoresAcl = false }: { readonly umask: number; readonly ignoresAcl?: boolean },
): number {
  const type = mode & FileType.MASK;
  if (type === FileType.SYMLINK) return mode;
  const acl = ignoresAcl ? undefined : loadAcl(fs, parent, XattrIndex.POSIX_ACL_DEFAULT);
  if (acl === undefined) return mode & ~umask;
  if (type === FileType.DIRECTORY) storeAcl(fs, tx, child, XattrIndex.POSIX_ACL_DEFAULT, acl);
  const access = aclMaskedBy(acl, mode);
  if (isExtended(access)) storeAcl(fs, tx, child, XattrIndex.POSIX_ACL_ACCESS, access);
  return modeFromAcl(access, mode);
}

/**
 * Sets the permission bits of `inode` as chmod(2) does, and those of its access ACL if it has one.
 *
 * @param permissions the twelve bits below the type.
 */
export function changeModeWithAcl(fs: Filesystem, tx: Tx, inode: Inode, permissions: number): void {
  tx.edit(inode).mode = inode.type | permissions;
  if (inode.isSymlink) return;
  const acl = loadAcl(fs, inode, XattrIndex.POSIX_ACL_ACCESS);
  if (acl === undefined) return;
  const changed = aclWithMode(acl, permissions);
  const stored = isExtended(changed) ? changed : undefined;
  storeAcl(fs, tx, inode, XattrIndex.POSIX_ACL_ACCESS, stored);
}

function loadAcl(fs: Filesystem, inode: Inode, nameIndex: number): AclEntry[] | undefined {
  const stored = findValue(fs, inode, { nameIndex, name: NAME });
  if (stored === undefined) return undefined;
  const acl = parseAcl(stored, { inode: inode.number });
  return acl.length === 0 ? undefined : acl;
}

function storeAcl(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  nameIndex: number,
  acl: readonly AclEntry[] | undefined,
): boolean {
  const value = acl === undefined ? undefined : serializeAcl(acl);
  return storeXattr(fs, tx, inode, nameIndex, NAME, value);
}
