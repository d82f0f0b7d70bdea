/**
 * Blocks that operations change at the most: what `Transactions.transact` is asked for. Too many
 * only make a transaction commit a little earlier; too few would let one outgrow the journal.
 *
 *     allocate     bitmap, group descriptor                                               2
 *     map          a split at every level of an extent tree, and the blocks for it     6 * 3
 *     directory    two leaves, two nodes for each of 3 levels, and the blocks for it  8 * 3
 *     xattrs       the block, its copy, an EA inode and its first blocks                  12
 *     inode        its block of the table, its bitmap, the descriptor                     3
 */
const MAP = 20;
const DIRECTORY = 24 + MAP;
const XATTRS = 12;
const INODE = 3;

export const Credits = {
  CREATE: DIRECTORY + MAP + XATTRS + INODE,
  LINK: DIRECTORY + INODE,
  UNLINK: DIRECTORY + INODE,
  RENAME: 2 * DIRECTORY + 4 * INODE,
  ATTRIBUTES: XATTRS + INODE,
  /** Frees the inode itself; its blocks have gone. */
  FREE_INODE: XATTRS + INODE,
} as const;
