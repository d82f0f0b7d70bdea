/**
 * The operations on extended attributes.
 *
 * Outside, an attribute has the name that getxattr(2) knows (`user.mime_type`); inside, a number
 * for the prefix and the rest of the name. POSIX ACLs have a number of their own and no rest.
 *
 * @see ext4/attributes.rst; fs/ext4/xattr.c
 */
import { Errno } from "../../base/errno.ts";
import type { InodeNumber } from "../../base/numbers.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { aclFromXattr, aclToXattr } from "../format/acl.ts";
import { Incompat } from "../format/features.ts";
import { type Inode, InodeFlags } from "../format/inode.ts";
import { XattrIndex, type XattrKey } from "../format/xattr.ts";
import type { Tx } from "../journal/transaction.ts";
import { setAcl } from "./acl.ts";
import { change } from "./change.ts";
import { expandExtraSize } from "./extra-size.ts";
import { blockXattrs, inodeXattrs } from "./xattr-entries.ts";
import { findValue, hasXattr } from "./xattr-find.ts";
import { storeXattr } from "./xattr-store.ts";

/** Longest name after its prefix. @see include/uapi/linux/limits.h, XATTR_NAME_MAX */
const NAME_MAX = 255;
/** Longest value of setxattr(2). @see include/uapi/linux/limits.h, XATTR_SIZE_MAX */
const VALUE_SIZE_MAX = 65536;

interface Namespace {
  readonly index: number;
  readonly prefix: Uint8Array;
  /** True when the prefix is the whole name. */
  readonly exact: boolean;
}

/** The prefixes that a user sees; others (`system.data`, encryption contexts) stay inside. */
const NAMESPACES: readonly Namespace[] = [
  { index: XattrIndex.USER, prefix: ascii("user."), exact: false },
  { index: XattrIndex.POSIX_ACL_ACCESS, prefix: ascii("system.posix_acl_access"), exact: true },
  { index: XattrIndex.POSIX_ACL_DEFAULT, prefix: ascii("system.posix_acl_default"), exact: true },
  { index: XattrIndex.TRUSTED, prefix: ascii("trusted."), exact: false },
  { index: XattrIndex.SECURITY, prefix: ascii("security."), exact: false },
  { index: XattrIndex.HURD, prefix: ascii("gnu."), exact: false },
];

/**
 * The value of the attribute `name` of inode `number`, or undefined when it has none of that name.
 *
 * @param name with its prefix, as getxattr(2) takes it.
 * @throws FsError EOPNOTSUPP for a prefix that ext4 does not store, ERANGE for too long a name.
 */
export function getXattr(
  fs: Filesystem,
  number: InodeNumber,
  name: Uint8Array,
): Uint8Array | undefined {
  const { namespace, key } = resolve(name);
  const value = findValue(fs, fs.inode(number), key);
  if (value === undefined) return undefined;
  return namespace.exact ? aclToXattr(value, { inode: number }) : value.slice();
}

/** The names of all attributes of inode `number`, each followed by a zero byte. */
export function listXattrs(fs: Filesystem, number: InodeNumber): Uint8Array {
  const inode = fs.inode(number);
  const names: Uint8Array[] = [];
  for (const entry of [...inodeXattrs(inode), ...blockXattrs(fs, inode)]) {
    const namespace = NAMESPACES.find(({ index }) => index === entry.nameIndex);
    if (namespace === undefined) continue;
    if (namespace.exact !== (entry.name.length === 0)) continue;
    names.push(namespace.prefix, entry.name, Uint8Array.of(0));
  }
  return concatenated(names);
}

/** How setxattr(2) is told what may be there already: 1 nothing (CREATE), 2 something (REPLACE). */
export const XattrFlags = { CREATE: 1, REPLACE: 2 } as const;

export interface XattrSetting {
  /** One of `XattrFlags`, or 0. ACLs are set whatever it says. */
  readonly flags: number;
  /** The caller is not in the group of the file: setting its ACL takes setgid away. */
  readonly killSetgid?: boolean;
}

/**
 * Sets the attribute `name` of inode `number` to `value`. An access ACL changes the mode as well.
 *
 * @param name with its prefix, as setxattr(2) takes it.
 * @throws FsError as setxattr(2) does: EEXIST, ENODATA, ENOSPC, E2BIG, ERANGE, EOPNOTSUPP, EPERM;
 *   for ACLs EINVAL, and EACCES for a default ACL of anything but a directory.
 */
