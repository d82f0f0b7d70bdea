/** What the two orders of listing a directory share: who receives the entries, and their names. */
import type { InodeNumber } from "../../base/numbers.ts";
import {
  DIRENT_HEAD_SIZE,
  type Dirents,
  direntNameLength,
  isDotOrDotDot,
} from "../format/dirent.ts";
import { NO_KEY_CIPHERTEXT_MIN, noKeyName } from "../format/nokey-name.ts";
import type { Directory } from "./contents.ts";

/**
 * Takes one entry of a directory.
 *
 * @param name only valid during the call.
 * @param type a DT_* number, 0 when unknown.
 * @param nextHi, nextLo the two halves of the position from which to go on after this entry.
 * @returns false when there is no room for it: it will be asked for again.
 */
export type DirectorySink = (
  name: Uint8Array,
  inode: InodeNumber,
  type: number,
  nextHi: number,
  nextLo: number,
) => boolean;

const DOT = Uint8Array.of(0x2e);
const DOT_DOT = Uint8Array.of(0x2e, 0x2e);
const DT_DIR = 4;
/** The positions after "." and after "..", where these two are not listed as they are stored. */
const AFTER_DOT = 1;
const AFTER_DOT_DOT = 2;

/**
 * Gives "." and "..", the first two entries, to `sink`, unless the position `from` is behind them.
 *
 * @returns false when it wants no more.
 */
export function listDots(directory: Directory, from: number, sink: DirectorySink): boolean {
  const type = directory.format.hasFileType ? DT_DIR : 0;
  if (from < AFTER_DOT && !sink(DOT, directory.number, type, 0, AFTER_DOT)) return false;
  if (from >= AFTER_DOT_DOT) return true;
  const parent = directory.parent();
  return parent === 0 || sink(DOT_DOT, parent, type, 0, AFTER_DOT_DOT);
}

/** The bytes of the name of the entry at `at`. */
export function storedName({ bytes, view }: Dirents, at: number): Uint8Array {
  const name = at + DIRENT_HEAD_SIZE;
  return bytes.subarray(name, name + direntNameLength(view, at));
}

/**
 * A stored name as it is shown: an encrypted one the way the kernel shows it without the key.
 *
 * @param major, minor the hash that goes into such a name, from which lookups find their way.
 */
export function shownName(
  directory: Directory,
  stored: Uint8Array,
  major: number,
  minor: number,
): Uint8Array {
  if (!directory.format.isEncrypted || isDotOrDotDot(stored, 0, stored.length)) return stored;
  if (stored.length < NO_KEY_CIPHERTEXT_MIN) {
    throw directory.corruption("dirent-name", `${stored.length} bytes of ciphertext`);
  }
  return noKeyName(stored, major, minor);
}
