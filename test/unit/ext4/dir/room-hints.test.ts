/** Hints about room, compared with blocks that are searched from the start each time. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { RoomHints } from "../../../../src/ext4/dir/room-hints.ts";

const BLOCK_COUNT = 6;
const anyLength = fc.integer({ min: 3, max: 66 }).map((units) => units * 4);
const anyStep = fc.oneof(
  anyLength.map((length) => ({ add: length })),
  fc.record({ block: fc.nat({ max: BLOCK_COUNT - 1 }), free: anyLength }),
);

test("a search that starts where the hints say finds the first block with room", () => {
  const steps = fc.array(anyStep, { maxLength: 60, size: "max" });
  fc.assert(
    fc.property(steps, (taken) => {
      const hints = new RoomHints();
      // The longest piece of free room in each block.
      const room = new Array<number>(BLOCK_COUNT).fill(300);
      for (const step of taken) {
        if ("free" in step) {
          room[step.block] = Math.max(room[step.block] as number, step.free);
          hints.noteFree(step.block, step.free);
          continue;
        }
        const first = room.findIndex((length) => length >= step.add);
        let block = hints.firstBlock(step.add);
        expect(block).toBeLessThanOrEqual(first < 0 ? BLOCK_COUNT : first);
        while (block < BLOCK_COUNT && (room[block] as number) < step.add) {
          block++;
          hints.noteFull(block, step.add);
        }
        expect(block).toBe(first < 0 ? BLOCK_COUNT : first);
        expect(hints.firstBlock(step.add)).toBe(block);
        if (first >= 0) room[first] = (room[first] as number) - step.add;
      }
    }),
  );
});

test("hints that were forgotten send a search to the start", () => {
  const hints = new RoomHints();
  hints.noteFull(3, 12);
  expect(hints.firstBlock(264)).toBe(3);
  hints.forget();
  expect(hints.firstBlock(264)).toBe(0);
});
