/**
 * Lists a directory in the order in which its entries are stored: the only order that directories
 * of several blocks without an index have. A position is a byte offset into the directory (each part
 * of an inline one counts as a block), and reading goes on with the entry there or the next one.
 *
 * Inline directories store no "." and "..": they come first, at the positions 0 and 1, where the
 * number of the parent lies. Entries that fast commits added come after the last block.
 */

import { le32 } from "../../base/layout.ts";
import { join32 } from "../../base/numbers.ts";
import {
  DirentHash,
  type Dirents,
  direntHashAt,
  direntInode,
  direntLength,
  direntType,
  isDotOrDotDot,
} from "../format/dirent.ts";
import type { Directory } from "./contents.ts";
import { type DirectorySink, listDots, shownName, storedName } from "./listing.ts";

const HALF = 0x1_0000_0000;

/** Gives the entries that lie at the position or after it to `sink`, until it wants no more. */
export function listInStoredOrder(
  directory: Directory,
  fromHi: number,
  fromLo: number,
  sink: DirectorySink,
): void {
  const { blockSize } = directory.format;
  const position = join32(fromHi, fromLo);
  if (directory.isInline && !listDots(directory, position, sink)) return;
  const { partCount } = directory;
  let part = Math.floor(position / blockSize);
  let from = position % blockSize;
  while (part < partCount) {
    const entries = directory.entries(part);
    if (entries === undefined) {
      part = directory.endOfHole(part);
    } else {
      if (!listPart(directory, entries, part, from, sink)) return;
      part++;
    }
    from = 0;
  }
  listAdded(directory, Math.max(0, position - partCount * blockSize), sink);
}

/** @returns false when the sink wants no more. */
function listPart(
  directory: Directory,
  entries: Dirents,
  part: number,
  from: number,
  sink: DirectorySink,
): boolean {
  const { format, changes } = directory;
  const { blockSize } = format;
  const { view } = entries;
  const end = directory.endOf(part);
  let next: number;
  for (let at = directory.startOf(part); at < end; at = next) {
    next = at + direntLength(view, at, blockSize);
    // A position that is no longer the start of an entry means the first one after it.
    if (at < from || direntInode(view, at) === 0) continue;
    const stored = storedName(entries, at);
    if (changes?.removed(stored)) continue;
    let major = 0;
    let minor = 0;
    if (format.hasHash && !isDotOrDotDot(stored, 0, stored.length)) {
      major = le32(view, direntHashAt(view, at), DirentHash.hash);
      minor = le32(view, direntHashAt(view, at), DirentHash.minorHash);
    }
    const name = shownName(directory, stored, major, minor);
    const after = next < end ? part * blockSize + next : (part + 1) * blockSize;
    const hi = Math.floor(after / HALF);
    if (!sink(name, direntInode(view, at), direntType(view, at, format), hi, after % HALF)) {
      return false;
    }
  }
  return true;
}

function listAdded(directory: Directory, from: number, sink: DirectorySink): void {
  const added = directory.changes?.added ?? [];
  const base = directory.partCount * directory.format.blockSize;
  for (let index = from; index < added.length; index++) {
    const entry = added[index];
    if (entry === undefined) return;
    const name = shownName(directory, entry.name, 0, 0);
    const after = base + index + 1;
    if (!sink(name, entry.inode, entry.type, Math.floor(after / HALF), after % HALF)) return;
  }
}
