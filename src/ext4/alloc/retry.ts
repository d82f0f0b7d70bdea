/** A full filesystem has more to give once what was freed is committed. */
import { Errno } from "../../base/errno.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";

/**
 * Runs `operation`, which opens its own handles. When it finds no space although some was freed and
 * waits for a commit, commits and runs it once more.
 *
 * @throws whatever `operation` throws.
 */
export function retryAfterCommit<T>(fs: Filesystem, operation: () => T): T {
  try {
    return operation();
  } catch (error) {
    const isFull = error instanceof FsError && error.errno === Errno.ENOSPC;
    if (!isFull || !fs.writer.allocator.hasPending) throw error;
  }
  fs.writer.transactions.commit();
  return operation();
}
