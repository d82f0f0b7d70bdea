/** Folding of names: the same as the kernel's and e2fsprogs' for Unicode 12.1. */
import { expect, test } from "vitest";
import { FOLDED_MAX, fold } from "../../../../src/ext4/format/casefold.ts";
import { DirHash, HashVersion } from "../../../../src/ext4/format/dirhash.ts";

const into = new Uint8Array(FOLDED_MAX);
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

function folded(name: Uint8Array): string | undefined {
  const length = fold(name, 0, name.length, into);
  return length < 0 ? undefined : new TextDecoder().decode(into.subarray(0, length));
}

const codePoints = (text: string | undefined): string[] =>
  Array.from(text ?? "invalid", (character) => (character.codePointAt(0) ?? 0).toString(16));

test.each([
  ["ASCII is lowered", "README-1.Md", "readme-1.md"],
  ["letters are decomposed", "É", "e\u0301"],
  ["a folding may be longer", "Straße", "strasse"],
  ["capital sharp s is two letters", "\u1e9e", "ss"],
  ["a ligature comes apart", "\ufb03", "ffi"],
  ["a folding is decomposed", "\u0130", "i\u0307"],
  ["a decomposition is folded", "\u212b", "a\u030a"],
  ["iota below becomes a letter", "\u1f82", "\u03b1\u0313\u0300\u03b9"],
  ["Cherokee is folded to capitals", "\uab70", "\u13a0"],
  ["Hangul with two parts", "\uac00", "\u1100\u1161"],
  ["Hangul with three parts", "\ud7a3", "\u1112\u1175\u11c2"],
  ["marks get their canonical order", "a\u0301\u0323", "a\u0323\u0301"],
  ["marks of one class stay in order", "a\u0301\u0300", "a\u0301\u0300"],
  ["ignorable code points vanish", "a\u00ad\u200db\ufeff", "ab"],
  ["ignorable code points keep marks apart", "a\u0301\u034f\u0323", "a\u0301\u0323"],
  ["ignorable ones need not be assigned", "a\u{e0fff}b", "ab"],
  ["compatibility forms stay", "\u2460\uff76", "\u2460\uff76"],
  ["ideographs are unified", "\uf900\u{2fa1d}", "\u8c48\u{2a600}"],
  ["other planes are folded", "\u{10400}\u{1e900}", "\u{10428}\u{1e922}"],
  ["letters that came after Unicode 12.1 are not folded", "\ua7c7", "\ua7c7"],
  ["letters that came after Unicode 12.1 are not decomposed", "\u{11938}", "\u{11938}"],
  ["the last code point is one", "\u{10ffff}", "\u{10ffff}"],
  ["nothing is nothing", "", ""],
])("fold: %s", (_, name, expected) => {
  expect(codePoints(folded(bytesOf(name)))).toEqual(codePoints(expected));
});

test.each([
  ["a byte that begins nothing", [0x61, 0xff]],
  ["a continuation alone", [0x80]],
  ["a sequence cut off", [0x61, 0xe2, 0x82]],
  ["a sequence broken off", [0xe2, 0x82, 0x61]],
  ["two bytes for ASCII", [0xc1, 0x81]],
  ["three bytes for two", [0xe0, 0x81, 0x81]],
  ["four bytes for three", [0xf0, 0x82, 0x82, 0xac]],
  ["a surrogate", [0xed, 0xa0, 0x80]],
  ["a code point above the last", [0xf4, 0x90, 0x80, 0x80]],
  ["five bytes", [0xf8, 0x88, 0x80, 0x80, 0x80]],
])("fold refuses %s", (_, bytes) => {
  expect(folded(Uint8Array.from(bytes))).toBeUndefined();
});

test("fold only looks at the name", () => {
  const bytes = bytesOf("é/NAME/\xff");
  expect(fold(bytes, 3, 4, into)).toBe(4);
  expect(new TextDecoder().decode(into.subarray(0, 4))).toBe("name");
});

test("no name folds to more than there is room for", () => {
  let worst = 0;
  for (let codePoint = 0x80; codePoint < 0x30000; codePoint++) {
    if (codePoint >= 0xd800 && codePoint < 0xe000) continue;
    const name = bytesOf(String.fromCodePoint(codePoint));
    worst = Math.max(worst, fold(name, 0, name.length, into) / name.length);
  }
  expect(worst).toBe(FOLDED_MAX / 255);
});

/** Vectors of e2fsprogs 1.47.0: `debugfs -R 'dx_hash -c -e utf8 -h half_md4 -s SEED "NAME"'`. */
test.each([
  ["ÀB", 0x6c0e5598, 0x101f7537],
  ["Übung-STRASSE-ẞ", 0x92b8c9f8, 0x561ffd4b],
  ["a\u0301\u0323\u034f\u0323-\uac01", 0x69702dac, 0xd8f234c1],
  ["\u0345\u0301İ\ufb03", 0x7bc89c2a, 0x25131fc8],
])("the hash of the folded name %s is that of e2fsprogs", (name, major, minor) => {
  const hash = new DirHash(
    HashVersion.HALF_MD4,
    false,
    [0x33221100, 0x77665544, 0xbbaa9988, 0xffeeddcc],
  );
  const bytes = bytesOf(name);
  hash.hash(into, 0, fold(bytes, 0, bytes.length, into));
  expect([hash.major, hash.minor]).toEqual([major, minor]);
});
