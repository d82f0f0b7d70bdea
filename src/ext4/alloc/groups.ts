/**
 * The block groups: finds, checks and keeps their descriptors, and locates inodes through them.
 *
 * Descriptors follow the superblock; with meta_bg, from `s_first_meta_bg` on, each block of them
 * lies in the first of the groups that it describes.
 *
 * A change (`change`) is made to the descriptor in memory, and goes with its checksum and those of
 * the group's bitmaps into the block of descriptors when that is sealed, once for each commit.
 *
 * @see ext4/blockgroup.rst, "Meta Block Groups"
 */
import type { FsBlock, GroupIndex, InodeNumber } from "../../base/numbers.ts";
import type { Block, BlockCache } from "../cache/block-cache.ts";
import { CorruptionError } from "../errors.ts";
import type { Checksums } from "../format/checksum.ts";
import { Incompat } from "../format/features.ts";
import {
  type GroupDescriptor,
  parseGroupDescriptor,
  serializeGroupDescriptor,
} from "../format/group-descriptor.ts";
import type { Superblock } from "../format/superblock.ts";
import type { Transaction, Tx } from "../journal/transaction.ts";

/** Descriptors kept while only reading; a filesystem has one group for each 128 MiB or so. */
const KEPT_MAX = 16384;
/** A checksum of a bitmap has 16 bits in a 32-byte descriptor, 32 in a wider one. */
const NARROW_DESCRIPTOR_SIZE = 32;

interface FreeCounts {
  clusters: number;
  inodes: number;
}

export class BlockGroups {
  readonly #superblock: Superblock;
  readonly #superblockBlock: number;
  readonly #checksums: Checksums;
  readonly #blocks: BlockCache;
  readonly #perBlock: number;
  /** By group. */
  #kept: (GroupDescriptor | undefined)[] = [];
  #keptCount = 0;
  #keptMax = KEPT_MAX;
  #free: FreeCounts | undefined;
  /** By group, the transaction that changed it last. */
  readonly #changedIn = new Map<GroupIndex, Transaction>();

  /** @param superblockBlock the block with the superblock in use; the descriptors follow it. */
  constructor(
    superblock: Superblock,
    superblockBlock: number,
    checksums: Checksums,
    blocks: BlockCache,
  ) {
    this.#superblock = superblock;
    this.#superblockBlock = superblockBlock;
    this.#checksums = checksums;
    this.#blocks = blocks;
    this.#perBlock = superblock.blockSize / superblock.descriptorSize;
  }

  /** @throws CorruptionError when the descriptor cannot be trusted. */
  descriptor(group: GroupIndex): GroupDescriptor {
    return this.#kept[group] ?? this.#load(group);
  }

