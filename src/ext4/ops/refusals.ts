/**
 * What an operation on names refuses before it changes anything. Permissions are not among it: who
 * serves a mount leaves them to the kernel, and a program with the image may do as it likes.
 *
 * @see fs/namei.c, may_create, may_delete and vfs_link
 */
import { Errno } from "../../base/errno.ts";
import type { InodeNumber } from "../../base/numbers.ts";
import { lookup } from "../dir/directory.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { Compat, RoCompat } from "../format/features.ts";
import { type Inode, InodeFlags } from "../format/inode.ts";

const SLASH = 0x2f;
const DOT = 0x2e;
/** The most links that an inode can have; more for directories with an index. */
const LINK_MAX = 65000;

/** The directory `number`, in which `name` may be made. @throws FsError */
export function directoryForNewName(fs: Filesystem, number: InodeNumber, name: Uint8Array): Inode {
  refuseBadName(name);
  const directory = directoryToChange(fs, number);
  if (lookup(fs, number, name) !== 0) {
    throw new FsError(Errno.EEXIST, `inode ${number} has such an entry`);
  }
  return directory;
}

/** The directory `number`, which is about to get or lose an entry. @throws FsError */
export function directoryToChange(fs: Filesystem, number: InodeNumber): Inode {
  const directory = fs.inode(number);
  if (!directory.isDirectory) throw new FsError(Errno.ENOTDIR, `inode ${number} is no directory`);
  if (directory.linkCount === 0) throw new FsError(Errno.ENOENT, `inode ${number} was removed`);
  refuseImmutable(directory);
  return directory;
}

/**
 * The inode that `name` in `directory` names, which is about to lose this name.
 *
 * @throws FsError ENOENT, or EPERM when one of the two may not be changed.
 */
export function victimOf(fs: Filesystem, directory: Inode, name: Uint8Array): Inode {
  refuseBadName(name);
  const number = lookup(fs, directory.number, name);
  if (number === 0) throw new FsError(Errno.ENOENT, `inode ${directory.number} has no such entry`);
  refuseUnremovable(directory);
  const victim = fs.inode(number);
  refuseUnremovable(victim);
  return victim;
}

/** @throws FsError EPERM when `inode` may not be changed at all. */
export function refuseImmutable(inode: Inode): void {
  if (!inode.hasFlag(InodeFlags.IMMUTABLE)) return;
  throw new FsError(Errno.EPERM, `inode ${inode.number} is immutable`);
}

/** @throws FsError EPERM when `inode` may at best be appended to. */
export function refuseUnremovable(inode: Inode): void {
  if (!inode.hasFlag(InodeFlags.IMMUTABLE | InodeFlags.APPEND)) return;
  throw new FsError(Errno.EPERM, `inode ${inode.number} is immutable or append-only`);
}

/** @throws FsError EMLINK when `inode`, which is no directory, has all the links it can have. */
export function refuseTooManyLinks(inode: Inode): void {
  if (inode.linkCount < LINK_MAX) return;
  throw new FsError(Errno.EMLINK, `inode ${inode.number} has ${inode.linkCount} links`);
}

/** @throws FsError EXDEV when `inode` belongs to a project that `directory` does not take in. */
export function refuseOtherProject(directory: Inode, inode: Inode): void {
  const takesOwnOnly = directory.hasFlag(InodeFlags.PROJINHERIT);
  if (!takesOwnOnly || directory.projectId === inode.projectId) return;
  throw new FsError(Errno.EXDEV, `inode ${inode.number} belongs to another project`);
}

/** @throws FsError EMLINK when `directory` can have no further subdirectory. */
export function refuseTooManySubdirectories(fs: Filesystem, directory: Inode): void {
  const mayOverflow = fs.superblock.hasRoCompat(RoCompat.DIR_NLINK) && isIndexed(fs, directory);
  if (directory.linkCount < LINK_MAX || mayOverflow) return;
  throw new FsError(Errno.EMLINK, `inode ${directory.number} has ${directory.linkCount} links`);
}

/**
 * Counts the ".." of a new subdirectory. Beyond `LINK_MAX` the count is 1, which means: not counted.
 *
 * @see fs/ext4/namei.c, ext4_inc_count
 */
export function countSubdirectory(fs: Filesystem, directory: Inode): void {
  const count = directory.linkCount + 1;
  directory.linkCount = isIndexed(fs, directory) && (count > LINK_MAX || count === 2) ? 1 : count;
}

/** Takes back what `countSubdirectory` did. @see fs/ext4/namei.c, ext4_dec_count */
export function discountSubdirectory(directory: Inode): void {
  if (directory.linkCount > 2) directory.linkCount -= 1;
}

function isIndexed(fs: Filesystem, directory: Inode): boolean {
  return fs.superblock.hasCompat(Compat.DIR_INDEX) && directory.hasFlag(InodeFlags.INDEX);
}

/** @throws FsError EINVAL or EEXIST for a name that cannot be one of an entry of its own. */
export function refuseBadName(name: Uint8Array): void {
  if (name.length === 0 || name.includes(0) || name.includes(SLASH)) {
    throw new FsError(Errno.EINVAL, "not a name");
  }
  const isDots = name[0] === DOT && (name.length === 1 || (name.length === 2 && name[1] === DOT));
  if (isDots) throw new FsError(Errno.EINVAL, 'the entries "." and ".." stay as they are');
}
