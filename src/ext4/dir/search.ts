/** Searches a directory of any kind for an entry: through its index, or block by block. */
import type { FileBlock } from "../../base/numbers.ts";
import { type Dirents, isDotOrDotDot } from "../format/dirent.ts";
import type { Directory } from "./contents.ts";
import { HtreePath } from "./htree-path.ts";
import { storedName } from "./listing.ts";
import { findDirent, type WantedName } from "./wanted-name.ts";

/** `s_encoding_flags`: the index of a case-insensitive directory is right about what is not there. */
const ENCODING_NO_COMPAT_FALLBACK = 2;

/** Where an entry lies. */
export interface EntryPlace {
  readonly part: number;
  /** The entries of that part. */
  readonly entries: Dirents;
  /** The offset of the entry in them. */
  readonly at: number;
}

/**
 * Finds the entry that `wanted` fits.
 *
 * @throws CorruptionError when the part of the directory that was looked into cannot be trusted.
 */
export function findEntry(directory: Directory, wanted: WantedName): EntryPlace | undefined {
  const { lastSearch } = directory;
  const { stored } = wanted;
  if (stored !== undefined && lastSearch.isFor(stored)) return foundLast(directory);
  const found = directory.isIndexed
    ? findIndexed(directory, wanted)
    : findLinear(directory, wanted);
  if (stored !== undefined) lastSearch.note(stored, found?.part ?? -1, found?.at ?? 0);
  return found;
}

/** What the last search found. Its block may have left the cache since. */
function foundLast(directory: Directory): EntryPlace | undefined {
  const { part, at } = directory.lastSearch;
  if (part < 0) return undefined;
  const entries = directory.entries(part);
  return entries === undefined ? undefined : { part, entries, at };
}

/** Finds some entry other than "." and "..". */
export function findAnyEntry(directory: Directory): EntryPlace | undefined {
  return directory.isIndexed ? findAnywhere(directory, ANY) : findLinear(directory, ANY);
}

const ANY: WantedName = {
  stored: undefined,
  hash: 0,
  matches: (bytes, from, length) => !isDotOrDotDot(bytes, from, length),
};

function findIndexed(directory: Directory, wanted: WantedName): EntryPlace | undefined {
  const { hash } = wanted;
  const path = new HtreePath(directory, hash);
  let goesOn: boolean;
  do {
    const found = findInBlock(directory, path.block, wanted);
    if (found !== undefined) return found;
    goesOn = path.endKey === hash + 1;
  } while (goesOn && path.next());
  return mayLieElsewhere(directory) ? findAnywhere(directory, wanted) : undefined;
}

/** Looks through all blocks that the index leads to. */
function findAnywhere(directory: Directory, wanted: WantedName): EntryPlace | undefined {
  const path = new HtreePath(directory, 0);
  do {
    const found = findInBlock(directory, path.block, wanted);
    if (found !== undefined) return found;
  } while (path.next());
  return undefined;
}

function findLinear(directory: Directory, wanted: WantedName): EntryPlace | undefined {
  let part = 0;
  while (part < directory.partCount) {
    const entries = directory.entries(part);
    if (entries === undefined) {
      part = directory.endOfHole(part);
      continue;
    }
    const found = findIn(directory, entries, part, wanted);
    if (found !== undefined) return found;
    part++;
  }
  return undefined;
}

function findInBlock(
  directory: Directory,
  block: FileBlock,
  wanted: WantedName,
): EntryPlace | undefined {
  return findIn(directory, directory.indexedEntries(block), block, wanted);
}

function findIn(
  directory: Directory,
  entries: Dirents,
  part: number,
  wanted: WantedName,
): EntryPlace | undefined {
  const { blockSize } = directory.format;
  const from = directory.startOf(part);
  const at = findDirent(entries, from, directory.endOf(part), blockSize, wanted);
  if (at < 0 || directory.changes?.removed(storedName(entries, at))) return undefined;
  return { part, entries, at };
}

/**
 * Kernels have not always agreed on what folding a name means, so an entry may lie where another
 * hash would have it. @see fs/ext4/namei.c, __ext4_find_entry; sb_no_casefold_compat_fallback
 */
function mayLieElsewhere(directory: Directory): boolean {
  if (!directory.isCasefolded) return false;
  return (directory.fs.superblock.encodingFlags & ENCODING_NO_COMPAT_FALLBACK) === 0;
}
