/**
 * What the last search of a directory was for, and what it found. Making an entry, or taking one out,
 * begins with searches for the same name: by the kernel's LOOKUP, by what the operation refuses, and
 * by the change itself. Every change of the entries has to be told (`forget`).
 */
import { NAME_MAX } from "../format/dirent.ts";

const NOTHING = -1;

export class LastSearch {
  /** Made with the first search. */
  #name: Uint8Array | undefined;
  #length = NOTHING;
  /** The part of the directory with the entry, or -1 when there is none. */
  part = NOTHING;
  /** The offset of the entry in that part. */
  at = 0;

  /** Whether it was for `name`. */
  isFor(name: Uint8Array): boolean {
    const known = this.#name;
    if (known === undefined || this.#length !== name.length) return false;
    for (let index = name.length - 1; index >= 0; index--) {
      if (known[index] !== name[index]) return false;
    }
    return true;
  }

  /** The entry of `name` is at `at` in `part`; -1 for `part` when there is none. */
  note(name: Uint8Array, part: number, at: number): void {
    this.#name ??= new Uint8Array(NAME_MAX);
    this.#name.set(name);
    this.#length = name.length;
    this.part = part;
    this.at = at;
  }

  forget(): void {
    this.#length = NOTHING;
  }
}
