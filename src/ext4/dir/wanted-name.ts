/**
 * A name that is looked for: which entries it fits, and where an index would have them. There are
 * three kinds: bytes that have to be the same, a name whose case does not matter, and the name of
 * an entry that the kernel made up for want of the key.
 */
import { Errno } from "../../base/errno.ts";
import { FsError } from "../errors.ts";
import { FOLDED_MAX, fold } from "../format/casefold.ts";
import {
  DIRENT_HEAD_SIZE,
  type Dirents,
  direntInode,
  direntLength,
  direntNameLength,
} from "../format/dirent.ts";
import { parseNoKeyName } from "../format/nokey-name.ts";
import type { Directory } from "./contents.ts";

/** `s_encoding_flags`: names that are not UTF-8 are refused. @see fs/ext4/super.c */
const ENCODING_STRICT = 1;

export interface WantedName {
  /** The stored bytes, where they are known; only where they are not, `matches` is asked. */
  readonly stored: Uint8Array | undefined;
  /** The major hash that it has in the index. */
  readonly hash: number;
  matches(bytes: Uint8Array, from: number, length: number): boolean;
}

/**
 * What to look for in `directory` when asked for `name`; undefined when no entry can have it.
 *
 * @throws FsError EINVAL when the directory does not allow such names.
 */
export function wantedName(directory: Directory, name: Uint8Array): WantedName | undefined {
  if (directory.format.isEncrypted) return noKeyName(directory, name);
  return directory.isCasefolded ? foldedName(directory, name) : new StoredName(directory, name);
}

/** The offset of the first entry from `from` to `end` that `wanted` fits, or -1. */
export function findDirent(
  { bytes, view }: Dirents,
  from: number,
  end: number,
  blockSize: number,
  wanted: WantedName,
): number {
  const { stored } = wanted;
  for (let at = from; at < end; at += direntLength(view, at, blockSize)) {
    const length = direntNameLength(view, at);
    const name = at + DIRENT_HEAD_SIZE;
    const fits =
      stored === undefined
        ? direntInode(view, at) !== 0 && wanted.matches(bytes, name, length)
        : isSame(bytes, name, length, stored) && direntInode(view, at) !== 0;
    if (fits) return at;
  }
  return -1;
}

/** Whether `wanted` fits a name that lies outside of any block. */
export function fitsName(wanted: WantedName, name: Uint8Array): boolean {
  const { stored } = wanted;
  return stored === undefined
    ? wanted.matches(name, 0, name.length)
    : isSame(name, 0, name.length, stored);
}

function isSame(bytes: Uint8Array, from: number, length: number, other: Uint8Array): boolean {
  if (length !== other.length) return false;
  // Names in one directory tend to begin alike.
  for (let index = length - 1; index >= 0; index--) {
    if (bytes[from + index] !== other[index]) return false;
  }
  return true;
}

class StoredName implements WantedName {
  readonly stored: Uint8Array;
  readonly #directory: Directory;
  readonly #knownHash: number | undefined;

  constructor(directory: Directory, stored: Uint8Array, knownHash?: number) {
    this.stored = stored;
    this.#directory = directory;
    this.#knownHash = knownHash;
  }

  get hash(): number {
    if (this.#knownHash !== undefined) return this.#knownHash;
    const { hash } = this.#directory;
    hash.ofName(this.stored, 0, this.stored.length);
    return hash.major;
  }

  matches(bytes: Uint8Array, from: number, length: number): boolean {
    return isSame(bytes, from, length, this.stored);
  }
}

const scratch = new Uint8Array(FOLDED_MAX);

/** A name that is not UTF-8 cannot be folded: it is only ever the same as itself. */
function foldedName(directory: Directory, name: Uint8Array): WantedName {
  const length = fold(name, 0, name.length, scratch);
  if (length < 0) {
    if ((directory.fs.superblock.encodingFlags & ENCODING_STRICT) !== 0) {
      throw new FsError(Errno.EINVAL, `inode ${directory.number} takes only names in UTF-8`);
    }
    return new StoredName(directory, name);
  }
  const folded = scratch.slice(0, length);
  return {
    stored: undefined,
    get hash() {
      directory.hash.ofName(name, 0, name.length);
      return directory.hash.major;
    },
    matches(bytes, from, candidate) {
      const candidateLength = fold(bytes, from, candidate, scratch);
      return candidateLength >= 0 && isSame(scratch, 0, candidateLength, folded);
    },
  };
}

function noKeyName(directory: Directory, name: Uint8Array): WantedName | undefined {
  const parsed = parseNoKeyName(name);
  if (parsed === undefined) return undefined;
  const hash = (parsed.hash & ~1) >>> 0;
  if (parsed.ciphertext !== undefined) {
    const isHashStored = directory.format.hasHash;
    return new StoredName(directory, parsed.ciphertext, isHashStored ? hash : undefined);
  }
  return { stored: undefined, hash, matches: parsed.matches };
}
