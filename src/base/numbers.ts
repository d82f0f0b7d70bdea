/**
 * Numbers that must not be mixed up: each is a plain number at run time and a type of its own to
 * the compiler. An *index* starts at 0, a *number* is the on-disk one, a *count* counts.
 */

declare const unit: unique symbol;
type Branded<Name extends string> = number & { readonly [unit]: Name };

/** A block of the filesystem, counted from the start of the device in units of the block size. */
export type FsBlock = Branded<"FsBlock">;

/** A block of one file, counted from the start of that file in units of the block size. */
export type FileBlock = Branded<"FileBlock">;

/** The on-disk number of an inode: 1 is the first, 2 the root directory; 0 is never an inode. */
export type InodeNumber = Branded<"InodeNumber">;

/** A block group, counted from 0. */
export type GroupIndex = Branded<"GroupIndex">;

/** `hi * 2^32 + lo`. Above 2^53 the result is rounded: compare it with a bound before use. */
export function join32(hi: number, lo: number): number {
  return hi * 0x1_0000_0000 + lo;
}
