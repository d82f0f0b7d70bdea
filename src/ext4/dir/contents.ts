/**
 * One directory and its bytes, however they are stored: in blocks, with or without an index, or
 * inline. Bytes leave here checked, and when they were changed their checksums are renewed here.
 *
 * The entries lie in *parts*: each block of the directory is one; of an inline directory `i_block`
 * is the first and the rest, in the xattr `system.data`, the second.
 *
 *     inline   i_block | parent inode 4 | entries 56 |     system.data | entries |
 *
 * What a `Directory` knows follows from the inode's flags; when these change, or change back,
 * `directoryAt` makes another one. Whoever keeps something that follows from the entries compares
 * `version`, which every change and every rollback moves on.
 *
 * @see ext4/directory.rst; ext4/inlinedata.rst, "Inline Directories"
 */

import { Errno } from "../../base/errno.ts";
import { le32, setLe32 } from "../../base/layout.ts";
import type { FileBlock, InodeNumber } from "../../base/numbers.ts";
import { type Block, BlockKind, type Seal } from "../cache/block-cache.ts";
import { CorruptionError, type CorruptionRule, FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import {
  checkDirents,
  DIRENT_HEAD_SIZE,
  Dirent,
  type DirentFormat,
  type Dirents,
  DOTDOT_AT,
  direntInode,
  direntLength,
  direntNameLength,
  setDirentTail,
  storedDirentChecksum,
  TAIL_SIZE,
} from "../format/dirent.ts";
import { Compat, Incompat } from "../format/features.ts";
import {
  checkHtreeNode,
  checkHtreeRoot,
  type HtreeBounds,
  HtreeTail,
  htreeTailAt,
  htreeUsedEnd,
  NODE_ENTRIES_AT,
  ROOT_ENTRIES_AT,
} from "../format/htree.ts";
import { I_BLOCK_SIZE, type Inode, InodeFlags } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { inlineContinuation } from "../map/inline-data.ts";
import { findRun, readFileBlock } from "../map/iomap.ts";
import { newRun } from "../map/run.ts";
import type { DirectoryChanges } from "./directory-changes.ts";
import { EntryHash } from "./entry-hash.ts";
import { LastSearch } from "./last-search.ts";
import { RoomHints } from "./room-hints.ts";

/** Bytes of the parent's inode number in front of the first inline entry. */
const INLINE_PARENT_SIZE = 4;
const INLINE_PARTS = 2;
const DOT = 0x2e;
const run = newRun();

/** Directories in use, so that what follows from an inode is worked out once. */
const directories = new WeakMap<Inode, Directory>();

/**
 * The directory `number`.
 *
 * @throws FsError ENOTDIR when it is something else, ESTALE when it is not in use.
 * @throws CorruptionError when its inode contradicts itself.
 */
export function directoryAt(fs: Filesystem, number: InodeNumber): Directory {
  return directoryOf(fs, fs.inode(number));
}

/** The directory that `inode` is; throws as `directoryAt` does. */
export function directoryOf(fs: Filesystem, inode: Inode): Directory {
  const known = directories.get(inode);
  if (known?.flags === inode.flags) return known;
  if (!inode.isDirectory) {
    throw new FsError(Errno.ENOTDIR, `inode ${inode.number} is no directory`);
  }
  const directory = new Directory(fs, inode);
  directories.set(inode, directory);
  return directory;
}

export class Directory {
  readonly fs: Filesystem;
  readonly inode: Inode;
  /** Of the inode, when this was made. */
  readonly flags: number;
  readonly format: DirentFormat;
  readonly isInline: boolean;
  /** It has a hash index, and the filesystem says that such are to be used. */
  readonly isIndexed: boolean;
  /** Names are compared without regard to case, by us: where they are encrypted we cannot. */
  readonly isCasefolded: boolean;
  /** Bring the checksums of changed blocks up to date; undefined where there are none. */
  readonly sealEntries: Seal | undefined;
  readonly sealRoot: Seal | undefined;
  readonly sealNode: Seal | undefined;
  /** Where a directory without an index may have room; forgotten with the rollback of a change. */
  readonly roomHints = new RoomHints();
  /** For `findEntry`; forgotten with every change. */
  readonly lastSearch = new LastSearch();
  readonly #mayHaveIndex: boolean;
  /** Where the entries of a block end. */
  readonly #blockEnd: number;
  #version = 0;
  #hash: EntryHash | undefined;

  constructor(fs: Filesystem, inode: Inode) {
    const { superblock, checksums } = fs;
    const { blockSize, inodeCount } = superblock;
    this.fs = fs;
    this.inode = inode;
    this.flags = inode.flags;
    this.isInline = inode.hasFlag(InodeFlags.INLINE_DATA);
    this.#mayHaveIndex = superblock.hasCompat(Compat.DIR_INDEX);
    const hasIndex = inode.hasFlag(InodeFlags.INDEX) && !this.isInline;
    this.isIndexed = hasIndex && this.#mayHaveIndex;
    if (hasIndex && !this.#mayHaveIndex && checksums.enabled) {
      throw this.corruption("htree-root", "an index without the feature dir_index");
    }
    const isEncrypted = inode.hasFlag(InodeFlags.ENCRYPT);
    const isCasefolded =
      inode.hasFlag(InodeFlags.CASEFOLD) && superblock.hasIncompat(Incompat.CASEFOLD);
    this.isCasefolded = isCasefolded && !isEncrypted;
    const hasHash = isCasefolded && isEncrypted;
    const hasFileType = superblock.hasIncompat(Incompat.FILETYPE);
    this.format = { blockSize, hasFileType, hasHash, isEncrypted, inodeCount };
    if (!this.isInline && this.partCount > superblock.blockCount) {
      throw this.corruption("inode-size", `a directory of ${inode.sizeBytes} bytes`);
    }
    this.#blockEnd = checksums.enabled ? blockSize - TAIL_SIZE : blockSize;
    if (!checksums.enabled) return;
    this.sealEntries = (block) => this.#sealEntries(block);
    this.sealRoot = (block) => this.#sealIndex(block, ROOT_ENTRIES_AT);
    this.sealNode = (block) => this.#sealIndex(block, NODE_ENTRIES_AT);
  }

  get number(): InodeNumber {
    return this.inode.number;
  }
  get partCount(): number {
    if (this.isInline) return INLINE_PARTS;
    return Math.floor(this.inode.sizeBytes / this.format.blockSize);
  }
  /** Listed in the order of hashes, whether it has an index or could be given one. */
  get isInHashOrder(): boolean {
    return this.isIndexed || (this.#mayHaveIndex && (this.isInline || this.partCount === 1));
  }
  /** Gets an index when its entries need a second block. */
  get canGetIndex(): boolean {
    return this.#mayHaveIndex && !this.isIndexed && !this.isInline && this.partCount === 1;
  }
  /** Another number after every change of the entries. */
  get version(): number {
    return this.#version;
  }

  /** Says that entries are about to change. Nobody searches for any before they have. */
  noteChange(tx: Tx): void {
    this.#version++;
    this.lastSearch.forget();
    tx.onRollback(() => {
      this.#version++;
      this.roomHints.forget();
      this.lastSearch.forget();
    });
  }

  /** Hashes names and entries of this directory. */
  get hash(): EntryHash {
    this.#hash ??= new EntryHash(this.fs, this.isIndexed ? this.indexRoot() : undefined, {
      isStored: this.format.hasHash,
      isFolded: this.isCasefolded,
    });
    return this.#hash;
  }

  /** What fast commits changed here, if anything. */
  get changes(): DirectoryChanges | undefined {
    return this.fs.recovered?.directory(this.number);
  }

  /** An error about this directory, to be thrown. */
  corruption(rule: CorruptionRule, found: string, block?: Block): CorruptionError {
    const inode = this.inode.number;
    return new CorruptionError(
      rule,
      block === undefined ? { inode } : { inode, block: block.number },
      found,
    );
  }

  /** Where the entries of `part` begin and end. */
  startOf(part: number): number {
    return this.isInline && part === 0 ? INLINE_PARENT_SIZE : 0;
  }
  endOf(part: number): number {
    return this.isInline ? (this.#inline()[part] as Dirents).bytes.length : this.#blockEnd;
  }

  /**
   * The entries of `part`; undefined when it is a hole. Not for blocks of an index.
   *
   * @throws CorruptionError when they break a rule.
   */
  entries(part: number): Dirents | undefined {
    return this.isInline ? this.#inline()[part] : this.block(part as FileBlock);
  }

  /** The same for a directory in blocks. */
  block(fileBlock: FileBlock): Block | undefined {
    const block = readFileBlock(this.fs, this.inode, fileBlock);
    if (block !== undefined && !block.isVerifiedAs(BlockKind.DIRECTORY, this.number)) {
      this.#verifyEntries(block);
    }
    return block;
  }

  /** The first part after the hole that `part` lies in. */
  endOfHole(part: number): number {
    return part + findRun(this.fs, this.inode, part as FileBlock, run).count;
  }

  /** The root of the index. */
  indexRoot(): Block {
    const root = this.#indexBlock(0);
    if (!root.isVerifiedAs(BlockKind.HTREE_ROOT, this.number)) {
      const place = { inode: this.number, block: root.number };
      checkHtreeRoot(root.view, this.#bounds(), place);
      this.#verifyIndexChecksum(root, ROOT_ENTRIES_AT);
      root.markVerified(BlockKind.HTREE_ROOT, this.number);
    }
    return root;
  }

  /** A block of the index below the root. */
  indexNode(fileBlock: FileBlock): Block {
    const node = this.#indexBlock(fileBlock);
    if (!node.isVerifiedAs(BlockKind.HTREE_NODE, this.number)) {
      checkHtreeNode(node.view, this.#bounds(), { inode: this.number, block: node.number });
      this.#verifyIndexChecksum(node, NODE_ENTRIES_AT);
      node.markVerified(BlockKind.HTREE_NODE, this.number);
    }
    return node;
  }

  /** A block of entries that the index leads to. @throws CorruptionError in a hole. */
  indexedEntries(fileBlock: FileBlock): Block {
    const block = this.block(fileBlock);
    if (block === undefined) throw this.#hole(fileBlock);
    return block;
  }

  /** The inode that ".." names, or 0 when there is no such entry. */
  parent(): InodeNumber | 0 {
    if (this.isInline) return this.inode.raw.getUint32(this.#inlineAt, true) as InodeNumber;
    const block = this.#firstBlock();
    const at = block === undefined ? -1 : this.#parentAt(block);
    return block === undefined || at < 0 ? 0 : direntInode(block.view, at);
  }

  /** Lets ".." name the inode `parent`. @throws CorruptionError when there is no such entry. */
  setParent(tx: Tx, parent: InodeNumber): void {
    if (this.isInline) {
      tx.edit(this.inode).raw.setUint32(this.#inlineAt, parent, true);
      return;
    }
    const block = this.#firstBlock();
    const at = block === undefined ? -1 : this.#parentAt(block);
    if (block === undefined || at < 0) throw this.corruption("dirent-inode", 'no ".."');
    tx.modify(block, this.isIndexed ? this.sealRoot : this.sealEntries);
    setLe32(block.view, at, Dirent.inode, parent);
  }

  #firstBlock(): Block | undefined {
    if (this.isIndexed) return this.indexRoot();
    return this.partCount > 0 ? this.block(0 as FileBlock) : undefined;
  }

  /** Where ".." lies in the first block, or -1. */
  #parentAt({ bytes, view }: Block): number {
    if (this.isIndexed) return DOTDOT_AT;
    const end = this.endOf(0);
    for (let at = 0; at < end; at += direntLength(view, at, this.format.blockSize)) {
      const name = at + DIRENT_HEAD_SIZE;
      const isParent =
        direntNameLength(view, at) === 2 && bytes[name] === DOT && bytes[name + 1] === DOT;
      if (isParent && direntInode(view, at) !== 0) return at;
    }
    return -1;
  }

  #indexBlock(fileBlock: FileBlock | 0): Block {
    const found =
      fileBlock < this.partCount
        ? readFileBlock(this.fs, this.inode, fileBlock as FileBlock)
        : undefined;
    if (found === undefined) throw this.#hole(fileBlock);
    return found;
  }

  #hole(fileBlock: number): CorruptionError {
    return this.corruption("htree-block", `block ${fileBlock} of the directory is a hole`);
  }

  #bounds(): HtreeBounds {
    const { superblock, checksums } = this.fs;
    const { blockSize, inodeCount, hasHash } = this.format;
    return {
      blockSize,
      blockCount: this.partCount,
      inodeCount,
      hasChecksums: checksums.enabled,
      hasLargeDir: superblock.hasIncompat(Incompat.LARGEDIR),
      hasHashInDirent: hasHash,
    };
  }

  #sealEntries({ bytes, view }: Block): void {
    setDirentTail(view, this.#blockEnd, this.#entriesChecksum(bytes));
  }

  #sealIndex(block: Block, entriesAt: number): void {
    const tail = htreeTailAt(block.view, entriesAt);
    setLe32(block.view, tail, HtreeTail.checksum, this.#indexChecksum(block, entriesAt));
  }

  #entriesChecksum(bytes: Uint8Array): number {
    const { checksums } = this.fs;
    return checksums.over(this.inode.checksumSeed, bytes, 0, this.#blockEnd);
  }

  #verifyEntries(block: Block): void {
    const end = this.#blockEnd;
    if (this.fs.checksums.enabled) {
      const stored = storedDirentChecksum(block.view, end);
      const found = this.#entriesChecksum(block.bytes);
      if (stored !== found) {
        throw this.corruption("dirent-checksum", `stored ${stored}, computed ${found}`, block);
      }
    }
    checkDirents(block, 0, end, this.format, { inode: this.number, block: block.number });
    block.markVerified(BlockKind.DIRECTORY, this.number);
  }

  #verifyIndexChecksum(block: Block, entriesAt: number): void {
    if (!this.fs.checksums.enabled) return;
    const found = this.#indexChecksum(block, entriesAt);
    const stored = le32(block.view, htreeTailAt(block.view, entriesAt), HtreeTail.checksum);
    if (stored === found) return;
    throw this.corruption("htree-checksum", `stored ${stored}, computed ${found}`, block);
  }

  /** Over the entries in use and what precedes them, and the tail with its checksum as 0. */
  #indexChecksum({ bytes, view }: Block, entriesAt: number): number {
    const { checksums } = this.fs;
    const used = htreeUsedEnd(view, entriesAt);
    const tail = htreeTailAt(view, entriesAt);
    let found = checksums.over(this.inode.checksumSeed, bytes, 0, used);
    found = checksums.over(found, bytes, tail, tail + HtreeTail.checksum);
    return checksums.overZeros(found, 4);
  }

  get #inlineAt(): number {
    return this.inode.iBlock.byteOffset - this.inode.raw.byteOffset;
  }

  /** Looked up anew each time: a change of the inode's xattrs moves the second part. */
  #inline(): readonly Dirents[] {
    const { iBlock, raw } = this.inode;
    const more = inlineContinuation(this.inode);
    const parts: Dirents[] = [
      { bytes: iBlock, view: new DataView(raw.buffer, iBlock.byteOffset, I_BLOCK_SIZE) },
      { bytes: more, view: new DataView(more.buffer, more.byteOffset, more.byteLength) },
    ];
    parts.forEach((part, index) => {
      const start = this.startOf(index);
      checkDirents(part, start, part.bytes.length, this.format, { inode: this.number });
    });
    return parts;
  }
}
