/**
 * Names: everything that makes, moves and removes them, and listings. What the VFS refuses before it
 * asks is refused here.
 *
 * @see fs/namei.c
 */

import { Errno, FileType, InitFlag, Opcode, ROOT_NODE } from "./abi.ts";
import { ACCESS_ACL, DEFAULT_ACL, inherit } from "./acl.ts";
import type { Inode } from "./inode.ts";
import { type Mount, refuse } from "./mount.ts";
import { noteChange } from "./setattr.ts";
import { Body, bytesOf, type Fields, textOf } from "./wire.ts";
import { getXattr, hasLocalAcls, sendSetXattr } from "./xattrs.ts";

const ENTRY_BYTES = 128;
const OPEN_OUT_BYTES = 16;
const LISTING_BYTES = 32768;
const DIRENT_BYTES = 24;
const O_WRONLY = 1;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_TMPFILE = 0o20200000;

export const RenameFlag = { NOREPLACE: 1, EXCHANGE: 2, WHITEOUT: 4 } as const;

export interface NewNode {
  /** With the type. */
  readonly mode: number;
  readonly umask?: number;
  /** As MKNOD encodes it. */
  readonly rdev?: number;
}

/** A mode to send, and ACLs to set afterwards. */
interface Prepared {
  readonly mode: number;
  readonly acls: readonly (readonly [name: string, value: Uint8Array])[];
}

/** What a child of `parent` is made with: the kernel's work in exclusive directories. */
function prepare(mount: Mount, parent: Inode, { mode, umask = 0 }: NewNode): Prepared {
  const type = mode & FileType.MASK;
  if (!hasLocalAcls(mount, parent)) {
    const isMasked = !mount.connection.has(InitFlag.DONT_MASK);
    return { mode: isMasked && type !== FileType.LINK ? mode & ~umask : mode, acls: [] };
  }
  if (type === FileType.LINK) return { mode, acls: [] };
  const given = getXattr(mount, parent, DEFAULT_ACL);
  if (given === undefined) return { mode: mode & ~umask, acls: [] };
  const { mode: final, access } = inherit(given, mode);
  const acls: [string, Uint8Array][] = [];
  if (type === FileType.DIRECTORY) acls.push([DEFAULT_ACL, given]);
  if (access !== undefined) acls.push([ACCESS_ACL, access]);
  return { mode: final, acls };
}

/** Takes the reply to a request that has made `name`. */
function made(mount: Mount, parent: Inode, name: string | undefined, reply: Fields, how: Prepared) {
  const inode = mount.takeEntry(reply);
  if (inode === undefined) return refuse(Errno.EIO, "a new node without an id");
  if (name !== undefined) mount.enter(parent, name, inode);
  parent.attributesAreValid = false;
  for (const [acl, value] of how.acls) sendSetXattr(mount, inode, acl, value, 0);
  return inode;
}

function refuseExisting(mount: Mount, parent: Inode, name: string): void {
  if (!parent.isDirectory) refuse(Errno.ENOTDIR);
  if (mount.lookup(parent, name) !== undefined) refuse(Errno.EEXIST);
}

/** A regular file, by CREATE if the server has it, and by MKNOD. */
export function create(mount: Mount, parent: Inode, name: string, node: NewNode): Inode {
  refuseExisting(mount, parent, name);
  const how = prepare(mount, parent, node);
  // create_in: flags 0 u32, mode 4, umask 8, open_flags 12; the name.
  const body = new Body()
    .u32(O_WRONLY | O_CREAT | O_EXCL)
    .u32(how.mode)
    .u32(node.umask ?? 0)
    .u32(0);
  body.name(bytesOf(name));
  const size = ENTRY_BYTES + OPEN_OUT_BYTES;
  const reply = mount.askIfAble(Opcode.CREATE, parent.node, body, size);
  if (reply === undefined) return sendMknod(mount, parent, name, node, how);
  return made(mount, parent, name, reply, how);
}

export function mknod(mount: Mount, parent: Inode, name: string, node: NewNode): Inode {
  refuseExisting(mount, parent, name);
  return sendMknod(mount, parent, name, node, prepare(mount, parent, node));
}

function sendMknod(mount: Mount, parent: Inode, name: string, node: NewNode, how: Prepared): Inode {
  const body = new Body()
    .u32(how.mode)
    .u32(node.rdev ?? 0)
    .u32(node.umask ?? 0)
    .u32(0);
  const reply = mount.ask(Opcode.MKNOD, parent.node, body.name(bytesOf(name)), ENTRY_BYTES);
  return made(mount, parent, name, reply, how);
}

