/**
 * The hashes by which directories are indexed: a name becomes a major hash (even: bit 0 marks
 * continuations in the index) and a minor hash that orders names of the same major hash.
 *
 * Which hash a directory uses is in its htree root; the superblock says whether the bytes of names
 * count as signed, and gives a seed.
 *
 * @see fs/ext4/hash.c
 */

/** @see ext4/directory.rst, "dx_root.info.hash_version" */
export const HashVersion = { LEGACY: 0, HALF_MD4: 1, TEA: 2, SIPHASH: 6 } as const;

/** Hashes that can be computed from the name alone. SipHash needs the directory's key. */
export function isComputable(version: number): boolean {
  return (
    version === HashVersion.LEGACY ||
    version === HashVersion.HALF_MD4 ||
    version === HashVersion.TEA
  );
}

/** What a seed of zeros stands for. */
const SEED_DEFAULT = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476] as const;
/** A directory position of its own: the end. The hash that would be it gives way. */
const HASH_EOF = 0xfffffffe;
const HASH_LAST = 0xfffffffc;

const HALF_MD4_WORDS = 8;
const TEA_WORDS = 4;
const TEA_ROUNDS = 16;
const TEA_DELTA = 0x9e3779b9;
/** The constants of MD4's second and third round. */
const MD4_K2 = 0x5a827999;
const MD4_K3 = 0x6ed9eba1;
const LEGACY_0 = 0x12a3fe2d;
const LEGACY_1 = 0x37abe8f9;
const LEGACY_FACTOR = 7152373;

const words = new Int32Array(HALF_MD4_WORDS);

/** One hash function. `hash` leaves its result in `major` and `minor`, so that it allocates nothing. */
export class DirHash {
  major = 0;
  minor = 0;
  readonly #version: number;
  readonly #unsigned: boolean;
  readonly #seed: readonly number[];
  readonly #state = new Int32Array(4);

  /** @param version one for which `isComputable` answers true. */
  constructor(version: number, unsigned: boolean, seed: readonly number[]) {
    this.#version = version;
    this.#unsigned = unsigned;
    this.#seed = seed.some((word) => word !== 0) ? seed : SEED_DEFAULT;
  }

