/**
 * Where equal attributes were stored last, so that they can be shared. These are hints: whoever
 * follows one compares what is there. What is freed or changed must be forgotten, though, as
 * something else may lie there soon.
 */
import type { FsBlock, InodeNumber } from "../../base/numbers.ts";
import type { Tx } from "../journal/transaction.ts";

/** Bounds the memory; the oldest hint goes first. */
const HINTS_MAX = 4096;

class Hints<Where extends number> {
  readonly #byHash = new Map<number, Where>();

  find(hash: number): Where | undefined {
    return this.#byHash.get(hash);
  }

  /** Replaces what was known for `hash`. */
  remember(tx: Tx, hash: number, where: Where): void {
    this.#byHash.delete(hash);
    if (this.#byHash.size >= HINTS_MAX) {
      for (const oldest of this.#byHash.keys()) {
        this.#byHash.delete(oldest);
        break;
      }
    }
    this.#byHash.set(hash, where);
    tx.onRollback(() => this.forget(hash, where));
  }

  /** Not undone by a rollback: a lost hint only costs room on the device. */
  forget(hash: number, where: Where): void {
    if (this.#byHash.get(hash) === where) this.#byHash.delete(hash);
  }
}

export class XattrHints {
  /** Xattr blocks, by the hash in their header. */
  readonly blocks = new Hints<FsBlock>();
  /** Inodes that hold a value, by its crc32c. */
  readonly valueInodes = new Hints<InodeNumber>();
}
