/**
 * What the operations that change something have in common: the right to do it, whose new inodes are,
 * and what the shim may write to without asking.
 */
import { Errno } from "../../base/errno.ts";
import { FsError, type Inode, InodeFlags, type NewInode } from "../../ext4/index.ts";
import { InitFlag, Opcode } from "../abi.ts";
import { isRegular } from "../attributes.ts";
import { WriteAccess } from "../channel.ts";
import { hasFeature } from "../negotiation.ts";
import { ROOT_NODE } from "../nodes.ts";
import type { Request } from "../request.ts";
import type { ServedFilesystem } from "../served.ts";
import type { ServedChanges } from "../served-changes.ts";
import type { Context } from "./operation.ts";

const PERMISSIONS = 0o7777;
const SET_ID = 0o6000;
/** `security.capability`: what a program may do, and what a write to it takes away. */
const CAPABILITY = Uint8Array.from(
  [..."security.capability"].map((letter) => letter.charCodeAt(0)),
);

/**
 * What the request in hand may change, in the name of its user.
 *
 * @throws FsError EROFS when the mount is read-only. The kernel refuses most of that by itself.
 */
export function changesOf({ fs: { changes } }: Context, request: Request): ServedChanges {
  if (changes === undefined) throw new FsError(Errno.EROFS, "the mount is read-only");
  changes.actAs(request);
  return changes;
}

/** Whose a new inode is that the request in hand asks for: the caller's, or whose options say. */
export function ownerOf({ owner }: Context, request: Request): Pick<NewInode, "uid" | "gid"> {
  return {
    uid: owner.uid ?? request.uid,
    gid: owner.gid ?? request.gid,
  };
}

/** A new inode that the request in hand asks for. */
export function newInode(
  context: Context,
  request: Request,
  mode: number,
  umask: number,
): NewInode {
  const { connection } = context;
  const hasAcls = connection === undefined || hasFeature(connection, InitFlag.POSIX_ACL);
  const owner = ownerOf(context, request);
  if (hasAcls && isExclusive(context, request.node)) {
    return { mode, ...owner, umask: 0, ignoresAcl: true };
  }
  return { mode, ...owner, umask: umask & PERMISSIONS, ignoresAcl: !hasAcls };
}

/**
 * Whether the kernel takes a node for one that nobody else changes: in such a directory it has worked
 * out the permissions of a new inode by itself, and sets its ACLs afterwards. The root is none.
 */
export function isExclusive({ iomapState }: Context, node: number): boolean {
  return iomapState?.isActive === true && node !== ROOT_NODE;
}

/** Whether a write to `inode` takes something away. */
export function hasPrivileges(fs: ServedFilesystem, inode: Inode): boolean {
  return (inode.mode & SET_ID) !== 0 || fs.getXattr(inode.number, CAPABILITY) !== undefined;
}

/**
 * Whether the caller is not in the group of `inode`, as far as is known: a request names only one of
 * the groups that a process has.
 */
export function isStranger(request: Request, inode: Inode): boolean {
  return request.gid !== inode.gid;
}

const NEVER_FREELY =
  InodeFlags.IMMUTABLE |
  InodeFlags.APPEND |
  InodeFlags.ENCRYPT |
  InodeFlags.VERITY |
  InodeFlags.SYNC |
  InodeFlags.INLINE_DATA;

/** What the shim may write to `inode` without asking. */
export function writeAccessOf(fs: ServedFilesystem, inode: Inode): WriteAccess {
  if (fs.changes === undefined || (inode.flags & NEVER_FREELY) !== 0) return WriteAccess.ASK;
  return hasPrivileges(fs, inode) ? WriteAccess.ASK_TO_CLEAR : WriteAccess.FREE;
}

/** Tells the shim what it has to know of `inode` after anything but its contents changed. */
export function keepInStep(context: Context, node: number, inode: Inode): void {
  const { fs, channel } = context;
  if (!isRegular(inode.mode) || isExclusive(context, node)) return;
  channel.map(node, inode.sizeBytes, 0, writeAccessOf(fs, inode));
}

/**
 * Files that are open are not spared: the kernel does not know these flags of a FUSE file.
 *
 * @param appends what is asked for only adds to the file.
 * @throws FsError EPERM when the contents of `inode` are not to be changed in this way.
 */
export function refuseFixed(inode: Inode, appends: boolean): void {
  const fixed = InodeFlags.IMMUTABLE | InodeFlags.VERITY | (appends ? 0 : InodeFlags.APPEND);
  if ((inode.flags & fixed) === 0) return;
  throw new FsError(Errno.EPERM, `inode ${inode.number} must not be changed there`);
}

/**
 * Lets the contents of the node in hand count as read, unless the kernel keeps the times of files. It
 * is no reason for a read to fail.
 */
export function noteAccess({ fs, iomapState }: Context, request: Request): void {
  if (iomapState?.isActive === true && request.opcode === Opcode.READ) return;
  try {
    fs.changes?.noteAccess(request.inode);
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
  }
}
