/**
 * Blocks that operations change at the most: what `Transactions.transact` is asked for. Too many
 * only make a transaction commit a little earlier; too few would let one outgrow the journal, of
 * which there is twice as much as the largest transaction may take.
 *
 *     entry     two leaves and two nodes for each of 3 levels, and a block for each of them
 *     xattrs    the block and its copy, one inode that holds a value, with its blocks; an orphan less
 *     inode     its place in the table
 */
import { ALLOCATE_CREDITS } from "../alloc/blocks.ts";
import { ALLOCATE_INODE_CREDITS } from "../alloc/inodes.ts";
import { MAP_CREDITS } from "../map/change.ts";
import { ORPHAN_CREDITS } from "../orphans.ts";

const INODE = 1;
const ENTRY = 8 * (1 + ALLOCATE_CREDITS) + MAP_CREDITS + INODE;
const XATTRS = 2 * (1 + ALLOCATE_CREDITS) + ALLOCATE_INODE_CREDITS + MAP_CREDITS + ORPHAN_CREDITS;
const NEW_INODE = ALLOCATE_INODE_CREDITS + XATTRS + ORPHAN_CREDITS;

export const Credits = {
  /** A new inode with its first block, and its entry. */
  CREATE: NEW_INODE + ALLOCATE_CREDITS + ENTRY,
  LINK: ENTRY + INODE + ORPHAN_CREDITS,
  UNLINK: ENTRY + INODE + ORPHAN_CREDITS,
  /** Two entries, the ".." of two directories, a replaced inode and a whiteout. */
  RENAME: 2 * ENTRY + 4 * INODE + ORPHAN_CREDITS + NEW_INODE,
  ATTRIBUTES: INODE + XATTRS,
  /** The inode itself: its blocks have gone. */
  FREE_INODE: ALLOCATE_INODE_CREDITS + XATTRS + ORPHAN_CREDITS,
} as const;
