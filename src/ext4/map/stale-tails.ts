/**
 * What a smaller size leaves behind the end of a file in its last block has to be zeros, or it would
 * show when the file grows again, to us or to another system. But it must not be zeroed before the
 * smaller size is durable: after a crash the file would still be long and lack those bytes.
 *
 *     smaller size ──► commit ──► zeros
 *                  └─ the file grows before that: commit at once
 */
import type { Filesystem } from "../filesystem.ts";
import type { Inode } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";

export class StaleTails {
  /** Files that the running transaction has made smaller. */
  readonly #files = new Set<Inode>();

  /**
   * `inode` was made smaller.
   *
   * @param zero zeroes what lies behind its end; called when that is where it ends for good.
   */
  add(tx: Tx, inode: Inode, zero: () => void): void {
    if (this.#files.has(inode)) return;
    this.#files.add(inode);
    tx.onRollback(() => this.#files.delete(inode));
    tx.afterCommit(() => {
      this.#files.delete(inode);
      zero();
    });
  }

  /** To be called before `inode` grows. @throws FsError EIO when a commit is needed, and fails. */
  settle(fs: Filesystem, inode: Inode): void {
    if (this.#files.has(inode)) fs.writer.transactions.commit();
  }
}
