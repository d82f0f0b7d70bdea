/**
 * The hash index of a directory. Its blocks are disguised as empty directory blocks, so that
 * software which knows nothing of it sees a linear directory.
 *
 *     root (block 0)  | "." 12 | ".." 12, says that it reaches to the end | info 8 | entries | tail 8 |
 *     node            | a free entry of 8 bytes that says it fills the block | entries | tail 8 |
 *     entry           | hash 4 | block 4 |      the first one's hash is limit 2 | count 2
 *
 * An entry leads to what has hashes from its own on, up to the next entry's. Bit 0 of an entry's
 * hash marks a continuation: names of that hash lie in the block before as well. The levels of
 * nodes below the root are counted in the root; the lowest entries lead to ordinary directory blocks.
 *
 * @see ext4/directory.rst, "Hash Tree Directories"
 */
import { layout, le16, le32, setLe16, setLe32, setU8, u8 } from "../../base/layout.ts";
import type { FileBlock } from "../../base/numbers.ts";
import { CorruptionError, type Place } from "../errors.ts";
import {
  beginsWithDots,
  Dirent,
  DOTDOT_AT,
  direntInode,
  direntLength,
  setDirentLength,
} from "./dirent.ts";
import { HashVersion, isComputable } from "./dirhash.ts";

// biome-ignore format: a table
export const HtreeRootLayout = layout("dx_root", 32, {
  dotInode:       [0x0, "le32"],   dotRecLen:    [0x4, "le16"],   dotNameLen:    [0x6, "u8"],
  dotName:        [0x8, 4],        dotdotInode:  [0xc, "le32"],   dotdotRecLen:  [0x10, "le16"],
  dotdotNameLen:  [0x12, "u8"],    dotdotName:   [0x14, 4],       reservedZero:  [0x18, "le32"],
  hashVersion:    [0x1c, "u8"],    infoLength:   [0x1d, "u8"],
  indirectLevels: [0x1e, "u8"],    unusedFlags:  [0x1f, "u8"],
});

// biome-ignore format: a table
export const HtreeEntry = layout("dx_entry", 8, {
  hash: [0x0, "le32"],  block: [0x4, "le32"],
});

/** Lies where the first entry's hash would be. */
// biome-ignore format: a table
export const CountLimit = layout("dx_countlimit", 4, {
  limit: [0x0, "le16"],  count: [0x2, "le16"],
});

// biome-ignore format: a table
export const HtreeTail = layout("dx_tail", 8, {
  reserved: [0x0, "le32"],  checksum: [0x4, "le32"],
});

/** Where the entries of the root and of the other nodes begin. */
export const ROOT_ENTRIES_AT = 0x20;
export const NODE_ENTRIES_AT = 0x8;
const ENTRY_SIZE = 8;
const TAIL_SIZE = 8;
const INFO_LENGTH = 8;
/** The other flag bits may be set and mean nothing to us. @see lib/ext2fs/ext2_fs.h */
const FLAG_INCOMPAT = 1;
/** The upper bits of a block number are reserved. @see fs/ext4/namei.c, dx_get_block */
const BLOCK_MASK = 0x0fff_ffff;
/** Blocks that a directory with an index may have. */
export const HTREE_BLOCKS_MAX = BLOCK_MASK + 1;
const LEVELS_MAX = 1;
const LEVELS_MAX_LARGEDIR = 2;
/** No hash is this great. */
export const HASH_END = 0x1_0000_0000;

/** The root or another node, read in place. Lives as long as the bytes under it. */
export class HtreeNode {
  readonly #view: DataView;
  readonly #entries: number;
  readonly count: number;

  /** @param view the bytes of the block, already checked. */
  constructor(view: DataView, entriesAt: number) {
    this.#view = view;
    this.#entries = entriesAt;
    this.count = le16(view, entriesAt, CountLimit.count);
  }

