/** The tree that skips full groups, against a search from group to group. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { MaxTree } from "../../../../src/ext4/alloc/max-tree.ts";

test("MaxTree finds the next number that is large enough, all the way round", () => {
  const numbers = fc.array(fc.nat({ max: 9 }), { minLength: 1, maxLength: 40 });
  const changes = fc.array(fc.tuple(fc.nat({ max: 39 }), fc.nat({ max: 9 })), { maxLength: 20 });
  fc.assert(
    fc.property(
      numbers,
      changes,
      fc.nat({ max: 40 }),
      fc.integer({ min: 1, max: 10 }),
      (before, edits, start, atLeast) => {
        const model = [...before];
        const tree = new MaxTree(model.length, (index) => model[index] as number);
        for (const [at, value] of edits) {
          const index = at % model.length;
          model[index] = value;
          tree.set(index, value);
          expect(tree.get(index)).toBe(value);
        }
        expect(tree.max).toBe(Math.max(...model));
        const from = Math.min(start, model.length);
        const isEnough = (value: number): boolean => value >= atLeast;
        const behind = model.slice(from).findIndex(isEnough);
        const expected = behind >= 0 ? from + behind : model.findIndex(isEnough);
        expect(tree.find(from, atLeast)).toBe(expected);
      },
    ),
  );
});
