/**
 * The block groups: finds, checks and keeps their descriptors, and locates inodes through them.
 *
 * Descriptors follow the superblock; with meta_bg, from `s_first_meta_bg` on, each block of them
 * lies in the first of the groups that it describes.
 *
 * @see ext4/blockgroup.rst, "Meta Block Groups"
 */
import type { FsBlock, GroupIndex, InodeNumber } from "../../base/numbers.ts";
import type { BlockCache } from "../cache/block-cache.ts";
import { CorruptionError } from "../errors.ts";
import type { Checksums } from "../format/checksum.ts";
import { Incompat } from "../format/features.ts";
import { type GroupDescriptor, parseGroupDescriptor } from "../format/group-descriptor.ts";
import type { Superblock } from "../format/superblock.ts";

/** Descriptors kept; a filesystem has one group for each 128 MiB or so. */
const KEPT_MAX = 16384;

interface FreeCounts {
  readonly clusters: number;
  readonly inodes: number;
}

export class BlockGroups {
  readonly #superblock: Superblock;
  readonly #superblockBlock: number;
  readonly #checksums: Checksums;
  readonly #blocks: BlockCache;
  readonly #kept = new Map<GroupIndex, GroupDescriptor>();
  #free: FreeCounts | undefined;

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
  }

  /** @throws CorruptionError when the descriptor cannot be trusted. */
  descriptor(group: GroupIndex): GroupDescriptor {
    const kept = this.#kept.get(group);
    if (kept !== undefined) return kept;
    const { blockSize, descriptorSize } = this.#superblock;
    const perBlock = blockSize / descriptorSize;
    const index = Math.floor(group / perBlock);
    const { view } = this.#blocks.get(this.#descriptorBlock(index, perBlock));
    const at = (group % perBlock) * descriptorSize;
    const parsed = parseGroupDescriptor(view, at, group, this.#superblock, this.#checksums);
    if (this.#kept.size >= KEPT_MAX) this.#kept.clear();
    this.#kept.set(group, parsed);
    return parsed;
  }

  /** The first block of `group`. */
  firstBlock(group: GroupIndex): FsBlock {
    return (group * this.#superblock.blocksPerGroup + this.#superblock.firstDataBlock) as FsBlock;
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

  /** Sums free clusters and inodes over all groups, once, as the kernel does at mount. */
  countFree(): FreeCounts {
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

  #descriptorBlock(index: number, perBlock: number): FsBlock {
    const superblock = this.#superblock;
    if (index < superblock.firstMetaGroup) return (this.#superblockBlock + index + 1) as FsBlock;
    const group = (index * perBlock) as GroupIndex;
    let skip = superblock.groupHasSuperblock(group) ? 1 : 0;
    // Block 0 is the boot block here, in spite of s_first_data_block: a bigalloc image of 1 KiB blocks.
    if (superblock.blockSize === 1024 && group === 0 && superblock.firstDataBlock === 0) skip++;
    return (this.firstBlock(group) + skip) as FsBlock;
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
