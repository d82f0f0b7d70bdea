/**
 * Inodes in memory, bounded in number: parsed and checked once, then shared by everybody.
 *
 * There is at most one object for an inode: one that a transaction has changed stays here until it
 * was stored, whatever the bound says, and so does one whose times are to be stored some day.
 */
import type { InodeNumber } from "../../base/numbers.ts";
import type { Inode } from "../format/inode.ts";
import { ClockRing } from "./clock-ring.ts";

const INODES_MAX = 4096;

export class InodeCache {
  readonly #inodes = new ClockRing<Inode>(INODES_MAX);
  readonly #changed = new Map<InodeNumber, Inode>();
  readonly #kept = new Map<InodeNumber, Inode>();
  readonly #load: (number: InodeNumber) => Inode;

  /** @param load reads and checks an inode that is not in memory. */
  constructor(load: (number: InodeNumber) => Inode) {
    this.#load = load;
  }

  get(number: InodeNumber): Inode {
    const cached = this.#inodes.get(number) ?? this.#changed.get(number) ?? this.#kept.get(number);
    if (cached !== undefined) return cached;
    const inode = this.#load(number);
    this.#inodes.add(number, inode);
    return inode;
  }

  /** Takes in a new inode, in place of any that had its number. */
  put(inode: Inode): void {
    this.drop(inode.number);
    this.#inodes.add(inode.number, inode);
  }

  /** Forgets the inode `number`, changed or not. */
  drop(number: InodeNumber): void {
    this.#inodes.delete(number);
    this.#changed.delete(number);
    this.#kept.delete(number);
  }

  /** Keeps `inode` until `markStored`. @returns false when it was kept already. */
  markChanged(inode: Inode): boolean {
    if (this.#changed.get(inode.number) === inode) return false;
    this.#changed.set(inode.number, inode);
    return true;
  }

  /** The inode was stored as it is, and may be evicted again. */
  markStored(inode: Inode): void {
    this.unmarkChanged(inode);
    if (this.#kept.get(inode.number) === inode) this.#kept.delete(inode.number);
  }

  /** Takes back `markChanged`. */
  unmarkChanged(inode: Inode): void {
    if (this.#changed.get(inode.number) !== inode) return;
    this.#changed.delete(inode.number);
    if (this.#inodes.get(inode.number) === undefined) this.#inodes.add(inode.number, inode);
  }

  /** Keeps `inode`, which no transaction has changed, until something stores it. */
  keep(inode: Inode): void {
    this.#kept.set(inode.number, inode);
  }

  /** The inodes that were changed and not stored yet. */
  get changed(): Iterable<Inode> {
    return this.#changed.values();
  }
  get changedCount(): number {
    return this.#changed.size;
  }

  get keptCount(): number {
    return this.#kept.size;
  }

  /** The inodes that wait after `keep`, or the one of them with this number; they wait no more. */
  takeKept(number?: InodeNumber): Inode[] {
    if (number === undefined) {
      const all = [...this.#kept.values()];
      this.#kept.clear();
      return all;
    }
    const inode = this.#kept.get(number);
    this.#kept.delete(number);
    return inode === undefined ? [] : [inode];
  }
}
