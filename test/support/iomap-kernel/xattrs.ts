/** Extended attributes; ACLs among them, which take the kernel's own way in exclusive directories. */

import { Errno, FileType, InitFlag, Opcode } from "./abi.ts";
import { ACCESS_ACL, DEFAULT_ACL, modeOfAcl } from "./acl.ts";
import { chmod } from "./attributes.ts";
import type { Inode } from "./inode.ts";
import { isErrno } from "./mapping.ts";
import { type Mount, refuse } from "./mount.ts";
import { noteChange } from "./setattr.ts";
import { Body, bytesOf, textOf } from "./wire.ts";

const VALUE_BYTES_MAX = 65536;
const LIST_BYTES_MAX = 65536;

/** Whether the kernel handles the ACLs of `inode` itself. */
export const hasLocalAcls = (mount: Mount, inode: Inode): boolean =>
  inode.isExclusive && mount.connection.has(InitFlag.POSIX_ACL);

const isAcl = (name: string): boolean => name === ACCESS_ACL || name === DEFAULT_ACL;

/** @returns undefined when there is none of that name. */
export function getXattr(mount: Mount, inode: Inode, name: string): Uint8Array | undefined {
  if (isAcl(name) && inode.acls.has(name)) return inode.acls.get(name);
  const value = askForXattr(mount, inode, name);
  if (isAcl(name)) inode.acls.set(name, value);
  return value;
}

function askForXattr(mount: Mount, inode: Inode, name: string): Uint8Array | undefined {
  const body = new Body().u32(VALUE_BYTES_MAX).u32(0).name(bytesOf(name));
  try {
    const size = { max: VALUE_BYTES_MAX };
    return mount.askIfAble(Opcode.GETXATTR, inode.node, body, size)?.bytes;
  } catch (error) {
    if (isErrno(error, Errno.ENODATA, Errno.EOPNOTSUPP)) return undefined;
    throw error;
  }
}

export function listXattrs(mount: Mount, inode: Inode): string[] {
  const body = new Body().u32(LIST_BYTES_MAX).u32(0);
  const list = mount.askIfAble(Opcode.LISTXATTR, inode.node, body, { max: LIST_BYTES_MAX });
  return list === undefined ? [] : textOf(list.bytes).split("\0").slice(0, -1);
}

export function setXattr(
  mount: Mount,
  inode: Inode,
  name: string,
  value: Uint8Array,
  flags = 0,
): void {
  refuseNamespace(inode, name);
  if (name === ACCESS_ACL && hasLocalAcls(mount, inode)) setAccessAcl(mount, inode, value);
  else sendSetXattr(mount, inode, name, value, flags);
}

/** "user." is for what has contents. @see fs/xattr.c, xattr_permission */
function refuseNamespace(inode: Inode, name: string): void {
  if (name.startsWith("user.") && !inode.isRegular && !inode.isDirectory) refuse(Errno.EPERM);
}

/** Sends SETXATTR as it is. */
export function sendSetXattr(
  mount: Mount,
  inode: Inode,
  name: string,
  value: Uint8Array,
  flags: number,
): void {
  const body = new Body().u32(value.length).u32(flags);
  if (mount.connection.has(InitFlag.SETXATTR_EXT)) body.u32(0).u32(0);
  body.name(bytesOf(name)).raw(value);
  if (mount.askIfAble(Opcode.SETXATTR, inode.node, body) === undefined) refuse(Errno.EOPNOTSUPP);
  if (isAcl(name)) inode.acls.set(name, value.slice());
  noteChange(mount, inode);
  // The server may have changed the mode, and has changed ctime.
  inode.attributesAreValid = false;
}

/** Expressed as mode bits if it can be; as an xattr otherwise. */
function setAccessAcl(mount: Mount, inode: Inode, value: Uint8Array): void {
  const { bits, isExtended } = modeOfAcl(value);
  const mode = (inode.mode & ~FileType.MASK & ~0o777) | bits;
  if (isExtended) sendSetXattr(mount, inode, ACCESS_ACL, value, 0);
  else {
    try {
      sendRemoveXattr(mount, inode, ACCESS_ACL);
    } catch (error) {
      if (!isErrno(error, Errno.ENODATA)) throw error;
    }
  }
  if (mode !== (inode.mode & 0o7777) || !isExtended) chmod(mount, inode, mode);
}

export function removeXattr(mount: Mount, inode: Inode, name: string): void {
  refuseNamespace(inode, name);
  sendRemoveXattr(mount, inode, name);
}

function sendRemoveXattr(mount: Mount, inode: Inode, name: string): void {
  const body = new Body().name(bytesOf(name));
  if (mount.askIfAble(Opcode.REMOVEXATTR, inode.node, body) === undefined) refuse(Errno.EOPNOTSUPP);
  inode.acls.delete(name);
  noteChange(mount, inode);
  inode.attributesAreValid = false;
}
