/** The journal superblock: what it says, and every way in which it is refused. */
import { expect, test } from "vitest";
import { setBe32, setU8 } from "../../../../src/base/layout.ts";
import { CorruptionError, UnsupportedError } from "../../../../src/ext4/errors.ts";
import {
  crc32Be,
  isBefore,
  JournalBlockType,
  JournalIncompat,
  JournalSuperblockLayout as S,
} from "../../../../src/ext4/format/jbd2.ts";
import { BLOCK_COUNT, JournalBuilder, type JournalOptions } from "./journal-builder.ts";

test("crc32Be() is the CRC-32 that is not reflected", () => {
  const digits = new TextEncoder().encode("123456789");
  expect(crc32Be(0xffff_ffff, digits)).toBe(0x0376_e6e7);
  expect(crc32Be(crc32Be(0xffff_ffff, digits.subarray(0, 4)), digits.subarray(4))).toBe(
    0x0376_e6e7,
  );
});

test("isBefore() compares sequence numbers that start over", () => {
  expect(isBefore(1, 2)).toBe(true);
  expect(isBefore(2, 2)).toBe(false);
  expect(isBefore(3, 2)).toBe(false);
  expect(isBefore(0xffff_ffff, 0)).toBe(true);
  expect(isBefore(0, 0xffff_ffff)).toBe(false);
});

test.each<[JournalOptions, number]>([
  [{ version: 0 }, 8],
  [{ version: 0, is64Bit: true }, 12],
  [{ version: 1 }, 8],
  [{ version: 2 }, 10],
  [{ version: 2, is64Bit: true }, 14],
  [{ version: 3 }, 16],
  [{ version: 3, is64Bit: true }, 16],
])("a tag of %o has %i bytes", (options, size) => {
  expect(new JournalBuilder(options).superblock().tagSize).toBe(size);
});

test("the superblock says where the log and the fast commits are", () => {
  const superblock = new JournalBuilder({ fastCommitBlocks: 300 }).superblock();
  expect(superblock).toMatchObject({
    logFirst: 1,
    logEnd: 1100,
    fastCommitFirst: 1101,
    fastCommitEnd: BLOCK_COUNT,
  });
});

/** What is thrown for a superblock with one field changed. */
function refusal(field: keyof typeof S, value: number, options: JournalOptions = {}): unknown {
  const builder = new JournalBuilder(options);
  setBe32(builder.journal.view(0), 0, S[field] as typeof S.magic, value);
  builder.sumSuperblock();
  try {
    builder.superblock();
    return undefined;
  } catch (error) {
    return error;
  }
}

test.each<[keyof typeof S, number, JournalOptions?]>([
  ["magic", 0],
  ["blocktype", JournalBlockType.DESCRIPTOR],
  ["blocksize", 4096],
  ["maxlen", BLOCK_COUNT + 1],
  ["maxlen", 1023],
  ["first", 0],
  ["first", BLOCK_COUNT],
  ["start", BLOCK_COUNT],
  ["numFcBlks", BLOCK_COUNT, { fastCommitBlocks: 300 }],
  ["featureIncompat", JournalIncompat.CSUM_V2 | JournalIncompat.CSUM_V3],
  ["featureIncompat", JournalIncompat.CSUM_V3, { version: 1 }],
])("a superblock with %s %i is journal-superblock", (field, value, options) => {
  const error = refusal(field, value, options);
  expect(error).toBeInstanceOf(CorruptionError);
  expect((error as CorruptionError).rule).toBe("journal-superblock");
});

test("a superblock with an unknown type of checksum is journal-superblock", () => {
  const builder = new JournalBuilder({ version: 3 });
  setU8(builder.journal.view(0), 0, S.checksumType, 1);
  builder.sumSuperblock();
  expect(() => builder.superblock()).toThrow(/^journal-superblock .*checksum type 1/);
});

test("a superblock with a wrong checksum is journal-checksum", () => {
  const builder = new JournalBuilder({ version: 3 });
  builder.journal.block(0)[1000] = 1;
  expect(() => builder.superblock()).toThrow(/^journal-checksum /);
});

test("unknown features are refused by name", () => {
  const error = refusal("featureIncompat", 0x8000_0041);
  expect(error).toBeInstanceOf(UnsupportedError);
  expect((error as UnsupportedError).features).toEqual([
    "journal FEATURE_I6",
    "journal FEATURE_I31",
  ]);
  expect((refusal("featureRoCompat", 4) as UnsupportedError).features).toEqual([
    "journal FEATURE_R2",
  ]);
});

test("a superblock of version 1 has no features, and may be short", () => {
  const builder = new JournalBuilder();
  const view = builder.journal.view(0);
  setBe32(view, 0, S.blocktype, JournalBlockType.SUPERBLOCK_V1);
  setBe32(view, 0, S.featureIncompat, 0xffff_ffff);
  setBe32(view, 0, S.maxlen, 100);
  expect(builder.superblock()).toMatchObject({ checksumVersion: 0, is64Bit: false, logEnd: 100 });
});
