/**
 * Where there is something free: a `BusyMap` for each group that was looked at lately, and for all
 * groups a bound for their longest free run, so that full groups cost nothing.
 *
 *     free ──take──► in use ──free──► pending ──commit──► free
 *       └───hold──► held ──letGo──► free
 *
 * Serves clusters and inodes alike; both are an *index* here, counted over all groups. What the
 * device's bitmaps say is the callers' part (`blocks.ts`, `inodes.ts`); this is what may be taken.
 */
import type { GroupIndex } from "../../base/numbers.ts";
import { CorruptionError } from "../errors.ts";
import type { Transaction, Tx } from "../journal/transaction.ts";
import type { BusyMap } from "./busy-map.ts";
import { MaxTree } from "./max-tree.ts";

/** Indices in a row, all in one group. */
export interface Run {
  readonly start: number;
  readonly count: number;
}

export interface FreeMapsOptions {
  readonly groupCount: number;
  readonly perGroup: number;
  /** What of `group` must not be taken. @throws CorruptionError when its bitmap is damaged. */
  readonly load: (group: GroupIndex) => BusyMap;
  /** No more than this many are free in `group`. */
  readonly freeCount: (group: GroupIndex) => number;
  /** Told of a group of which nothing is taken any more, since its bitmap is damaged. */
  readonly onDamage: (group: GroupIndex, error: CorruptionError) => void;
  /** Told of what has become free because the transaction that freed it is durable. */
  readonly onFree: (run: Run) => void;
}

/** Bound for the maps in memory; those that say more than the device does not count. */
const MAPS_BYTES_MAX = 16 * 1024 * 1024;
/** Groups that are searched in vain before a shorter run will do. */
const PATIENCE_GROUPS = 8;

export class FreeMaps {
  readonly #options: FreeMapsOptions;
  readonly #loaded = new Map<GroupIndex, BusyMap>();
  #loadedBytes = 0;
  readonly #damaged = new Set<GroupIndex>();
  /** By group, how much is pending or held: then the map says more than the device. */
  readonly #onlyHere = new Map<GroupIndex, number>();
  readonly #longest: MaxTree;
  #pending: Run[] = [];
  #pendingIn: Transaction | undefined;

