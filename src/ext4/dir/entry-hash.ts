/**
 * The hashes of the entries of one directory, by which they are found and ordered: computed from
 * the name (folded where case does not matter), or read from the entry where only the key could
 * compute them.
 */
import { le32 } from "../../base/layout.ts";
import type { Filesystem } from "../filesystem.ts";
import { FOLDED_MAX, fold } from "../format/casefold.ts";
import {
  DIRENT_HEAD_SIZE,
  DirentHash,
  type Dirents,
  direntHashAt,
  direntNameLength,
} from "../format/dirent.ts";
import { DirHash, HashVersion, isComputable } from "../format/dirhash.ts";
import { hashVersion } from "../format/htree.ts";

const folded = new Uint8Array(FOLDED_MAX);

/** Leaves its results in `major` and `minor`, so that nothing is allocated for an entry. */
export class EntryHash {
  major = 0;
  minor = 0;
  /** What computes them, as the root of an index says it. */
  readonly version: number;
  readonly #isStored: boolean;
  readonly #isFolded: boolean;
  readonly #computed: DirHash;

  /**
   * @param root the root of the directory's index, which says what it is made of.
   * @param isStored entries carry their hash.
   */
  constructor(
    fs: Filesystem,
    root: { readonly view: DataView } | undefined,
    { isStored, isFolded }: { readonly isStored: boolean; readonly isFolded: boolean },
  ) {
    const { defaultHashVersion, hashUnsigned, hashSeed } = fs.superblock;
    this.#isStored = isStored;
    this.#isFolded = isFolded;
    const version = root === undefined ? defaultHashVersion : hashVersion(root.view);
    this.version = isComputable(version) ? version : HashVersion.HALF_MD4;
    this.#computed = new DirHash(this.version, hashUnsigned, hashSeed);
  }

  /** Hashes the entry at `at`, which is in use. */
  ofEntry({ bytes, view }: Dirents, at: number): void {
    if (this.#isStored) {
      const stored = direntHashAt(view, at);
      this.major = (le32(view, stored, DirentHash.hash) & ~1) >>> 0;
      this.minor = le32(view, stored, DirentHash.minorHash);
    } else {
      this.ofName(bytes, at + DIRENT_HEAD_SIZE, direntNameLength(view, at));
    }
  }

  /** Hashes a name as it would be stored; meaningless where entries carry their hash. */
  ofName(bytes: Uint8Array, from: number, length: number): void {
    const hash = this.#computed;
    const foldedLength = this.#isFolded ? fold(bytes, from, length, folded) : -1;
    if (foldedLength >= 0) hash.hash(folded, 0, foldedLength);
    else hash.hash(bytes, from, length);
    this.major = hash.major;
    this.minor = hash.minor;
  }
}
