/**
 * Node ids, the kernel's names for inodes. A node id is the inode number, so that it means the same
 * in every mount of the image (file handles given out by an NFS server survive a restart) and there
 * is no table to keep.
 *
 * One pair is swapped: the protocol says that the root is node 1, ext4 says that it is inode 2.
 * Inode 1 (the list of bad blocks) is node 2, so that a hostile directory entry that names it can
 * never be taken for the root.
 *
 * What the kernel knows of them is counted elsewhere (lifetimes.ts), for inodes that lose their names.
 *
 * @see fuse_kernel.h 7.45, FUSE_ROOT_ID
 */
import { Errno } from "../base/errno.ts";
import type { InodeNumber } from "../base/numbers.ts";
import { FsError } from "../ext4/index.ts";

const SWAPPED_SUM = 3;
const INODE_NUMBER_MAX = 0xffff_ffff;

/** The node id of the root directory. */
export const ROOT_NODE = 1;

/** The node id of an inode. */
export function nodeOf(inode: number): number {
  return inode === 1 || inode === 2 ? SWAPPED_SUM - inode : inode;
}

/**
 * The inode number of a node id.
 *
 * @throws FsError ESTALE when no inode can have that id, as in a file handle that was made up.
 */
export function inodeOf(node: number): InodeNumber {
  if (node === 1 || node === 2) return (SWAPPED_SUM - node) as InodeNumber;
  if (node === 0 || node > INODE_NUMBER_MAX) {
    throw new FsError(Errno.ESTALE, `node ${node} cannot be an inode`);
  }
  return node as InodeNumber;
}
