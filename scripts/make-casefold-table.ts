/**
 * Writes src/ext4/format/casefold-table.ts: what the characters of Unicode 12.1 become when the
 * names of a case-insensitive directory are compared. `tsx scripts/make-casefold-table.ts`; with
 * `--check` nothing is written, and a table that would come out differently is an error.
 *
 * A code point becomes its full case folding or else its canonical decomposition, and what comes
 * out is folded and decomposed again until nothing changes. Default-ignorable code points become
 * nothing. This is the "nfdicf" form of the kernel's fs/unicode/mkutf8data.c.
 *
 * Foldings and properties are those of Unicode 12.1. Decompositions and the order of combining marks
 * come from this engine's `normalize`: they never change for a code point once it is assigned.
 */
import { readFileSync, writeFileSync } from "node:fs";
import assigned from "@unicode/unicode-12.1.0/Binary_Property/Assigned/code-points.mjs";
import ignorable from "@unicode/unicode-12.1.0/Binary_Property/Default_Ignorable_Code_Point/code-points.mjs";
import commonFolding from "@unicode/unicode-12.1.0/Case_Folding/C/code-points.mjs";
import fullFolding from "@unicode/unicode-12.1.0/Case_Folding/F/code-points.mjs";

const TABLE = new URL("../src/ext4/format/casefold-table.ts", import.meta.url);
/** Hangul syllables are decomposed by arithmetic. */
const HANGUL_FIRST = 0xac00;
const HANGUL_LAST = 0xd7a3;
/** Marks of the lowest (1) and of the highest (240) combining class. */
const LOWEST_MARK = 0x334;
const HIGHEST_MARK = 0x345;

const ignored = new Set<number>(ignorable);

function folding(codePoint: number): readonly number[] | undefined {
  const common = commonFolding.get(codePoint);
  return common === undefined ? fullFolding.get(codePoint) : [common].flat();
}

const normalize = (...codePoints: readonly number[]): readonly number[] =>
  Array.from(String.fromCodePoint(...codePoints).normalize("NFD"), (c) => c.codePointAt(0) ?? 0);

const isSame = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((value, index) => value === b[index]);

/** What one code point becomes, in the end. */
function foldedForm(codePoint: number): readonly number[] {
  if (ignored.has(codePoint)) return [];
  const next = folding(codePoint) ?? normalize(codePoint);
  return isSame(next, [codePoint]) ? next : next.flatMap(foldedForm);
}

/** Negative when mark `a` has a lower combining class than `b`, 0 when the same. */
function compareMarks(a: number, b: number): number {
  if (!isSame(normalize(b, a), [b, a])) return -1;
  return isSame(normalize(a, b), [a, b]) ? 0 : 1;
}

const isMark = (codePoint: number): boolean =>
  isSame(normalize(codePoint), [codePoint]) &&
  (compareMarks(LOWEST_MARK, codePoint) < 0 || compareMarks(codePoint, HIGHEST_MARK) < 0);

interface Mapping {
  readonly from: number;
  readonly to: readonly number[];
}

/**
 * Packs mappings, in ascending order, into words of numbers in base 36: `GAP:TO,TO...` for one code
 * point, GAP counted from the one before; `GAP+COUNT+STEP:TO` for COUNT of them, STEP apart, of which
 * each becomes STEP × `growth` more than the one before.
 */
function pack(mappings: readonly Mapping[], growth: 0 | 1): string[] {
  const words: string[] = [];
  const digits = (value: number): string => value.toString(36);
  let last = 0;
  for (let at = 0; at < mappings.length; ) {
    const first = mappings[at] as Mapping;
    const step = (mappings[at + 1]?.from ?? 0) - first.from;
    let count = 1;
    while (step > 0 && step <= 2 && continues(first, mappings[at + count], count * step, growth)) {
      count++;
    }
    const to = first.to.map(digits).join(",");
    const run = count > 1 ? `+${digits(count)}+${digits(step)}` : "";
    words.push(`${digits(first.from - last)}${run}:${to}`);
    last = (mappings[at + count - 1] as Mapping).from;
    at += count;
  }
  return words;
}

function continues(
  first: Mapping,
  next: Mapping | undefined,
  distance: number,
  growth: 0 | 1,
): boolean {
  if (next === undefined || first.to.length > 1) return false;
  const expected = first.to.map((value) => value + distance * growth);
  return next.from === first.from + distance && isSame(next.to, expected);
}

/** Lines of a template literal of up to 100 columns. */
function lines(words: readonly string[]): string {
  const result: string[] = [""];
  for (const word of words) {
    const line = result[result.length - 1] as string;
    if (line.length + word.length + 1 > 100) result.push(word);
    else result[result.length - 1] = line === "" ? word : `${line} ${word}`;
  }
  return result.join("\n");
}

function table(): string {
  const known = [...new Set<number>([...assigned, ...ignorable])].sort((a, b) => a - b);
  const mappings: Mapping[] = [];
  for (const from of known) {
    const isHangul = from >= HANGUL_FIRST && from <= HANGUL_LAST;
    const isSurrogate = from >= 0xd800 && from <= 0xdfff;
    if (isHangul || isSurrogate) continue;
    const to = foldedForm(from);
    if (!isSame(to, [from])) mappings.push({ from, to });
  }
  const marks = known.filter(isMark);
  const inOrder = marks.toSorted(compareMarks);
  const ranks = new Map<number, number>();
  let rank = 0;
  inOrder.forEach((mark, index) => {
    const before = inOrder[index - 1];
    if (before === undefined || compareMarks(before, mark) < 0) rank++;
    ranks.set(mark, rank);
  });
  const ranked = marks.map((from) => ({ from, to: [ranks.get(from) ?? 0] }));
  return `/**
 * Made by scripts/make-casefold-table.ts from Unicode 12.1, and described there.
 *
 * @see https://www.unicode.org/Public/12.1.0/ucd/
 */

/** What code points become: words \`GAP:TO,TO...\` or \`GAP+COUNT+STEP:TO\`, in base 36. */
${constant("FOLDED_FORMS", pack(mappings, 1))}

/** The order of combining marks, from 1: words \`GAP:ORDER\` or \`GAP+COUNT+STEP:ORDER\`, in base 36. */
${constant("MARK_ORDER", pack(ranked, 0))}
`;
}

const constant = (name: string, words: readonly string[]): string =>
  `export const ${name} = \`\n${lines(words)}\n\`;`;

const made = table();
if (process.argv.includes("--check")) {
  if (readFileSync(TABLE, "utf8") !== made) throw new Error(`${TABLE.pathname} is out of date`);
} else {
  writeFileSync(TABLE, made);
}
