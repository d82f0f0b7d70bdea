/**
 * Adds entries to a directory with an index. The hash of the name leads to one block; when that is
 * full its entries are shared out between it and a new one, by hash, and the index gets an entry for
 * the new block. When nodes of the index are full these are split first, from the top down, and when
 * the root is, the index becomes a level deeper.
 *
 *     leaf   | a 10 | b 40 | c 90 | d 90 |  ──►  | a 10 | b 40 |   | c 90 | d 90 |
 *     node   | 0 → leaf |                   ──►  | 0 → leaf | 90 → new leaf |
 *
 * Where entries of one hash come to lie in two blocks, the index marks the second as a continuation.
 *
 * @see fs/ext4/namei.c, ext4_dx_add_entry, make_indexed_dir and do_split
 */
import { Errno } from "../../base/errno.ts";
import type { FileBlock } from "../../base/numbers.ts";
import { type Block, BlockKind } from "../cache/block-cache.ts";
import { FsError } from "../errors.ts";
import {
  beginsWithDots,
  clearDirents,
  DIRENT_HEAD_SIZE,
  type Dirents,
  type DirentTarget,
  direntInode,
  direntLength,
  direntNameLength,
  direntSize,
  direntUsed,
  findRoom,
  insertDirent,
  isDotOrDotDot,
  setDirentLength,
} from "../format/dirent.ts";
import { Incompat } from "../format/features.ts";
import {
  deepenHtree,
  insertHtreeEntry,
  isHtreeFull,
  levelsMax,
  makeHtreeRoot,
  ROOT_ENTRIES_AT,
  splitHtreeNode,
} from "../format/htree.ts";
import { InodeFlags } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { type Directory, directoryOf } from "./contents.ts";
import { appendEntries, appendNode } from "./growth.ts";
import { HtreePath, type Step } from "./htree-path.ts";

/** A sort key is a hash times this, plus an offset in a block. */
const OFFSET_SPAN = 0x1_0000;
/** Marks the hash of an entry of the index: the block before has names of that hash as well. */
const CONTINUED = 1;

/**
 * Adds an entry to `directory`, which has an index and no entry of this name.
 *
 * @param hash the major hash of `name`.
 * @throws FsError ENOSPC when the filesystem or the index is full.
 */
export function insertIndexed(
  tx: Tx,
  directory: Directory,
  name: Uint8Array,
  hash: number,
  target: DirentTarget,
): void {
  const { format } = directory;
  const needed = direntSize(name.length);
  // Each turn but the last makes room on one level, so that the next one gets further.
  for (;;) {
    const path = new HtreePath(directory, hash);
    const leaf = directory.indexedEntries(path.block);
    const at = findRoom(leaf, 0, directory.endOf(path.block), format, needed);
    if (at >= 0) {
      tx.modify(leaf, directory.sealEntries);
      insertDirent(leaf, at, format, name, target);
      return;
    }
    if (!splitFullNode(tx, directory, path.steps)) splitLeaf(tx, directory, path, leaf);
  }
}

/**
 * Gives a directory of one block an index: its entries move to a second block, and half of them to a
 * third at once, as that is as good as full.
 *
 * @returns the directory as it is then, or undefined when its block does not begin as it has to.
 */
export function makeIndexed(tx: Tx, directory: Directory, block: Block): Directory | undefined {
  const { fs, inode, number, format, hash } = directory;
  if (!beginsWithDots(block, format.blockSize)) return undefined;
  const leafNumber = directory.partCount as FileBlock;
  const leaf = appendEntries(tx, directory);
  const offsets = usedOffsets(directory, block).filter(
    (at) => !isDotOrDotDot(block.bytes, at + DIRENT_HEAD_SIZE, direntNameLength(block.view, at)),
  );
  pack(directory, block, offsets, leaf);
  tx.modify(block, directory.sealRoot);
  makeHtreeRoot(block.view, hash.version, leafNumber, fs.checksums.enabled);
  block.markVerified(BlockKind.HTREE_ROOT, number);
  inode.flags |= InodeFlags.INDEX;
  const indexed = directoryOf(fs, inode);
  splitLeaf(tx, indexed, new HtreePath(indexed, 0), leaf);
  return indexed;
}

/**
 * Makes room in the index when the node that leads to the leaf is full: splits the highest node that
 * is full and has a parent with room, or puts a level under the root.
 *
 * @param steps the way to the leaf.
 * @returns false when there was room already.
 * @throws FsError ENOSPC when the index may not become deeper.
 */
