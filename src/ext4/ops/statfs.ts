/**
 * Free space and sizes, as statfs(2) tells them.
 *
 * @see fs/ext4/super.c, ext4_statfs and ext4_calculate_overhead
 */
import type { GroupIndex } from "../../base/numbers.ts";
import { inodeTableBlocks, superblockAndDescriptors } from "../alloc/groups.ts";
import type { Filesystem } from "../filesystem.ts";

export interface FilesystemStatistics {
  readonly blockSize: number;
  readonly blocks: number;
  readonly blocksFree: number;
  /** Free for users: without the reserve. */
  readonly blocksAvailable: number;
  readonly files: number;
  readonly filesFree: number;
  readonly nameLengthMax: number;
}

const NAME_LENGTH_MAX = 255;

/** @param options.minixdf count the filesystem's own structures among the blocks. */
export function statFilesystem(
  fs: Filesystem,
  options: { minixdf: boolean },
): FilesystemStatistics {
  const { superblock } = fs;
  const free = fs.groups.countFree();
  const blocksFree = free.clusters * superblock.clusterBlocks;
  const reserved =
    superblock.reservedBlockCount + superblock.keptBackClusters * superblock.clusterBlocks;
  const overhead = options.minixdf ? 0 : overheadBlocks(fs);
  return {
    blockSize: superblock.blockSize,
    blocks: superblock.blockCount - overhead,
    blocksFree,
    blocksAvailable: Math.max(0, blocksFree - reserved),
    files: superblock.inodeCount,
    filesFree: free.inodes,
    nameLengthMax: NAME_LENGTH_MAX,
  };
}

/** Blocks that hold the filesystem's own structures: what mke2fs noted, or else counted here. */
function overheadBlocks(fs: Filesystem): number {
  const { superblock } = fs;
  if (superblock.overheadClusters !== 0) {
    return superblock.overheadClusters * superblock.clusterBlocks;
  }
  const tableBlocks = inodeTableBlocks(superblock);
  let blocks = superblock.firstDataBlock + journalBlocks(fs);
  for (let group = 0; group < superblock.groupCount; group++) {
    blocks += 2 + tableBlocks + superblockAndDescriptors(superblock, group as GroupIndex);
  }
  return Math.ceil(blocks / superblock.clusterBlocks) * superblock.clusterBlocks;
}

function journalBlocks(fs: Filesystem): number {
  const { journalInode, blockSize } = fs.superblock;
  return journalInode === 0 ? 0 : Math.ceil(fs.internalInode(journalInode).sizeBytes / blockSize);
}
