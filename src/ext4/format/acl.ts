/**
 * POSIX ACLs: ext4 stores a compact form, the kernel's xattr interface speaks a regular one.
 *
 *     stored   version 1:  le32 1, then  tag le16, perm le16 [, id le32 for a named user or group]
 *     xattr    version 2:  le32 2, then  tag le16, perm le16, id le32 (all ones where unnamed)
 *
 * An ACL and the permission bits of its inode say the same about owner, group and others; with a
 * mask, the group bits are the mask's.
 *
 * @see fs/ext4/acl.h; include/uapi/linux/posix_acl_xattr.h; fs/posix_acl.c
 */
import { Errno } from "../../base/errno.ts";
import { CorruptionError, FsError, type Place } from "../errors.ts";

const STORED_VERSION = 1;
const XATTR_VERSION = 2;
const HEADER_SIZE = 4;
const SHORT_ENTRY_SIZE = 4;
const ENTRY_SIZE = 8;
const UNDEFINED_ID = 0xffff_ffff;
/** @see include/uapi/linux/posix_acl.h */
const Tag = { USER_OBJ: 1, USER: 2, GROUP_OBJ: 4, GROUP: 8, MASK: 0x10, OTHER: 0x20 } as const;
/** The permission bits of an entry: read, write, execute. */
const PERMISSIONS = 7;
/** The permission bits of a mode. */
const MODE_PERMISSIONS = 0o777;

/** Who may do what. */
export interface AclEntry {
  readonly tag: number;
  readonly permissions: number;
  /** Of a named user or group; all ones otherwise. */
  readonly id: number;
}

/** Parses an ACL that an inode has. @throws CorruptionError `acl`. */
export function parseAcl(stored: Uint8Array, place: Place): AclEntry[] {
  const view = new DataView(stored.buffer, stored.byteOffset, stored.byteLength);
  if (stored.length < HEADER_SIZE || view.getUint32(0, true) !== STORED_VERSION) {
    throw new CorruptionError("acl", place, "not a version 1 ACL");
  }
  const entries: AclEntry[] = [];
  let at = HEADER_SIZE;
  while (at < stored.length) {
    const left = stored.length - at;
    const tag = left >= SHORT_ENTRY_SIZE ? view.getUint16(at, true) : 0;
    const size = isNamed(tag) ? ENTRY_SIZE : SHORT_ENTRY_SIZE;
    if (left < size || !Object.values<number>(Tag).includes(tag)) {
      throw new CorruptionError("acl", { ...place, offset: at }, `tag ${tag}, ${left} bytes left`);
    }
    const id = isNamed(tag) ? view.getUint32(at + 4, true) : UNDEFINED_ID;
    entries.push({ tag, permissions: view.getUint16(at + 2, true), id });
    at += size;
  }
  return entries;
}

/** What an inode stores of `acl`. */
export function serializeAcl(acl: readonly AclEntry[]): Uint8Array {
  const size = acl.reduce(
    (sum, { tag }) => sum + (isNamed(tag) ? ENTRY_SIZE : SHORT_ENTRY_SIZE),
    0,
  );
  const stored = new Uint8Array(HEADER_SIZE + size);
  const view = new DataView(stored.buffer);
  view.setUint32(0, STORED_VERSION, true);
  let at = HEADER_SIZE;
  for (const { tag, permissions, id } of acl) {
    view.setUint16(at, tag, true);
    view.setUint16(at + 2, permissions, true);
    if (isNamed(tag)) view.setUint32(at + 4, id, true);
    at += isNamed(tag) ? ENTRY_SIZE : SHORT_ENTRY_SIZE;
  }
  return stored;
}

/** Turns a stored ACL into what `getxattr("system.posix_acl_…")` returns. */
export function aclToXattr(stored: Uint8Array, place: Place): Uint8Array {
  const acl = parseAcl(stored, place);
  const xattr = new Uint8Array(HEADER_SIZE + ENTRY_SIZE * acl.length);
  const view = new DataView(xattr.buffer);
  view.setUint32(0, XATTR_VERSION, true);
  acl.forEach(({ tag, permissions, id }, index) => {
    const at = HEADER_SIZE + ENTRY_SIZE * index;
    view.setUint16(at, tag, true);
    view.setUint16(at + 2, permissions, true);
    view.setUint32(at + 4, id, true);
  });
  return xattr;
}

/**
 * Parses what setxattr(2) was given as an ACL: undefined, for none, when it has no entries or there
 * are no bytes at all.
 *
 * @throws FsError EOPNOTSUPP for another version, EINVAL when it does not consist of entries.
 */
