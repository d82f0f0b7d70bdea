/**
 * What a writable filesystem knows in memory about its free space: which clusters and inodes may be
 * taken, which clusters are held for files that grow, and which blocks no file may have.
 *
 * A group whose bitmap is damaged is reported once and then left alone, as the kernel does: nothing
 * is taken from it, and nothing that lies in it is freed.
 */
import type { GroupIndex } from "../../base/numbers.ts";
import { CorruptionError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { loadBlockBitmap, loadInodeBitmap } from "./bitmaps.ts";
import { setBits } from "./bits.ts";
import { BusyMap } from "./busy-map.ts";
import { FreeMaps, type Run } from "./free-maps.ts";
import type { SystemZone } from "./system-zone.ts";
import { Windows } from "./windows.ts";

export interface AllocatorOptions {
  /** Told of a damaged bitmap. */
  readonly onDamage: (error: CorruptionError) => void;
  /** Told of clusters that nothing durable needs any more. */
  readonly onFreeClusters: (run: Run) => void;
}

export class Allocator {
  readonly clusters: FreeMaps;
  readonly inodes: FreeMaps;
  readonly windows: Windows;
  readonly system: SystemZone;

  constructor(fs: Filesystem, system: SystemZone, { onDamage, onFreeClusters }: AllocatorOptions) {
    const { superblock, groups } = fs;
    this.system = system;
    this.clusters = new FreeMaps({
      groupCount: superblock.groupCount,
      perGroup: superblock.clustersPerGroup,
      load: (group) => this.#loadClusters(fs, group),
      freeCount: (group) => groups.descriptor(group).freeClusters,
      onDamage: (group, error) => {
        groups.excludeFree(group, "clusters");
        onDamage(error);
      },
      onFree: onFreeClusters,
    });
    this.inodes = new FreeMaps({
      groupCount: superblock.groupCount,
      perGroup: superblock.inodesPerGroup,
      load: (group) => loadInodes(fs, group),
      freeCount: (group) => groups.descriptor(group).freeInodes,
      onDamage: (group, error) => {
        groups.excludeFree(group, "inodes");
        onDamage(error);
      },
      onFree: () => {},
    });
    this.windows = new Windows(this.clusters, superblock.clusterBlocks * superblock.blockSize);
  }

  /** Whether a commit would make clusters or inodes free. */
  get hasPending(): boolean {
    return this.clusters.hasPending || this.inodes.hasPending;
  }

  #loadClusters(fs: Filesystem, group: GroupIndex): BusyMap {
    const { blocksPerGroup, clusterBlocks } = fs.superblock;
    const map = new BusyMap(loadBlockBitmap(fs, group), fs.groups.clusterCount(group));
    const { freeClusters } = fs.groups.descriptor(group);
    const found = map.countFree();
    if (found !== freeClusters) {
      const what = `${found} clusters are free, the descriptor says ${freeClusters}`;
      throw new CorruptionError("bitmap-count", { group }, what);
    }
    const first = fs.groups.firstBlock(group);
    this.system.visit(first, first + blocksPerGroup, (start, count) => {
      const bit = Math.floor((start - first) / clusterBlocks);
      const end = Math.ceil((start - first + count) / clusterBlocks);
      if (map.areBusy(bit, Math.min(end, map.length) - bit)) return;
      throw new CorruptionError("bitmap-system", { group, block: start }, "free, but in use");
    });
    return map;
  }
}

/** Inodes below `s_first_ino` are the filesystem's own. */
function loadInodes(fs: Filesystem, group: GroupIndex): BusyMap {
  const bitmap = loadInodeBitmap(fs, group);
  if (group === 0) setBits(bitmap, 0, fs.superblock.firstInode - 1);
  const map = new BusyMap(bitmap, fs.superblock.inodesPerGroup);
  const { freeInodes } = fs.groups.descriptor(group);
  const found = map.countFree();
  if (found === freeInodes) return map;
  const what = `${found} inodes are free, the descriptor says ${freeInodes}`;
  throw new CorruptionError("bitmap-count", { group }, what);
}
