/** A device in memory: what is inside is read, what is outside is refused. */
import { expect, test } from "vitest";
import { MemoryDevice } from "../../../src/device/memory-device.ts";

const bytes = Uint8Array.from({ length: 100 }, (_, i) => i);

test("MemoryDevice reads any part of its bytes, as they are at that time", () => {
  const device = new MemoryDevice(bytes.slice());
  const into = new Uint8Array(3);
  expect(device.sizeBytes).toBe(100);
  device.read(97, into);
  expect(into).toEqual(Uint8Array.of(97, 98, 99));

  const shared = new Uint8Array(10);
  const view = new MemoryDevice(shared);
  shared[4] = 7;
  view.read(3, into);
  expect(into).toEqual(Uint8Array.of(0, 7, 0));
});

test.each([
  [-1, 3],
  [98, 3],
  [101, 0],
  [Number.POSITIVE_INFINITY, 1],
])("MemoryDevice refuses to read at byte %d %d bytes", (offset, length) => {
  const device = new MemoryDevice(bytes);
  expect(() => device.read(offset, new Uint8Array(length))).toThrow(RangeError);
});

test("MemoryDevice keeps what is written, and zeroes a range", () => {
  const image = bytes.slice();
  const device = new MemoryDevice(image);
  device.write(10, Uint8Array.of(200, 201, 202));
  device.zero(12, 2);
  expect([...image.subarray(9, 15)]).toEqual([9, 200, 201, 0, 0, 14]);
  expect(() => device.write(98, new Uint8Array(3))).toThrow(RangeError);
});
