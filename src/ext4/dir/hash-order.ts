/**
 * Lists a directory in the order of its entries' hashes, as the kernel does: an entry keeps its
 * place whatever is added, taken out, or moved to another block while somebody reads.
 *
 *     position    hi: major hash / 2 (31 bits)     lo: minor hash, upper 24 bits | ordinal 8
 *     "."  0, 1      ".."  0, 2      the first entry of a hash has the ordinal 3
 *
 * The ordinal counts entries that have the same position otherwise, in the order in which they are
 * stored; when there are more than 8 bits can count, it carries over. A position is the last entry
 * that was read, and reading goes on behind it.
 *
 * One *group* is sorted at a time: the entries of one block, together with those of the blocks that
 * continue its last hash. A directory without an index is one group. An entry that lies where its
 * hash does not belong is listed at the nearest hash that does, so that positions only ever grow.
 *
 * @see fs/ext4/dir.c, ext4_dx_readdir; fs/ext4/namei.c, ext4_htree_fill_tree
 */
import type { FileBlock } from "../../base/numbers.ts";
import type { Filesystem } from "../filesystem.ts";
import {
  DIRENT_HEAD_SIZE,
  type Dirents,
  direntInode,
  direntLength,
  direntNameLength,
  direntType,
  isDotOrDotDot,
} from "../format/dirent.ts";
import { HASH_END } from "../format/htree.ts";
import type { Directory } from "./contents.ts";
import type { AddedEntry } from "./directory-changes.ts";
import { HtreePath } from "./htree-path.ts";
import { type DirectorySink, listDots, shownName, storedName } from "./listing.ts";

const FIRST_ORDINAL = 3;
const MINOR_MASK = 0xffff_ff00;
/** Bits of an index into a group: with the 31 of a position's upper half they make a sort key. */
const INDEX_BITS = 18;
const GROUP_ENTRIES_MAX = 1 << INDEX_BITS;
const INDEX_SPAN = 1 << INDEX_BITS;
/** `part` of an entry that a fast commit added; `at` is its index. */
const ADDED = 0xffff_ffff;
const GROUPS_KEPT = 4;

/** The entries of some hashes, sorted by position. */
interface Group {
  readonly directory: Directory;
  /** The version of the directory that it was made from. */
  readonly version: number;
  /** The hashes that it is about, from an even one up to an even one. */
  readonly from: number;
  readonly end: number;
  readonly count: number;
  /** The entries, `ENTRY_STRIDE` numbers each. One array, since making one costs a microsecond. */
  readonly entries: Uint32Array;
}

/** The numbers of an entry: its position, where it is stored, and its whole minor hash. */
const ENTRY_STRIDE = 5;
const HI = 0;
const LO = 1;
const PART = 2;
const AT = 3;
const MINOR = 4;

/** The groups that were read last: a listing comes back for the rest of one several times. */
class GroupCache {
  readonly #groups: (Group | undefined)[] = new Array(GROUPS_KEPT);
  #oldest = 0;

  find(directory: Directory, hash: number): Group | undefined {
    return this.#groups.find(
      (group) =>
        group?.directory === directory &&
        group.version === directory.version &&
        group.from <= hash &&
        hash < group.end,
    );
  }
  keep(group: Group): void {
    this.#groups[this.#oldest] = group;
    this.#oldest = (this.#oldest + 1) % GROUPS_KEPT;
  }
}

const caches = new WeakMap<Filesystem, GroupCache>();

function cacheOf(fs: Filesystem): GroupCache {
  const known = caches.get(fs);
  if (known !== undefined) return known;
  const cache = new GroupCache();
  caches.set(fs, cache);
  return cache;
}

