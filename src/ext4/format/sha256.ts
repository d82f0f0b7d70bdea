/**
 * SHA-256, which stands for the end of long names in encrypted directories. Inputs are short and
 * rare here, so this is written for reading.
 *
 * @see FIPS 180-4, sections 5.1.1, 5.3.3 and 6.2.2
 */

const BLOCK_SIZE = 64;
const WORDS = 16;
const ROUNDS = 64;

/** The first 32 bits of the fractions of the roots (2: square, 3: cube) of the first primes. */
function rootFractions(count: number, root: number): Uint32Array {
  const fractions = new Uint32Array(count);
  let found = 0;
  for (let candidate = 2; found < count; candidate++) {
    if (!isPrime(candidate)) continue;
    fractions[found++] = fractionOfRoot(candidate, root);
  }
  return fractions;
}

function isPrime(candidate: number): boolean {
  for (let divisor = 2; divisor * divisor <= candidate; divisor++) {
    if (candidate % divisor === 0) return false;
  }
  return true;
}

/** Exact: floor(2^32 × root of `value`), by bisection over whole numbers. */
function fractionOfRoot(value: number, root: number): number {
  const power = BigInt(root);
  const target = BigInt(value) << (32n * power);
  let low = 0n;
  let high = BigInt(value) << 32n;
  while (low < high) {
    const middle = (low + high + 1n) >> 1n;
    if (middle ** power <= target) low = middle;
    else high = middle - 1n;
  }
  return Number(low & 0xffffffffn);
}

const INITIAL = rootFractions(8, 2);
const CONSTANTS = rootFractions(ROUNDS, 3);

const rotate = (value: number, by: number): number => (value >>> by) | (value << (32 - by));

/** The 32 bytes of the digest of `message`. */
export function sha256(message: Uint8Array): Uint8Array {
  const padded = new Uint8Array(Math.ceil((message.length + 9) / BLOCK_SIZE) * BLOCK_SIZE);
  padded.set(message);
  padded[message.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(message.length / 0x2000_0000));
  view.setUint32(padded.length - 4, (message.length * 8) >>> 0);

  const state = INITIAL.slice();
  for (let at = 0; at < padded.length; at += BLOCK_SIZE) compress(state, view, at);

  const digest = new Uint8Array(4 * state.length);
  const out = new DataView(digest.buffer);
  state.forEach((word, index) => {
    out.setUint32(4 * index, word);
  });
  return digest;
}

function compress(state: Uint32Array, view: DataView, at: number): void {
  const w = new Uint32Array(ROUNDS);
  const word = (index: number): number => w[index] as number;
  for (let t = 0; t < WORDS; t++) w[t] = view.getUint32(at + 4 * t);
  for (let t = WORDS; t < ROUNDS; t++) {
    const near = word(t - 15);
    const far = word(t - 2);
    const sigma0 = rotate(near, 7) ^ rotate(near, 18) ^ (near >>> 3);
    const sigma1 = rotate(far, 17) ^ rotate(far, 19) ^ (far >>> 10);
    w[t] = word(t - 16) + sigma0 + word(t - 7) + sigma1;
  }
  let [a, b, c, d, e, f, g, h] = state as unknown as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  for (let t = 0; t < ROUNDS; t++) {
    const sum1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
    const chosen = (e & f) ^ (~e & g);
    const first = (h + sum1 + chosen + (CONSTANTS[t] as number) + word(t)) | 0;
    const sum0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
    const majority = (a & b) ^ (a & c) ^ (b & c);
    h = g;
    g = f;
    f = e;
    e = (d + first) | 0;
    d = c;
    c = b;
    b = a;
    a = (first + sum0 + majority) | 0;
  }
  [a, b, c, d, e, f, g, h].forEach((value, index) => {
    state[index] = (state[index] as number) + value;
  });
}
