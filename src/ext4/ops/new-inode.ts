/**
 * Makes inodes: what a new one gets from whoever asks for it, and what from the directory that it
 * is made in.
 *
 * @see fs/ext4/ialloc.c, __ext4_new_inode; fs/inode.c, inode_init_owner
 */
import type { InodeNumber } from "../../base/numbers.ts";
import { allocateInode } from "../alloc/inodes.ts";
import type { Filesystem } from "../filesystem.ts";
import { FileType, Inode, InodeFlags, wantedExtraSize } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { initBlockMap } from "../map/change.ts";
import { inheritAcl } from "./acl.ts";

/** What is to be made, and for whom. */
export interface NewInode {
  /** Type and permissions. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Permissions that are taken away where the directory has no default ACL. */
  readonly umask: number;
  /** ACLs have no effect, so that of the directory has none either. */
  readonly ignoresAcl?: boolean;
  /** Of a device. */
  readonly device?: { readonly major: number; readonly minor: number };
}

const SETGID = 0o2000;
const PROJECT_DEFAULT = 0;

/** `FS_FL_INHERITED` less what ext4 does not have. @see fs/ext4/ext4.h, EXT4_FL_INHERITED */
const INHERITED =
  InodeFlags.SYNC |
  InodeFlags.NODUMP |
  InodeFlags.NOATIME |
  InodeFlags.JOURNAL_DATA |
  InodeFlags.DIRSYNC |
  InodeFlags.PROJINHERIT |
  InodeFlags.CASEFOLD |
  InodeFlags.DAX;
/** Of these, what has a meaning for directories only, and what for anything. */
const DIRECTORIES_ONLY = InodeFlags.DIRSYNC | InodeFlags.PROJINHERIT | InodeFlags.CASEFOLD;
const FOR_ALL_TYPES = InodeFlags.NODUMP | InodeFlags.NOATIME;

/** A new inode with one link, that no directory names yet. */
export function makeInode(fs: Filesystem, tx: Tx, parent: Inode, attributes: NewInode): Inode {
  const { superblock, checksums, writer } = fs;
  const type = attributes.mode & FileType.MASK;
  const isDirectory = type === FileType.DIRECTORY;
  const number: InodeNumber = allocateInode(fs, tx, parent, isDirectory);
  const isSetgid = (parent.mode & SETGID) !== 0;
  const mode = attributes.mode | (isSetgid && isDirectory && !writer.bsdGroups ? SETGID : 0);
  const inode = Inode.blank(number, fs.takeInodeBytes(), superblock, checksums, {
    mode,
    generation: Math.floor(writer.random() * 0x1_0000_0000),
    extraSize: wantedExtraSize(superblock),
  });
  tx.createInode(inode);

  inode.uid = attributes.uid;
  inode.gid = isSetgid || writer.bsdGroups ? parent.gid : attributes.gid;
  inode.projectId = parent.hasFlag(InodeFlags.PROJINHERIT) ? parent.projectId : PROJECT_DEFAULT;
  inode.flags = inheritedFlags(parent, type);
  inode.accessedAt = tx.now;
  inode.modifiedAt = tx.now;
  inode.changedAt = tx.now;
  inode.createdAt = tx.now;
  if (inode.isRegular || inode.isDirectory || inode.isSymlink) initBlockMap(fs, inode);
  if (attributes.device !== undefined) {
    inode.setDevice(attributes.device.major, attributes.device.minor);
  }
  inode.mode = inheritAcl(fs, tx, parent, inode, mode, attributes);
  return inode;
}

function inheritedFlags(parent: Inode, type: number): number {
  const inherited = parent.flags & INHERITED;
  switch (type) {
    case FileType.DIRECTORY:
      return inherited;
    case FileType.REGULAR:
      return inherited & ~DIRECTORIES_ONLY;
    default:
      return inherited & FOR_ALL_TYPES;
  }
}
