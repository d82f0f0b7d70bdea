/**
 * Inodes in memory, bounded in number: parsed and checked once, then shared by everybody.
 *
 * There is at most one object for an inode: one that a transaction has changed stays here until it
 * was stored, whatever the bound says.
 */
import type { InodeNumber } from "../../base/numbers.ts";
import type { Inode } from "../format/inode.ts";
import { ClockRing } from "./clock-ring.ts";

const INODES_MAX = 4096;

export class InodeCache {
  readonly #inodes = new ClockRing<Inode>(INODES_MAX);
  readonly #changed = new Map<InodeNumber, Inode>();
  readonly #load: (number: InodeNumber) => Inode;

  /** @param load reads and checks an inode that is not in memory. */
  constructor(load: (number: InodeNumber) => Inode) {
    this.#load = load;
  }

  get(number: InodeNumber): Inode {
    const cached = this.#inodes.get(number) ?? this.#changed.get(number);
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
  }

  /** Keeps `inode` until `markStored`. @returns false when it was kept already. */
  markChanged(inode: Inode): boolean {
    if (this.#changed.get(inode.number) === inode) return false;
    this.#changed.set(inode.number, inode);
    return true;
  }

  /** Lets the inode be evicted again. */
  markStored(inode: Inode): void {
    if (this.#changed.get(inode.number) !== inode) return;
    this.#changed.delete(inode.number);
    if (this.#inodes.get(inode.number) === undefined) this.#inodes.add(inode.number, inode);
  }

  /** The inodes that were changed and not stored yet. */
  get changed(): Iterable<Inode> {
    return this.#changed.values();
  }
  get changedCount(): number {
    return this.#changed.size;
  }
}
