/** The log of a journal: where it ends, what is replayed, and what counts as damage. */
import { expect, test } from "vitest";
import { setBe32 } from "../../../../src/base/layout.ts";
import { CorruptionError } from "../../../../src/ext4/errors.ts";
import {
  CommitHeader,
  JOURNAL_MAGIC,
  JournalHeader,
  RevokeHeader,
  TagFlags,
} from "../../../../src/ext4/format/jbd2.ts";
import { replayLog } from "../../../../src/ext4/journal/replay.ts";
import { findLogEnd } from "../../../../src/ext4/journal/scan.ts";
import {
  BLOCK_COUNT,
  BLOCK_SIZE,
  filled,
  JournalBuilder,
  type JournalOptions,
} from "./journal-builder.ts";

const DEVICE_BLOCKS = 2 ** 33;

/** What recovery makes of the journal: the first byte of every block that it has newer bytes of. */
function recovered(builder: JournalBuilder): Record<number, number> {
  const superblock = builder.superblock();
  const end = findLogEnd(builder.journal, superblock);
  const blocks = replayLog(builder.journal, superblock, end, DEVICE_BLOCKS);
  const found: Record<number, number> = {};
  blocks.numbers.forEach((block, index) => {
    found[block] = blocks.contents(index)[0] as number;
  });
  return found;
}

const endOf = (builder: JournalBuilder): number =>
  findLogEnd(builder.journal, builder.superblock());

const versions: readonly JournalOptions[] = [
  { version: 0 },
  { version: 0, is64Bit: true },
  { version: 1 },
  { version: 1, is64Bit: true, asyncCommit: true },
  { version: 2 },
  { version: 2, is64Bit: true },
  { version: 3 },
  { version: 3, is64Bit: true },
  { version: 3, is64Bit: true, asyncCommit: true },
];

test.each(versions)("recovery finds the newest copy of each block: %o", (options) => {
  const builder = new JournalBuilder(options);
  builder.transaction([
    { block: 100, data: filled(1) },
    { block: 50, data: filled(2), withUuid: true },
    { block: 60, data: filled(3) },
  ]);
  builder.descriptor([{ block: 50, data: filled(4) }]);
  builder.descriptor([{ block: 70, data: filled(5) }]);
  builder.commit();
  expect(recovered(builder)).toEqual({ 50: 4, 60: 3, 70: 5, 100: 1 });
});

test.each(versions)("recovery gives an escaped block its magic number back: %o", (options) => {
  const builder = new JournalBuilder(options);
  const data = filled(9);
  new DataView(data.buffer).setUint32(0, JOURNAL_MAGIC);
  builder.transaction([{ block: 5, data }]);
  const superblock = builder.superblock();
  const end = findLogEnd(builder.journal, superblock);
  const blocks = replayLog(builder.journal, superblock, end, DEVICE_BLOCKS);
  expect(builder.journal.block(2)[0]).toBe(0);
  expect(blocks.contents(0)).toEqual(data);
});

test("recovery takes block numbers above 2^32 from 64-bit tags only", () => {
  const block = 2 ** 32 + 5;
  const builder = new JournalBuilder({ version: 3, is64Bit: true });
  builder.transaction([{ block, data: filled(1) }]);
  expect(recovered(builder)).toEqual({ [block]: 1 });

  const narrow = new JournalBuilder({ version: 3, is64Bit: false });
  narrow.transaction([{ block: 5, data: filled(1) }]);
  expect(recovered(narrow)).toEqual({ 5: 1 });
});

test.each(versions)(
  "a revoke hides copies up to its own transaction, not later ones: %o",
  (options) => {
    const builder = new JournalBuilder(options);
    builder.transaction([
      { block: 10, data: filled(1) },
      { block: 11, data: filled(2) },
      { block: 12, data: filled(3) },
    ]);
    builder.revoke([10, 11]);
    builder.transaction([
      { block: 11, data: filled(4) },
      { block: 13, data: filled(5) },
    ]);
    builder.transaction([{ block: 10, data: filled(6) }]);
    expect(recovered(builder)).toEqual({ 10: 6, 12: 3, 13: 5 });
  },
);

test("a revoke in a transaction that never ended hides nothing", () => {
  const builder = new JournalBuilder({ version: 3 });
  builder.transaction([{ block: 10, data: filled(1) }]);
  builder.revoke([10]);
  expect(recovered(builder)).toEqual({ 10: 1 });
});

test.each(versions)("recovery follows the log over the end of the journal: %o", (options) => {
  const builder = new JournalBuilder({ ...options, start: BLOCK_COUNT - 3 });
  builder.transaction([
    { block: 10, data: filled(1) },
    { block: 11, data: filled(2) },
    { block: 12, data: filled(3) },
  ]);
  builder.transaction([{ block: 10, data: filled(4) }]);
  expect(builder.next).toBeLessThan(10);
  expect(recovered(builder)).toEqual({ 10: 4, 11: 2, 12: 3 });
});

