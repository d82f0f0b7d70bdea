/** Inodes in memory, bounded in number: parsed and checked once, then shared by everybody. */
import type { InodeNumber } from "../../base/numbers.ts";
import type { Inode } from "../format/inode.ts";
import { ClockRing } from "./clock-ring.ts";

const INODES_MAX = 4096;

export class InodeCache {
  readonly #inodes = new ClockRing<Inode>(INODES_MAX);
  readonly #load: (number: InodeNumber) => Inode;

  /** @param load reads and checks an inode that is not in memory. */
  constructor(load: (number: InodeNumber) => Inode) {
    this.#load = load;
  }

  get(number: InodeNumber): Inode {
    const cached = this.#inodes.get(number);
    if (cached !== undefined) return cached;
    const inode = this.#load(number);
    this.#inodes.add(number, inode);
    return inode;
  }
}