/** Gives the entries whose positions are greater than the given one to `sink`. */
export function listInHashOrder(
  directory: Directory,
  fromHi: number,
  fromLo: number,
  sink: DirectorySink,
): void {
  if (fromHi === 0 && !listDots(directory, fromLo, sink)) return;
  const cache = cacheOf(directory.fs);
  let hash = fromHi * 2;
  for (let groups = 0; hash < HASH_END; groups++) {
    if (groups > directory.partCount) {
      throw directory.corruption("htree-block", "the index leads to a block more than once");
    }
    let group = cache.find(directory, hash);
    if (group === undefined) {
      group = loadGroup(directory, hash);
      cache.keep(group);
    }
    if (!listGroup(group, fromHi, fromLo, sink)) return;
    hash = group.end;
  }
}

/** @returns false when the sink wants no more. */
function listGroup(group: Group, fromHi: number, fromLo: number, sink: DirectorySink): boolean {
  const { directory, count, entries: sorted } = group;
  const { format } = directory;
  const added = directory.changes?.added;
  let loaded = -1;
  let entries: Dirents | undefined;
  for (let index = firstAfter(group, fromHi, fromLo); index < count; index++) {
    const entry = index * ENTRY_STRIDE;
    const nextHi = sorted[entry + HI] as number;
    const nextLo = sorted[entry + LO] as number;
    const offset = sorted[entry + AT] as number;
    const source = sorted[entry + PART] as number;
    const minor = sorted[entry + MINOR] as number;
    const major = nextHi * 2;
    if (source === ADDED) {
      const extra = added?.[offset];
      if (extra === undefined) continue;
      const name = shownName(directory, extra.name, major, minor);
      if (!sink(name, extra.inode, extra.type, nextHi, nextLo)) return false;
      continue;
    }
    if (source !== loaded) {
      entries = directory.entries(source);
      loaded = source;
    }
    const from = entries as Dirents;
    const inode = direntInode(from.view, offset);
    const name = shownName(directory, storedName(from, offset), major, minor);
    if (!sink(name, inode, direntType(from.view, offset, format), nextHi, nextLo)) return false;
  }
  return true;
}

/** The index of the first entry with a position greater than the given one. */
function firstAfter({ count, entries }: Group, fromHi: number, fromLo: number): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const hi = entries[middle * ENTRY_STRIDE + HI] as number;
    const lo = entries[middle * ENTRY_STRIDE + LO] as number;
    const isAfter = hi > fromHi || (hi === fromHi && lo > fromLo);
    if (isAfter) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The group that `hash`, an even one, belongs to. */
function loadGroup(directory: Directory, hash: number): Group {
  const collector = new Collector(directory);
  let from = 0;
  let end = HASH_END;
  if (directory.isIndexed) {
    const path = new HtreePath(directory, hash);
    // Names of a continued hash belong to the group of the block before.
    from = path.key + (path.key & 1);
    do {
      end = path.endKey;
      collector.add(path.block, path.firstHash, path.lastHash, from);
    } while ((end & 1) === 1 && path.next());
    end += end & 1;
  } else {
    for (let part = 0; part < directory.partCount; part++) collector.add(part, 0, end - 2, 0);
  }
  collector.addAdded(from, end);
  return collector.sorted(from, end);
}

interface Hashes {
  readonly major: Uint32Array;
  readonly minor: Uint32Array;
}

const addedHashes = new WeakMap<readonly AddedEntry[], Hashes>();

function hashesOfAdded({ hash }: Directory, added: readonly AddedEntry[]): Hashes {
  const known = addedHashes.get(added);
  if (known !== undefined) return known;
  const hashes = { major: new Uint32Array(added.length), minor: new Uint32Array(added.length) };
  added.forEach(({ name }, index) => {
    hash.ofName(name, 0, name.length);
    hashes.major[index] = hash.major;
    hashes.minor[index] = hash.minor;
  });
  addedHashes.set(added, hashes);
  return hashes;
}

/** Gathers entries with their hashes. The arrays serve one group after another, and grow as needed. */
let capacity = 512;
let keys = new Float64Array(capacity);
let minors = new Uint32Array(capacity);
let parts = new Uint32Array(capacity);
let offsets = new Uint32Array(capacity);

class Collector {
  readonly #directory: Directory;
  #count = 0;

  constructor(directory: Directory) {
    this.#directory = directory;
  }

