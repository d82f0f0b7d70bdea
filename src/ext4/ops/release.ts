/**
 * The end of an inode: its blocks go in as many handles as they need, then it goes itself. All the
 * time it is an orphan, so that a power cut in between only means that the next mount goes on.
 *
 * @see fs/ext4/inode.c, ext4_evict_inode
 */
import type { InodeNumber } from "../../base/numbers.ts";
import { freeInode } from "../alloc/inodes.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Inode } from "../format/inode.ts";
import { releaseBlocks } from "../map/change.ts";
import { Credits } from "./credits.ts";
import { freeXattrs } from "./xattr-store.ts";

/**
 * Says that nobody uses inode `number` any more: it is freed when it has no name left, and keeps
 * what it has otherwise.
 */
export function release(fs: Filesystem, number: InodeNumber): void {
  if (!fs.isWritable || !fs.writer.orphans.has(number)) return;
  const inode = fs.inode(number);
  if (inode.linkCount === 0) freeOrphan(fs, inode);
}

/** Frees an inode without links, and all that it has. */
export function freeOrphan(fs: Filesystem, inode: Inode): void {
  fs.writer.kernelData?.forget(inode.number);
  releaseBlocks(fs, inode, Credits.FREE_INODE, (tx) => {
    tx.edit(inode);
    freeXattrs(fs, tx, inode);
    fs.writer.orphans.remove(tx, inode);
    inode.sizeBytes = 0;
    freeInode(fs, tx, inode);
  });
}
