/**
 * What the filesystem may throw. A miss (no such entry, no such xattr) is a value and never comes
 * here; an error of any other class is a bug of ours.
 */
import { Errno } from "../base/errno.ts";

/** Where on the image something was found: whatever is known. */
export interface Place {
  readonly inode?: number;
  /** A block of the filesystem. */
  readonly block?: number;
  readonly group?: number;
  /** A byte offset within the innermost thing named. */
  readonly offset?: number;
}

/** A refusal that the caller can act on, or a failure of the device. */
export class FsError extends Error {
  override readonly name: string = "FsError";
  readonly errno: Errno;

  constructor(errno: Errno, message: string, options?: ErrorOptions) {
    super(message, options);
    this.errno = errno;
  }
}

/** The name of one check that an image can fail. */
export type CorruptionRule = (typeof CORRUPTION_RULES)[number];

/** Every check by name. Tests ask for each of them. */
// biome-ignore format: a table
export const CORRUPTION_RULES = [
  "superblock-magic", "superblock-checksum", "superblock-geometry", "superblock-size",
  "descriptor-checksum", "descriptor-location",
  "inode-number", "inode-checksum", "inode-size", "inode-mode",
  "extent-magic", "extent-depth", "extent-count", "extent-order", "extent-range", "extent-checksum",
  "block-range",
  "inline-data", "symlink-length",
  "dirent-length", "dirent-name", "dirent-inode", "dirent-checksum",
  "htree-root", "htree-count", "htree-order", "htree-depth", "htree-block", "htree-checksum",
  "xattr-magic", "xattr-entry", "xattr-value", "xattr-checksum", "xattr-inode", "xattr-references",
  "acl",
  "quota", "bitmap-checksum", "bitmap-count", "bitmap-system", "bitmap-free", "bitmap-used", "block-system",
  "mmp-magic", "mmp-checksum",
  "orphan-file", "orphan-magic", "orphan-checksum", "orphan-inode",
  "journal-superblock", "journal-checksum", "journal-sequence", "journal-block", "fast-commit",
] as const;

/** The image breaks a rule of its own format. `rule` names the check, so tests can ask for it. */
export class CorruptionError extends FsError {
  override readonly name = "CorruptionError";
  readonly rule: CorruptionRule;
  readonly place: Place;

  constructor(rule: CorruptionRule, place: Place, found: string) {
    super(Errno.EUCLEAN, `${rule} at ${describe(place)}: ${found}`);
    this.rule = rule;
    this.place = place;
  }
}

/** The image needs features that this software does not have. */
export class UnsupportedError extends FsError {
  override readonly name = "UnsupportedError";
  readonly features: readonly string[];

  constructor(features: readonly string[], message: string) {
    super(Errno.EOPNOTSUPP, message);
    this.features = features;
  }
}

/** Writing has been ended on purpose, not by a failure of this filesystem: nothing to record on it. */
export class DeliberateStop extends FsError {
  override readonly name = "DeliberateStop";
}

function describe(place: Place): string {
  const parts = Object.entries(place).map(([what, where]) => `${what} ${where}`);
  return parts.length === 0 ? "unknown place" : parts.join(", ");
}
