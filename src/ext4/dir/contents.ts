/**
 * One directory and its bytes, however they are stored: in blocks, with or without an index, or
 * inline. Bytes leave here checked.
 *
 * The entries lie in *parts*: each block of the directory is one; of an inline directory `i_block`
 * is the first and the rest, in the xattr `system.data`, the second.
 *
 *     inline   i_block | parent inode 4 | entries 56 |     system.data | entries |
 *
 * @see ext4/directory.rst; ext4/inlinedata.rst, "Inline Directories"
 */

import { Errno } from "../../base/errno.ts";
import { le32 } from "../../base/layout.ts";
import type { FileBlock, InodeNumber } from "../../base/numbers.ts";
import { type Block, BlockKind } from "../cache/block-cache.ts";
import { CorruptionError, type CorruptionRule, FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import {
  checkDirents,
  DIRENT_HEAD_SIZE,
  type DirentFormat,
  type Dirents,
  direntInode,
  direntLength,
  direntNameLength,
  storedDirentChecksum,
  TAIL_SIZE,
} from "../format/dirent.ts";
import { Compat, Incompat } from "../format/features.ts";
import {
  checkHtreeNode,
  checkHtreeRoot,
  type HtreeBounds,
  HtreeRootLayout,
  HtreeTail,
  htreeTailAt,
  htreeUsedEnd,
  NODE_ENTRIES_AT,
  ROOT_ENTRIES_AT,
} from "../format/htree.ts";
import { I_BLOCK_SIZE, type Inode, InodeFlags } from "../format/inode.ts";
import { inlineContinuation } from "../map/inline-data.ts";
import { findRun, readFileBlock } from "../map/iomap.ts";
import { newRun } from "../map/run.ts";
import type { DirectoryChanges } from "./directory-changes.ts";
import { EntryHash } from "./entry-hash.ts";

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
  const inode = fs.inode(number);
  const known = directories.get(inode);
  if (known !== undefined) return known;
  if (!inode.isDirectory) throw new FsError(Errno.ENOTDIR, `inode ${number} is no directory`);
  const directory = new Directory(fs, inode);
  directories.set(inode, directory);
  return directory;
}

export class Directory {
  readonly fs: Filesystem;
  readonly inode: Inode;
  readonly format: DirentFormat;
  readonly isInline: boolean;
  /** It has a hash index, and the filesystem says that such are to be used. */
  readonly isIndexed: boolean;
  /** Listed in the order of hashes, whether it has an index or could be given one. */
  readonly isInHashOrder: boolean;
  /** Names are compared without regard to case, by us: where they are encrypted we cannot. */
  readonly isCasefolded: boolean;
  readonly partCount: number;
  readonly #bounds: HtreeBounds;
  /** Where the entries of a block end. */
  readonly #blockEnd: number;
  #inlineParts: readonly Dirents[] | undefined;
  #hash: EntryHash | undefined;