  /** The least hash of entry `index`, with the continuation bit; not stored for entry 0. */
  hash(index: number): number {
    return le32(this.#view, this.#entries + ENTRY_SIZE * index, HtreeEntry.hash);
  }

  /** The block of the directory that entry `index` leads to. */
  block(index: number): FileBlock {
    const at = this.#entries + ENTRY_SIZE * index;
    return (le32(this.#view, at, HtreeEntry.block) & BLOCK_MASK) as FileBlock;
  }

  /** The last entry whose hash is not above `hash`. */
  find(hash: number): number {
    let low = 1;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.hash(middle) <= hash) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

/** What an index has to agree with. */
export interface HtreeBounds {
  readonly blockSize: number;
  /** Blocks that the directory has. */
  readonly blockCount: number;
  readonly inodeCount: number;
  readonly hasChecksums: boolean;
  readonly hasLargeDir: boolean;
  /** Entries carry their hash, which only the key can compute. */
  readonly hasHashInDirent: boolean;
}

export function hashVersion(root: DataView): number {
  return u8(root, 0, HtreeRootLayout.hashVersion);
}
export function indirectLevels(root: DataView): number {
  return u8(root, 0, HtreeRootLayout.indirectLevels);
}
/** The most levels of nodes below the root. */
export function levelsMax(hasLargeDir: boolean): number {
  return hasLargeDir ? LEVELS_MAX_LARGEDIR : LEVELS_MAX;
}

/**
 * Checks the root before anything in it is believed.
 *
 * @throws CorruptionError naming the rule that it breaks.
 */
export function checkHtreeRoot(view: DataView, bounds: HtreeBounds, place: Place): void {
  const R = HtreeRootLayout;
  const refuse = (what: string): never => {
    throw new CorruptionError("htree-root", place, what);
  };
  checkDots(view, bounds, place);
  const version = hashVersion(view);
  const fits = bounds.hasHashInDirent ? version === HashVersion.SIPHASH : isComputable(version);
  if (!fits) refuse(`hash version ${version}`);
  const infoLength = u8(view, 0, R.infoLength);
  if (infoLength !== INFO_LENGTH) refuse(`info length ${infoLength}`);
  if (le32(view, 0, R.reservedZero) !== 0) refuse("reserved field not 0");
  const flags = u8(view, 0, R.unusedFlags);
  if ((flags & FLAG_INCOMPAT) !== 0) refuse(`flags 0x${flags.toString(16)}`);
  const levels = indirectLevels(view);
  if (levels > levelsMax(bounds.hasLargeDir)) {
    throw new CorruptionError("htree-depth", place, `${levels} levels below the root`);
  }
  checkEntries(view, ROOT_ENTRIES_AT, bounds, place);
}

function checkDots(view: DataView, bounds: HtreeBounds, place: Place): void {
  const dotdot = HtreeRootLayout.dotdotInode;
  const ok =
    beginsWithDots({ bytes: bytesOf(view), view }, bounds.blockSize) &&
    direntLength(view, dotdot, bounds.blockSize) === bounds.blockSize - DOTDOT_AT;
  if (!ok) throw new CorruptionError("htree-root", place, 'does not begin with "." and ".."');
  const parent = direntInode(view, dotdot);
  if (parent === 0 || parent > bounds.inodeCount) {
    throw new CorruptionError("dirent-inode", place, `".." is inode ${parent}`);
  }
}

/**
 * Checks a node below the root; `checkHtreeRange` does the rest.
 *
 * @throws CorruptionError naming the rule that it breaks.
 */
export function checkHtreeNode(view: DataView, bounds: HtreeBounds, place: Place): void {
  const disguised =
    le32(view, 0, Dirent.inode) === 0 &&
    direntLength(view, 0, bounds.blockSize) === bounds.blockSize;
  if (!disguised) throw new CorruptionError("htree-block", place, "not a block of the index");
  checkEntries(view, NODE_ENTRIES_AT, bounds, place);
}

function checkEntries(view: DataView, at: number, bounds: HtreeBounds, place: Place): void {
  const limit = le16(view, at, CountLimit.limit);
  const count = le16(view, at, CountLimit.count);
  const room = entriesRoom(view, at, bounds.hasChecksums);
  // The kernel makes nodes one entry smaller than they could be where dirents carry hashes.
  const roomMin = bounds.hasHashInDirent && at === NODE_ENTRIES_AT ? room - 1 : room;
  if (count === 0 || count > limit || limit > room || limit < roomMin) {
    throw new CorruptionError("htree-count", place, `${count} of ${limit}, room for ${room}`);
  }
  const node = new HtreeNode(view, at);
  let previous = 0;
  for (let index = 0; index < count; index++) {
    const hash = index === 0 ? 0 : node.hash(index);
    if (hash < previous) {
      throw new CorruptionError("htree-order", place, `entry ${index} has hash ${hash}`);
    }
    previous = hash;
    const block = node.block(index);
    if (block === 0 || block >= bounds.blockCount) {
      throw new CorruptionError("htree-block", place, `entry ${index} leads to block ${block}`);
    }
  }
}

/**
 * Checks that a node has only the hashes that its parent says: from `key` on, up to `endKey`.
 *
 * @throws CorruptionError `htree-order`.
 */
export function checkHtreeRange(node: HtreeNode, key: number, endKey: number, place: Place): void {
  if (node.count < 2 || (node.hash(1) >= key && node.hash(node.count - 1) <= endKey)) return;
  throw new CorruptionError("htree-order", place, `hashes outside ${key} to ${endKey}`);
}

/** Where the entries that are in use end, and where the tail lies, of the node at `entriesAt`. */
export function htreeUsedEnd(view: DataView, entriesAt: number): number {
  return entriesAt + ENTRY_SIZE * le16(view, entriesAt, CountLimit.count);
}
export function htreeTailAt(view: DataView, entriesAt: number): number {
  return entriesAt + ENTRY_SIZE * le16(view, entriesAt, CountLimit.limit);
}

/** Entries that a block can hold from `entriesAt` on. */
function entriesRoom(view: DataView, entriesAt: number, hasChecksums: boolean): number {
  const tail = hasChecksums ? TAIL_SIZE : 0;
  return Math.floor((view.byteLength - entriesAt - tail) / ENTRY_SIZE);
}

/** Whether the node at `entriesAt` has no room for another entry. */
export function isHtreeFull(view: DataView, entriesAt: number): boolean {
  return le16(view, entriesAt, CountLimit.count) >= le16(view, entriesAt, CountLimit.limit);
}

/**
 * Makes the first block of a directory, which begins with "." and "..", the root of an index with
 * one entry: all hashes lie in block `block`.
 */
export function makeHtreeRoot(
  view: DataView,
  version: number,
  block: FileBlock,
  hasChecksums: boolean,
): void {
  const R = HtreeRootLayout;
  const blockSize = view.byteLength;
  bytesOf(view).fill(0, R.reservedZero);
  setDirentLength(view, R.dotdotInode, blockSize - DOTDOT_AT, blockSize);
  setU8(view, 0, R.hashVersion, version);
  setU8(view, 0, R.infoLength, INFO_LENGTH);
  setCounts(view, ROOT_ENTRIES_AT, 1, entriesRoom(view, ROOT_ENTRIES_AT, hasChecksums));
  setLe32(view, ROOT_ENTRIES_AT, HtreeEntry.block, block);
}

/** Makes a zeroed block a node without entries. */
function makeHtreeNode(view: DataView, hasChecksums: boolean): void {
  setDirentLength(view, 0, view.byteLength, view.byteLength);
  setCounts(view, NODE_ENTRIES_AT, 0, entriesRoom(view, NODE_ENTRIES_AT, hasChecksums));
}

/** Puts an entry in front of entry `index`, which is not the first, of a node that is not full. */
export function insertHtreeEntry(
  view: DataView,
  entriesAt: number,
  index: number,
  hash: number,
  block: FileBlock,
): void {
  const count = le16(view, entriesAt, CountLimit.count);
  const at = entriesAt + ENTRY_SIZE * index;
  bytesOf(view).copyWithin(at + ENTRY_SIZE, at, entriesAt + ENTRY_SIZE * count);
  setLe32(view, at, HtreeEntry.hash, hash);
  setLe32(view, at, HtreeEntry.block, block);
  setLe16(view, entriesAt, CountLimit.count, count + 1);
}

/**
 * Moves the upper half of a node's entries to `into`, a zeroed block.
 *
 * @returns the least hash of the entries that were moved.
 */
export function splitHtreeNode(view: DataView, into: DataView, hasChecksums: boolean): number {
  const count = le16(view, NODE_ENTRIES_AT, CountLimit.count);
  const kept = count >>> 1;
  makeHtreeNode(into, hasChecksums);
  const hash = le32(view, NODE_ENTRIES_AT + ENTRY_SIZE * kept, HtreeEntry.hash);
  moveEntries(view, NODE_ENTRIES_AT, kept, into);
  return hash;
}

/** Moves all entries of the root to `into`, a zeroed block that becomes number `block`. */
export function deepenHtree(
  root: DataView,
  into: DataView,
  block: FileBlock,
  hasChecksums: boolean,
): void {
  makeHtreeNode(into, hasChecksums);
  moveEntries(root, ROOT_ENTRIES_AT, 0, into);
  setLe16(root, ROOT_ENTRIES_AT, CountLimit.count, 1);
  setLe32(root, ROOT_ENTRIES_AT, HtreeEntry.block, block);
  setU8(root, 0, HtreeRootLayout.indirectLevels, indirectLevels(root) + 1);
}

/** Moves the entries from `first` on to an empty node; the first one's hash makes room for counts. */
function moveEntries(from: DataView, entriesAt: number, first: number, into: DataView): void {
  const count = le16(from, entriesAt, CountLimit.count);
  const limit = le16(into, NODE_ENTRIES_AT, CountLimit.limit);
  const start = entriesAt + ENTRY_SIZE * first;
  const end = entriesAt + ENTRY_SIZE * count;
  bytesOf(into).set(bytesOf(from).subarray(start, end), NODE_ENTRIES_AT);
  setCounts(into, NODE_ENTRIES_AT, count - first, limit);
  setLe16(from, entriesAt, CountLimit.count, first);
}

function setCounts(view: DataView, entriesAt: number, count: number, limit: number): void {
  setLe16(view, entriesAt, CountLimit.limit, limit);
  setLe16(view, entriesAt, CountLimit.count, count);
}

function bytesOf(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
