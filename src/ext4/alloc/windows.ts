/**
 * Preallocation for files that grow: what lies behind the end of such a file is held for it, so
 * that files which grow side by side do not get their blocks by turns.
 *
 *     | … the file | held: a window |
 *                  ^ where the file is expected to want its next cluster
 *
 * A file has a window from its second request on that asks for what it is expected to ask for, and
 * with each such request a larger one. Windows are known in memory alone: on the device they are
 * free.
 */
import type { InodeNumber } from "../../base/numbers.ts";
import type { FreeMaps } from "./free-maps.ts";

/** The first window of a file, and the largest. */
const WINDOW_BYTES_MIN = 64 * 1024;
const WINDOW_BYTES_MAX = 8 * 1024 * 1024;
/** Files whose growth is watched at a time. */
const FILES_MAX = 1024;

interface Growth {
  /** The cluster that the file is expected to want next; a window starts there. */
  next: number;
  /** Clusters that are held. */
  held: number;
  /** Clusters that should be held after the next request; 0 as long as it is the first. */
  wanted: number;
}

export class Windows {
  readonly #clusters: FreeMaps;
  readonly #clustersMin: number;
  readonly #clustersMax: number;
  readonly #files = new Map<InodeNumber, Growth>();
  #heldFiles = 0;

  constructor(clusters: FreeMaps, clusterBytes: number) {
    this.#clusters = clusters;
    this.#clustersMin = Math.max(1, Math.floor(WINDOW_BYTES_MIN / clusterBytes));
    this.#clustersMax = Math.max(1, Math.floor(WINDOW_BYTES_MAX / clusterBytes));
  }

  /**
   * Makes the window of `inode` free again, or as much of it as is needed: the file wants `count`
   * clusters now, the first of them at `goal` if that may be.
   *
   * @returns how many clusters more should be looked for, to be held for the file.
   */
  open(inode: InodeNumber, goal: number, count: number): number {
    const growth = this.#files.get(inode);
    if (growth === undefined) return 0;
    if (growth.next !== goal) {
      this.#letGo(growth, growth.held);
      growth.wanted = 0;
      return 0;
    }
    const suffices = growth.held > count;
    this.#letGo(growth, suffices ? count : growth.held);
    if (suffices) return 0;
    const larger = Math.max(this.#clustersMin, 2 * growth.wanted, count);
    growth.wanted = Math.min(this.#clustersMax, larger);
    return growth.wanted;
  }

  /** Holds what is free behind the clusters up to `next` that `inode` has just been given. */
  close(inode: InodeNumber, next: number): void {
    const growth = this.#files.get(inode) ?? this.#watch(inode);
    if (growth.held > 0 && growth.next === next) return;
    this.#letGo(growth, growth.held);
    growth.next = next;
    if (growth.wanted === 0) return;
    const count = this.#clusters.freeFrom(next, growth.wanted);
    if (count === 0) return;
    this.#clusters.hold({ start: next, count });
    growth.held = count;
    this.#heldFiles++;
  }

  /** Gives back the window of `inode`. */
  discard(inode: InodeNumber): void {
    const growth = this.#files.get(inode);
    if (growth === undefined) return;
    this.#letGo(growth, growth.held);
    this.#files.delete(inode);
  }

  /** Gives back all windows. @returns false when there was none. */
  discardAll(): boolean {
    if (this.#heldFiles === 0) return false;
    for (const growth of this.#files.values()) this.#letGo(growth, growth.held);
    this.#files.clear();
    return true;
  }

  /** Makes the first `count` clusters of a window free. */
  #letGo(growth: Growth, count: number): void {
    if (count === 0) return;
    this.#clusters.letGo({ start: growth.next, count });
    growth.next += count;
    growth.held -= count;
    if (growth.held === 0) this.#heldFiles--;
  }

  #watch(inode: InodeNumber): Growth {
    if (this.#files.size >= FILES_MAX) this.#discardOldest();
    const growth = { next: 0, held: 0, wanted: 0 };
    this.#files.set(inode, growth);
    return growth;
  }

  #discardOldest(): void {
    for (const inode of this.#files.keys()) {
      this.discard(inode);
      return;
    }
  }
}
