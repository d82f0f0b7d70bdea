/**
 * What chattr(1) changes of an inode: its flags, its project and its version. Who may do so is for
 * the caller to decide; which flags make sense where is decided here.
 *
 * @see ioctl_iflags(2); fs/ext4/ioctl.c, ext4_fileattr_set and ext4_ioctl_setflags
 */
import { Errno } from "../../base/errno.ts";
import type { InodeNumber } from "../../base/numbers.ts";
import { isEmptyDirectory } from "../dir/directory.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { Incompat, RoCompat } from "../format/features.ts";
import { CLASSIC_INODE_SIZE, type Inode, InodeFlags } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { planConversion } from "../map/convert.ts";
import { QUOTA_CREDITS } from "../quota/quotas.ts";
import { expandExtraSize } from "./extra-size.ts";

/** Numbers of flags that mean nothing to us and are kept for others. */
const SECRM = 0x1;
const UNRM = 0x2;
const DIRTY = 0x100;
const COMPRBLK = 0x200;
const NOCOMPR = 0x400;
const NOTAIL = 0x8000;
const EOFBLOCKS = 0x40_0000;

/** @see fs/ext4/ext4.h, EXT4_FL_USER_MODIFIABLE */
const USER_MODIFIABLE =
  SECRM |
  UNRM |
  InodeFlags.COMPR |
  InodeFlags.SYNC |
  InodeFlags.IMMUTABLE |
  InodeFlags.APPEND |
  InodeFlags.NODUMP |
  InodeFlags.NOATIME |
  InodeFlags.JOURNAL_DATA |
  NOTAIL |
  InodeFlags.DIRSYNC |
  InodeFlags.TOPDIR |
  InodeFlags.EXTENTS |
  EOFBLOCKS |
  InodeFlags.DAX |
  InodeFlags.PROJINHERIT |
  InodeFlags.CASEFOLD;

/**
 * What programs are shown, and may hand back.
 *
 * @see fs/ext4/ext4.h, EXT4_FL_USER_VISIBLE
 */
export const USER_VISIBLE =
  USER_MODIFIABLE |
  DIRTY |
  COMPRBLK |
  NOCOMPR |
  InodeFlags.ENCRYPT |
  InodeFlags.INDEX |
  InodeFlags.VERITY |
  InodeFlags.INLINE_DATA;

/** Flags that only directories may have. */
const DIRECTORIES_ONLY =
  InodeFlags.DIRSYNC | InodeFlags.TOPDIR | InodeFlags.CASEFOLD | InodeFlags.PROJINHERIT;
/** Flags that inodes without data may have. */
const OTHERS_MAY_HAVE = InodeFlags.NODUMP | InodeFlags.NOATIME;
/** Flags that a file which is mapped without a page cache cannot have. */
const NOT_WITH_DAX =
  InodeFlags.VERITY | InodeFlags.ENCRYPT | InodeFlags.JOURNAL_DATA | InodeFlags.INLINE_DATA;

/** `fsx_xflags` of struct fsxattr by flag. @see include/uapi/linux/fs.h, FS_XFLAG_* */
// biome-ignore format: a table
export const XFLAGS: readonly (readonly [flag: number, xflag: number])[] = [
  [InodeFlags.IMMUTABLE, 0x8], [InodeFlags.APPEND, 0x10], [InodeFlags.SYNC, 0x20],
  [InodeFlags.NOATIME, 0x40], [InodeFlags.NODUMP, 0x80], [InodeFlags.PROJINHERIT, 0x200],
  [InodeFlags.DAX, 0x8000],
];
/** All bits that are defined for some filesystem: ext4 passes over those that it does not know. */
const XFLAGS_DEFINED = 0x8001_fffb;
const XFLAG_EXTSIZE = 0x800;
const XFLAG_EXTSZINHERIT = 0x1000;
const XFLAGS_COMMON = XFLAGS.reduce((all, [flag]) => all | flag, 0);

/** No project has this number. */
const PROJECT_INVALID = 0xffff_ffff;
/**
 * The inode; where an older one gets room for a project, its xattr block, old and new, and what
 * allocates that; quotas.
 */
const CREDITS = 8 + QUOTA_CREDITS;

/**
 * Makes `flags` the flags of an inode, as far as programs may change them.
 *
 * EXTENTS exchanges the map of the inode.
 *
 * @throws FsError EOPNOTSUPP when one cannot be set or cleared on this inode, EPERM when the inode is
 *   immutable and stays so; ENOTDIR, ENOKEY or ENOTEMPTY when CASEFOLD changes on anything but an empty
 *   directory.
 */
export function setFlags(fs: Filesystem, number: InodeNumber, flags: number): void {
  const inode = fs.inode(number);
  const hasOtherMap = ((inode.flags ^ flags) & InodeFlags.EXTENTS) !== 0;
  const conversion = hasOtherMap ? planConversion(fs, inode) : undefined;
  fs.transact(CREDITS + (conversion?.credits ?? 0), (tx) => {
    changeFlags(fs, tx, inode, flags, inode.projectId);
    conversion?.convert(tx);
  });
}

