/** The map of one group's free clusters, against a list of booleans. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { areSet, clearBits, setBits } from "../../../../src/ext4/alloc/bits.ts";
import { BusyMap } from "../../../../src/ext4/alloc/busy-map.ts";

const LENGTH = 203;

/** Ranges to be made busy and free by turns. */
const ranges = fc.array(
  fc
    .tuple(fc.nat({ max: LENGTH - 1 }), fc.integer({ min: 1, max: 90 }))
    .map(([from, count]) => ({ from, count: Math.min(count, LENGTH - from) })),
  { maxLength: 12 },
);

interface Pair {
  readonly map: BusyMap;
  readonly model: boolean[];
  readonly bytes: Uint8Array;
}

function made(changes: readonly { from: number; count: number }[]): Pair {
  const bytes = new Uint8Array(Math.ceil(LENGTH / 8));
  const map = new BusyMap(bytes, LENGTH);
  const model = Array.from({ length: LENGTH }, () => false);
  changes.forEach(({ from, count }, index) => {
    const busy = index % 3 < 2;
    if (busy) map.setBusy(from, count);
    else map.setFree(from, count);
    if (busy) setBits(bytes, from, count);
    else clearBits(bytes, from, count);
    model.fill(busy, from, from + count);
  });
  return { map, model, bytes };
}

const modelFreeFrom = (model: readonly boolean[], bit: number, max: number): number => {
  let count = 0;
  while (count < max && model[bit + count] === false) count++;
  return count;
};

describe("BusyMap", () => {
  test("counts and finds single bits as a list of booleans does", () => {
    fc.assert(
      fc.property(ranges, fc.nat({ max: LENGTH - 1 }), (changes, bit) => {
        const { map, model, bytes } = made(changes);
        expect(map.countFree()).toBe(model.filter((busy) => !busy).length);
        const first = model.indexOf(false, bit);
        expect(map.firstFree(bit)).toBe(first < 0 ? LENGTH : first);
        expect(map.freeFrom(bit, 70)).toBe(modelFreeFrom(model, bit, 70));
        const count = Math.min(40, LENGTH - bit);
        const areBusy = model.slice(bit, bit + count).every((busy) => busy);
        expect(map.areBusy(bit, count)).toBe(areBusy);
        expect(areSet(bytes, bit, count)).toBe(areBusy);
        expect(new BusyMap(bytes, LENGTH).countFree()).toBe(map.countFree());
      }),
    );
  });

  test("finds the first run that is long enough behind a bit, then before it", () => {
    fc.assert(
      fc.property(
        ranges,
        fc.nat({ max: LENGTH - 1 }),
        fc.integer({ min: 1, max: 120 }),
        (changes, from, wanted) => {
          const { map, model } = made(changes);
          const starts = [...model.keys()].filter(
            (bit) => modelFreeFrom(model, bit, wanted) === wanted,
          );
          const expected = starts.find((bit) => bit >= from) ?? starts[0];
          expect(map.findRun(from, wanted)).toBe(expected !== undefined);
          const longest = Math.max(...model.map((_, bit) => modelFreeFrom(model, bit, wanted)));
          expect(map.foundCount).toBe(longest);
          if (expected !== undefined) expect(map.foundAt).toBe(expected);
        },
      ),
    );
  });
});