  constructor(fs: Filesystem, inode: Inode) {
    const { superblock, checksums } = fs;
    const { blockSize, inodeCount } = superblock;
    this.fs = fs;
    this.inode = inode;
    this.isInline = inode.hasFlag(InodeFlags.INLINE_DATA);
    const hasDirIndex = superblock.hasCompat(Compat.DIR_INDEX);
    const hasIndex = inode.hasFlag(InodeFlags.INDEX) && !this.isInline;
    this.isIndexed = hasIndex && hasDirIndex;
    if (hasIndex && !hasDirIndex && checksums.enabled) {
      throw this.corruption("htree-root", "an index without the feature dir_index");
    }
    const blockCount = Math.floor(inode.sizeBytes / blockSize);
    if (!this.isInline && blockCount > superblock.blockCount) {
      throw this.corruption("inode-size", `a directory of ${inode.sizeBytes} bytes`);
    }
    this.partCount = this.isInline ? INLINE_PARTS : blockCount;
    this.isInHashOrder = hasDirIndex && (hasIndex || this.isInline || blockCount === 1);
    const isEncrypted = inode.hasFlag(InodeFlags.ENCRYPT);
    const isCasefolded =
      inode.hasFlag(InodeFlags.CASEFOLD) && superblock.hasIncompat(Incompat.CASEFOLD);
    this.isCasefolded = isCasefolded && !isEncrypted;
    const hasHash = isCasefolded && isEncrypted;
    const hasFileType = superblock.hasIncompat(Incompat.FILETYPE);
    this.format = { blockSize, hasFileType, hasHash, isEncrypted, inodeCount };
    this.#blockEnd = checksums.enabled ? blockSize - TAIL_SIZE : blockSize;
    this.#bounds = {
      blockSize,
      blockCount,
      inodeCount,
      hasChecksums: checksums.enabled,
      hasLargeDir: superblock.hasIncompat(Incompat.LARGEDIR),
      hasHashInDirent: hasHash,
    };
  }

  get number(): InodeNumber {
    return this.inode.number;
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
    if (this.isInline) return this.#inline()[part];
    const block = readFileBlock(this.fs, this.inode, part as FileBlock);
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
      checkHtreeRoot(root.view, this.#bounds, place);
      this.#verifyIndexChecksum(root, ROOT_ENTRIES_AT);
      root.markVerified(BlockKind.HTREE_ROOT, this.number);
    }
    return root;
  }

  /** A block of the index below the root. */
  indexNode(fileBlock: FileBlock): Block {
    const node = this.#indexBlock(fileBlock);
    if (!node.isVerifiedAs(BlockKind.HTREE_NODE, this.number)) {
      checkHtreeNode(node.view, this.#bounds, { inode: this.number, block: node.number });
      this.#verifyIndexChecksum(node, NODE_ENTRIES_AT);
      node.markVerified(BlockKind.HTREE_NODE, this.number);
    }
    return node;
  }

  /** The entries of a block that the index leads to. @throws CorruptionError in a hole. */
  indexedEntries(fileBlock: FileBlock): Dirents {
    const entries = this.entries(fileBlock);
    if (entries === undefined) throw this.#hole(fileBlock);
    return entries;
  }

  /** The inode that ".." names, or 0 when there is no such entry. */
  parent(): InodeNumber | 0 {
    if (this.isInline) return this.inode.raw.getUint32(this.#inlineAt, true) as InodeNumber;
    if (this.isIndexed) {
      return le32(this.indexRoot().view, 0, HtreeRootLayout.dotdotInode) as InodeNumber;
    }
    const first = this.partCount > 0 ? this.entries(0) : undefined;
    if (first === undefined) return 0;
    const { bytes, view } = first;
    const end = this.endOf(0);
    for (let at = 0; at < end; at += direntLength(view, at, this.format.blockSize)) {
      const name = at + DIRENT_HEAD_SIZE;
      const isParent =
        direntNameLength(view, at) === 2 && bytes[name] === DOT && bytes[name + 1] === DOT;
      if (isParent && direntInode(view, at) !== 0) return direntInode(view, at);
    }
    return 0;
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

  #verifyEntries(block: Block): void {
    const { checksums } = this.fs;
    const end = this.#blockEnd;
    if (checksums.enabled) {
      const stored = storedDirentChecksum(block.view, end);
      const found = checksums.over(this.inode.checksumSeed, block.bytes.subarray(0, end));
      if (stored !== found) {
        throw this.corruption("dirent-checksum", `stored ${stored}, computed ${found}`, block);
      }
    }
    checkDirents(block, 0, end, this.format, { inode: this.number, block: block.number });
    block.markVerified(BlockKind.DIRECTORY, this.number);
  }

  /** Over the entries in use and what precedes them, and the tail with its checksum as 0. */
  #verifyIndexChecksum(block: Block, entriesAt: number): void {
    const { checksums } = this.fs;
    if (!checksums.enabled) return;
    const used = htreeUsedEnd(block.view, entriesAt);
    const tail = htreeTailAt(block.view, entriesAt);
    const checksumAt = tail + HtreeTail.checksum;
    let found = checksums.over(this.inode.checksumSeed, block.bytes.subarray(0, used));
    found = checksums.over(found, block.bytes.subarray(tail, checksumAt));
    found = checksums.overZeros(found, 4);
    const stored = le32(block.view, tail, HtreeTail.checksum);
    if (stored === found) return;
    throw this.corruption("htree-checksum", `stored ${stored}, computed ${found}`, block);
  }

  get #inlineAt(): number {
    return this.inode.iBlock.byteOffset - this.inode.raw.byteOffset;
  }

  #inline(): readonly Dirents[] {
    if (this.#inlineParts !== undefined) return this.#inlineParts;
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
    this.#inlineParts = parts;
    return parts;
  }
}