test("the log ends before the area of fast commits", () => {
  const builder = new JournalBuilder({ fastCommitBlocks: 300, start: BLOCK_COUNT - 302 });
  builder.transaction([
    { block: 10, data: filled(1) },
    { block: 11, data: filled(2) },
  ]);
  expect(builder.next).toBe(3);
  expect(recovered(builder)).toEqual({ 10: 1, 11: 2 });
});

test("sequence numbers go on from 2^32 - 1 to 0", () => {
  const builder = new JournalBuilder({ version: 3, sequence: 0xffff_ffff });
  builder.transaction([{ block: 10, data: filled(1) }]);
  builder.revoke([11]);
  builder.transaction([{ block: 10, data: filled(2) }]);
  builder.transaction([{ block: 11, data: filled(3) }]);
  expect(endOf(builder)).toBe(2);
  expect(recovered(builder)).toEqual({ 10: 2, 11: 3 });
});

test.each(versions)("a transaction without its commit block never happened: %o", (options) => {
  const builder = new JournalBuilder(options);
  builder.transaction([{ block: 10, data: filled(1) }]);
  builder.descriptor([{ block: 10, data: filled(2) }]);
  expect(recovered(builder)).toEqual({ 10: 1 });
});

test("the log ends at a commit block of an earlier round", () => {
  const builder = new JournalBuilder();
  builder.transaction([{ block: 10, data: filled(1) }]);
  builder.sequence -= 2;
  builder.transaction([{ block: 10, data: filled(2) }]);
  expect(recovered(builder)).toEqual({ 10: 1 });
});

test("the log ends at a record of an unknown type", () => {
  const builder = new JournalBuilder();
  builder.transaction([{ block: 10, data: filled(1) }]);
  const index = builder.commit();
  setBe32(builder.journal.view(index), 0, JournalHeader.blocktype, 6);
  expect(recovered(builder)).toEqual({ 10: 1 });
});

/** Three transactions; `spoil` gets the block indexes of the second one's records. */
function spoiled(
  options: JournalOptions,
  spoil: (
    builder: JournalBuilder,
    at: { descriptor: number; revoke: number; commit: number },
  ) => void,
  secondsOfSecond = 1001,
): JournalBuilder {
  const builder = new JournalBuilder(options);
  builder.transaction([{ block: 10, data: filled(1) }], 1000);
  const revoke = builder.revoke([77]);
  const descriptor = builder.descriptor([{ block: 10, data: filled(2) }]);
  const commit = builder.commit(secondsOfSecond);
  builder.transaction([{ block: 10, data: filled(3) }], 1002);
  spoil(builder, { descriptor, revoke, commit });
  return builder;
}

const flip = (builder: JournalBuilder, index: number, byte: number): void => {
  const block = builder.journal.block(index);
  block[byte] = (block[byte] as number) ^ 0xff;
};

/** The rule that recovery says is broken. */
function brokenRule(builder: JournalBuilder): string | undefined {
  try {
    recovered(builder);
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(CorruptionError);
    return (error as CorruptionError).rule;
  }
}

test.each([{ version: 1 }, { version: 2 }, { version: 3 }] as const)(
  "a commit block with a wrong checksum is journal-checksum: %o",
  (options) => {
    const builder = spoiled(options, (journal, { commit }) =>
      flip(journal, commit, CommitHeader.chksum),
    );
    expect(brokenRule(builder)).toBe("journal-checksum");
  },
);

test.each([{ version: 1 }, { version: 2 }, { version: 3 }] as const)(
  "a wrong commit block older than the one before it ends the log: %o",
  (options) => {
    const spoil = (journal: JournalBuilder, { commit }: { commit: number }): void =>
      flip(journal, commit, CommitHeader.chksum);
    expect(recovered(spoiled(options, spoil, 999))).toEqual({ 10: 1 });
  },
);

test.each([{ version: 1 }, { version: 2 }, { version: 3 }] as const)(
  "with async commit, the last commit block may be wrong: %o",
  (options) => {
    const builder = new JournalBuilder({ ...options, asyncCommit: true });
    builder.transaction([{ block: 10, data: filled(1) }]);
    builder.descriptor([{ block: 10, data: filled(2) }]);
    flip(builder, builder.commit(), CommitHeader.chksum);
    expect(recovered(builder)).toEqual({ 10: 1 });
  },
);

test("with async commit and checksums v1, a wrong commit block before another is journal-checksum", () => {
  const builder = spoiled({ version: 1, asyncCommit: true }, (journal, { commit }) =>
    flip(journal, commit, CommitHeader.chksum),
  );
  expect(brokenRule(builder)).toBe("journal-checksum");
});