  constructor(options: FreeMapsOptions) {
    this.#options = options;
    const { groupCount, perGroup, freeCount } = options;
    this.#longest = new MaxTree(groupCount, (group) =>
      Math.min(perGroup, freeCount(group as GroupIndex)),
    );
  }

  /** Whether a commit would make something free. */
  get hasPending(): boolean {
    return this.#pendingIn !== undefined && this.#pending.length > 0;
  }

  /** Whether nothing of `group` may be taken because its bitmap is damaged. */
  isDamaged(group: GroupIndex): boolean {
    return this.#mapOf(group) === undefined;
  }

  /** How many from `index` on are free, up to `max` and the end of its group; 0 behind the last. */
  freeFrom(index: number, max: number): number {
    const group = this.#groupOf(index);
    if (group >= this.#options.groupCount) return 0;
    return this.#mapOf(group)?.freeFrom(index % this.#options.perGroup, max) ?? 0;
  }

  /** The first that is free from `index` on within its group, or -1. */
  firstFreeInGroup(index: number): number {
    const { perGroup } = this.#options;
    const group = this.#groupOf(index);
    if (this.#longest.get(group) === 0) return -1;
    const map = this.#mapOf(group);
    if (map === undefined) return -1;
    const bit = map.firstFree(index % perGroup);
    if (bit < map.length) return group * perGroup + bit;
    if (index % perGroup === 0) this.#longest.set(group, 0);
    return -1;
  }

  /** The first group from `group` on, and then from 0 on, that seems to have something free; or -1. */
  nextGroup(group: GroupIndex): GroupIndex | -1 {
    return this.#longest.find(group, 1) as GroupIndex | -1;
  }

  /**
   * Looks for `wanted` free ones in a row, from `index` on.
   *
   * @returns `wanted` or fewer: what is near, where that is not much less than what is far away.
   *   Undefined when nothing is free.
   */
  search(index: number, wanted: number): Run | undefined {
    const { perGroup } = this.#options;
    const first = this.#groupOf(index);
    let from = first;
    let needed = wanted;
    let best: Run | undefined;
    for (let tried = 1; ; tried++) {
      needed = Math.min(needed, this.#longest.max);
      if (best !== undefined && best.count >= needed) return best;
      if (needed === 0) return undefined;
      const group = this.#longest.find(from, needed) as GroupIndex;
      const found = this.#searchGroup(group, group === first ? index % perGroup : 0, wanted);
      if (found !== undefined && found.count > (best?.count ?? 0)) best = found;
      if (found !== undefined && found.count >= needed) return found;
      from = (group + 1) as GroupIndex;
      if (tried % PATIENCE_GROUPS === 0) needed = Math.ceil(needed / 2);
    }
  }

  #searchGroup(group: GroupIndex, bit: number, wanted: number): Run | undefined {
    const map = this.#mapOf(group);
    if (map === undefined) return undefined;
    if (!map.findRun(bit, wanted)) this.#longest.set(group, map.foundCount);
    if (map.foundCount === 0) return undefined;
    return { start: group * this.#options.perGroup + map.foundAt, count: map.foundCount };
  }

  /** Takes free ones, until a rollback. */
  take(tx: Tx, { start, count }: Run): void {
    const group = this.#groupOf(start);
    this.#mapOf(group)?.setBusy(start % this.#options.perGroup, count);
    tx.onRollback(() => this.#setFree(start, count));
  }

  /** Makes what is in use free again, as soon as the transaction of `tx` is durable. */
  free(tx: Tx, run: Run): void {
    this.#announcePending(tx);
    const group = this.#groupOf(run.start);
    // The map has to be there from now on: the bitmap will say that all this is free.
    this.#mapOf(group);
    const pending = this.#pending;
    const { length } = pending;
    pending.push(run);
    this.#keepHere(group, run.count);
    tx.onRollback(() => {
      pending.length = length;
      this.#keepHere(group, -run.count);
    });
  }

  /** Keeps free ones from being taken, in memory alone. */
  hold({ start, count }: Run): void {
    const group = this.#groupOf(start);
    this.#mapOf(group)?.setBusy(start % this.#options.perGroup, count);
    this.#keepHere(group, count);
  }

  /** Makes held ones free again. */
  letGo({ start, count }: Run): void {
    this.#setFree(start, count);
    this.#keepHere(this.#groupOf(start), -count);
  }

  /** Every free run of `group` that has `least` or more, in ascending order. */
  *freeRuns(group: GroupIndex, least: number): Iterable<Run> {
    const { perGroup } = this.#options;
    const map = this.#mapOf(group);
    if (map === undefined) return;
    for (let bit = map.firstFree(0); bit < map.length; ) {
      const count = map.freeFrom(bit, map.length);
      if (count >= least) yield { start: group * perGroup + bit, count };
      bit = map.firstFree(bit + count);
    }
  }

  #groupOf(index: number): GroupIndex {
    return Math.floor(index / this.#options.perGroup) as GroupIndex;
  }

  #announcePending(tx: Tx): void {
    const last = this.#pendingIn;
    if (last === tx.transaction) return;
    const pending: Run[] = [];
    this.#pending = pending;
    this.#pendingIn = tx.transaction;
    tx.afterCommit(() => this.#release(pending));
    tx.onRollback(() => {
      this.#pendingIn = last;
    });
  }

  #release(pending: readonly Run[]): void {
    if (this.#pending === pending) this.#pendingIn = undefined;
    for (const run of pending) {
      this.letGo(run);
      this.#options.onFree(run);
    }
  }

  #setFree(start: number, count: number): void {
    const { perGroup, freeCount } = this.#options;
    const group = this.#groupOf(start);
    this.#loaded.get(group)?.setFree(start % perGroup, count);
    // In a rollback the count does not have these yet.
    const most = Math.min(perGroup, freeCount(group) + count);
    if (most > this.#longest.get(group)) this.#longest.set(group, most);
  }

  #keepHere(group: GroupIndex, count: number): void {
    const after = (this.#onlyHere.get(group) ?? 0) + count;
    if (after === 0) this.#onlyHere.delete(group);
    else this.#onlyHere.set(group, after);
  }

  /** The map of `group`; undefined when its bitmap is damaged. */
  #mapOf(group: GroupIndex): BusyMap | undefined {
    return this.#loaded.get(group) ?? this.#load(group);
  }

  #load(group: GroupIndex): BusyMap | undefined {
    if (this.#damaged.has(group)) return undefined;
    try {
      const map = this.#options.load(group);
      if (this.#loadedBytes + map.sizeBytes > MAPS_BYTES_MAX) this.#makeRoom();
      this.#loaded.set(group, map);
      this.#loadedBytes += map.sizeBytes;
      return map;
    } catch (error) {
      if (!(error instanceof CorruptionError)) throw error;
      this.#damaged.add(group);
      this.#longest.set(group, 0);
      this.#options.onDamage(group, error);
      return undefined;
    }
  }

  /** Drops the maps that say what the device says. They come back with the next look at them. */
  #makeRoom(): void {
    for (const [group, map] of this.#loaded) {
      if (this.#onlyHere.has(group)) continue;
      this.#loaded.delete(group);
      this.#loadedBytes -= map.sizeBytes;
    }
  }
}
