/**
 * Inodes in memory, bounded in number: parsed and checked once, then shared by everybody. Eviction
 * is by second chance, as in the block cache.
 */
import type { InodeNumber } from "../../base/numbers.ts";
import type { Inode } from "../format/inode.ts";

const INODES_MAX = 4096;

interface Entry {
  readonly inode: Inode;
  referenced: boolean;
}

export class InodeCache {
  readonly #entries = new Map<number, Entry>();
  readonly #load: (number: InodeNumber) => Inode;

  /** @param load reads and checks an inode that is not in memory. */
  constructor(load: (number: InodeNumber) => Inode) {
    this.#load = load;
  }

  get(number: InodeNumber): Inode {
    const entry = this.#entries.get(number);
    if (entry !== undefined) {
      entry.referenced = true;
      return entry.inode;
    }
    const inode = this.#load(number);
    if (this.#entries.size >= INODES_MAX) this.#evict();
    this.#entries.set(number, { inode, referenced: false });
    return inode;
  }

  #evict(): void {
    for (const [number, entry] of this.#entries) {
      this.#entries.delete(number);
      if (!entry.referenced) return;
      entry.referenced = false;
      this.#entries.set(number, entry);
    }
  }
}
