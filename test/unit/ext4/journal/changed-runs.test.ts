/** Runs of file blocks that override each other, against a plain array of blocks. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  type ChangedRun,
  firstEndingAfter,
  resolveRuns,
} from "../../../../src/ext4/journal/changed-runs.ts";

const END = 60;
const run = fc
  .record({
    start: fc.nat(END - 1),
    length: fc.integer({ min: 1, max: 20 }),
    fsBlock: fc.integer({ min: -1, max: 1000 }).map((block) => (block < 0 ? -1 : block)),
    unwritten: fc.boolean(),
  })
  .map(({ start, length, fsBlock, unwritten }) => ({
    start,
    end: Math.min(END, start + length),
    fsBlock,
    unwritten,
  }));

/** Where each file block lies: the last run that has it says so. */
function painted(runs: readonly ChangedRun[]): string[] {
  const blocks = new Array<string>(END).fill("as it was");
  for (const { start, end, fsBlock, unwritten } of runs) {
    for (let at = start; at < end; at++) {
      blocks[at] = `${fsBlock < 0 ? "hole" : fsBlock + at - start} ${unwritten}`;
    }
  }
  return blocks;
}

test("resolveRuns() says of every block what the last run that has it said", () => {
  fc.assert(
    fc.property(fc.array(run, { maxLength: 30 }), (runs) => {
      const resolved = resolveRuns(runs);
      expect(painted(resolved)).toEqual(painted(runs));
      expect(resolved.length).toBeLessThanOrEqual(Math.max(0, 2 * runs.length - 1));
      resolved.forEach((each, index) => {
        expect(each.end).toBeGreaterThan(each.start);
        const before = resolved[index - 1];
        if (before !== undefined) expect(each.start).toBeGreaterThanOrEqual(before.end);
      });
    }),
  );
});

test("firstEndingAfter() finds the run that has a block, or the next one", () => {
  const runs = [
    { start: 2, end: 4, fsBlock: 9, unwritten: false },
    { start: 6, end: 7, fsBlock: 9, unwritten: false },
  ];
  const found = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((block) => firstEndingAfter(runs, block));
  expect(found).toEqual([0, 0, 0, 0, 1, 1, 1, 2, 2]);
});
