/**
 * One directory as fast commits left it: what its blocks say, less the names that are gone, and the
 * names that are new.
 */
import type { InodeNumber } from "../../base/numbers.ts";
import { lookup } from "../dir/directory.ts";
import type { AddedEntry, DirectoryChanges } from "../dir/directory-changes.ts";
import type { Filesystem } from "../filesystem.ts";
import { FOLDED_MAX, fold } from "../format/casefold.ts";
import { Incompat } from "../format/features.ts";
import { InodeFlags } from "../format/inode.ts";

const folded = new Uint8Array(FOLDED_MAX);

export class ChangedDirectory {
  readonly #fs: Filesystem;
  /** Undefined when fast commits made the directory, so that its blocks say nothing. */
  readonly #stored: InodeNumber | undefined;
  /** Bytes that a search for one name may have to read: an index makes them few. */
  readonly searchBytes: number;
  readonly #isCasefolded: boolean;
  readonly #removed = new Set<string>();
  readonly #added = new Map<string, AddedEntry>();

  constructor(fs: Filesystem, stored: InodeNumber | undefined) {
    this.#fs = fs;
    this.#stored = stored;
    const inode = stored === undefined ? undefined : fs.inode(stored);
    this.searchBytes = inode?.hasFlag(InodeFlags.INDEX) ? 0 : (inode?.sizeBytes ?? 0);
    this.#isCasefolded =
      fs.superblock.hasIncompat(Incompat.CASEFOLD) && inode?.hasFlag(InodeFlags.CASEFOLD) === true;
  }

  /** The inode that `name` names, or 0. */
  find(name: Uint8Array): InodeNumber | 0 {
    const key = this.#key(name);
    const added = this.#added.get(key);
    if (added !== undefined) return added.inode;
    if (this.#stored === undefined || this.#removed.has(key)) return 0;
    return lookup(this.#fs, this.#stored, name);
  }

  /** Adds an entry whose name is not there. */
  add(entry: AddedEntry): void {
    this.#added.set(this.#key(entry.name), entry);
  }

  remove(name: Uint8Array): void {
    const key = this.#key(name);
    if (!this.#added.delete(key)) this.#removed.add(key);
  }

  /** Names that are not there any more, or are there for another inode (`added`). */
  get removed(): Iterable<Uint8Array> {
    return Array.from(this.#removed, (key) =>
      Uint8Array.from(key, (character) => character.charCodeAt(0)),
    );
  }
  /** Entries that are new. */
  get added(): Iterable<AddedEntry> {
    return this.#added.values();
  }

  changes(): DirectoryChanges {
    return {
      removed: (name) => this.#removed.size > 0 && this.#removed.has(this.#key(name)),
      added: [...this.#added.values()],
    };
  }

  /** The same for all names that are one to the directory. */
  #key(name: Uint8Array): string {
    if (!this.#isCasefolded) return String.fromCharCode(...name);
    const length = fold(name, 0, name.length, folded);
    return String.fromCharCode(...(length < 0 ? name : folded.subarray(0, length)));
  }
}