export function mkdir(mount: Mount, parent: Inode, name: string, node: NewNode): Inode {
  refuseExisting(mount, parent, name);
  const whole = { ...node, mode: FileType.DIRECTORY | node.mode };
  const how = prepare(mount, parent, whole);
  const body = new Body()
    .u32(how.mode)
    .u32(node.umask ?? 0)
    .name(bytesOf(name));
  return made(mount, parent, name, mount.ask(Opcode.MKDIR, parent.node, body, ENTRY_BYTES), how);
}

export function symlink(mount: Mount, parent: Inode, name: string, target: string): Inode {
  refuseExisting(mount, parent, name);
  const how = prepare(mount, parent, { mode: FileType.LINK | 0o777 });
  const body = new Body().name(bytesOf(name)).name(bytesOf(target));
  return made(mount, parent, name, mount.ask(Opcode.SYMLINK, parent.node, body, ENTRY_BYTES), how);
}

/** A file without a name. */
export function temporary(mount: Mount, parent: Inode, node: NewNode): Inode {
  if (!parent.isDirectory) refuse(Errno.ENOTDIR);
  const how = prepare(mount, parent, node);
  const body = new Body()
    .u32(O_WRONLY | O_TMPFILE)
    .u32(how.mode)
    .u32(node.umask ?? 0)
    .u32(0);
  const size = ENTRY_BYTES + OPEN_OUT_BYTES;
  const reply = mount.askIfAble(Opcode.TMPFILE, parent.node, body.name(bytesOf("/")), size);
  return made(mount, parent, undefined, reply ?? refuse(Errno.EOPNOTSUPP), how);
}

/** @param isLinkable a file that never had a name may still get one. */
export function link(
  mount: Mount,
  inode: Inode,
  parent: Inode,
  name: string,
  isLinkable = false,
): void {
  refuseExisting(mount, parent, name);
  if (inode.isDirectory) refuse(Errno.EPERM);
  if (inode.nlink === 0 && !isLinkable) refuse(Errno.ENOENT);
  const body = new Body().u64(inode.node).name(bytesOf(name));
  const reply = mount.ask(Opcode.LINK, parent.node, body, ENTRY_BYTES);
  made(mount, parent, name, reply, { mode: 0, acls: [] });
  noteChange(mount, inode);
  inode.attributesAreValid = false;
}

export function unlink(mount: Mount, parent: Inode, name: string): void {
  const inode = existing(mount, parent, name);
  if (inode.isDirectory) refuse(Errno.EISDIR);
  mount.ask(Opcode.UNLINK, parent.node, new Body().name(bytesOf(name)));
  removed(mount, parent, name, inode);
}

export function rmdir(mount: Mount, parent: Inode, name: string): void {
  const inode = existing(mount, parent, name);
  if (!inode.isDirectory) refuse(Errno.ENOTDIR);
  mount.ask(Opcode.RMDIR, parent.node, new Body().name(bytesOf(name)));
  inode.nlink = 0;
  removed(mount, parent, name, inode);
}

function existing(mount: Mount, parent: Inode, name: string): Inode {
  if (!parent.isDirectory) refuse(Errno.ENOTDIR);
  return mount.lookup(parent, name) ?? refuse(Errno.ENOENT);
}

function removed(mount: Mount, parent: Inode, name: string, inode: Inode): void {
  inode.nlink = Math.max(0, inode.nlink - 1);
  noteChange(mount, inode);
  inode.attributesAreValid = false;
  parent.attributesAreValid = false;
  mount.drop(parent, name);
}

