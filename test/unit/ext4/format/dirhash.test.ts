/**
 * Directory hashes against vectors of e2fsprogs 1.47.0, made by
 * `debugfs -R 'dx_hash -h ALGORITHM [-s SEED] "NAME"'`, where the algorithm is legacy, half_md4 or
 * tea, and 3, 4 or 5 for the same ones over unsigned characters.
 */
import { expect, test } from "vitest";
import { DirHash, HashVersion, isComputable } from "../../../../src/ext4/format/dirhash.ts";

const { LEGACY, HALF_MD4, TEA } = HashVersion;
const ZERO = [0, 0, 0, 0];
/** 00112233-4455-6677-8899-aabbccddeeff */
const SEED = [0x33221100, 0x77665544, 0xbbaa9988, 0xffeeddcc];
const LONG = "a name of more than thirty-two bytes, twice the sixteen of TEA";
const FOREIGN = "été-über-日本";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

// biome-ignore format: a table
test.each([
  [LEGACY, false, ZERO, "a", 0xe74b53e2, 0],
  [LEGACY, false, ZERO, "lost+found", 0x5e2aba24, 0],
  [LEGACY, false, ZERO, "sixteen bytes ok", 0x972fc1a4, 0],
  [LEGACY, false, SEED, LONG, 0xf60c33f4, 0],
  [LEGACY, false, SEED, FOREIGN, 0xdf2fdc16, 0],
  [LEGACY, true, ZERO, "lost+found", 0x5e2aba24, 0],
  [LEGACY, true, ZERO, FOREIGN, 0xce5375e8, 0],
  [HALF_MD4, false, ZERO, "a", 0xd5fa7d7a, 0xacb48187],
  [HALF_MD4, false, ZERO, "lost+found", 0x591de422, 0x6ffc56e0],
  [HALF_MD4, false, ZERO, "sixteen bytes ok", 0x7dd1970c, 0x3c90563e],
  [HALF_MD4, false, ZERO, LONG, 0x2554324c, 0x40c915b2],
  [HALF_MD4, false, ZERO, FOREIGN, 0xd920515a, 0xf51eb36b],
  [HALF_MD4, false, SEED, "a", 0x93752ee6, 0x578c30ba],
  [HALF_MD4, false, SEED, "lost+found", 0x1efb822c, 0x2a3bb222],
  [HALF_MD4, false, SEED, LONG, 0xcec46dd8, 0xef548673],
  [HALF_MD4, false, SEED, FOREIGN, 0xf79393de, 0x07fa1da0],
  [HALF_MD4, true, ZERO, FOREIGN, 0x3fc34638, 0x7326a910],
  [HALF_MD4, true, SEED, LONG, 0xcec46dd8, 0xef548673],
  [HALF_MD4, true, SEED, FOREIGN, 0xe89bdcf4, 0x52cb16df],
  [TEA, false, ZERO, "a", 0x6d0ea4c0, 0xc18922df],
  [TEA, false, ZERO, "lost+found", 0x2dbf9e80, 0xbfebee4f],
  [TEA, false, ZERO, LONG, 0xe56bf1c8, 0x7648fcfa],
  [TEA, false, SEED, "sixteen bytes ok", 0x8fd0dd06, 0xd201808a],
  [TEA, false, SEED, FOREIGN, 0x82a26b6c, 0xfdfdb672],
  [TEA, true, ZERO, FOREIGN, 0xade5d892, 0x455b1d5b],
  [TEA, true, SEED, FOREIGN, 0x39289c42, 0xd0b6b12c],
])("DirHash of version %i, unsigned %s, seed %j, hashes %j as e2fsprogs does", (
  version, unsigned, seed, name, major, minor,
) => {
  const hash = new DirHash(version, unsigned, seed);
  const bytes = bytesOf(`before ${name} after`);
  const length = bytesOf(name).length;
  hash.hash(bytes, 7, length);
  expect([hash.major, hash.minor]).toEqual([major, minor]);
  hash.hash(bytes, 7, length);
  expect([hash.major, hash.minor], "a second time").toEqual([major, minor]);
});

/** e2fsprogs, which does not keep off it, hashes this name to 0xfffffffe; we follow the kernel. */
const END_NAME = "57f67162X4";

test("DirHash keeps off the hash that is the end of a directory", () => {
  const hash = new DirHash(LEGACY, false, ZERO);
  const name = bytesOf(END_NAME);
  hash.hash(name, 0, name.length);
  expect(hash.major).toBe(0xfffffffc);
});

test("isComputable knows the hashes that need no key", () => {
  expect([0, 1, 2, 3, 4, 5, 6, 7].map(isComputable)).toEqual([
    true,
    true,
    true,
    false,
    false,
    false,
    false,
    false,
  ]);
});
