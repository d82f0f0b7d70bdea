/** The cache under blocks and inodes: against any sequence of calls, and its second chance. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { ClockRing } from "../../../../src/ext4/cache/clock-ring.ts";

test("ClockRing never gives a wrong value, nor holds more than its capacity", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 6 }),
      fc.array(fc.nat({ max: 12 }), { maxLength: 200 }),
      (capacity, numbers) => {
        const ring = new ClockRing<string>(capacity);
        for (const number of numbers) {
          const found = ring.get(number);
          if (found === undefined) ring.add(number, `value ${number}`);
          else expect(found).toBe(`value ${number}`);
          expect(ring.get(number), "what was just added").toBe(`value ${number}`);
        }
        const held = Array.from({ length: 13 }, (_, number) => ring.get(number));
        expect(held.filter((value) => value !== undefined).length).toBeLessThanOrEqual(capacity);
      },
    ),
  );
});

test("ClockRing lets go of what was not asked for again before what was", () => {
  const ring = new ClockRing<number>(3);
  for (const number of [1, 2, 3]) ring.add(number, number);
  ring.get(1);
  ring.add(4, 4);
  expect([1, 2, 3, 4].map((number) => ring.get(number))).toEqual([1, undefined, 3, 4]);
});
