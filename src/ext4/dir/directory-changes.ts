/**
 * What fast commits changed in one directory after the last full commit. The blocks of the
 * directory do not have these changes; lookups and listings lay them over what they read.
 */
import type { InodeNumber } from "../../base/numbers.ts";

export interface AddedEntry {
  /** As it would be stored: ciphertext in an encrypted directory. */
  readonly name: Uint8Array;
  readonly inode: InodeNumber;
  /** The DT_* number, or 0. */
  readonly type: number;
}

export interface DirectoryChanges {
  /** True when the entry of this name that the blocks hold is not there any more. */
  removed(name: Uint8Array): boolean;
  /** Entries that the blocks lack, each name once. */
  readonly added: readonly AddedEntry[];
}
