/** Operations that give names to inodes and take them away: link, unlink, rmdir. */
import { Errno } from "../../base/errno.ts";
import type { InodeNumber } from "../../base/numbers.ts";
import { isEmptyDirectory } from "../dir/directory.ts";
import { addEntry, removeEntry } from "../dir/entries.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Inode } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { change } from "./change.ts";
import { Credits } from "./credits.ts";
import {
  directoryForNewName,
  directoryToChange,
  discountSubdirectory,
  refuseOtherProject,
  refuseTooManyLinks,
  refuseUnremovable,
  victimOf,
} from "./refusals.ts";

/**
 * Gives inode `number` the further name `name`: its first one, when `createTemporary` made it.
 *
 * @throws FsError EPERM for a directory, EMLINK, EEXIST, EXDEV into the directory of another project.
 */
export function link(
  fs: Filesystem,
  number: InodeNumber,
  parent: InodeNumber,
  name: Uint8Array,
): Inode {
  return change(fs, Credits.LINK, (tx) => {
    const inode = fs.inode(number);
    const directory = directoryForNewName(fs, parent, name);
    if (inode.isDirectory) throw new FsError(Errno.EPERM, `inode ${number} is a directory`);
    refuseUnremovable(inode);
    refuseTooManyLinks(inode);
    refuseOtherProject(directory, inode);

    tx.edit(inode);
    const isOverlong = fs.writer.kernelData?.overlong.has(inode.number) === true;
    if (inode.linkCount === 0 && !isOverlong) fs.writer.orphans.remove(tx, inode);
    inode.linkCount += 1;
    inode.changedAt = tx.now;
    addEntry(fs, tx, directory, name, number, inode.mode);
    return inode;
  });
}

/**
 * Removes the entry `name`. When that was the inode's last link it becomes an orphan, which stays
 * until `release`.
 *
 * @returns the inode that was named.
 * @throws FsError ENOENT, EISDIR for a directory, EPERM.
 */
export function unlink(fs: Filesystem, parent: InodeNumber, name: Uint8Array): Inode {
  return change(fs, Credits.UNLINK, (tx) => {
    const directory = directoryToChange(fs, parent);
    const inode = victimOf(fs, directory, name);
    if (inode.isDirectory) throw new FsError(Errno.EISDIR, `inode ${inode.number} is a directory`);

    removeEntry(fs, tx, directory, name);
    dropLink(fs, tx, inode);
    return inode;
  });
}

/**
 * Removes the empty directory `name`. It stays, without a name, until `release`.
 *
 * @throws FsError ENOENT, ENOTDIR, ENOTEMPTY, EPERM.
 */
export function removeDirectory(fs: Filesystem, parent: InodeNumber, name: Uint8Array): Inode {
  return change(fs, Credits.UNLINK, (tx) => {
    const directory = directoryToChange(fs, parent);
    const inode = victimOf(fs, directory, name);
    refuseNonEmpty(fs, inode);

    removeEntry(fs, tx, directory, name);
    discountSubdirectory(tx.edit(directory));
    dropDirectory(fs, tx, inode);
    return inode;
  });
}

/** @throws FsError ENOTDIR or ENOTEMPTY. */
export function refuseNonEmpty(fs: Filesystem, inode: Inode): void {
  if (!inode.isDirectory) throw new FsError(Errno.ENOTDIR, `inode ${inode.number} is no directory`);
  if (!isEmptyDirectory(fs, inode.number)) {
    throw new FsError(Errno.ENOTEMPTY, `inode ${inode.number} is not empty`);
  }
}

/** Takes one link from an inode that is no directory; the last one makes it an orphan. */
export function dropLink(fs: Filesystem, tx: Tx, inode: Inode): void {
  tx.edit(inode);
  if (inode.linkCount > 0) inode.linkCount -= 1;
  inode.changedAt = tx.now;
  if (inode.linkCount === 0) fs.writer.orphans.add(tx, inode);
}

/** Makes an empty directory that lost its name an orphan. */
export function dropDirectory(fs: Filesystem, tx: Tx, inode: Inode): void {
  tx.edit(inode);
  inode.linkCount = 0;
  inode.changedAt = tx.now;
  fs.writer.orphans.add(tx, inode);
}