/**
 * What FS_IOC_FSSETXATTR does: sets the project of an inode, and those of its flags that
 * `fsx_xflags` has a bit for.
 *
 * @throws FsError as `setFlags` does; EINVAL for a project or a combination that cannot be, EOPNOTSUPP
 *   when the filesystem has no projects.
 */
export function setProject(
  fs: Filesystem,
  number: InodeNumber,
  projectId: number,
  xflags: number,
): void {
  fs.transact(CREDITS, (tx) => {
    const inode = fs.inode(number);
    const hasProject = inode.projectId !== projectId;
    const isExtentHint =
      ((xflags & XFLAG_EXTSIZE) !== 0 && !inode.isRegular) ||
      ((xflags & XFLAG_EXTSZINHERIT) !== 0 && !inode.isDirectory);
    if ((xflags & ~XFLAGS_DEFINED) !== 0) refuse(inode, Errno.EOPNOTSUPP, "unknown xflags");
    if (isExtentHint) refuse(inode, Errno.EINVAL, "an extent size that has no meaning here");
    if (hasProject && projectId === PROJECT_INVALID) refuse(inode, Errno.EINVAL, "no project");
    const others = inode.flags & USER_VISIBLE & ~XFLAGS_COMMON;
    const common = XFLAGS.reduce((all, [flag, xflag]) => all | (xflags & xflag ? flag : 0), 0);

    changeFlags(fs, tx, inode, others | common, projectId);
    if (hasProject) changeProject(fs, tx, inode, projectId);
  });
}

/**
 * Sets what FS_IOC_GETVERSION shows. Where checksums depend on it, nothing can.
 *
 * @throws FsError ENOTTY on a filesystem with metadata checksums.
 */
export function setGeneration(fs: Filesystem, number: InodeNumber, generation: number): void {
  fs.transact(CREDITS, (tx) => {
    const inode = fs.inode(number);
    if (fs.checksums.enabled) refuse(inode, Errno.ENOTTY, "checksums depend on the generation");

    tx.edit(inode).generation = generation;
    inode.changedAt = tx.now;
  });
}

function changeFlags(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  wanted: number,
  projectId: number,
): void {
  if ((wanted & ~USER_VISIBLE) !== 0) refuse(inode, Errno.EOPNOTSUPP, "unknown flags");
  const flags = wanted & USER_MODIFIABLE;
  if ((flags & ~possibleFlags(inode)) !== 0)
    refuse(inode, Errno.EOPNOTSUPP, "flags of another type");
  const isImmutable = (inode.flags & flags & InodeFlags.IMMUTABLE) !== 0;
  if (isImmutable && ((inode.flags ^ flags) !== 0 || inode.projectId !== projectId)) {
    refuse(inode, Errno.EPERM, "immutable");
  }
  const changed = (inode.flags ^ flags) & USER_MODIFIABLE;
  if ((flags & InodeFlags.DAX) !== 0 && isUnfitForDax(inode, flags)) {
    refuse(inode, Errno.EOPNOTSUPP, "DAX with other uses of its data");
  }
  if ((changed & InodeFlags.CASEFOLD) !== 0) checkCasefold(fs, inode);

  tx.edit(inode).flags = (inode.flags & ~USER_MODIFIABLE) | flags;
  inode.changedAt = tx.now;
}

function possibleFlags(inode: Inode): number {
  if (inode.isDirectory) return ~0;
  return inode.isRegular ? ~DIRECTORIES_ONLY : OTHERS_MAY_HAVE;
}

function isUnfitForDax(inode: Inode, flags: number): boolean {
  const before = inode.isDirectory ? inode.flags & ~InodeFlags.INLINE_DATA : inode.flags;
  return ((before | flags) & NOT_WITH_DAX) !== 0;
}

function checkCasefold(fs: Filesystem, inode: Inode): void {
  if (!fs.superblock.hasIncompat(Incompat.CASEFOLD)) {
    refuse(inode, Errno.EOPNOTSUPP, "the filesystem has no case folding");
  }
  if (!inode.isDirectory) refuse(inode, Errno.ENOTDIR, "not a directory");
  if (!inode.hasFlag(InodeFlags.CASEFOLD) && inode.hasFlag(InodeFlags.ENCRYPT)) {
    refuse(inode, Errno.ENOKEY, "hashes of folded names need the key");
  }
  if (!isEmptyDirectory(fs, inode.number)) refuse(inode, Errno.ENOTEMPTY, "not empty");
}

function changeProject(fs: Filesystem, tx: Tx, inode: Inode, projectId: number): void {
  const { superblock } = fs;
  const hasRoom = superblock.inodeSize > CLASSIC_INODE_SIZE;
  if (!superblock.hasRoCompat(RoCompat.PROJECT) || !hasRoom) {
    refuse(inode, Errno.EOPNOTSUPP, "the filesystem has no projects");
  }
  expandExtraSize(fs, tx, inode);
  tx.edit(inode).projectId = projectId;
  if (inode.projectId !== projectId) refuse(inode, Errno.EOVERFLOW, "no room for a project");
}

function refuse(inode: Inode, errno: Errno, why: string): never {
  throw new FsError(errno, `inode ${inode.number}: ${why}`);
}