export function aclFromXattr(xattr: Uint8Array): AclEntry[] | undefined {
  const view = new DataView(xattr.buffer, xattr.byteOffset, xattr.byteLength);
  if (xattr.length === 0) return undefined;
  if (xattr.length < HEADER_SIZE) throw new FsError(Errno.EINVAL, "an ACL without a version");
  if (view.getUint32(0, true) !== XATTR_VERSION) {
    throw new FsError(Errno.EOPNOTSUPP, "an ACL of another version");
  }
  if ((xattr.length - HEADER_SIZE) % ENTRY_SIZE !== 0) {
    throw new FsError(Errno.EINVAL, "half an ACL entry");
  }
  if (xattr.length === HEADER_SIZE) return undefined;
  const acl: AclEntry[] = [];
  for (let at = HEADER_SIZE; at < xattr.length; at += ENTRY_SIZE) {
    const tag = view.getUint16(at, true);
    const id = isNamed(tag) ? view.getUint32(at + 4, true) : UNDEFINED_ID;
    if (!Object.values<number>(Tag).includes(tag) || (isNamed(tag) && id === UNDEFINED_ID)) {
      throw new FsError(Errno.EINVAL, `an ACL entry with tag ${tag}, id ${id}`);
    }
    acl.push({ tag, permissions: view.getUint16(at + 2, true), id });
  }
  return acl;
}

/** @throws FsError EINVAL unless the entries are those that an ACL must have, in order. */
export function verifyAcl(acl: readonly AclEntry[]): void {
  if (!isSound(acl)) throw new FsError(Errno.EINVAL, "the entries make no ACL");
}

/** The tags in the one order that they may have; of the named ones there may be none or several. */
const ORDER = [Tag.USER_OBJ, Tag.USER, Tag.GROUP_OBJ, Tag.GROUP, Tag.MASK, Tag.OTHER] as const;

/** Whether every entry is there that must be, once, and ids ascend. */
function isSound(acl: readonly AclEntry[]): boolean {
  const count = (tag: number): number => acl.filter((entry) => entry.tag === tag).length;
  const hasNamed = count(Tag.USER) + count(Tag.GROUP) > 0;
  if (count(Tag.USER_OBJ) !== 1 || count(Tag.GROUP_OBJ) !== 1 || count(Tag.OTHER) !== 1) {
    return false;
  }
  if (count(Tag.MASK) > 1 || (hasNamed && count(Tag.MASK) === 0)) return false;
  return acl.every(({ tag, permissions, id }, index) => {
    const place = ORDER.indexOf(tag as (typeof ORDER)[number]);
    if (place < 0 || (permissions & ~PERMISSIONS) !== 0) return false;
    const before = acl[index - 1];
    if (before === undefined) return true;
    const placeBefore = ORDER.indexOf(before.tag as (typeof ORDER)[number]);
    return placeBefore < place || (before.tag === tag && before.id < id);
  });
}

/** True when the ACL says more than nine permission bits can. */
export function isExtended(acl: readonly AclEntry[]): boolean {
  return acl.some(({ tag }) => tag === Tag.MASK || isNamed(tag));
}

/** `mode` with the permissions that `acl` gives to owner, group (or mask) and others. */
export function modeFromAcl(acl: readonly AclEntry[], mode: number): number {
  const groupTag = groupTagOf(acl);
  let permissions = 0;
  for (const entry of acl) {
    const shift = shiftOf(entry.tag, groupTag);
    if (shift !== undefined) permissions |= (entry.permissions & PERMISSIONS) << shift;
  }
  return (mode & ~MODE_PERMISSIONS) | permissions;
}

/** The ACL after chmod(2) to `mode`. @see fs/posix_acl.c, __posix_acl_chmod_masq */
export function aclWithMode(acl: readonly AclEntry[], mode: number): AclEntry[] {
  const groupTag = groupTagOf(acl);
  return acl.map((entry) => {
    const shift = shiftOf(entry.tag, groupTag);
    return shift === undefined ? entry : { ...entry, permissions: (mode >> shift) & PERMISSIONS };
  });
}

/**
 * The access ACL of a new inode whose parent has the default ACL `acl`: it allows what both the
 * ACL and `mode` allow. @see fs/posix_acl.c, posix_acl_create_masq
 */
export function aclMaskedBy(acl: readonly AclEntry[], mode: number): AclEntry[] {
  const groupTag = groupTagOf(acl);
  return acl.map((entry) => {
    const shift = shiftOf(entry.tag, groupTag);
    return shift === undefined
      ? entry
      : { ...entry, permissions: entry.permissions & (mode >> shift) & PERMISSIONS };
  });
}

/** The entry that the group bits of the mode stand for: the mask if there is one. */
function groupTagOf(acl: readonly AclEntry[]): number {
  return acl.some(({ tag }) => tag === Tag.MASK) ? Tag.MASK : Tag.GROUP_OBJ;
}

/** Where in a mode the permissions of an entry lie, or undefined when they do not lie there. */
function shiftOf(tag: number, groupTag: number): number | undefined {
  if (tag === Tag.USER_OBJ) return 6;
  if (tag === groupTag) return 3;
  return tag === Tag.OTHER ? 0 : undefined;
}

function isNamed(tag: number): boolean {
  return tag === Tag.USER || tag === Tag.GROUP;
}
