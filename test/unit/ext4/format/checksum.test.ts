/** crc32c and crc16 against published check values. */
import { expect, test } from "vitest";
import { Checksums, crc16, crc32cScript } from "../../../../src/ext4/format/checksum.ts";

const DIGITS = Uint8Array.from("123456789", (digit) => digit.charCodeAt(0));

test("crc32cScript has the catalogued check value when both ends are inverted", () => {
  expect(~crc32cScript(0xffffffff, DIGITS) >>> 0).toBe(0xe3069283);
});

test("crc32cScript agrees with RFC 3720 on 32 zero bytes and on 32 bytes of ones", () => {
  expect(~crc32cScript(0xffffffff, new Uint8Array(32)) >>> 0).toBe(0x8a9136aa);
  expect(~crc32cScript(0xffffffff, new Uint8Array(32).fill(0xff)) >>> 0).toBe(0x62a8ab43);
});

test("crc32cScript gives the same however the bytes are cut up", () => {
  const bytes = Uint8Array.from({ length: 1000 }, (_, index) => (index * 7) & 0xff);
  const whole = crc32cScript(5, bytes);
  for (const cut of [0, 1, 2, 3, 5, 500, 999, 1000]) {
    expect(crc32cScript(crc32cScript(5, bytes.subarray(0, cut)), bytes.subarray(cut))).toBe(whole);
  }
});

test("crc16 has the catalogued check value of CRC-16/ARC", () => {
  expect(crc16(0, DIGITS)).toBe(0xbb3d);
});

test("Checksums continues over numbers and zeros as over their bytes", () => {
  const checksums = new Checksums(true, 0x1234, crc32cScript);
  expect(checksums.overLe32(7, 0xfedcba98)).toBe(
    crc32cScript(7, Uint8Array.of(0x98, 0xba, 0xdc, 0xfe)),
  );
  expect(checksums.overLe64(7, 0x1_0000_0002)).toBe(
    crc32cScript(7, Uint8Array.of(2, 0, 0, 0, 1, 0, 0, 0)),
  );
  expect(checksums.overZeros(7, 2)).toBe(crc32cScript(7, new Uint8Array(2)));
  expect(checksums.overZeros(7, 4)).toBe(crc32cScript(7, new Uint8Array(4)));
});
