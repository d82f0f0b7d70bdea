/**
 * The checksums of ext4: crc32c seeded by the filesystem's UUID for everything under
 * metadata_csum, crc16 for group descriptors under the older gdt_csum.
 *
 * Each crc32c starts where another ended: the filesystem's seed is crc32c(~0, UUID), an inode's
 * continues it over the inode number and generation, and neither end is inverted.
 *
 * @see ext4/overview.rst, "Checksums"
 */

/** Continues the crc32c `seed` over `bytes`, without inverting at either end. */
export type Crc32c = (seed: number, bytes: Uint8Array) => number;

/** The polynomial of crc32c, bits reversed. */
const CASTAGNOLI = 0x82f63b78;
/** The polynomial of crc16 (x^16 + x^15 + x^2 + 1), bits reversed. @see lib/crc/crc16.c */
const CRC16_POLYNOMIAL = 0xa001;

function makeTable(polynomial: number): Uint32Array {
  const table = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ polynomial : crc >>> 1;
    table[byte] = crc;
  }
  return table;
}

/** Table `n` (256 entries each) holds the crc of a byte followed by `n` zero bytes. */
function makeSlices(count: number): Uint32Array {
  const slices = new Uint32Array(256 * count);
  const first = makeTable(CASTAGNOLI);
  slices.set(first);
  for (let at = 256; at < slices.length; at++) {
    const previous = slices[at - 256] as number;
    slices[at] = (previous >>> 8) ^ (first[previous & 0xff] as number);
  }
  return slices;
}

const SLICES = makeSlices(4);
const CRC16 = makeTable(CRC16_POLYNOMIAL);

/**
 * crc32c in TypeScript, four bytes at a time: for where no native one is passed in, and for pieces
 * so short that a native call costs more.
 */
export function crc32cScript(
  seed: number,
  bytes: Uint8Array,
  from = 0,
  end = bytes.length,
): number {
  const table = SLICES;
  const whole = end - ((end - from) & 3);
  let crc = seed;
  let at = from;
  for (; at < whole; at += 4) {
    crc ^=
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24);
    crc =
      (table[768 + (crc & 0xff)] as number) ^
      (table[512 + ((crc >>> 8) & 0xff)] as number) ^
      (table[256 + ((crc >>> 16) & 0xff)] as number) ^
      (table[crc >>> 24] as number);
  }
  for (; at < end; at++) {
    crc = (crc >>> 8) ^ (table[(crc ^ (bytes[at] as number)) & 0xff] as number);
  }
  return crc >>> 0;
}

/** Continues the crc16 `seed` over `bytes`. */
export function crc16(seed: number, bytes: Uint8Array): number {
  let crc = seed;
  for (const byte of bytes) crc = (crc >>> 8) ^ (CRC16[(crc ^ byte) & 0xff] as number);
  return crc & 0xffff;
}

const word = new Uint8Array(8);
const wordView = new DataView(word.buffer);
const ZEROS = new Uint8Array(4);
/** Below this many bytes the call of a native crc32c costs more than it saves. */
const SHORT_BYTES = 512;

/** The checksums of one filesystem: its seed, and whether they are on at all. */
export class Checksums {
  /** True with metadata_csum: every structure below carries a crc32c. */
  readonly enabled: boolean;
  /** What every checksum of this filesystem starts from. */
  readonly seed: number;
  readonly #crc32c: Crc32c;

  constructor(enabled: boolean, seed: number, crc32c: Crc32c) {
    this.enabled = enabled;
    this.seed = seed;
    this.#crc32c = crc32c;
  }

  /** Continues `seed` over the bytes of `bytes` from `from` up to, not including, `end`. */
  over(seed: number, bytes: Uint8Array, from = 0, end = bytes.length): number {
    if (end - from < SHORT_BYTES) return crc32cScript(seed, bytes, from, end);
    return this.#crc32c(seed, bytes.subarray(from, end));
  }

  /** Continues `seed` over the `count` (up to 4) zero bytes that stand in for the stored checksum. */
  overZeros(seed: number, count: number): number {
    return crc32cScript(seed, ZEROS, 0, count);
  }

  overLe32(seed: number, value: number): number {
    wordView.setUint32(0, value, true);
    return crc32cScript(seed, word, 0, 4);
  }

  /** Continues `seed` over a block number, as an xattr block's checksum begins. */
  overLe64(seed: number, value: number): number {
    wordView.setUint32(0, value % 0x1_0000_0000, true);
    wordView.setUint32(4, Math.floor(value / 0x1_0000_0000), true);
    return crc32cScript(seed, word);
  }

  /** What the checksums of inode `number` and of its extent and directory blocks start from. */
  inodeSeed(number: number, generation: number): number {
    wordView.setUint32(0, number, true);
    wordView.setUint32(4, generation, true);
    return crc32cScript(this.seed, word);
  }
}
