/**
 * An opened filesystem: the superblock, the caches and what the journal holds that the device does
 * not have yet. The operations in `ops/`, `dir/` and `map/` are functions over it.
 *
 *     openFilesystem              reads; never writes: the changes that an unclean journal holds are
 *                                 laid over the device in memory, and the image stays as it is
 *     openWritableFilesystem      (open-writable.ts) replays the journal for good; what changes the
 *                                 filesystem from then on goes through `Filesystem.writer`
 */
import type { BlockDevice } from "../base/block-device.ts";
import { Errno } from "../base/errno.ts";
import type { FsBlock, InodeNumber } from "../base/numbers.ts";
import { BlockGroups } from "./alloc/groups.ts";
import { SystemZone } from "./alloc/system-zone.ts";
import { Arena } from "./cache/arena.ts";
import { BlockCache, readDevice } from "./cache/block-cache.ts";
import { InodeCache } from "./cache/inode-cache.ts";
import { CorruptionError, FsError } from "./errors.ts";
import { Checksums, type Crc32c, crc32cScript } from "./format/checksum.ts";
import { Incompat } from "./format/features.ts";
import { Inode, InodeFlags } from "./format/inode.ts";
import { mmpUser } from "./format/mmp.ts";
import { SUPERBLOCK_OFFSET, Superblock } from "./format/superblock.ts";
import type { FastCommitChanges } from "./journal/fast-commit-changes.ts";
import { FastCommitReplay } from "./journal/fast-commit-replay.ts";
import { recover, replayed } from "./journal/recover.ts";
import { ReplayedDevice } from "./journal/replayed-device.ts";
import type { Tx } from "./journal/transaction.ts";
import type { Writer } from "./writer.ts";

export interface OpenOptions {
  /** Show the image as it lies, without the changes that its journal holds. */
  readonly noRecovery?: boolean;
  /** The external journal, when the image has one and needs it. */
  readonly journalDevice?: BlockDevice;
  /** Bound for cached metadata blocks. */
  readonly cacheSizeBytes?: number;
  /** A faster crc32c than ours. */
  readonly crc32c?: Crc32c;
  /** Where to find a superblock other than the first, in units of 1,024 bytes. */
  readonly superblockAt?: number;
  /** Told what does not prevent the use of the image but should be known: one line each. */
  readonly onWarning?: (message: string) => void;
}

/** The inode number of the root directory. */
export const ROOT_INODE = 2 as InodeNumber;

const CACHE_SIZE_DEFAULT = 32 * 1024 * 1024;
/** Inodes are cut from pieces of this size. */
const INODE_ARENA_CHUNK_BYTES = 16 * 1024;
const SUPERBLOCK_SIZE = 1024;
const SUPERBLOCK_UNIT = 1024;

/**
 * Opens the filesystem on `device` for reading.
 *
 * @throws CorruptionError when this is not a filesystem or a damaged one.
 * @throws UnsupportedError when it needs features that are not there.
 */
export function openFilesystem(device: BlockDevice, options: OpenOptions = {}): Filesystem {
  const asItLies = new Filesystem(device, options);
  if (asItLies.superblock.needsRecovery) {
    if (options.noRecovery !== true) return recovered(device, asItLies, options);
    options.onWarning?.("the journal is not empty: showing the filesystem without its changes");
  }
  asItLies.warnOfOtherUser();
  return asItLies;
}

function recovered(device: BlockDevice, asItLies: Filesystem, options: OpenOptions): Filesystem {
  const warn = options.onWarning ?? (() => {});
  const found = recover(asItLies, options.journalDevice, warn);
  const { blocks, fastCommits } = found;
  const { blockSize } = asItLies.superblock;
  let fs = new Filesystem(device, options, new ReplayedDevice(device, blockSize, blocks));
  if (fastCommits !== undefined) {
    const replay = new FastCommitReplay(fs, fastCommits);
    const newer = replay.blocksOver(device, blocks);
    fs = new Filesystem(device, options, new ReplayedDevice(device, blockSize, newer));
    fs.recovered = replay.changesOf(fs);
  }
  const what = replayed(found);
  if (what !== undefined) warn(`${what} in memory`);
  fs.warnOfOtherUser();
  return fs;
}

export class Filesystem {
  /** Set while the filesystem may be changed. */
  #writer: Writer | undefined;
  /** What all blocks are read from: the device, under the replayed journal if there is one. */
  readonly device: BlockDevice;
  readonly superblock: Superblock;
  readonly checksums: Checksums;
  readonly blocks: BlockCache;
  readonly groups: BlockGroups;
  /** Set when blocks of the journal cover blocks of the device. */
  readonly overlay: ReplayedDevice | undefined;
  /** What fast commits changed after the last full commit. */
  recovered: FastCommitChanges | undefined;
  #systemZone: SystemZone | undefined;
  readonly #inodes = new InodeCache((number) => this.#load(number));
  readonly #inodeArena: Arena;
  readonly #options: OpenOptions;

