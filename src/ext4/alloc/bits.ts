/** Runs of bits in a bitmap as ext4 stores one: bit `n` is bit `n % 8` of byte `n / 8`. */

/** Sets `count` bits from `from` on. */
export function setBits(bytes: Uint8Array, from: number, count: number): void {
  fillBits(bytes, from, count, 0xff);
}

/** Clears `count` bits from `from` on. */
export function clearBits(bytes: Uint8Array, from: number, count: number): void {
  fillBits(bytes, from, count, 0);
}

/** Whether all of the `count` bits from `from` on are set. */
export function areSet(bytes: Uint8Array, from: number, count: number): boolean {
  const first = from >> 3;
  const last = (from + count - 1) >> 3;
  for (let at = first; at <= last; at++) {
    const mask = maskOf(at, from, from + count);
    if (((bytes[at] as number) & mask) !== mask) return false;
  }
  return true;
}

function fillBits(bytes: Uint8Array, from: number, count: number, value: number): void {
  if (count === 0) return;
  const end = from + count;
  const first = from >> 3;
  const last = (end - 1) >> 3;
  mixByte(bytes, first, maskOf(first, from, end), value);
  if (last === first) return;
  mixByte(bytes, last, maskOf(last, from, end), value);
  bytes.fill(value, first + 1, last);
}

function mixByte(bytes: Uint8Array, at: number, mask: number, value: number): void {
  bytes[at] = ((bytes[at] as number) & ~mask) | (value & mask);
}

/** The bits of byte `at` that lie from bit `from` up to, not including, bit `end`. */
function maskOf(at: number, from: number, end: number): number {
  const low = Math.max(0, from - at * 8);
  const high = Math.min(8, end - at * 8);
  return (0xff << low) & (0xff >> (8 - high));
}
