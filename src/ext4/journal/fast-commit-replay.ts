/**
 * Replays fast commits, tag by tag in the kernel's order and by its rules, into changes that are
 * laid over the filesystem.
 *
 * Tags say what came out, not what was done, so most of them only replace what was known before.
 * Odd but on purpose, because the kernel's replay does the same: a tag about an inode or directory
 * that is not in use is passed over; a new directory has a link count of 1 (which means "not
 * counted"), and that of its parent stays as it is; an entry that exists already keeps its inode.
 *
 * A new directory has no block: the kernel makes one while it replays. Here it becomes an inline
 * directory, which needs none.
 *
 * @see fs/ext4/fast_commit.c, ext4_fc_replay; ext4/journal.rst, "Fast Commit Replay Idempotence"
 */

import type { BlockDevice } from "../../base/block-device.ts";
import { bytesAt, le16, le32, setLe16, setLe32, sizeOf } from "../../base/layout.ts";
import type { InodeNumber } from "../../base/numbers.ts";
import type { DirectoryChanges } from "../dir/directory-changes.ts";
import { CorruptionError, FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { Dirent, isDotOrDotDot } from "../format/dirent.ts";
import { EXT_MAGIC, Extent, ExtentHeader, ExtentNode, FILE_BLOCK_END } from "../format/extent.ts";
import {
  type FastCommitTag,
  FcAddRange,
  FcDelRange,
  FcDentryInfo,
  FcInode,
  FcTagType,
} from "../format/fast-commit.ts";
import {
  CLASSIC_INODE_SIZE,
  FileType,
  I_BLOCK_SIZE,
  InodeFlags,
  InodeLayout,
} from "../format/inode.ts";
import { HOLE } from "../map/run.ts";
import { ChangedDirectory } from "./changed-directory.ts";
import { type ChangedRun, resolveRuns } from "./changed-runs.ts";
import { FastCommitChanges } from "./fast-commit-changes.ts";
import type { FastCommitLog } from "./fast-commit-log.ts";
import { emptyExtentRoot, type InodePatch, PatchedInodes } from "./patched-inodes.ts";
import type { NewerBlocks } from "./replayed-device.ts";

/** An inode as the tags so far left it. */
export interface ChangedInode extends InodePatch {
  raw: Uint8Array | undefined;
  iBlock: Uint8Array | undefined;
  linkCount: number;
  mode: number;
}

/** A DT_* number is the type of a mode without the lower bits. @see fs/fs_types.c */
const MODE_TYPE_SHIFT = 12;
const ROOT_INODE = 2;
/** The parent's number in front of the first inline entry. @see ext4/inlinedata.rst */
const INLINE_PARENT_SIZE = 4;
const SLASH = 0x2f;
/**
 * The 20,000 names that the usual fast commit area holds, each searched for in a directory of
 * 400 KiB: some seconds. A hostile image could ask for hours.
 */
const SEARCHED_BYTES_MAX = 2 ** 33;

export class FastCommitReplay {
  readonly #fs: Filesystem;
  readonly #inodes = new Map<InodeNumber, ChangedInode>();
  readonly #runs = new Map<InodeNumber, ChangedRun[]>();
  readonly #directories = new Map<InodeNumber, ChangedDirectory>();
  readonly #made = new Map<InodeNumber, InodeNumber>();
  readonly #freed = new Set<InodeNumber>();
  #searchedBytes = 0;

  /**
   * @param fs with all full commits replayed.
   * @throws CorruptionError `fast-commit` when a complete fast commit cannot be meant.
   */
  constructor(fs: Filesystem, log: FastCommitLog) {
    this.#fs = fs;
    for (const tag of log.tags()) this.#replay(tag);
  }

  /** What became of inodes. Those without links are gone. */
  get inodes(): ReadonlyMap<InodeNumber, ChangedInode> {
    return this.#inodes;
  }
  /** The inodes that were given up, some of which are in use again. */
  get freed(): ReadonlySet<InodeNumber> {
    return this.#freed;
  }
  /** New directories, and their parents. */
  get made(): ReadonlyMap<InodeNumber, InodeNumber> {
    return this.#made;
  }
  get directories(): ReadonlyMap<InodeNumber, ChangedDirectory> {
    return this.#directories;
  }
  /** What became of file blocks: for each inode in ascending order and without overlap. */
  resolvedRuns(): Map<InodeNumber, readonly ChangedRun[]> {
    const runs = new Map<InodeNumber, readonly ChangedRun[]>();
    for (const [inode, log] of this.#runs) runs.set(inode, resolveRuns(log));
    return runs;
  }

  /** The inode table with its changes, and `older` where it has none. */
  blocksOver(device: BlockDevice, older: NewerBlocks): NewerBlocks {
    const patches = new Map<InodeNumber, InodePatch>(this.#inodes);
    for (const [number, parent] of this.#made) {
      const inode = this.#inodes.get(number);
      if (inode?.raw === undefined) continue;
      const raw = inlineDirectoryOf(inode.raw, this.#fs.superblock.inodeSize);
      patches.set(number, { ...inode, raw, iBlock: emptyInlineDirectory(parent) });
    }
    return new PatchedInodes(device, older, this.#fs, patches);
  }

  /** @param fs with the blocks of `blocksOver` in place. */
  changesOf(fs: Filesystem): FastCommitChanges {
    const runs = this.resolvedRuns();
    const directories = new Map<InodeNumber, DirectoryChanges>();
    for (const [inode, changed] of this.#directories) directories.set(inode, changed.changes());
    return new FastCommitChanges(fs, runs, directories);
  }

  #replay({ type, value }: FastCommitTag): void {
    if (type === FcTagType.INODE) this.#replaceInode(value);
    else if (type === FcTagType.ADD_RANGE) this.#addRange(value);
    else if (type === FcTagType.DEL_RANGE) this.#deleteRange(value);
    else if (type === FcTagType.CREAT) this.#create(dentryOf(value));
    else if (type === FcTagType.LINK) this.#link(dentryOf(value));
    else if (type === FcTagType.UNLINK) this.#unlink(dentryOf(value));
  }

  #replaceInode(value: DataView): void {
    const number = le32(value, 0, FcInode.ino) as InodeNumber;
    if (!this.#isFileNumber(number)) throw refused(number, "a tag for an inode of this number");
    const at = value.byteOffset + sizeOf(FcInode);
    const raw = new Uint8Array(value.buffer, at, value.byteLength - sizeOf(FcInode)).slice();
    const view = new DataView(raw.buffer);
    const before = this.#inodes.get(number);
    const flags = le32(view, 0, InodeLayout.flags);
    let iBlock = before?.iBlock;
    if ((flags & InodeFlags.EXTENTS) !== 0) {
      if (!hasExtentRoot(iBlock ?? this.#storedIBlock(number))) iBlock = emptyExtentRoot();
    } else if ((flags & InodeFlags.INLINE_DATA) !== 0) {
      iBlock = bytesAt(view, 0, InodeLayout.block, I_BLOCK_SIZE).slice();
    }
    this.#inodes.set(number, {
      raw: mergeRaw(before?.raw, raw),
      iBlock,
      linkCount: le16(view, 0, InodeLayout.linksCount),
      mode: le16(view, 0, InodeLayout.mode),
    });
  }

  #addRange(value: DataView): void {
    const number = le32(value, 0, FcAddRange.ino) as InodeNumber;
    if (this.#find(number) === undefined) return;
    const extent = new ExtentNode(oneExtent(value));
    const start = extent.fileBlock(0);
    const end = start + extent.length(0);
    const fsBlock = extent.start(0);
    const { firstDataBlock, blockCount } = this.#fs.superblock;
    const fsEnd = fsBlock + end - start;
    if (end > FILE_BLOCK_END || fsBlock <= firstDataBlock || fsEnd > blockCount) {
      throw refused(number, `a range of blocks at ${fsBlock}`);
    }
    this.#change(number, { start, end, fsBlock, unwritten: extent.isUnwritten(0) });
  }

  #deleteRange(value: DataView): void {
    const number = le32(value, 0, FcDelRange.ino) as InodeNumber;
    if (this.#find(number) === undefined) return;
    const start = le32(value, 0, FcDelRange.lblk);
    const end = Math.min(start + le32(value, 0, FcDelRange.len), FILE_BLOCK_END);
    this.#change(number, { start, end, fsBlock: HOLE, unwritten: false });
  }

  #change(number: InodeNumber, run: ChangedRun): void {
    if (run.start >= run.end) return;
    const log = this.#runs.get(number);
    if (log === undefined) this.#runs.set(number, [run]);
    else log.push(run);
  }

  #create({ parent, number, name }: Dentry): void {
    const inode = this.#find(number);
    if (inode === undefined) throw refused(number, "a name for a new inode that is not there");
    if (isDirectory(inode)) {
      if (this.#directory(parent) === undefined) return;
      if (inode.raw === undefined) throw refused(number, "a new directory without an inode");
      this.#made.set(number, parent);
      this.#directories.set(number, new ChangedDirectory(this.#fs, undefined));
    }
    this.#addEntry(parent, name, number, inode);
    inode.linkCount = 1;
    this.#inodes.set(number, inode);
  }

  #link({ parent, number, name }: Dentry): void {
    const inode = this.#find(number);
    if (inode === undefined || !this.#addEntry(parent, name, number, inode)) return;
    inode.linkCount++;
    this.#inodes.set(number, inode);
  }

  #unlink({ parent, number, name }: Dentry): void {
    const inode = this.#find(number);
    const directory = this.#directory(parent);
    if (inode === undefined || directory === undefined) return;
    const found = this.#lookUp(directory, parent, name);
    if (found === 0) return;
    if (found === number) directory.remove(name);
    inode.linkCount = isDirectory(inode) ? 0 : inode.linkCount - 1;
    this.#inodes.set(number, inode);
    if (inode.linkCount === 0) this.#free(number, inode);
  }

  /**
   * An inode without links goes at once, and its blocks with it: nobody has it open. A removed
   * directory goes, too; the kernel's replay leaves it with one link and no name.
   */
  #free(number: InodeNumber, inode: ChangedInode): void {
    inode.iBlock = emptyExtentRoot();
    this.#runs.delete(number);
    this.#directories.delete(number);
    this.#made.delete(number);
    this.#freed.add(number);
  }

  /** @throws CorruptionError when the tags ask for more searching than any real ones. */
  #lookUp(directory: ChangedDirectory, number: InodeNumber, name: Uint8Array): InodeNumber | 0 {
    this.#searchedBytes += directory.searchBytes;
    if (this.#searchedBytes > SEARCHED_BYTES_MAX) {
      throw refused(number, "too many names in directories without an index");
    }
    return directory.find(name);
  }

  /** @returns false when there is such an entry, or no such directory. */
  #addEntry(
    parent: InodeNumber,
    name: Uint8Array,
    number: InodeNumber,
    { mode }: ChangedInode,
  ): boolean {
    const directory = this.#directory(parent);
    if (directory === undefined || this.#lookUp(directory, parent, name) !== 0) return false;
    directory.add({ name: name.slice(), inode: number, type: mode >>> MODE_TYPE_SHIFT });
    return true;
  }

  /** The inode `number` as it is by now, or undefined when it is not in use. */
  #find(number: InodeNumber): ChangedInode | undefined {
    const changed = this.#inodes.get(number);
    if (changed !== undefined) return changed.linkCount === 0 ? undefined : changed;
    if (!this.#isFileNumber(number)) return undefined;
    try {
      const { mode, linkCount } = this.#fs.inode(number);
      if (linkCount === 0) return undefined;
      return { raw: undefined, iBlock: undefined, linkCount, mode };
    } catch (error) {
      if (error instanceof FsError) return undefined;
      throw error;
    }
  }

  #directory(number: InodeNumber): ChangedDirectory | undefined {
    const inode = this.#find(number);
    if (inode === undefined || !isDirectory(inode)) return undefined;
    let directory = this.#directories.get(number);
    if (directory === undefined) {
      directory = new ChangedDirectory(this.#fs, number);
      this.#directories.set(number, directory);
    }
    return directory;
  }

  #isFileNumber(number: InodeNumber): boolean {
    const { firstInode, inodeCount } = this.#fs.superblock;
    return number === ROOT_INODE || (number >= firstInode && number <= inodeCount);
  }

  #storedIBlock(number: InodeNumber): Uint8Array {
    const { block, at } = this.#fs.groups.locateInode(number);
    return bytesAt(this.#fs.blocks.get(block).view, at, InodeLayout.block, I_BLOCK_SIZE);
  }
}

