/**
 * Folds names for directories where case does not matter: two names are the same when their folded
 * forms are, and the index has the hash of the folded form.
 *
 * UTF-8 is decoded, every code point becomes its full case folding decomposed canonically (default-
 * ignorable ones become nothing), and combining marks are put in canonical order. Unassigned code
 * points stay as they are, in the order of Unicode 12.1, whatever the engine knows.
 *
 * @see fs/unicode/utf8-norm.c and README.utf8data; Unicode 12.1, sections 3.11, 3.12 and 5.21
 */
import { FOLDED_FORMS, MARK_ORDER } from "./casefold-table.ts";

/** No code point grows to more than three times its bytes, and names have at most 255. */
const GROWTH_MAX = 3;
const NAME_MAX = 255;
/** Enough room for any folded name. */
export const FOLDED_MAX = GROWTH_MAX * NAME_MAX;

const UPPER_A = 0x41;
const UPPER_Z = 0x5a;
const CASE_BIT = 0x20;
const ASCII_END = 0x80;
const SURROGATE_FIRST = 0xd800;
const SURROGATE_LAST = 0xdfff;
const CODE_POINT_MAX = 0x10ffff;

/** Hangul syllables are decomposed by arithmetic. @see Unicode 12.1, section 3.12 */
const SYLLABLE_FIRST = 0xac00;
const SYLLABLE_COUNT = 11172;
const LEADING_FIRST = 0x1100;
const VOWEL_FIRST = 0x1161;
const TRAILING_BASE = 0x11a7;
const VOWEL_COUNT = 21;
const TRAILING_COUNT = 28;

const RADIX = 36;

/** Reads one of the tables: what each code point in it maps to. */
function unpack(table: string, growth: 0 | 1): Map<number, readonly number[]> {
  const mappings = new Map<number, readonly number[]>();
  let last = 0;
  for (const word of table.trim().split(/\s+/)) {
    const [where = "", what = ""] = word.split(":");
    const [gap = 0, count = 1, step = 0] = where.split("+").map((part) => parseInt(part, RADIX));
    const to = what === "" ? [] : what.split(",").map((part) => parseInt(part, RADIX));
    const first = last + gap;
    for (let index = 0; index < count; index++) {
      const distance = index * step;
      last = first + distance;
      mappings.set(
        last,
        to.map((value) => value + distance * growth),
      );
    }
  }
  return mappings;
}

let tables: Tables | undefined;

interface Tables {
  readonly foldedForms: ReadonlyMap<number, readonly number[]>;
  readonly markOrder: ReadonlyMap<number, readonly number[]>;
}

/** The tables, unpacked when the first name needs them. */
function loadTables(): Tables {
  tables ??= { foldedForms: unpack(FOLDED_FORMS, 1), markOrder: unpack(MARK_ORDER, 0) };
  return tables;
}

/** The code points of one folded name, and the order of those that are marks. */
const folded = new Uint32Array(FOLDED_MAX);
const orders = new Uint8Array(FOLDED_MAX);

/**
 * Folds the `length` (at most 255) bytes of name at `from`.
 *
 * @param into room for `FOLDED_MAX` bytes.
 * @returns bytes of the folded name, or -1 when the name is not UTF-8.
 */
export function fold(bytes: Uint8Array, from: number, length: number, into: Uint8Array): number {
  for (let index = 0; index < length; index++) {
    const byte = bytes[from + index] as number;
    if (byte >= ASCII_END) return foldUnicode(bytes, from, from + length, into);
    into[index] = byte >= UPPER_A && byte <= UPPER_Z ? byte | CASE_BIT : byte;
  }
  return length;
}

function foldUnicode(bytes: Uint8Array, from: number, end: number, into: Uint8Array): number {
  const { foldedForms } = loadTables();
  let count = 0;
  // Nothing moves in front of a code point that was left out.
  let floor = 0;
  for (let at = from; at < end; ) {
    const codePoint = decode(bytes, at, end);
    if (codePoint < 0) return -1;
    at += encodedLength(codePoint);
    const form = foldedForms.get(codePoint) ?? syllable(codePoint);
    if (form === undefined) {
      append(codePoint, count++, floor);
    } else {
      for (const part of form) append(part, count++, floor);
      if (form.length === 0) floor = count;
    }
  }
  let to = 0;
  for (let index = 0; index < count; index++) to = encode(folded[index] as number, into, to);
  return to;
}

/** Adds a code point at `index`, or further in front, where its combining class has it. */
function append(codePoint: number, index: number, floor: number): void {
  const order = loadTables().markOrder.get(codePoint)?.[0] ?? 0;
  let to = index;
  if (order > 0) {
    for (; to > floor && (orders[to - 1] as number) > order; to--) {
      folded[to] = folded[to - 1] as number;
      orders[to] = orders[to - 1] as number;
    }
  }
  folded[to] = codePoint;
  orders[to] = order;
}

function syllable(codePoint: number): readonly number[] | undefined {
  const index = codePoint - SYLLABLE_FIRST;
  if (index < 0 || index >= SYLLABLE_COUNT) return undefined;
  const trailing = index % TRAILING_COUNT;
  const pair = (index - trailing) / TRAILING_COUNT;
  const vowel = pair % VOWEL_COUNT;
  const leading = (pair - vowel) / VOWEL_COUNT;
  const form = [LEADING_FIRST + leading, VOWEL_FIRST + vowel];
  return trailing === 0 ? form : [...form, TRAILING_BASE + trailing];
}

const encodedLength = (codePoint: number): number =>
  codePoint < 0x80 ? 1 : codePoint < 0x800 ? 2 : codePoint < 0x10000 ? 3 : 4;

/** The code point encoded at `at`, or -1: cut off, not in its shortest form, or a surrogate. */
function decode(bytes: Uint8Array, at: number, end: number): number {
  const first = bytes[at] as number;
  if (first < ASCII_END) return first;
  const more = first < 0xc0 ? -1 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf8 ? 3 : -1;
  if (more < 0 || at + more >= end) return -1;
  let codePoint = first & (0x3f >> more);
  for (let index = 1; index <= more; index++) {
    const byte = bytes[at + index] as number;
    if ((byte & 0xc0) !== 0x80) return -1;
    codePoint = (codePoint << 6) | (byte & 0x3f);
  }
  const isSurrogate = codePoint >= SURROGATE_FIRST && codePoint <= SURROGATE_LAST;
  if (isSurrogate || codePoint > CODE_POINT_MAX) return -1;
  return encodedLength(codePoint) === more + 1 ? codePoint : -1;
}

/** @returns where the next code point goes. */
function encode(codePoint: number, into: Uint8Array, at: number): number {
  const length = encodedLength(codePoint);
  if (length === 1) {
    into[at] = codePoint;
    return at + 1;
  }
  let rest = codePoint;
  for (let index = length - 1; index > 0; index--) {
    into[at + index] = 0x80 | (rest & 0x3f);
    rest >>>= 6;
  }
  into[at] = ((0xf00 >> length) & 0xff) | rest;
  return at + length;
}
