/** A device with newer blocks over it. */
import { expect, test } from "vitest";
import { type NewerBlocks, ReplayedDevice } from "../../../../src/ext4/journal/replayed-device.ts";

const SIZE = 8;
const COUNT = 12;

/** Byte n of the device is n; a newer block is all 200 + its number. */
function replayed(...numbers: number[]): { device: ReplayedDevice; reads: [number, number][] } {
  const reads: [number, number][] = [];
  const newer: NewerBlocks = {
    numbers: Float64Array.from(numbers),
    contents: (index) => new Uint8Array(SIZE).fill(200 + (numbers[index] as number)),
  };
  const below = {
    sizeBytes: SIZE * COUNT,
    read(offset: number, into: Uint8Array) {
      reads.push([offset, into.length]);
      into.forEach((_, index) => {
        into[index] = offset + index;
      });
    },
  };
  return { device: new ReplayedDevice(below, SIZE, newer), reads };
}

test("ReplayedDevice reads newer blocks from memory and all others from the device", () => {
  const numbers = [1, 2, 5, 11];
  const { device } = replayed(...numbers);
  const expected = Uint8Array.from({ length: SIZE * COUNT }, (_, at) => {
    const block = Math.floor(at / SIZE);
    return numbers.includes(block) ? 200 + block : at;
  });
  for (let from = 0; from < expected.length; from++) {
    for (let end = from + 1; end <= expected.length; end++) {
      const into = new Uint8Array(end - from);
      device.read(from, into);
      expect(into, `${from} to ${end}`).toEqual(expected.subarray(from, end));
    }
  }
});

test("ReplayedDevice does not read from the device what it has newer bytes of", () => {
  const { device, reads } = replayed(1, 2, 5);
  device.read(SIZE, new Uint8Array(2 * SIZE));
  expect(reads).toEqual([]);
  device.read(SIZE, new Uint8Array(6 * SIZE));
  expect(reads).toEqual([
    [3 * SIZE, 2 * SIZE],
    [6 * SIZE, SIZE],
  ]);
});

test("untilReplayed() counts the blocks before the first newer one", () => {
  const { device } = replayed(3, 7);
  expect(device.untilReplayed(0, 12)).toBe(3);
  expect(device.untilReplayed(0, 2)).toBe(2);
  expect(device.untilReplayed(3, 4)).toBe(0);
  expect(device.untilReplayed(4, 3)).toBe(3);
  expect(device.untilReplayed(4, 4)).toBe(3);
  expect(device.untilReplayed(8, 4)).toBe(4);
  expect(replayed().device.untilReplayed(0, 12)).toBe(12);
});
