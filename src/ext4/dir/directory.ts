/** Directories as the rest of the program sees them: names to inodes, and listings. */
import { Errno } from "../../base/errno.ts";
import type { InodeNumber } from "../../base/numbers.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { direntInode, isDotOrDotDot, NAME_MAX } from "../format/dirent.ts";
import { directoryAt } from "./contents.ts";
import { listInHashOrder } from "./hash-order.ts";
import type { DirectorySink } from "./listing.ts";
import { listInStoredOrder } from "./offset-order.ts";
import { findAnyEntry, findEntry } from "./search.ts";
import { fitsName, wantedName } from "./wanted-name.ts";

export type { DirectorySink } from "./listing.ts";

/**
 * The inode that the entry `name` of the directory `parent` names, or 0 when there is no such
 * entry. "." and ".." are entries as well.
 *
 * @throws FsError ENAMETOOLONG, ENOTDIR.
 * @throws CorruptionError when the part of the directory that was looked into cannot be trusted.
 */
export function lookup(fs: Filesystem, parent: InodeNumber, name: Uint8Array): InodeNumber | 0 {
  if (name.length > NAME_MAX) {
    throw new FsError(Errno.ENAMETOOLONG, `a name of ${name.length} bytes`);
  }
  const directory = directoryAt(fs, parent);
  if (isDotOrDotDot(name, 0, name.length)) return name.length === 1 ? parent : parentOf(fs, parent);
  const wanted = wantedName(directory, name);
  if (wanted === undefined) return 0;
  const added = directory.changes?.added.find((entry) => fitsName(wanted, entry.name));
  if (added !== undefined) return added.inode;

  const place = findEntry(directory, wanted);
  if (place === undefined) return 0;
  const found = direntInode(place.entries.view, place.at);
  if (found === parent) throw directory.corruption("dirent-inode", "an entry names its directory");
  return found;
}

/**
 * The directory that `directory` lies in: what its entry ".." names.
 *
 * @throws FsError ENOTDIR.
 * @throws CorruptionError when there is no such entry.
 */
export function parentOf(fs: Filesystem, directory: InodeNumber): InodeNumber {
  const child = directoryAt(fs, directory);
  const parent = child.parent();
  if (parent === 0 || parent > fs.superblock.inodeCount) {
    throw child.corruption("dirent-inode", `".." is inode ${parent}`);
  }
  return parent;
}

/**
 * Whether a directory has no entries but "." and "..".
 *
 * @throws FsError ENOTDIR.
 * @throws CorruptionError when a part that had to be looked into cannot be trusted.
 */
export function isEmptyDirectory(fs: Filesystem, directory: InodeNumber): boolean {
  return findAnyEntry(directoryAt(fs, directory)) === undefined;
}

/**
 * Lists a directory from a position on. A position is 64 bits in two halves; 0 is the start, the
 * others come from the sink's `nextHi` and `nextLo`.
 *
 * Directories that have an index, or are small enough to get one later, are listed in the order of
 * hashes: positions stay right whatever is added to them or taken out in between.
 *
 * @throws FsError ENOTDIR.
 * @throws CorruptionError when a part that has to be listed cannot be trusted.
 */
export function readDirectory(
  fs: Filesystem,
  directory: InodeNumber,
  fromHi: number,
  fromLo: number,
  sink: DirectorySink,
): void {
  const listed = directoryAt(fs, directory);
  if (listed.isInHashOrder) listInHashOrder(listed, fromHi, fromLo, sink);
  else listInStoredOrder(listed, fromHi, fromLo, sink);
}