  /** Adds the entries of `part`; hashes beyond `first` and `last` count as these. */
  add(part: number, first: number, last: number, from: number): void {
    const directory = this.#directory;
    const { hash, changes } = directory;
    const { blockSize } = directory.format;
    const entries = directory.isIndexed
      ? directory.indexedEntries(part as FileBlock)
      : directory.entries(part);
    if (entries === undefined) return;
    const { view, bytes } = entries;
    const end = directory.endOf(part);
    for (let at = directory.startOf(part); at < end; at += direntLength(view, at, blockSize)) {
      if (direntInode(view, at) === 0) continue;
      if (isDotOrDotDot(bytes, at + DIRENT_HEAD_SIZE, direntNameLength(view, at))) continue;
      hash.ofEntry(entries, at);
      const major = Math.min(Math.max(hash.major, first), last);
      if (major < from || changes?.removed(storedName(entries, at))) continue;
      this.#push(major, hash.minor, part, at);
    }
  }

  /** Adds what fast commits added with hashes from `from` up to `end`. */
  addAdded(from: number, end: number): void {
    const added = this.#directory.changes?.added;
    if (added === undefined) return;
    const hashes = hashesOfAdded(this.#directory, added);
    hashes.major.forEach((major, index) => {
      if (major < from || major >= end) return;
      this.#push(major, hashes.minor[index] as number, ADDED, index);
    });
  }

  sorted(from: number, end: number): Group {
    const count = this.#count;
    const order = keys.subarray(0, count).sort();
    const entries = new Uint32Array(count * ENTRY_STRIDE);
    for (let first = 0; first < count; ) {
      const hi = Math.floor((order[first] as number) / INDEX_SPAN);
      let next = first + 1;
      while (next < count && (order[next] as number) < (hi + 1) * INDEX_SPAN) next++;
      if (next - first > 1) sortByMinor(order.subarray(first, next));
      fill(entries, order, hi, first, next);
      first = next;
    }
    const { version } = this.#directory;
    return { directory: this.#directory, version, from, end, count, entries };
  }

  #push(major: number, minor: number, part: number, at: number): void {
    const index = this.#count++;
    if (index >= GROUP_ENTRIES_MAX) {
      throw this.#directory.corruption("htree-order", `more than ${index} entries of one hash`);
    }
    if (index === capacity) grow();
    keys[index] = (major / 2) * INDEX_SPAN + index;
    minors[index] = minor;
    parts[index] = part;
    offsets[index] = at;
  }
}

/** Sorts entries of one major hash, which are in the order in which they are stored. */
function sortByMinor(order: Float64Array): void {
  const rank = (key: number): number => (minors[key % INDEX_SPAN] as number) >>> 8;
  order.sort((a, b) => rank(a) - rank(b) || a - b);
}

/** Copies the entries from `first` up to `next`, all of one major hash, and numbers them. */
function fill(
  entries: Uint32Array,
  order: Float64Array,
  hi: number,
  first: number,
  next: number,
): void {
  let position = 0;
  for (let to = first; to < next; to++) {
    const index = (order[to] as number) % INDEX_SPAN;
    const minor = minors[index] as number;
    const own = ((minor & MINOR_MASK) | FIRST_ORDINAL) >>> 0;
    position = to > first ? Math.max(own, position + 1) : own;
    const entry = to * ENTRY_STRIDE;
    entries[entry + HI] = hi;
    entries[entry + LO] = position;
    entries[entry + PART] = parts[index] as number;
    entries[entry + AT] = offsets[index] as number;
    entries[entry + MINOR] = minor;
  }
}

function grow(): void {
  capacity *= 2;
  const grown = <A extends Float64Array | Uint32Array>(into: A, old: A): A => {
    into.set(old);
    return into;
  };
  keys = grown(new Float64Array(capacity), keys);
  minors = grown(new Uint32Array(capacity), minors);
  parts = grown(new Uint32Array(capacity), parts);
  offsets = grown(new Uint32Array(capacity), offsets);
}
