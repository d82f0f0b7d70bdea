/**
 * Which directories the kernel is filling its cache of, and whether what it has of them may be old.
 *
 * The kernel compares its cache with a directory where a listing begins, and from there on takes what is
 * cached. Of two who list at a time, one may have filled the cache from before a change that the other
 * began after, and the other's listing is old from somewhere on. So a cache that is complete, but was
 * filled while the directory changed, has to go before anybody can use it: when its last part is asked
 * for.
 *
 * @see fs/fuse/readdir.c, fuse_readdir_cached
 */
export class ListingCaches {
  readonly #begun = new Map<number, number>();

  /** A listing of `node` begins; the directory is in its version `version`. */
  begin(node: number, version: number): void {
    // Whoever began first may have filled the start of the cache.
    if (this.#begun.has(node)) return;
    if (this.#begun.size >= BEGUN_MAX) this.#begun.clear();
    this.#begun.set(node, version);
  }

  /** A listing of `node` ends. @returns whether its cache may be older than its beginning. */
  end(node: number, version: number): boolean {
    const before = this.#begun.get(node);
    this.#begun.delete(node);
    return before !== version;
  }
}

/** Listings that nobody finishes stay; of those that are dropped the cache is given up in the end. */
const BEGUN_MAX = 10_000;