/** A name in a directory, and the inode it is about. */
interface Dentry {
  readonly parent: InodeNumber;
  readonly number: InodeNumber;
  readonly name: Uint8Array;
}

/** @throws CorruptionError when no entry can have such a name. */
function dentryOf(value: DataView): Dentry {
  const parent = le32(value, 0, FcDentryInfo.parentIno) as InodeNumber;
  const number = le32(value, 0, FcDentryInfo.ino) as InodeNumber;
  const at = sizeOf(FcDentryInfo);
  const name = new Uint8Array(value.buffer, value.byteOffset + at, value.byteLength - at);
  if (isDotOrDotDot(name, 0, name.length) || name.includes(SLASH) || name.includes(0)) {
    throw refused(parent, "an entry that no directory can have");
  }
  return { parent, number, name };
}

function refused(inode: InodeNumber, what: string): CorruptionError {
  return new CorruptionError("fast-commit", { inode }, what);
}

function isDirectory({ mode }: ChangedInode): boolean {
  return (mode & FileType.MASK) === FileType.DIRECTORY;
}

function hasExtentRoot(iBlock: Uint8Array): boolean {
  const view = new DataView(iBlock.buffer, iBlock.byteOffset, iBlock.byteLength);
  return le16(view, 0, ExtentHeader.magic) === EXT_MAGIC;
}