test("with async commit and checksums v3, the log ends at the wrong commit block", () => {
  const builder = spoiled({ version: 3, asyncCommit: true }, (journal, { commit }) =>
    flip(journal, commit, CommitHeader.chksum),
  );
  expect(recovered(builder)).toEqual({ 10: 1 });
});

test("checksums v1 notice a wrong data block, and allow a commit block without any", () => {
  const wrong = spoiled({ version: 1 }, (journal, { descriptor }) =>
    flip(journal, descriptor + 1, 500),
  );
  expect(brokenRule(wrong)).toBe("journal-checksum");

  const without = spoiled({ version: 1 }, (journal, { commit }) =>
    journal.journal.block(commit).fill(0, CommitHeader.chksumType, CommitHeader.chksum + 4),
  );
  expect(recovered(without)).toEqual({ 10: 3 });
});

test("a commit block with old bytes behind its header counts", () => {
  const builder = spoiled({ version: 3 }, (journal, { commit }) => flip(journal, commit, 900));
  expect(recovered(builder)).toEqual({ 10: 3 });
});

test.each([{ version: 2 }, { version: 3 }] as const)(
  "a wrong descriptor or revoke block in a complete transaction is journal-checksum: %o",
  (options) => {
    const descriptor = spoiled(options, (journal, at) => flip(journal, at.descriptor, 700));
    const revoke = spoiled(options, (journal, at) => flip(journal, at.revoke, 700));
    expect(brokenRule(descriptor)).toBe("journal-checksum");
    expect(brokenRule(revoke)).toBe("journal-checksum");
  },
);

test("a wrong descriptor block before an older commit block, or none, ends the log", () => {
  const spoil = (journal: JournalBuilder, at: { descriptor: number }): void =>
    flip(journal, at.descriptor, 700);
  expect(recovered(spoiled({ version: 3 }, spoil, 999))).toEqual({ 10: 1 });

  const torn = new JournalBuilder({ version: 3 });
  torn.transaction([{ block: 10, data: filled(1) }]);
  flip(torn, torn.descriptor([{ block: 10, data: filled(2) }]), 700);
  expect(recovered(torn)).toEqual({ 10: 1 });
});

test.each([{ version: 2 }, { version: 3 }] as const)(
  "a data block that is not the one its tag was made for is journal-checksum: %o",
  (options) => {
    const builder = spoiled(options, (journal, at) => flip(journal, at.descriptor + 1, 500));
    expect(brokenRule(builder)).toBe("journal-checksum");
  },
);

test("a wrong data block does not matter when it is revoked", () => {
  const builder = new JournalBuilder({ version: 3 });
  const descriptor = builder.descriptor([
    { block: 10, data: filled(1) },
    { block: 11, data: filled(2) },
  ]);
  builder.commit();
  builder.revoke([10]);
  builder.commit();
  flip(builder, descriptor + 1, 500);
  expect(recovered(builder)).toEqual({ 11: 2 });
});

test("a log that never ends is journal-sequence", () => {
  const builder = new JournalBuilder();
  for (let index = 1; index < BLOCK_COUNT; index++) builder.revoke([]);
  expect(brokenRule(builder)).toBe("journal-sequence");
  expect(builder.journal.readCount).toBeLessThanOrEqual(BLOCK_COUNT);
});

test("a block past the end of the device is journal-block", () => {
  const builder = new JournalBuilder({ is64Bit: true });
  builder.transaction([{ block: DEVICE_BLOCKS, data: filled(1) }]);
  expect(brokenRule(builder)).toBe("journal-block");
});

test("a revoke block that claims more than it has room for is journal-block", () => {
  const builder = new JournalBuilder();
  const index = builder.revoke([]);
  setBe32(builder.journal.view(index), 0, RevokeHeader.count, BLOCK_SIZE + 4);
  builder.commit();
  expect(brokenRule(builder)).toBe("journal-block");
});

test("a tag that says its block is deleted is replayed, as the kernel does", () => {
  const builder = new JournalBuilder();
  builder.transaction([{ block: 10, data: filled(1), flags: TagFlags.DELETED }]);
  expect(recovered(builder)).toEqual({ 10: 1 });
});

test("a journal that changes while it is read is an I/O error", () => {
  const builder = new JournalBuilder();
  builder.transaction([{ block: 10, data: filled(1) }]);
  const superblock = builder.superblock();
  const end = findLogEnd(builder.journal, superblock);
  builder.journal.blocks.clear();
  expect(() => replayLog(builder.journal, superblock, end, DEVICE_BLOCKS)).toThrow(/second read/);
});
