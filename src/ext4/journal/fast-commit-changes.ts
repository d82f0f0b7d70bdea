/**
 * What fast commits changed after the last full commit, as logical changes: nothing was written, so
 * they are laid over what the filesystem's own structures say.
 *
 *     inodes         patched in the blocks of the inode table (`PatchedInodes`)
 *     file blocks    runs that override the extent tree (`findRun`)
 *     directories    names that are gone, and names that are new (`directory`)
 */
import type { FileBlock, InodeNumber } from "../../base/numbers.ts";
import type { DirectoryChanges } from "../dir/directory-changes.ts";
import type { Filesystem } from "../filesystem.ts";
import { InodeFlags } from "../format/inode.ts";
import { findMappedRun } from "../map/block-map.ts";
import { findExtentRun } from "../map/extent-tree.ts";
import type { Run } from "../map/run.ts";
import { type ChangedRun, firstEndingAfter } from "./changed-runs.ts";

export class FastCommitChanges {
  readonly #fs: Filesystem;
  readonly #runs: ReadonlyMap<InodeNumber, readonly ChangedRun[]>;
  readonly #directories: ReadonlyMap<InodeNumber, DirectoryChanges>;

  /**
   * @param fs the filesystem with all other changes in place.
   * @param runs by inode, in ascending order and without overlap.
   */
  constructor(
    fs: Filesystem,
    runs: ReadonlyMap<InodeNumber, readonly ChangedRun[]>,
    directories: ReadonlyMap<InodeNumber, DirectoryChanges>,
  ) {
    this.#fs = fs;
    this.#runs = runs;
    this.#directories = directories;
  }

  /** What changed in the directory `inode`, or undefined when nothing did. */
  directory(inode: InodeNumber): DirectoryChanges | undefined {
    return this.#directories.get(inode);
  }

  /**
   * Where `fileBlock` lies and how far that goes on, or undefined when the inode's own map is right
   * about it and about all that follows.
   */
  findRun(inode: InodeNumber, fileBlock: FileBlock, into: Run): Run | undefined {
    const runs = this.#runs.get(inode);
    if (runs === undefined) return undefined;
    const next = runs[firstEndingAfter(runs, fileBlock)];
    if (next === undefined) return undefined;
    if (next.start > fileBlock) {
      this.#findInMap(inode, fileBlock, into);
      into.count = Math.min(into.count, next.start - fileBlock);
      return into;
    }
    into.fsBlock = next.fsBlock < 0 ? next.fsBlock : next.fsBlock + fileBlock - next.start;
    into.count = next.end - fileBlock;
    into.unwritten = next.unwritten;
    return into;
  }

  #findInMap(number: InodeNumber, fileBlock: FileBlock, into: Run): Run {
    const inode = this.#fs.inode(number);
    return inode.hasFlag(InodeFlags.EXTENTS)
      ? findExtentRun(this.#fs, inode, fileBlock, into)
      : findMappedRun(this.#fs, inode, fileBlock, into);
  }
}
