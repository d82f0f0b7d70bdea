/**
 * How long an inode lives that has no name any more: as long as the kernel uses it, which is as long
 * as somebody has it open. The kernel counts what it was given (lookup counts) and gives that back
 * with FORGET; when nothing is left of an unlinked inode, the filesystem may free it.
 *
 *     LOOKUP, READDIRPLUS, MKNOD, MKDIR, SYMLINK, LINK, TMPFILE     +1 for each node in the reply
 *     FORGET, BATCH_FORGET                                          - what they say
 *
 * Counts are kept in pages of an array by node id: 4 bytes for an inode that was ever looked up, and
 * some nanoseconds for each, where a Map would take ten times as much of both.
 *
 * @see fuse_kernel.h 7.45, FUSE_FORGET
 */
import type { InodeNumber } from "../base/numbers.ts";
import type { Inode } from "../ext4/index.ts";
import { inodeOf, nodeOf } from "./nodes.ts";

const PAGE_BITS = 10;
const PAGE_MASK = (1 << PAGE_BITS) - 1;

/** Frees the inode `number`, whose link count is 0. */
export type Release = (number: InodeNumber) => void;

/** The kernel has given back all lookups of `node`. */
export type NoteForgotten = (node: number) => void;

/** The lookup counts of one mount, and the inodes that wait for theirs to become 0. */
export class Lifetimes {
  readonly #pages = new Map<number, Uint32Array>();
  readonly #unlinked = new Set<number>();
  readonly #release: Release;
  readonly #noteForgotten: NoteForgotten;

  constructor(release: Release, noteForgotten: NoteForgotten) {
    this.#release = release;
    this.#noteForgotten = noteForgotten;
  }

  /** A reply gives the node `node` to the kernel. */
  add(node: number): void {
    const index = Math.floor(node / (PAGE_MASK + 1));
    let page = this.#pages.get(index);
    if (page === undefined) {
      page = new Uint32Array(PAGE_MASK + 1);
      this.#pages.set(index, page);
    }
    const at = node & PAGE_MASK;
    page[at] = (page[at] as number) + 1;
  }

  /** The kernel gives `count` lookups of `node` back. */
  forget(node: number, count: number): void {
    const page = this.#pages.get(Math.floor(node / (PAGE_MASK + 1)));
    if (page === undefined) return;
    const at = node & PAGE_MASK;
    const left = Math.max(0, (page[at] as number) - count);
    page[at] = left;
    if (left > 0) return;
    this.#noteForgotten(node);
    if (this.#unlinked.delete(node)) this.#release(inodeOf(node));
  }

  /** `inode` lost a name: its last one, if its link count says so. */
  noteUnlinked({ number, linkCount }: Inode): void {
    if (linkCount > 0) return;
    if (this.#countOf(nodeOf(number)) === 0) this.#release(number);
    else this.#unlinked.add(nodeOf(number));
  }

  /** `inode` has a name again: it was made without one. */
  noteLinked({ number }: Inode): void {
    this.#unlinked.delete(nodeOf(number));
  }

  /** Nobody uses any node any more. */
  releaseAll(): void {
    for (const node of this.#unlinked) this.#release(inodeOf(node));
    this.#unlinked.clear();
  }

  #countOf(node: number): number {
    return this.#pages.get(Math.floor(node / (PAGE_MASK + 1)))?.[node & PAGE_MASK] ?? 0;
  }
}
