/**
 * The blocks that hold the filesystem's own structures: superblock copies, descriptors, bitmaps,
 * inode tables, the journal. No file may have one of them, whatever a bitmap or its map says.
 *
 * @see fs/ext4/block_validity.c
 */
import type { FileBlock, FsBlock, GroupIndex } from "../../base/numbers.ts";
import { CorruptionError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { findRun } from "../map/iomap.ts";
import { HOLE, newRun } from "../map/run.ts";
import { inodeTableBlocks, superblockAndDescriptors } from "./groups.ts";

export class SystemZone {
  /** Ascending, without overlap: where each range starts, and the block behind it. */
  #starts: number[] = [];
  #ends: number[] = [];

  /**
   * @throws CorruptionError `journal-block` when the journal lies where something else does, or has
   *   a block twice; what its map and the group descriptors throw.
   */
  constructor(fs: Filesystem) {
    const own = systemRanges(fs);
    const journal = journalRanges(fs);
    this.#take(own);
    for (const [start, end] of journal) {
      if (this.overlaps(start as FsBlock, end - start)) throw notTheJournals(fs, start);
    }
    this.#take([...own, ...journal]);
  }

  #take(ranges: Range[]): void {
    const starts: number[] = [];
    const ends: number[] = [];
    for (const [start, end] of ranges.sort((a, b) => a[0] - b[0])) {
      const last = ends.length - 1;
      const lastEnd = ends[last] ?? -1;
      if (start <= lastEnd) {
        ends[last] = Math.max(lastEnd, end);
      } else {
        starts.push(start);
        ends.push(end);
      }
    }
    this.#starts = starts;
    this.#ends = ends;
  }

  /** Whether any of the `count` blocks from `start` on is one of them. */
  overlaps(start: FsBlock, count: number): boolean {
    const index = this.#firstEndingAfter(start);
    return index < this.#starts.length && (this.#starts[index] as number) < start + count;
  }

  /** Calls `visit` with each part of a range that lies from `start` up to, not including, `end`. */
  visit(start: number, end: number, visit: (start: FsBlock, count: number) => void): void {
    for (let index = this.#firstEndingAfter(start); index < this.#starts.length; index++) {
      const from = Math.max(start, this.#starts[index] as number);
      const to = Math.min(end, this.#ends[index] as number);
      if (from >= end) return;
      visit(from as FsBlock, to - from);
    }
  }

  #firstEndingAfter(block: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] as number) <= block) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

type Range = readonly [start: number, end: number];

function systemRanges({ superblock, groups }: Filesystem): Range[] {
  const ranges: Range[] = [[0, superblock.firstDataBlock]];
  const tableBlocks = inodeTableBlocks(superblock);
  for (let index = 0; index < superblock.groupCount; index++) {
    const group = index as GroupIndex;
    const { blockBitmap, inodeBitmap, inodeTable } = groups.descriptor(group);
    const first = groups.firstBlock(group);
    ranges.push([first, first + superblockAndDescriptors(superblock, group)]);
    ranges.push([blockBitmap, blockBitmap + 1], [inodeBitmap, inodeBitmap + 1]);
    ranges.push([inodeTable, inodeTable + tableBlocks]);
  }
  return ranges.filter(([start, end]) => end > start);
}

function journalRanges(fs: Filesystem): Range[] {
  const { journalInode, blockSize, blockCount } = fs.superblock;
  if (journalInode === 0) return [];
  const ranges: Range[] = [];
  const inode = fs.internalInode(journalInode);
  const end = Math.min(Math.ceil(inode.sizeBytes / blockSize), blockCount);
  const run = newRun();
  for (let block = 0; block < end; block += run.count) {
    findRun(fs, inode, block as FileBlock, run);
    if (run.fsBlock !== HOLE) ranges.push([run.fsBlock, run.fsBlock + run.count]);
  }
  ranges.sort((a, b) => a[0] - b[0]);
  ranges.forEach(([start], index) => {
    if (index > 0 && start < (ranges[index - 1] as Range)[1]) throw notTheJournals(fs, start);
  });
  return ranges;
}

function notTheJournals({ superblock }: Filesystem, block: number): CorruptionError {
  const place = { inode: superblock.journalInode, block };
  return new CorruptionError("journal-block", place, "has another use as well");
}
