/** Runs of bits in a bitmap as ext4 stores one: bit `n` is bit `n % 8` of byte `n / 8`. */

/** Sets `count` bits from `from` on. */
export function setBits(bytes: Uint8Array, from: number, count: number): void {
  apply(bytes, from, count, (byte, mask) => byte | mask);
}

/** Clears `count` bits from `from` on. */
export function clearBits(bytes: Uint8Array, from: number, count: number): void {
  apply(bytes, from, count, (byte, mask) => byte & ~mask);
}

/** Whether all of the `count` bits from `from` on are set. */
export function areSet(bytes: Uint8Array, from: number, count: number): boolean {
  for (let bit = from; bit < from + count; ) {
    if ((bit & 7) === 0 && from + count - bit >= 8) {
      if (bytes[bit >> 3] !== 0xff) return false;
      bit += 8;
    } else {
      if (((bytes[bit >> 3] as number) & (1 << (bit & 7))) === 0) return false;
      bit++;
    }
  }
  return true;
}

function apply(
  bytes: Uint8Array,
  from: number,
  count: number,
  change: (byte: number, mask: number) => number,
): void {
  const end = from + count;
  for (let bit = from; bit < end; ) {
    const at = bit >> 3;
    const next = Math.min(end, (at + 1) << 3);
    const mask = (0xff << (bit & 7)) & (0xff >> (8 - (next - (at << 3))));
    bytes[at] = change(bytes[at] as number, mask);
    bit = next;
  }
}
