/** How the operations on names and attributes change the filesystem: one handle each. */
import { retryAfterCommit } from "../alloc/retry.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Tx } from "../journal/transaction.ts";

/**
 * Runs `operation` in one handle; once more after a commit, when there was no space but a commit
 * frees some.
 */
export function change<T>(fs: Filesystem, credits: number, operation: (tx: Tx) => T): T {
  return retryAfterCommit(fs, () => fs.transact(credits, operation));
}
