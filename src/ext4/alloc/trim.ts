/**
 * Tells the device what is not in use, so that a solid-state disk or a sparse file can make room.
 *
 * @see fs/ext4/mballoc.c, ext4_trim_fs
 */
import { Errno } from "../../base/errno.ts";
import type { GroupIndex } from "../../base/numbers.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Run } from "./free-maps.ts";

/**
 * Discards what is free between two places of the device, as FITRIM does.
 *
 * @param start where to begin, in bytes.
 * @param length how far to go, in bytes; may reach behind the end.
 * @param minLength shorter free runs stay as they are, in bytes.
 * @returns the bytes that were discarded.
 * @throws FsError EINVAL when there is nothing in that range, or no group can have such a long run.
 */
export function trimFree(fs: Filesystem, start: number, length: number, minLength: number): number {
  const { blockSize, blockCount, clusterBlocks, clustersPerGroup, firstDataBlock } = fs.superblock;
  const clusterBytes = clusterBlocks * blockSize;
  const least = Math.max(1, Math.ceil(minLength / clusterBytes));
  const isSensible = start < blockCount * blockSize && length >= blockSize;
  if (!isSensible || least > clustersPerGroup) {
    throw new FsError(Errno.EINVAL, `cannot trim ${length} bytes from byte ${start} on`);
  }
  const clusterAt = (bytes: number): number =>
    Math.max(0, Math.floor(bytes / blockSize) - firstDataBlock) / clusterBlocks;
  const first = Math.ceil(clusterAt(start));
  const end = Math.floor(clusterAt(Math.min(start + length, blockCount * blockSize)));
  let clusters = 0;
  const lastGroup = Math.floor((end - 1) / clustersPerGroup);
  for (let group = Math.floor(first / clustersPerGroup); group <= lastGroup; group++) {
    for (const run of fs.writer.allocator.clusters.freeRuns(group as GroupIndex, least)) {
      const from = Math.max(run.start, first);
      const count = Math.min(run.start + run.count, end) - from;
      if (count < least) continue;
      discardClusters(fs, { start: from, count });
      clusters += count;
    }
  }
  return clusters * clusterBytes;
}

/** Tells the device that nothing is stored in the clusters of `run`. */
export function discardClusters(fs: Filesystem, { start, count }: Run): void {
  const { blockSize, clusterBlocks, firstDataBlock } = fs.superblock;
  const block = start * clusterBlocks + firstDataBlock;
  fs.writer.device.discard(block * blockSize, count * clusterBlocks * blockSize);
}