/** The newer of two stored inodes; where it is shorter, the older one's rest stays. */
function mergeRaw(older: Uint8Array | undefined, newer: Uint8Array): Uint8Array {
  if (older === undefined || older.length <= newer.length) return newer;
  const merged = older.slice();
  merged.set(newer);
  return merged;
}

/** The extent of a tag ADD_RANGE as a node of an extent tree, for the accessors of one. */
function oneExtent(value: DataView): DataView {
  const node = new Uint8Array(sizeOf(ExtentHeader) + sizeOf(Extent));
  node.set(bytesAt(value, 0, FcAddRange.ex, sizeOf(Extent)), sizeOf(ExtentHeader));
  return new DataView(node.buffer);
}

/** A directory's inode, as one of an inline directory, without xattrs that would be in its way. */
function inlineDirectoryOf(stored: Uint8Array, inodeSize: number): Uint8Array {
  const raw = new Uint8Array(inodeSize);
  raw.set(stored);
  const view = new DataView(raw.buffer);
  const I = InodeLayout;
  const hasExtra = raw.length > CLASSIC_INODE_SIZE;
  raw.fill(0, CLASSIC_INODE_SIZE + (hasExtra ? le16(view, 0, I.extraIsize) : 0));
  const flags = le32(view, 0, I.flags) & ~(InodeFlags.EXTENTS | InodeFlags.INDEX);
  setLe32(view, 0, I.flags, (flags | InodeFlags.INLINE_DATA) >>> 0);
  setLe32(view, 0, I.blocksLo, 0);
  return raw;
}

/** The `i_block` of an inline directory: its parent, and one free entry over all the room. */
function emptyInlineDirectory(parent: InodeNumber): Uint8Array {
  const iBlock = new Uint8Array(I_BLOCK_SIZE);
  const view = new DataView(iBlock.buffer);
  setLe32(view, 0, Dirent.inode, parent);
  setLe16(view, INLINE_PARENT_SIZE, Dirent.recLen, I_BLOCK_SIZE - INLINE_PARENT_SIZE);
  return iBlock;
}
