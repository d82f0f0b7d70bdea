/**
 * Changes of a directory's entries, whatever kind it is of. They run within a handle of the caller,
 * who has looked at what is there and answers for the link counts of the inodes concerned.
 *
 *     inline ──full──► one block ──full──► index, or, without the feature dir_index, more blocks
 *
 * A directory never becomes smaller; the room of entries that were removed is used again.
 *
 * @see fs/ext4/namei.c, ext4_add_entry, ext4_generic_delete_entry and ext4_setent
 */
import { Errno } from "../../base/errno.ts";
import type { FileBlock, InodeNumber } from "../../base/numbers.ts";
import { Block } from "../cache/block-cache.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import {
  type DirentTarget,
  direntInode,
  direntSize,
  eraseDirent,
  findRoom,
  insertDirent,
  setDirentTarget,
} from "../format/dirent.ts";
import type { Inode } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { type Directory, directoryOf } from "./contents.ts";
import { appendEntries, fillHole, startChange } from "./growth.ts";
import { insertIndexed, makeIndexed } from "./htree-insert.ts";
import { insertInline, moveToBlock } from "./inline-directory.ts";
import { type EntryPlace, findEntry } from "./search.ts";
import { type WantedName, wantedName } from "./wanted-name.ts";

/**
 * Adds the entry `name`, which `directory` does not have, for the inode `child`.
 *
 * @param mode of the child: its type is stored in the entry.
 * @throws FsError ENOSPC; ENOKEY in an encrypted directory; EINVAL for a name that is not UTF-8 where
 *   it has to be.
 */
export function addEntry(
  fs: Filesystem,
  tx: Tx,
  directory: Inode,
  name: Uint8Array,
  child: InodeNumber,
  mode: number,
): void {
  const target = { inode: child, mode };
  let changed = startChange(fs, tx, directory);
  const wanted = nameToStore(changed, name);
  if (changed.isInline) {
    if (insertInline(tx, changed, name, target)) return;
    changed = moveToBlock(tx, changed);
  }
  if (changed.isIndexed) insertIndexed(tx, changed, name, wanted.hash, target);
  else insertLinear(tx, changed, name, wanted, target);
}

/**
 * Takes the entry `name` out of `directory`.
 *
 * @returns the inode that it named.
 * @throws FsError ENOENT when there is no such entry.
 */
export function removeEntry(
  fs: Filesystem,
  tx: Tx,
  directory: Inode,
  name: Uint8Array,
): InodeNumber {
  const searched = directoryOf(fs, directory);
  const { part, entries, at } = placeOf(searched, wantedName(searched, name));
  const changed = startChange(fs, tx, directory);
  if (entries instanceof Block) tx.modify(entries, changed.sealEntries);
  const child = direntInode(entries.view, at);
  const free = eraseDirent(entries, changed.startOf(part), at, changed.format);
  changed.roomHints.noteFree(part, free);
  return child;
}

/**
 * Lets the entry `name` of `directory` name the inode `child` instead.
 *
 * @param mode of the child: its type is stored in the entry.
 * @returns the inode that it named before.
 * @throws FsError ENOENT when there is no such entry; ENOKEY in an encrypted directory.
 */
export function replaceEntry(
  fs: Filesystem,
  tx: Tx,
  directory: Inode,
  name: Uint8Array,
  child: InodeNumber,
  mode: number,
): InodeNumber {
  const searched = directoryOf(fs, directory);
  const { entries, at } = placeOf(searched, nameToStore(searched, name));
  const changed = startChange(fs, tx, directory);
  if (entries instanceof Block) tx.modify(entries, changed.sealEntries);
  const before = direntInode(entries.view, at);
  setDirentTarget(entries.view, at, changed.format, { inode: child, mode });
  return before;
}

/** The name of an entry to be made: without the key nobody can encrypt it. */
function nameToStore(directory: Directory, name: Uint8Array): WantedName {
  const wanted = directory.format.isEncrypted ? undefined : wantedName(directory, name);
  if (wanted !== undefined) return wanted;
  throw new FsError(Errno.ENOKEY, `directory ${directory.number} is encrypted`);
}

function placeOf(directory: Directory, wanted: WantedName | undefined): EntryPlace {
  const place = wanted === undefined ? undefined : findEntry(directory, wanted);
  if (place !== undefined) return place;
  throw new FsError(Errno.ENOENT, `inode ${directory.number} has no such entry`);
}

/** Adds an entry where there is room first, in a directory of blocks without an index. */
function insertLinear(
  tx: Tx,
  directory: Directory,
  name: Uint8Array,
  wanted: WantedName,
  target: DirentTarget,
): void {
  const { format, roomHints, partCount } = directory;
  const needed = direntSize(name.length);
  const insert = (block: Block, at: number): void => {
    insertDirent(tx.modify(block, directory.sealEntries), at, format, name, target);
  };
  for (let part = roomHints.firstBlock(needed); part < partCount; part++) {
    const block = directory.block(part as FileBlock);
    if (block === undefined) {
      insert(fillHole(tx, directory, part as FileBlock), 0);
      return;
    }
    const at = findRoom(block, 0, directory.endOf(part), format, needed);
    if (at >= 0) {
      insert(block, at);
      return;
    }
    const indexed = directory.canGetIndex ? makeIndexed(tx, directory, block) : undefined;
    if (indexed !== undefined) {
      insertIndexed(tx, indexed, name, wanted.hash, target);
      return;
    }
    roomHints.noteFull(part + 1, needed);
  }
  insert(appendEntries(tx, directory), 0);
}
