/** Every declared struct: fields that neither overlap nor overrun; and the readers and writers. */
import { describe, expect, test } from "vitest";
import {
  allLayouts,
  be16,
  be32,
  be64,
  bytesAt,
  FieldRangeError,
  layout,
  le16,
  le32,
  le64,
  setLe16,
  setLe32,
  setLe64,
  setU8,
  sizeOf,
  u8,
  widthOf,
} from "../../../src/base/layout.ts";
import "../../../src/ext4/index.ts";
import "../../../src/fuse/abi.ts";

// biome-ignore format: a table
const Sample = layout("sample", 32, {
  byte: [0x0, "u8"],  half: [0x2, "le16"],  word: [0x4, "le32"],  long: [0x8, "le64"],
  bigHalf: [0x10, "be16"],  bigWord: [0x14, "be32"],  bigLong: [0x18, "be64"],
});
const Raw = layout("raw", 8, { head: [0x0, 3], tail: [0x3, 5] });

describe("layout()", () => {
  test.each([...allLayouts()])("$name: fields neither overlap nor overrun", (struct) => {
    let end = 0;
    for (const field of [...struct.fields].sort((a, b) => a.at - b.at)) {
      expect(field.at, field.name).toBeGreaterThanOrEqual(end);
      end = field.at + field.width;
    }
    expect(end).toBeLessThanOrEqual(struct.size);
  });

  test("knows the size of a struct and the width of a field", () => {
    expect(sizeOf(Sample)).toBe(32);
    expect(widthOf(Sample, "long")).toBe(8);
    expect(widthOf(Raw, "tail")).toBe(5);
  });

  test("reads each kind in its own byte order", () => {
    const view = new DataView(Uint8Array.from({ length: 40 }, (_, index) => index % 32).buffer);
    expect(u8(view, 8, Sample.byte)).toBe(8);
    expect(le16(view, 0, Sample.half)).toBe(0x0302);
    expect(le32(view, 0, Sample.word)).toBe(0x07060504);
    expect(be16(view, 0, Sample.bigHalf)).toBe(0x1011);
    expect(be32(view, 0, Sample.bigWord)).toBe(0x14151617);
    expect([...bytesAt(view, 0, Raw.tail, 5)]).toEqual([3, 4, 5, 6, 7]);
  });

  test("writes what it reads back", () => {
    const view = new DataView(new ArrayBuffer(32));
    setU8(view, 0, Sample.byte, 0xab);
    setLe16(view, 0, Sample.half, 0xabcd);
    setLe32(view, 0, Sample.word, 0xfedcba98);
    setLe64(view, 0, Sample.long, Number.MAX_SAFE_INTEGER);
    expect(u8(view, 0, Sample.byte)).toBe(0xab);
    expect(le16(view, 0, Sample.half)).toBe(0xabcd);
    expect(le32(view, 0, Sample.word)).toBe(0xfedcba98);
    expect(le64(view, 0, Sample.long)).toBe(Number.MAX_SAFE_INTEGER);
  });

  test("refuses a 64-bit number above 2^53 - 1, in either byte order", () => {
    const view = new DataView(new ArrayBuffer(32));
    view.setBigUint64(Sample.long, 2n ** 53n, true);
    view.setBigUint64(Sample.bigLong, 2n ** 53n, false);
    expect(() => le64(view, 0, Sample.long)).toThrow(FieldRangeError);
    expect(() => be64(view, 0, Sample.bigLong)).toThrow(FieldRangeError);
  });
});
