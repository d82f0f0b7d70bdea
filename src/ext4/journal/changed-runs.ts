/**
 * File blocks that fast commits moved, added or took away, one file's: a sorted list of runs that
 * do not overlap, and override the file's own map where they are.
 */
export interface ChangedRun {
  readonly start: number;
  /** The file block behind the last one. */
  readonly end: number;
  /** Where `start` lies on the device, or `HOLE`. */
  readonly fsBlock: number;
  readonly unwritten: boolean;
}

/**
 * What is left of `runs` when each one replaces the parts of those before it that it covers.
 *
 * Halves are resolved and laid over each other, so that a long log of overlapping runs costs
 * n log n, as no list of runs grows longer than twice what went into it.
 */
export function resolveRuns(runs: readonly ChangedRun[]): ChangedRun[] {
  if (runs.length < 2) return [...runs];
  const middle = runs.length >>> 1;
  return layOver(resolveRuns(runs.slice(0, middle)), resolveRuns(runs.slice(middle)));
}

/** Both lists are sorted and free of overlap, and so is the answer. */
function layOver(older: readonly ChangedRun[], newer: readonly ChangedRun[]): ChangedRun[] {
  const result: ChangedRun[] = [];
  let index = 0;
  for (const run of older) {
    let { start } = run;
    while (index < newer.length && (newer[index] as ChangedRun).start < run.end) {
      const cover = newer[index] as ChangedRun;
      if (start < cover.start) result.push(part(run, start, cover.start));
      start = Math.max(start, cover.end);
      if (cover.end > run.end) break;
      result.push(cover);
      index++;
    }
    if (start < run.end) result.push(part(run, start, run.end));
  }
  result.push(...newer.slice(index));
  return result;
}

function part(run: ChangedRun, start: number, end: number): ChangedRun {
  const fsBlock = run.fsBlock < 0 ? run.fsBlock : run.fsBlock + start - run.start;
  return { start, end, fsBlock, unwritten: run.unwritten };
}

/** The index of the first of `runs` that ends behind `block`. */
export function firstEndingAfter(runs: readonly ChangedRun[], block: number): number {
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((runs[middle] as ChangedRun).end <= block) low = middle + 1;
    else high = middle;
  }
  return low;
}