  #load(group: GroupIndex): GroupDescriptor {
    const { view } = this.#blocks.get(this.#descriptorBlock(group));
    const at = (group % this.#perBlock) * this.#superblock.descriptorSize;
    const parsed = parseGroupDescriptor(view, at, group, this.#superblock, this.#checksums);
    if (this.#keptCount >= this.#keptMax) {
      this.#kept = [];
      this.#keptCount = 0;
    }
    this.#kept[group] = parsed;
    this.#keptCount++;
    return parsed;
  }

  /**
   * Loads all descriptors and keeps them, as those who change them need.
   *
   * @throws CorruptionError when one of them cannot be trusted.
   */
  keepAll(): void {
    this.#keptMax = this.#superblock.groupCount;
    this.countFree();
  }

  /** The first block of `group`. */
  firstBlock(group: GroupIndex): FsBlock {
    return (group * this.#superblock.blocksPerGroup + this.#superblock.firstDataBlock) as FsBlock;
  }

  /** Clusters of `group`: the last one may be short. */
  clusterCount(group: GroupIndex): number {
    const { blockCount, clusterBlocks, clustersPerGroup } = this.#superblock;
    const behind = Math.ceil((blockCount - this.firstBlock(group)) / clusterBlocks);
    return Math.min(clustersPerGroup, behind);
  }

  /**
   * The block that holds inode `number`, and where in it.
   *
   * @throws CorruptionError `inode-number` when there is no such inode.
   */
  locateInode(number: InodeNumber): { block: FsBlock; at: number } {
    const { inodeCount, inodesPerGroup, inodeSize, blockSize } = this.#superblock;
    if (!(number >= 1 && number <= inodeCount)) {
      throw new CorruptionError(
        "inode-number",
        { inode: number },
        `the last inode is ${inodeCount}`,
      );
    }
    const group = Math.floor((number - 1) / inodesPerGroup) as GroupIndex;
    const offset = ((number - 1) % inodesPerGroup) * inodeSize;
    const block = this.descriptor(group).inodeTable + Math.floor(offset / blockSize);
    return { block: block as FsBlock, at: offset % blockSize };
  }

  /** Free clusters and inodes of all groups: summed once, as the kernel does at mount, then kept. */
  countFree(): Readonly<FreeCounts> {
    this.#free ??= this.#countFree();
    return this.#free;
  }

  #countFree(): FreeCounts {
    let clusters = 0;
    let inodes = 0;
    for (let group = 0; group < this.#superblock.groupCount; group++) {
      const descriptor = this.descriptor(group as GroupIndex);
      clusters += descriptor.freeClusters;
      inodes += descriptor.freeInodes;
    }
    return { clusters, inodes };
  }

  /**
   * Lets `edit` change what the descriptor of `group` says: stored with the commit, undone by a
   * rollback. To be called, too, when a bitmap of the group changes and nothing else.
   */
  change(tx: Tx, group: GroupIndex, edit: (descriptor: GroupDescriptor) => void): void {
    this.#announce(tx, group);
    const descriptor = this.descriptor(group);
    const before = { ...descriptor };
    edit(descriptor);
    this.#addToFree(before, descriptor);
    tx.onRollback(() => {
      this.#addToFree(descriptor, before);
      Object.assign(descriptor, before);
    });
  }

  /** Counts what `group` has free as not there, because its bitmap is damaged. */
  excludeFree(group: GroupIndex, kind: keyof FreeCounts): void {
    const { freeClusters, freeInodes } = this.descriptor(group);
    if (this.#free !== undefined) this.#free[kind] -= kind === "inodes" ? freeInodes : freeClusters;
  }

  #addToFree(from: GroupDescriptor, to: GroupDescriptor): void {
    if (this.#free === undefined) return;
    this.#free.clusters += to.freeClusters - from.freeClusters;
    this.#free.inodes += to.freeInodes - from.freeInodes;
  }

  /** Makes the descriptor's block part of the running transaction. */
  #announce(tx: Tx, group: GroupIndex): void {
    const { transaction } = tx;
    const last = this.#changedIn.get(group);
    if (last === transaction) return;
    const first = (group - (group % this.#perBlock)) as GroupIndex;
    tx.modify(this.#blocks.get(this.#descriptorBlock(group)), (block) =>
      this.#seal(block, first, transaction),
    );
    this.#changedIn.set(group, transaction);
    tx.onRollback(() => {
      if (last === undefined) this.#changedIn.delete(group);
      else this.#changedIn.set(group, last);
    });
  }

  /** Stores the descriptors that `transaction` changed in the block that begins with group `first`. */
  #seal(block: Block, first: GroupIndex, transaction: Transaction): void {
    const { descriptorSize, groupCount } = this.#superblock;
    const end = Math.min(first + this.#perBlock, groupCount);
    for (let group = first; group < end; group++) {
      if (this.#changedIn.get(group) !== transaction) continue;
      this.#changedIn.delete(group);
      const descriptor = this.descriptor(group);
      this.#updateBitmapChecksums(descriptor, transaction);
      const at = (group - first) * descriptorSize;
      serializeGroupDescriptor(
        block.view,
        at,
        group,
        descriptor,
        this.#superblock,
        this.#checksums,
      );
    }
  }

  #updateBitmapChecksums(descriptor: GroupDescriptor, { blocks }: Transaction): void {
    if (!this.#checksums.enabled) return;
    const { clustersPerGroup, inodesPerGroup } = this.#superblock;
    const ofBlocks = blocks.get(descriptor.blockBitmap);
    if (ofBlocks !== undefined) {
      descriptor.blockBitmapChecksum = this.bitmapChecksum(ofBlocks.bytes, clustersPerGroup);
    }
    const ofInodes = blocks.get(descriptor.inodeBitmap);
    if (ofInodes !== undefined) {
      descriptor.inodeBitmapChecksum = this.bitmapChecksum(ofInodes.bytes, inodesPerGroup);
    }
  }

  /** The checksum of a bitmap's first `bits` bits, as wide as the descriptor has room for. */
  bitmapChecksum(bytes: Uint8Array, bits: number): number {
    const mask = this.#superblock.descriptorSize > NARROW_DESCRIPTOR_SIZE ? 0xffff_ffff : 0xffff;
    const checksum = this.#checksums.over(this.#checksums.seed, bytes, 0, Math.ceil(bits / 8));
    return (checksum & mask) >>> 0;
  }

  /** The block with the descriptor of `group`. */
  #descriptorBlock(group: GroupIndex): FsBlock {
    const superblock = this.#superblock;
    const index = Math.floor(group / this.#perBlock);
    if (index < superblock.firstMetaGroup) return (this.#superblockBlock + index + 1) as FsBlock;
    const first = (index * this.#perBlock) as GroupIndex;
    let skip = superblock.groupHasSuperblock(first) ? 1 : 0;
    // Block 0 is the boot block here, in spite of s_first_data_block: a bigalloc image of 1 KiB blocks.
    if (superblock.blockSize === 1024 && first === 0 && superblock.firstDataBlock === 0) skip++;
    return (this.firstBlock(first) + skip) as FsBlock;
  }
}

/** Blocks at the start of `group` for a superblock copy, descriptors, and room for more of them. */
export function superblockAndDescriptors(superblock: Superblock, group: GroupIndex): number {
  const perBlock = superblock.blockSize / superblock.descriptorSize;
  const own = superblock.groupHasSuperblock(group) ? 1 : 0;
  if (superblock.hasIncompat(Incompat.META_BG) && group >= superblock.firstMetaGroup * perBlock) {
    const place = group % perBlock;
    return own + (place === 0 || place === 1 || place === perBlock - 1 ? 1 : 0);
  }
  if (own === 0) return 0;
  const all = Math.ceil(superblock.groupCount / perBlock);
  return 1 + Math.min(all, superblock.firstMetaGroup) + superblock.reservedGdtBlocks;
}

/** Blocks of the inode table of every group. */
export function inodeTableBlocks(superblock: Superblock): number {
  return Math.ceil((superblock.inodesPerGroup * superblock.inodeSize) / superblock.blockSize);
}
