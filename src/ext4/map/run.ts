/**
 * A run: file blocks that lie one after another on the device, or are missing one after another.
 * It is what both kinds of block maps answer, before it becomes bytes in an iomap.
 */

export interface Run {
  /** The block of the device under the first block asked for, or `HOLE`. */
  fsBlock: number;
  /** Blocks from the one asked for on; at least 1. */
  count: number;
  /** Allocated, but never written: reads as zeros. */
  unwritten: boolean;
}

export const HOLE = -1;

export function newRun(): Run {
  return { fsBlock: HOLE, count: 0, unwritten: false };
}
