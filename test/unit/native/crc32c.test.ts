/** The native crc32c against published values and against its definition. */
import { describe, expect, test } from "vitest";
import { loadAddon } from "../../../src/native/binding.ts";

const { crc32c } = loadAddon();

const inverted = (bytes: Uint8Array): number => ~crc32c(0xffffffff, bytes) >>> 0;

/** The definition, bit by bit: reflected polynomial, nothing inverted. */
function bitByBit(seed: number, bytes: Uint8Array): number {
  let crc = seed;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return crc >>> 0;
}

describe("crc32c()", () => {
  test.each([
    ["the digits", new TextEncoder().encode("123456789"), 0xe3069283],
    ["32 zeros", new Uint8Array(32), 0x8a9136aa],
    ["32 ones", new Uint8Array(32).fill(0xff), 0x62a8ab43],
    ["32 ascending bytes", Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
    ["32 descending bytes", Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
  ])("gives the check value of %s, RFC 3720 B.4, when inverted at both ends", (_, bytes, value) => {
    expect(inverted(bytes)).toBe(value);
  });

  test("inverts nothing itself", () => {
    expect(crc32c(0, new Uint8Array(100))).toBe(0);
    expect(crc32c(0x12345678, new Uint8Array(0))).toBe(0x12345678);
  });

  test("equals the definition at every length and alignment", () => {
    const bytes = Uint8Array.from({ length: 64 }, (_, i) => i * 37 + 11);
    for (let from = 0; from < 9; from++) {
      for (let to = from; to <= 40; to++) {
        const part = bytes.subarray(from, to);
        expect(crc32c(0xdeadbeef, part)).toBe(bitByBit(0xdeadbeef, part));
      }
    }
  });

  test("continues where it stopped", () => {
    const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i * 7);
    const half = crc32c(0xffffffff, bytes.subarray(0, 333));
    expect(crc32c(half, bytes.subarray(333))).toBe(crc32c(0xffffffff, bytes));
  });
});
