/** Directories as the rest of the program sees them: names to inodes, and listings. */
import { Errno } from "../../base/errno.ts";
import type { FileBlock, InodeNumber } from "../../base/numbers.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { type Dirents, direntInode, isDotOrDotDot, NAME_MAX } from "../format/dirent.ts";
import { type Directory, directoryAt } from "./contents.ts";
import { listInHashOrder } from "./hash-order.ts";
import { HtreePath } from "./htree-path.ts";
import { type DirectorySink, storedName } from "./listing.ts";
import { listInStoredOrder } from "./offset-order.ts";
import { findDirent, fitsName, type WantedName, wantedName } from "./wanted-name.ts";

export type { DirectorySink } from "./listing.ts";

/** `s_encoding_flags`: the index of a case-insensitive directory is right about what is not there. */
const ENCODING_NO_COMPAT_FALLBACK = 2;

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

  const found = directory.isIndexed
    ? findIndexed(directory, wanted)
    : findLinear(directory, wanted);
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

function findIndexed(directory: Directory, wanted: WantedName): InodeNumber | 0 {
  const { hash } = wanted;
  const path = new HtreePath(directory, hash);
  let goesOn: boolean;
  do {
    const found = findInBlock(directory, path.block, wanted);
    if (found !== 0) return found;
    goesOn = path.endKey === hash + 1;
  } while (goesOn && path.next());
  return mayLieElsewhere(directory) ? findAnywhere(directory, wanted) : 0;
}

/** Looks through all blocks that the index leads to. */
function findAnywhere(directory: Directory, wanted: WantedName): InodeNumber | 0 {
  const path = new HtreePath(directory, 0);
  do {
    const found = findInBlock(directory, path.block, wanted);
    if (found !== 0) return found;
  } while (path.next());
  return 0;
}

function findLinear(directory: Directory, wanted: WantedName): InodeNumber | 0 {
  let part = 0;
  while (part < directory.partCount) {
    const entries = directory.entries(part);
    if (entries === undefined) {
      part = directory.endOfHole(part);
      continue;
    }
    const found = findIn(directory, entries, part, wanted);
    if (found !== 0) return found;
    part++;
  }
  return 0;
}

function findInBlock(directory: Directory, block: FileBlock, wanted: WantedName): InodeNumber | 0 {
  return findIn(directory, directory.indexedEntries(block), block, wanted);
}

function findIn(
  directory: Directory,
  entries: Dirents,
  part: number,
  wanted: WantedName,
): InodeNumber | 0 {
  const { blockSize } = directory.format;
  const from = directory.startOf(part);
  const at = findDirent(entries, from, directory.endOf(part), blockSize, wanted);
  if (at < 0 || directory.changes?.removed(storedName(entries, at))) return 0;
  return direntInode(entries.view, at);
}

/**
 * Kernels have not always agreed on what folding a name means, so an entry may lie where another
 * hash would have it. @see fs/ext4/namei.c, __ext4_find_entry; sb_no_casefold_compat_fallback
 */
function mayLieElsewhere(directory: Directory): boolean {
  if (!directory.isCasefolded) return false;
  return (directory.fs.superblock.encodingFlags & ENCODING_NO_COMPAT_FALLBACK) === 0;
}