function splitFullNode(tx: Tx, directory: Directory, steps: readonly Step[]): boolean {
  const { fs, number, sealNode } = directory;
  const hasChecksums = fs.checksums.enabled;
  let level = steps.length - 1;
  while (level >= 0 && isFull(steps[level] as Step)) level--;
  if (level === steps.length - 1) return false;
  const fileBlock = directory.partCount as FileBlock;
  if (level >= 0) {
    const full = (steps[level + 1] as Step).block;
    const added = appendNode(tx, directory);
    tx.modify(full, sealNode);
    const hash = splitHtreeNode(full.view, added.view, hasChecksums);
    insertBehind(tx, directory, steps[level] as Step, hash, fileBlock);
    return true;
  }
  if (steps.length > levelsMax(fs.superblock.hasIncompat(Incompat.LARGEDIR))) {
    throw new FsError(Errno.ENOSPC, `the index of directory ${number} is full`);
  }
  const root = (steps[0] as Step).block;
  const added = appendNode(tx, directory);
  tx.modify(root, directory.sealRoot);
  deepenHtree(root.view, added.view, fileBlock, hasChecksums);
  return true;
}

const isFull = ({ block, entriesAt }: Step): boolean => isHtreeFull(block.view, entriesAt);

/** Adds an entry for block `fileBlock` behind the entry that was followed. */
function insertBehind(
  tx: Tx,
  directory: Directory,
  { block, entriesAt, index }: Step,
  hash: number,
  fileBlock: FileBlock,
): void {
  const isRoot = entriesAt === ROOT_ENTRIES_AT;
  tx.modify(block, isRoot ? directory.sealRoot : directory.sealNode);
  insertHtreeEntry(block.view, entriesAt, index + 1, hash, fileBlock);
}

/**
 * Moves the upper half of a leaf's entries, in the order of their hashes, to a new one. An entry that
 * lies where its hash does not belong counts as the nearest that does, or the index would lose its
 * order.
 */
function splitLeaf(tx: Tx, directory: Directory, path: HtreePath, leaf: Block): void {
  const { hash: entryHash } = directory;
  const { firstHash, lastHash } = path;
  const keys = Float64Array.from(usedOffsets(directory, leaf), (at) => {
    entryHash.ofEntry(leaf, at);
    const major = Math.min(Math.max(entryHash.major, firstHash), lastHash);
    return major * OFFSET_SPAN + at;
  }).sort();
  const offsets = Array.from(keys, (key) => key % OFFSET_SPAN);
  const copy = copyOf(leaf);
  tx.modify(leaf, directory.sealEntries);
  if (offsets.length < 2) {
    // There is room enough, in pieces.
    pack(directory, copy, offsets, leaf);
    return;
  }
  const split = splitPoint(directory, leaf, offsets);
  const hashOf = (index: number): number => Math.floor((keys[index] as number) / OFFSET_SPAN);
  const hash = hashOf(split);
  const isContinued = hash === hashOf(split - 1);
  const fileBlock = directory.partCount as FileBlock;
  const added = appendEntries(tx, directory);
  pack(directory, copy, offsets.slice(split), added);
  pack(directory, copy, offsets.slice(0, split), leaf);
  const last = path.steps[path.steps.length - 1] as Step;
  insertBehind(tx, directory, last, isContinued ? hash + CONTINUED : hash, fileBlock);
}

/**
 * The index of the first entry to move, so that neither block is more than half full: half of the
 * bytes, or, where all of them fit into one half, half of the entries. Never 0.
 */
function splitPoint(directory: Directory, leaf: Dirents, offsets: readonly number[]): number {
  const half = directory.endOf(0) / 2;
  let moved = 0;
  for (let index = offsets.length - 1; index >= 0; index--) {
    const size = direntUsed(leaf, offsets[index] as number, directory.format);
    // More than half of this entry would lie in the other half.
    if (moved + size / 2 > half) return index + 1;
    moved += size;
  }
  return offsets.length >>> 1;
}

/** Where the entries in use of a block lie. */
function usedOffsets(directory: Directory, { view }: Dirents): number[] {
  const { blockSize } = directory.format;
  const offsets: number[] = [];
  const end = directory.endOf(0);
  for (let at = 0; at < end; at += direntLength(view, at, blockSize)) {
    if (direntInode(view, at) !== 0) offsets.push(at);
  }
  return offsets;
}

/** Makes the entries of `from` at `offsets`, in this order, all the entries of the block `into`. */
function pack(
  directory: Directory,
  from: Dirents,
  offsets: readonly number[],
  into: Dirents,
): void {
  const { format } = directory;
  const { blockSize } = format;
  const end = directory.endOf(0);
  clearDirents(into, 0, end, blockSize);
  let last = 0;
  let next = 0;
  for (const at of offsets) {
    const used = direntUsed(from, at, format);
    into.bytes.set(from.bytes.subarray(at, at + used), next);
    setDirentLength(into.view, next, used, blockSize);
    last = next;
    next += used;
  }
  setDirentLength(into.view, last, end - last, blockSize);
}

function copyOf({ bytes }: Dirents): Dirents {
  const copy = bytes.slice();
  return { bytes: copy, view: new DataView(copy.buffer) };
}
