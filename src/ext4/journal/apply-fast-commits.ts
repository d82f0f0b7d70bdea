/**
 * Makes real changes of what fast commits say, in one handle: they become part of a transaction as
 * whole as they are.
 *
 *     1  claim     the blocks and inodes that were given out before the crash: first of all, so that
 *                  nothing which is allocated on the way takes them
 *     2  free      inodes that are gone, and file blocks that are gone or have moved
 *     3  claim     again, what was freed by one file and belongs to another
 *     4  store     inodes, then file blocks, then new directories, then entries
 *
 * What comes out is what the overlay of the same fast commits shows (`FastCommitChanges`), but for
 * what an overlay cannot do: new directories get blocks of their own, link counts of directories and
 * counts of blocks are right, and what the inode of a directory says of its blocks stays as it was,
 * since they grow in their own way here.
 *
 * @see fs/ext4/fast_commit.c, ext4_fc_replay
 */
import type { FileBlock, FsBlock, InodeNumber } from "../../base/numbers.ts";
import { claimBlocks, claimInode } from "../alloc/claim.ts";
import { freeInode } from "../alloc/inodes.ts";
import { lookup } from "../dir/directory.ts";
import { initDirectory } from "../dir/dots.ts";
import { addEntry, removeEntry } from "../dir/entries.ts";
import { CorruptionError, FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { extentLengthMax, FILE_BLOCK_END } from "../format/extent.ts";
import {
  CLASSIC_INODE_SIZE,
  FileType,
  I_BLOCK_SIZE,
  Inode,
  InodeFlags,
  InodeLayout,
} from "../format/inode.ts";
import { INLINE_DATA } from "../format/xattr.ts";
import { freeFileBlocks, hasBlockMap, initBlockMap } from "../map/change.ts";
import { ExtentEditor } from "../map/extent-editor.ts";
import { formatExtentRoot } from "../map/extent-tree.ts";
import { findRun } from "../map/iomap.ts";
import { HOLE, newRun, type Run } from "../map/run.ts";
import { freeXattrs, storeXattr } from "../ops/xattr-store.ts";
import type { ChangedRun } from "./changed-runs.ts";
import type { FastCommitLog } from "./fast-commit-log.ts";
import { type ChangedInode, FastCommitReplay } from "./fast-commit-replay.ts";
import { applyPatch } from "./patched-inodes.ts";
import type { Tx } from "./transaction.ts";

/**
 * Changes `fs` to what the fast commits in `log` left. The transaction is not committed.
 *
 * @param fs writable, with all full transactions replayed and nothing changed since.
 * @throws CorruptionError when the fast commits cannot be meant.
 */
export function applyFastCommits(fs: Filesystem, log: FastCommitLog): void {
  const replay = new FastCommitReplay(fs, log);
  fs.transact(1, (tx) => new Application(fs, tx, replay).run());
}

const SECTOR_SIZE = 512;
/** A DT_* number is the type of a mode without the lower bits. */
const MODE_TYPE_SHIFT = 12;
const DT_DIRECTORY = FileType.DIRECTORY >>> MODE_TYPE_SHIFT;
/** Those of an empty directory: its name, and its own ".". */
const DIRECTORY_LINKS = 2;
const I_BLOCK_END = InodeLayout.block + I_BLOCK_SIZE;
/** What says how a directory's blocks are used. */
const LAYOUT_FLAGS = InodeFlags.EXTENTS | InodeFlags.INDEX | InodeFlags.INLINE_DATA;

class Application {
  readonly #fs: Filesystem;
  readonly #tx: Tx;
  readonly #replay: FastCommitReplay;
  readonly #runs: ReadonlyMap<InodeNumber, readonly ChangedRun[]>;

  constructor(fs: Filesystem, tx: Tx, replay: FastCommitReplay) {
    this.#fs = fs;
    this.#tx = tx;
    this.#replay = replay;
    this.#runs = replay.resolvedRuns();
  }

  run(): void {
    const { inodes, freed, made, directories } = this.#replay;
    const links = new Map<InodeNumber, number>();
    for (const number of directories.keys()) links.set(number, this.#linksAfter(number));
    this.#claim();
    for (const number of freed) this.#free(number);
    this.#eachRun((inode, run) => this.#unmap(inode, run));
    this.#claim();
    for (const [number, changed] of inodes) {
      if (changed.linkCount > 0) this.#storeInode(number, changed);
    }
    for (const [number, runs] of this.#runs) this.#map(this.#fs.internalInode(number), runs);
    for (const [number, parent] of made) this.#makeDirectory(number, parent);
    for (const [number, count] of links) this.#changeEntries(number, count);
  }

  /** Takes the blocks and inodes that the fast commits gave out. */
  #claim(): void {
    for (const [number, { linkCount, mode }] of this.#replay.inodes) {
      if (linkCount === 0) continue;
      claimInode(this.#fs, this.#tx, number, (mode & FileType.MASK) === FileType.DIRECTORY);
    }
    for (const runs of this.#runs.values()) {
      for (const { fsBlock, start, end } of runs) {
        if (fsBlock !== HOLE) claimBlocks(this.#fs, this.#tx, fsBlock as FsBlock, end - start);
      }
    }
  }

  /** Gives up an inode and all that it has, if it was there before the fast commits. */
  #free(number: InodeNumber): void {
    const inode = this.#existing(number);
    if (inode === undefined) return;
    if (hasBlockMap(this.#fs, inode)) {
      freeFileBlocks(this.#fs, this.#tx, inode, 0 as FileBlock, FILE_BLOCK_END as FileBlock);
    }
    freeXattrs(this.#fs, this.#tx, inode);
    freeInode(this.#fs, this.#tx, inode);
    this.#tx.edit(inode).linkCount = 0;
    this.#tx.noteFreed(inode);
  }

  /** Stores what is said of an inode; its blocks are others' part. */
  #storeInode(number: InodeNumber, changed: ChangedInode): void {
    const existing = this.#existing(number);
    const typeBefore = existing?.type ?? changed.mode & FileType.MASK;
    if (typeBefore !== (changed.mode & FileType.MASK)) {
      throw new CorruptionError("fast-commit", { inode: number }, "another type of file");
    }
    if (existing === undefined) this.#createInode(number, changed);
    else if (existing.isDirectory) this.#changeDirectory(existing, changed);
    else this.#changeFile(existing, changed);
  }

  #createInode(number: InodeNumber, changed: ChangedInode): void {
    const { superblock, checksums } = this.#fs;
    const bytes = this.#fs.takeInodeBytes();
    const { block, at } = this.#fs.groups.locateInode(number);
    const stored = this.#fs.blocks.get(block).bytes.subarray(at, at + bytes.length);
    bytes.set(stored.subarray(InodeLayout.block, I_BLOCK_END), InodeLayout.block);
    applyPatch(changed, number, bytes, checksums);
    const inode = this.#tx.createInode(new Inode(number, bytes, superblock, checksums));
    if (inode.hasFlag(InodeFlags.EXTENTS)) formatExtentRoot(inode);
    inode.blocks512 = this.#sectors(inode.xattrBlock === 0 ? 0 : 1);
  }

  #changeFile(inode: Inode, changed: ChangedInode): void {
    const { blocks512 } = inode;
    const bytes = this.#bytesOf(inode);
    applyPatch(changed, inode.number, bytes, this.#fs.checksums);
    this.#tx.edit(inode).restore(bytes);
    inode.blocks512 = blocks512;
  }

  /** An inline directory's entries reach behind the fields of the inode. */
  #changeDirectory(inode: Inode, { raw, linkCount, mode }: ChangedInode): void {
    const { blocks512, sizeBytes, flags, extraSize } = inode;
    const bytes = this.#bytesOf(inode);
    const end = inode.hasFlag(InodeFlags.INLINE_DATA) ? CLASSIC_INODE_SIZE + extraSize : undefined;
    const patch = { raw: raw?.subarray(0, end), iBlock: undefined, linkCount, mode };
    const { linkCount: linksBefore } = inode;
    applyPatch(patch, inode.number, bytes, this.#fs.checksums);
    this.#tx.edit(inode).restore(bytes);
    inode.blocks512 = blocks512;
    inode.sizeBytes = sizeBytes;
    inode.flags = (inode.flags & ~LAYOUT_FLAGS) | (flags & LAYOUT_FLAGS);
    inode.linkCount = linksBefore;
  }

  #makeDirectory(number: InodeNumber, parent: InodeNumber): void {
    const inode = this.#fs.internalInode(number);
    if (inode.hasFlag(InodeFlags.INLINE_DATA)) {
      const { nameIndex, name } = INLINE_DATA;
      storeXattr(this.#fs, this.#tx, inode, nameIndex, name, undefined);
    }
    inode.flags &= ~LAYOUT_FLAGS;
    inode.sizeBytes = 0;
    initBlockMap(this.#fs, inode);
    initDirectory(this.#fs, this.#tx, inode, parent);
  }

  /** Links of a directory when all its changes have been made: they count what lies in it. */
  #linksAfter(number: InodeNumber): number {
    const { made, directories } = this.#replay;
    const changed = directories.get(number);
    let links = made.has(number) ? DIRECTORY_LINKS : this.#fs.internalInode(number).linkCount;
    if (links < DIRECTORY_LINKS || changed === undefined) return links;
    for (const { type } of changed.added) if (type === DT_DIRECTORY) links++;
    if (made.has(number)) return links;
    for (const name of changed.removed) {
      const child = lookup(this.#fs, number, name);
      if (child !== 0 && this.#existing(child)?.isDirectory === true) links--;
    }
    return links;
  }

  #changeEntries(number: InodeNumber, links: number): void {
    const changed = this.#replay.directories.get(number);
    if (changed === undefined) return;
    const directory = this.#fs.internalInode(number);
    const { modifiedAt, changedAt } = directory;
    for (const name of changed.removed) {
      if (lookup(this.#fs, number, name) !== 0) removeEntry(this.#fs, this.#tx, directory, name);
    }
    for (const { name, inode, type } of changed.added) {
      addEntry(this.#fs, this.#tx, directory, name, inode, type << MODE_TYPE_SHIFT);
    }
    this.#tx.edit(directory).linkCount = links;
    // These changes were made before the crash: the inode has their times already.
    directory.modifiedAt = modifiedAt;
    directory.changedAt = changedAt;
  }

  /** Takes out of the map of `inode` what is not what `run` says. */
  #unmap(inode: Inode, run: ChangedRun): void {
    this.#eachPiece(inode, run, (at, { fsBlock, count }) => {
      if (fsBlock === HOLE || fsBlock === placeIn(run, at)) return;
      freeFileBlocks(this.#fs, this.#tx, inode, at as FileBlock, (at + count) as FileBlock);
    });
  }

  /** Maps what `runs` say, where nothing else is mapped any more. */
  #map(inode: Inode, runs: readonly ChangedRun[]): void {
    if (!inode.hasFlag(InodeFlags.EXTENTS)) {
      throw new CorruptionError("fast-commit", { inode: inode.number }, "blocks without extents");
    }
    this.#tx.edit(inode);
    const before = this.#clustersOf(inode);
    const editor = new ExtentEditor(this.#fs, this.#tx, inode);
    for (const run of runs) {
      if (run.fsBlock === HOLE) continue;
      this.#eachPiece(inode, run, (at, { fsBlock, count, unwritten }) => {
        if (fsBlock === HOLE) editor.insert(at, count, placeIn(run, at), run.unwritten);
        else if (unwritten !== run.unwritten) editor.convert(at as FileBlock, count, run.unwritten);
      });
    }
    inode.blocks512 += this.#sectors(this.#clustersOf(inode) - before);
  }

  #eachRun(action: (inode: Inode, run: ChangedRun) => void): void {
    for (const [number, runs] of this.#runs) {
      const inode = this.#existing(number);
      if (inode === undefined) continue;
      for (const run of runs) action(inode, run);
    }
  }

  /** Calls `action` with each piece of `run` that the file has in one place, or as a hole. */
  #eachPiece(inode: Inode, run: ChangedRun, action: (at: number, piece: Run) => void): void {
    const most = extentLengthMax(run.unwritten);
    const piece = newRun();
    for (let at = run.start; at < run.end; at += piece.count) {
      findRun(this.#fs, inode, at as FileBlock, piece);
      piece.count = Math.min(piece.count, run.end - at, most);
      action(at, piece);
    }
  }

  /** Clusters that the file blocks of `inode` lie in; those of one cluster follow each other. */
  #clustersOf(inode: Inode): number {
    const { firstDataBlock, clusterBlocks } = this.#fs.superblock;
    const clusterOf = (block: number): number =>
      Math.floor((block - firstDataBlock) / clusterBlocks);
    const piece = newRun();
    let count = 0;
    let last = -1;
    for (let at = 0; at < FILE_BLOCK_END; at += piece.count) {
      findRun(this.#fs, inode, at as FileBlock, piece);
      if (piece.fsBlock === HOLE) continue;
      const first = clusterOf(piece.fsBlock);
      const end = clusterOf(piece.fsBlock + piece.count - 1) + 1;
      count += end - first - (first === last ? 1 : 0);
      last = end - 1;
    }
    return count;
  }

  #bytesOf(inode: Inode): Uint8Array {
    const bytes = new Uint8Array(this.#fs.superblock.inodeSize);
    inode.save(bytes);
    return bytes;
  }

  #sectors(clusters: number): number {
    const { blockSize, clusterBlocks } = this.#fs.superblock;
    return (clusters * clusterBlocks * blockSize) / SECTOR_SIZE;
  }

  /** The inode `number`, or undefined when it is not in use. */
  #existing(number: InodeNumber): Inode | undefined {
    try {
      const inode = this.#fs.internalInode(number);
      return inode.linkCount === 0 ? undefined : inode;
    } catch (error) {
      if (error instanceof FsError) return undefined;
      throw error;
    }
  }
}

/** Where the file block `at` lies by `run`, which covers it; or `HOLE`. */
function placeIn(run: ChangedRun, at: number): number {
  return run.fsBlock === HOLE ? HOLE : run.fsBlock + at - run.start;
}