export function setXattr(
  fs: Filesystem,
  number: InodeNumber,
  name: Uint8Array,
  value: Uint8Array,
  { flags, killSetgid = false }: XattrSetting,
): void {
  if (value.length > VALUE_SIZE_MAX) throw new FsError(Errno.E2BIG, "xattr value too long");
  const { namespace, key } = resolve(name);
  const acl = namespace.exact ? aclFromXattr(value) : undefined;
  change(fs, creditsFor(fs, value.length), (tx) => {
    const inode = changeable(fs, tx, number);
    if (namespace.exact) {
      setAcl(fs, tx, inode, key.nameIndex, acl, killSetgid);
      return;
    }
    const exists = hasXattr(fs, inode, key);
    if (exists && flags === XattrFlags.CREATE) throw new FsError(Errno.EEXIST, "xattr exists");
    if (!exists && flags === XattrFlags.REPLACE) throw new FsError(Errno.ENODATA, "no such xattr");
    if (!storeXattr(fs, tx, inode, key.nameIndex, key.name, value)) return;
    tx.edit(inode).changedAt = tx.now;
  });
}

/**
 * Removes the attribute `name` of inode `number`.
 *
 * @throws FsError ENODATA when there is none, unless it is an ACL; EOPNOTSUPP, ERANGE, EPERM.
 */
export function removeXattr(fs: Filesystem, number: InodeNumber, name: Uint8Array): void {
  const { namespace, key } = resolve(name);
  change(fs, creditsFor(fs, 0), (tx) => {
    const inode = changeable(fs, tx, number);
    if (namespace.exact) {
      setAcl(fs, tx, inode, key.nameIndex, undefined, false);
      return;
    }
    if (!storeXattr(fs, tx, inode, key.nameIndex, key.name, undefined)) {
      throw new FsError(Errno.ENODATA, "no such xattr");
    }
    tx.edit(inode).changedAt = tx.now;
    expandExtraSize(fs, tx, inode);
  });
}

/**
 * The inode, an xattr block that is left and one that is new, with their bitmaps and descriptors;
 * the superblock. A value in an inode of its own takes that inode, its blocks and one of its map,
 * and for each of them, at the worst, a bitmap and a descriptor; the value before may free as many.
 */
function creditsFor({ superblock }: Filesystem, valueSize: number): number {
  const base = 8;
  if (!superblock.hasIncompat(Incompat.EA_INODE)) return base;
  const blocks = Math.ceil(valueSize / superblock.blockSize) + 1;
  const blocksBefore = Math.ceil(VALUE_SIZE_MAX / superblock.blockSize) + 1;
  return base + 2 * 4 + 3 * blocks + 2 * Math.min(blocksBefore, superblock.groupCount);
}

/** The inode `number`, to be changed by `tx`. @throws FsError EPERM when it may not be. */
function changeable(fs: Filesystem, tx: Tx, number: InodeNumber): Inode {
  const inode = fs.inode(number);
  if (inode.hasFlag(InodeFlags.IMMUTABLE | InodeFlags.APPEND)) {
    throw new FsError(Errno.EPERM, `inode ${number} is immutable or append-only`);
  }
  if (inode.hasFlag(InodeFlags.SYNC)) tx.commitAtEnd();
  return inode;
}

function resolve(name: Uint8Array): { namespace: Namespace; key: XattrKey } {
  const namespace = NAMESPACES.find((each) => belongsTo(name, each));
  if (namespace === undefined) throw new FsError(Errno.EOPNOTSUPP, "no such xattr namespace");
  const rest = name.subarray(namespace.prefix.length);
  if (rest.length > NAME_MAX) throw new FsError(Errno.ERANGE, "xattr name too long");
  return { namespace, key: { nameIndex: namespace.index, name: rest } };
}

function belongsTo(name: Uint8Array, { prefix, exact }: Namespace): boolean {
  const fits = exact ? name.length === prefix.length : name.length > prefix.length;
  return fits && startsWith(name, prefix);
}

function startsWith(name: Uint8Array, prefix: Uint8Array): boolean {
  for (let index = 0; index < prefix.length; index++) {
    if (name[index] !== prefix[index]) return false;
  }
  return true;
}

function concatenated(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