  constructor(device: BlockDevice, options: OpenOptions, overlay?: ReplayedDevice) {
    const crc32c = options.crc32c ?? crc32cScript;
    this.device = overlay ?? device;
    this.overlay = overlay;
    this.#options = options;
    const at =
      options.superblockAt === undefined
        ? SUPERBLOCK_OFFSET
        : options.superblockAt * SUPERBLOCK_UNIT;
    const bytes = new Uint8Array(SUPERBLOCK_SIZE);
    if (at + SUPERBLOCK_SIZE > device.sizeBytes) {
      const found = `${device.sizeBytes} bytes: too short for a superblock`;
      throw new CorruptionError("superblock-magic", { offset: at }, found);
    }
    readDevice(this.device, at, bytes);
    this.superblock = new Superblock(new DataView(bytes.buffer), device.sizeBytes, crc32c);
    const { superblock } = this;
    this.checksums = new Checksums(superblock.metadataChecksums, superblock.checksumSeed, crc32c);
    this.#inodeArena = new Arena(superblock.inodeSize, INODE_ARENA_CHUNK_BYTES);
    this.blocks = new BlockCache(
      this.device,
      superblock.blockSize,
      superblock.blockCount,
      options.cacheSizeBytes ?? CACHE_SIZE_DEFAULT,
    );
    const superblockBlock = Math.floor(at / superblock.blockSize);
    this.groups = new BlockGroups(superblock, superblockBlock, this.checksums, this.blocks);
  }

  /**
   * The inode `number`, from memory or from its table.
   *
   * @throws FsError ESTALE when it is not in use: nothing links to it, and it is no orphan.
   * @throws CorruptionError when it is none that a directory may name, or is damaged.
   */
  inode(number: InodeNumber): Inode {
    if (this.superblock.isOwnInode(number)) {
      throw new CorruptionError("inode-number", { inode: number }, "reserved for the filesystem");
    }
    const inode = this.#inodes.get(number);
    if (inode.linkCount === 0 && this.#writer?.orphans.has(number) !== true) {
      throw new FsError(Errno.ESTALE, `inode ${number} is not in use`);
    }
    if (inode.hasFlag(InodeFlags.EA_INODE)) {
      throw new CorruptionError("inode-number", { inode: number }, "holds an xattr, is no file");
    }
    return inode;
  }

  /** Whether `inode` may be asked for `number`; whether that is in use, or sound, `inode` tells. */
  hasInode(number: InodeNumber): boolean {
    const { superblock } = this;
    if (!(number >= 1 && number <= superblock.inodeCount)) return false;
    if (superblock.isOwnInode(number)) return false;
    try {
      return !this.#inodes.get(number).hasFlag(InodeFlags.EA_INODE);
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      return true;
    }
  }

  /** An inode that no directory names: the journal's, a quota file's, one that holds an xattr. */
  internalInode(number: number): Inode {
    return this.#inodes.get(number as InodeNumber);
  }

  /** What changes need. @throws FsError EROFS when the filesystem was opened for reading. */
  get writer(): Writer {
    if (this.#writer === undefined) throw new FsError(Errno.EROFS, "opened for reading");
    return this.#writer;
  }
  get isWritable(): boolean {
    return this.#writer !== undefined;
  }
  /** Lets the filesystem be changed through `writer`, or not any more. */
  setWriter(writer: Writer | undefined): void {
    this.#writer = writer;
  }

  /** @see Transactions.transact @throws FsError EROFS when the filesystem cannot be changed. */
  transact<T>(credits: number, operation: (tx: Tx) => T): T {
    return this.writer.transactions.transact(credits, operation);
  }

  /** The cached inodes; for the journal. */
  get inodes(): InodeCache {
    return this.#inodes;
  }

  /**
   * Finds out which blocks no file may have, for `verifyOwner`: to be called before anything is
   * written.
   *
   * @throws CorruptionError when a group descriptor or the journal's map cannot be trusted.
   */
  protectSystemBlocks(): SystemZone {
    this.groups.keepAll();
    this.#systemZone ??= new SystemZone(this);
    return this.#systemZone;
  }

  /**
   * Verifies that the `count` blocks from `start` on can be those of `inode`, whose map says so.
   * While all is only read, nothing is lost by believing it.
   *
   * @throws CorruptionError `block-system`.
   */
  verifyOwner(inode: InodeNumber, start: FsBlock, count: number): void {
    if (this.#systemZone?.overlaps(start, count) !== true) return;
    if (inode === this.superblock.journalInode) return;
    const found = `${count} blocks, not all of them a file's`;
    throw new CorruptionError("block-system", { inode, block: start }, found);
  }

  /** Memory for a new inode, zeroed. */
  takeInodeBytes(): Uint8Array {
    return this.#inodeArena.take();
  }

  /** Warns when the image says that another host has it mounted. */
  warnOfOtherUser(): void {
    const { superblock } = this;
    if (!superblock.hasIncompat(Incompat.MMP) || superblock.mmpBlock === 0) return;
    const warn = this.#options.onWarning;
    try {
      const block = superblock.mmpBlock as FsBlock;
      const user = mmpUser(this.blocks.get(block).view, this.checksums, { block });
      if (user !== undefined) warn?.(`may be in use on host ${String.fromCharCode(...user)}`);
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      warn?.(error.message);
    }
  }

  #load(number: InodeNumber): Inode {
    const { block, at } = this.groups.locateInode(number);
    const bytes = this.#inodeArena.take();
    bytes.set(this.blocks.get(block).bytes.subarray(at, at + bytes.length));
    return new Inode(number, bytes, this.superblock, this.checksums);
  }
}
