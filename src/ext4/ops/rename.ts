/**
 * rename(2) and its variants. Each is one handle: after a power cut the names are as before or as
 * after it, and never both or none.
 *
 * @see fs/ext4/namei.c, ext4_rename and ext4_cross_rename
 */
import { Errno } from "../../base/errno.ts";
import type { InodeNumber } from "../../base/numbers.ts";
import { lookup, parentOf } from "../dir/directory.ts";
import { setParent } from "../dir/dots.ts";
import { addEntry, removeEntry, replaceEntry } from "../dir/entries.ts";
import { FsError } from "../errors.ts";
import { type Filesystem, ROOT_INODE } from "../filesystem.ts";
import { FileType, type Inode } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { change } from "./change.ts";
import { Credits } from "./credits.ts";
import { dropDirectory, dropLink, refuseNonEmpty } from "./link.ts";
import { makeInode, type NewInode } from "./new-inode.ts";
import {
  countSubdirectory,
  directoryToChange,
  discountSubdirectory,
  refuseBadName,
  refuseOtherProject,
  refuseTooManySubdirectories,
  refuseUnremovable,
  victimOf,
} from "./refusals.ts";

export interface RenameOptions {
  /** Refuse with EEXIST when the new name exists. */
  readonly noReplace?: boolean;
  /** Both names exist, and change places. */
  readonly exchange?: boolean;
  /** Leave a whiteout (a character device 0:0) at the old name, for overlay filesystems. */
  readonly whiteout?: Omit<NewInode, "mode" | "device">;
}

/** One name that takes part. */
interface Side {
  readonly directory: Inode;
  readonly name: Uint8Array;
}

/**
 * Renames.
 *
 * @returns the inode that lost its name to the renamed one, if there was one; it stays until
 *   `release` when that was its last.
 * @throws FsError ENOENT, EEXIST, EISDIR, ENOTDIR, ENOTEMPTY, EMLINK, ENOSPC, EPERM, EXDEV (another
 *   project), EINVAL when a directory would become its own descendant.
 */
export function rename(
  fs: Filesystem,
  fromParent: InodeNumber,
  fromName: Uint8Array,
  toParent: InodeNumber,
  toName: Uint8Array,
  options: RenameOptions = {},
): Inode | undefined {
  return change(fs, Credits.RENAME, (tx) => {
    const from = { directory: directoryToChange(fs, fromParent), name: fromName };
    const to = { directory: directoryToChange(fs, toParent), name: toName };
    const moved = victimOf(fs, from.directory, fromName);
    refuseBadName(toName);
    const targetNumber = lookup(fs, toParent, toName);
    if (options.exchange === true) {
      if (targetNumber === 0) throw new FsError(Errno.ENOENT, "nothing to exchange with");
      exchange(fs, tx, from, moved, to, victimOf(fs, to.directory, toName));
      return undefined;
    }
    if (targetNumber !== 0 && options.noReplace === true) {
      throw new FsError(Errno.EEXIST, `inode ${toParent} has such an entry`);
    }
    if (targetNumber === moved.number && !isSameName(from, to)) return undefined;
    if (targetNumber === 0) {
      move(fs, tx, from, moved, to, undefined, options);
      return undefined;
    }
    if (isSameName(from, to)) return undefined;
    const target = victimOf(fs, to.directory, toName);
    move(fs, tx, from, moved, to, target, options);
    return target;
  });
}

function move(
  fs: Filesystem,
  tx: Tx,
  from: Side,
  moved: Inode,
  to: Side,
  target: Inode | undefined,
  { whiteout }: RenameOptions,
): void {
  const changesParent = from.directory.number !== to.directory.number;
  refuseOtherProject(to.directory, moved);
  if (target !== undefined) refuseReplacing(fs, moved, target);
  if (moved.isDirectory && changesParent) {
    refuseDescendant(fs, moved, to.directory);
    if (target === undefined) refuseTooManySubdirectories(fs, to.directory);
  }

  if (target === undefined) addEntry(fs, tx, to.directory, to.name, moved.number, moved.mode);
  else replaceEntry(fs, tx, to.directory, to.name, moved.number, moved.mode);
  if (whiteout === undefined) {
    removeEntry(fs, tx, from.directory, from.name);
  } else {
    const device = { major: 0, minor: 0 };
    const inode = makeInode(fs, tx, from.directory, {
      ...whiteout,
      mode: FileType.CHARACTER,
      device,
    });
    replaceEntry(fs, tx, from.directory, from.name, inode.number, inode.mode);
  }
  tx.edit(moved).changedAt = tx.now;
  if (moved.isDirectory && changesParent) {
    setParent(fs, tx, moved, to.directory.number);
    discountSubdirectory(tx.edit(from.directory));
    countSubdirectory(fs, tx.edit(to.directory));
  }
  if (target === undefined) return;
  if (!target.isDirectory) {
    dropLink(fs, tx, target);
    return;
  }
  discountSubdirectory(tx.edit(to.directory));
  dropDirectory(fs, tx, target);
}

function exchange(fs: Filesystem, tx: Tx, from: Side, moved: Inode, to: Side, other: Inode): void {
  if (moved.number === other.number) return;
  const changesParent = from.directory.number !== to.directory.number;
  refuseOtherProject(to.directory, moved);
  refuseOtherProject(from.directory, other);
  refuseUnremovable(other);
  if (changesParent) {
    if (moved.isDirectory) refuseDescendant(fs, moved, to.directory);
    if (other.isDirectory) refuseDescendant(fs, other, from.directory);
    if (moved.isDirectory && !other.isDirectory) refuseTooManySubdirectories(fs, to.directory);
    if (other.isDirectory && !moved.isDirectory) refuseTooManySubdirectories(fs, from.directory);
  }

  replaceEntry(fs, tx, to.directory, to.name, moved.number, moved.mode);
  replaceEntry(fs, tx, from.directory, from.name, other.number, other.mode);
  tx.edit(moved).changedAt = tx.now;
  tx.edit(other).changedAt = tx.now;
  if (!changesParent) return;
  if (moved.isDirectory) setParent(fs, tx, moved, to.directory.number);
  if (other.isDirectory) setParent(fs, tx, other, from.directory.number);
  if (moved.isDirectory === other.isDirectory) return;
  const [gains, loses] = moved.isDirectory
    ? [to.directory, from.directory]
    : [from.directory, to.directory];
  discountSubdirectory(tx.edit(loses));
  countSubdirectory(fs, tx.edit(gains));
}

/** @throws FsError when `target` cannot lose its name to `moved`. */
function refuseReplacing(fs: Filesystem, moved: Inode, target: Inode): void {
  if (moved.isDirectory) {
    refuseNonEmpty(fs, target);
  } else if (target.isDirectory) {
    throw new FsError(Errno.EISDIR, `inode ${target.number} is a directory`);
  }
}

/**
 * Refuses to move the directory `moved` below itself. A tree of n directories has a path to its root
 * of at most n; a longer one is a loop that the image already has.
 *
 * @throws FsError EINVAL
 */
function refuseDescendant(fs: Filesystem, moved: Inode, into: Inode): void {
  let at = into.number;
  for (let steps = 0; at !== ROOT_INODE; steps++) {
    if (at === moved.number || steps > fs.superblock.inodeCount) {
      throw new FsError(Errno.EINVAL, `inode ${moved.number} would be its own descendant`);
    }
    at = parentOf(fs, at);
  }
}

function isSameName(a: Side, b: Side): boolean {
  return (
    a.directory.number === b.directory.number &&
    a.name.length === b.name.length &&
    a.name.every((byte, index) => byte === b.name[index])
  );
}