export function rename(
  mount: Mount,
  fromParent: Inode,
  fromName: string,
  toParent: Inode,
  toName: string,
  flags = 0,
): void {
  const moved = existing(mount, fromParent, fromName);
  if (!toParent.isDirectory) refuse(Errno.ENOTDIR);
  const replaced = mount.lookup(toParent, toName);
  const isExchange = (flags & RenameFlag.EXCHANGE) !== 0;
  if ((flags & RenameFlag.NOREPLACE) !== 0 && replaced !== undefined) refuse(Errno.EEXIST);
  if (isExchange && replaced === undefined) refuse(Errno.ENOENT);
  if (isWithin(toParent, moved)) refuse(Errno.EINVAL);
  if (replaced !== undefined && isWithin(fromParent, replaced))
    refuse(isExchange ? Errno.EINVAL : Errno.ENOTEMPTY);
  if (replaced === moved) return;
  if (replaced !== undefined && !isExchange && moved.isDirectory !== replaced.isDirectory)
    refuse(moved.isDirectory ? Errno.ENOTDIR : Errno.EISDIR);

  const names = [bytesOf(fromName), bytesOf(toName)] as const;
  const body = new Body().u64(toParent.node);
  if (flags !== 0) body.u32(flags).u32(0);
  body.name(names[0]).name(names[1]);
  mount.ask(flags === 0 ? Opcode.RENAME : Opcode.RENAME2, fromParent.node, body);
  if (replaced !== undefined && !isExchange)
    replaced.nlink = replaced.isDirectory ? 0 : Math.max(0, replaced.nlink - 1);
  for (const inode of [fromParent, toParent, moved, replaced]) {
    if (inode === undefined) continue;
    noteChange(mount, inode);
    inode.attributesAreValid = false;
  }
  // Held meanwhile, so that neither goes because it has no name for a moment.
  moved.opens += 1;
  if (replaced !== undefined) replaced.opens += 1;
  mount.drop(fromParent, fromName);
  mount.drop(toParent, toName);
  mount.enter(toParent, toName, moved);
  if (isExchange) mount.enter(fromParent, fromName, replaced);
  moved.opens -= 1;
  if (replaced === undefined) return;
  replaced.opens -= 1;
  mount.release(replaced);
}

function isWithin(directory: Inode, ancestor: Inode): boolean {
  for (let each: Inode | undefined = directory; each !== undefined; each = each.parent) {
    if (each === ancestor) return true;
    if (each.node === ROOT_NODE) return false;
  }
  return false;
}

export function readLink(mount: Mount, inode: Inode): string {
  if (!inode.isLink) refuse(Errno.EINVAL);
  return textOf(mount.ask(Opcode.READLINK, inode.node, new Body(), { max: 4096 }).bytes);
}

/** The names in a directory, but for "." and "..": by READDIRPLUS, or by READDIR. */
export function list(mount: Mount, directory: Inode, plus = true): string[] {
  if (!directory.isDirectory) refuse(Errno.ENOTDIR);
  const fh = openDirectory(mount, directory);
  const names: string[] = [];
  for (let offset = 0n; ; ) {
    // read_in: fh 0, offset 8, size 16 u32, padding to 40.
    const body = new Body().u64(fh).u64(offset).u32(LISTING_BYTES).zeros(20);
    const opcode = plus ? Opcode.READDIRPLUS : Opcode.READDIR;
    const reply = mount.ask(opcode, directory.node, body, { max: LISTING_BYTES });
    const before = offset;
    for (const { name, next } of entriesOf(mount, directory, reply, plus)) {
      offset = next;
      if (name !== "." && name !== "..") names.push(name);
    }
    if (offset === before) break;
  }
  if (fh >= 0n && !mount.connection.lacks(Opcode.OPENDIR))
    mount.askIfAble(Opcode.RELEASEDIR, directory.node, new Body().u64(fh).zeros(16));
  return names;
}

function openDirectory(mount: Mount, directory: Inode): bigint {
  const body = new Body().u32(0).u32(0);
  const reply = mount.askIfAble(Opcode.OPENDIR, directory.node, body, OPEN_OUT_BYTES);
  return reply?.u64(0) ?? 0n;
}

/**
 * The records of a listing.
 *
 *     dirent      24: ino 0, off 8, namelen 16 u32, type 20 u32; the name; to a multiple of 8
 *     direntplus  entry_out 0, dirent 128
 */
function* entriesOf(
  mount: Mount,
  directory: Inode,
  reply: Fields,
  plus: boolean,
): Generator<{ name: string; next: bigint }> {
  const { bytes } = reply;
  const fixed = plus ? ENTRY_BYTES : 0;
  for (let at = 0; at + fixed + DIRENT_BYTES <= bytes.length; ) {
    const dirent = at + fixed;
    const length = reply.u32(dirent + 16);
    const start = dirent + DIRENT_BYTES;
    const name = textOf(bytes.subarray(start, start + length));
    if (plus && reply.u64(at) !== 0n && name !== "." && name !== "..") {
      const inode = mount.takeEntry(reply, at);
      const known = directory.entries.get(name);
      if (known !== inode) mount.enter(directory, name, inode);
    }
    yield { name, next: reply.u64(dirent + 8) };
    at = start + Math.ceil(length / 8) * 8;
  }
}

/** Walks an absolute path, one character per byte. @throws SystemError ENOENT, ENOTDIR */
export function walk(mount: Mount, path: string): Inode {
  let inode = mount.root;
  for (const name of path.split("/").filter((each) => each !== "")) {
    if (!inode.isDirectory) refuse(Errno.ENOTDIR);
    inode = mount.lookup(inode, name) ?? refuse(Errno.ENOENT);
  }
  return inode;
}
