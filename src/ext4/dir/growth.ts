/** What every change of a directory begins with, and how directories get blocks. */
import { Errno } from "../../base/errno.ts";
import type { FileBlock } from "../../base/numbers.ts";
import { type Block, BlockKind, type Seal } from "../cache/block-cache.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { clearDirents } from "../format/dirent.ts";
import { Compat, Incompat } from "../format/features.ts";
import { HTREE_BLOCKS_MAX } from "../format/htree.ts";
import { type Inode, InodeFlags } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { createFileBlock } from "../map/change.ts";
import { type Directory, directoryOf } from "./contents.ts";

/** Without the feature large_dir, the size of a directory has 32 bits. */
const SIZE_END = 0x1_0000_0000;

/** Flags that make every change of a directory's entries durable at once. */
const SYNCHRONOUS = InodeFlags.SYNC | InodeFlags.DIRSYNC;

/**
 * The directory that `inode` is, to have its entries changed now: its times and version say so.
 *
 * An index that the filesystem does not allow would not be kept up, so it is given up.
 */
export function startChange(fs: Filesystem, tx: Tx, inode: Inode): Directory {
  const asItWas = directoryOf(fs, inode);
  asItWas.noteChange(tx);
  tx.edit(inode);
  if (inode.hasFlag(SYNCHRONOUS)) tx.commitAtEnd();
  inode.modifiedAt = tx.now;
  inode.changedAt = tx.now;
  inode.advanceVersion();
  if (asItWas.isIndexed || !inode.hasFlag(InodeFlags.INDEX)) return asItWas;
  if (fs.superblock.hasCompat(Compat.DIR_INDEX)) return asItWas;
  inode.flags &= ~InodeFlags.INDEX;
  return directoryOf(fs, inode);
}

/** A new block of free room behind the last block of `directory`. @throws FsError ENOSPC. */
export function appendEntries(tx: Tx, directory: Directory): Block {
  const fileBlock = directory.partCount as FileBlock;
  return clearEntries(directory, append(tx, directory, fileBlock, directory.sealEntries));
}

/** The same in the place of a hole. */
export function fillHole(tx: Tx, directory: Directory, hole: FileBlock): Block {
  const { fs, inode, sealEntries } = directory;
  return clearEntries(directory, createFileBlock(fs, tx, inode, hole, sealEntries));
}

/** A new block, zeroed, that is to become a node of the index below the root. */
export function appendNode(tx: Tx, directory: Directory): Block {
  const node = append(tx, directory, directory.partCount as FileBlock, directory.sealNode);
  node.markVerified(BlockKind.HTREE_NODE, directory.number);
  return node;
}

function append(tx: Tx, directory: Directory, fileBlock: FileBlock, seal: Seal | undefined): Block {
  const { fs, inode, number } = directory;
  const { superblock } = fs;
  const sizeBytes = (fileBlock + 1) * superblock.blockSize;
  const isTooLarge = sizeBytes >= SIZE_END && !superblock.hasIncompat(Incompat.LARGEDIR);
  if (fileBlock >= HTREE_BLOCKS_MAX || isTooLarge) {
    throw new FsError(Errno.ENOSPC, `directory ${number} has ${inode.sizeBytes} bytes`);
  }
  const block = createFileBlock(fs, tx, inode, fileBlock, seal);
  inode.sizeBytes = sizeBytes;
  return block;
}

function clearEntries(directory: Directory, block: Block): Block {
  clearDirents(block, 0, directory.endOf(0), directory.format.blockSize);
  block.markVerified(BlockKind.DIRECTORY, directory.number);
  return block;
}