  /** Hashes the `length` bytes at `from`. */
  hash(bytes: Uint8Array, from: number, length: number): void {
    let major: number;
    if (this.#version === HashVersion.LEGACY) {
      major = legacy(bytes, from, length, this.#unsigned);
      this.minor = 0;
    } else {
      const isTea = this.#version === HashVersion.TEA;
      const state = this.#state;
      for (let index = 0; index < 4; index++) state[index] = this.#seed[index] as number;
      const count = isTea ? TEA_WORDS : HALF_MD4_WORDS;
      for (let done = 0; done < length; done += 4 * count) {
        fillWords(bytes, from + done, length - done, count, this.#unsigned);
        if (isTea) tea(state);
        else halfMd4(state);
      }
      major = state[isTea ? 0 : 1] as number;
      this.minor = (state[isTea ? 1 : 2] as number) >>> 0;
    }
    const even = (major & ~1) >>> 0;
    this.major = even === HASH_EOF ? HASH_LAST : even;
  }
}

function legacy(bytes: Uint8Array, from: number, length: number, unsigned: boolean): number {
  let hash0 = LEGACY_0;
  let hash1 = LEGACY_1;
  for (let at = from; at < from + length; at++) {
    const byte = bytes[at] as number;
    const value = unsigned ? byte : (byte << 24) >> 24;
    let hash = (hash1 + (hash0 ^ Math.imul(value, LEGACY_FACTOR))) | 0;
    if (hash < 0) hash = (hash - 0x7fffffff) | 0;
    hash1 = hash0;
    hash0 = hash;
  }
  return hash0 << 1;
}

/**
 * Packs the next part of a name into `count` words, big end first. What is left of them is filled
 * with the number of bytes that remained, repeated.
 */
function fillWords(
  bytes: Uint8Array,
  from: number,
  remaining: number,
  count: number,
  unsigned: boolean,
): void {
  const twice = remaining | (remaining << 8);
  const pad = twice | (twice << 16);
  const end = from + Math.min(remaining, 4 * count);
  let at = from;
  for (let index = 0; index < count; index++) {
    let word = pad;
    const wordEnd = Math.min(at + 4, end);
    for (; at < wordEnd; at++) {
      const byte = bytes[at] as number;
      word = ((unsigned ? byte : (byte << 24) >> 24) + (word << 8)) | 0;
    }
    words[index] = word;
  }
}

function tea(state: Int32Array): void {
  const [a, b, c, d] = words as unknown as readonly [number, number, number, number];
  let b0 = state[0] as number;
  let b1 = state[1] as number;
  let sum = 0;
  for (let round = 0; round < TEA_ROUNDS; round++) {
    sum = (sum + TEA_DELTA) | 0;
    b0 = (b0 + (((b1 << 4) + a) ^ (b1 + sum) ^ ((b1 >>> 5) + b))) | 0;
    b1 = (b1 + (((b0 << 4) + c) ^ (b0 + sum) ^ ((b0 >>> 5) + d))) | 0;
  }
  state[0] = (state[0] as number) + b0;
  state[1] = (state[1] as number) + b1;
}

const rotate = (value: number, by: number): number => (value << by) | (value >>> (32 - by));
const choose = (x: number, y: number, z: number): number => z ^ (x & (y ^ z));
const majority = (x: number, y: number, z: number): number => (x & y) + ((x ^ y) & z);
const parity = (x: number, y: number, z: number): number => x ^ y ^ z;

/** Half of MD4: its three rounds, of eight steps instead of sixteen. @see RFC 1320, section 3.4 */
function halfMd4(state: Int32Array): void {
  const w0 = words[0] as number;
  const w1 = words[1] as number;
  const w2 = words[2] as number;
  const w3 = words[3] as number;
  const w4 = words[4] as number;
  const w5 = words[5] as number;
  const w6 = words[6] as number;
  const w7 = words[7] as number;
  let a = state[0] as number;
  let b = state[1] as number;
  let c = state[2] as number;
  let d = state[3] as number;

  a = rotate((a + choose(b, c, d) + w0) | 0, 3);
  d = rotate((d + choose(a, b, c) + w1) | 0, 7);
  c = rotate((c + choose(d, a, b) + w2) | 0, 11);
  b = rotate((b + choose(c, d, a) + w3) | 0, 19);
  a = rotate((a + choose(b, c, d) + w4) | 0, 3);
  d = rotate((d + choose(a, b, c) + w5) | 0, 7);
  c = rotate((c + choose(d, a, b) + w6) | 0, 11);
  b = rotate((b + choose(c, d, a) + w7) | 0, 19);

  a = rotate((a + majority(b, c, d) + w1 + MD4_K2) | 0, 3);
  d = rotate((d + majority(a, b, c) + w3 + MD4_K2) | 0, 5);
  c = rotate((c + majority(d, a, b) + w5 + MD4_K2) | 0, 9);
  b = rotate((b + majority(c, d, a) + w7 + MD4_K2) | 0, 13);
  a = rotate((a + majority(b, c, d) + w0 + MD4_K2) | 0, 3);
  d = rotate((d + majority(a, b, c) + w2 + MD4_K2) | 0, 5);
  c = rotate((c + majority(d, a, b) + w4 + MD4_K2) | 0, 9);
  b = rotate((b + majority(c, d, a) + w6 + MD4_K2) | 0, 13);

  a = rotate((a + parity(b, c, d) + w3 + MD4_K3) | 0, 3);
  d = rotate((d + parity(a, b, c) + w7 + MD4_K3) | 0, 9);
  c = rotate((c + parity(d, a, b) + w2 + MD4_K3) | 0, 11);
  b = rotate((b + parity(c, d, a) + w6 + MD4_K3) | 0, 15);
  a = rotate((a + parity(b, c, d) + w1 + MD4_K3) | 0, 3);
  d = rotate((d + parity(a, b, c) + w5 + MD4_K3) | 0, 9);
  c = rotate((c + parity(d, a, b) + w0 + MD4_K3) | 0, 11);
  b = rotate((b + parity(c, d, a) + w4 + MD4_K3) | 0, 15);

  state[0] = (state[0] as number) + a;
  state[1] = (state[1] as number) + b;
  state[2] = (state[2] as number) + c;
  state[3] = (state[3] as number) + d;
}
