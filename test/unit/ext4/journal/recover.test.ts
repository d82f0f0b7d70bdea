/** From an image that needs recovery to a filesystem: where journals are found, and refused. */
import { expect, test } from "vitest";
import { setBe32 } from "../../../../src/base/layout.ts";
import type { FileBlock, InodeNumber } from "../../../../src/base/numbers.ts";
import { MemoryDevice } from "../../../../src/device/memory-device.ts";
import { type CorruptionError, FsError, UnsupportedError } from "../../../../src/ext4/errors.ts";
import { Compat, Incompat, RoCompat } from "../../../../src/ext4/format/features.ts";
import { InodeLayout } from "../../../../src/ext4/format/inode.ts";
import { JournalSuperblockLayout } from "../../../../src/ext4/format/jbd2.ts";
import { SuperblockLayout as S } from "../../../../src/ext4/format/superblock.ts";
import {
  type Filesystem,
  IomapType,
  iomapForRead,
  newIomap,
  openFilesystem,
  readFile,
} from "../../../../src/ext4/index.ts";
import { findRun } from "../../../../src/ext4/map/iomap.ts";
import { newRun } from "../../../../src/ext4/map/run.ts";
import { expectation, image } from "../../../support/images.ts";
import { BLOCK_SIZE, filled, JournalBuilder } from "./journal-builder.ts";

/** Blocks of 1 KiB, a journal of 1,024 blocks, no metadata checksums: easy to change. */
const NAME = "ext3-1k";
const JOURNAL_BLOCKS = 1024;
const JOURNAL_INODE = 8;
const SUPERBLOCK = 1024;
const BIG = expectation(NAME).paths["/folder/big"] as InodeNumber;
const JS = JournalSuperblockLayout;

/** The golden image, said to need recovery, with a journal of our making in its journal inode. */
class Dirty {
  readonly bytes = image(NAME);
  readonly view = new DataView(this.bytes.buffer);
  readonly warnings: string[] = [];
  readonly #sound: Filesystem = openFilesystem(new MemoryDevice(image(NAME)));

  constructor(builder?: JournalBuilder) {
    const incompat = this.view.getUint32(SUPERBLOCK + S.featureIncompat, true);
    this.view.setUint32(SUPERBLOCK + S.featureIncompat, incompat | Incompat.RECOVER, true);
    if (builder !== undefined) this.install(builder);
  }

  install(builder: JournalBuilder): void {
    setBe32(builder.journal.view(0), 0, JS.maxlen, JOURNAL_BLOCKS);
    builder.sumSuperblock();
    for (const [index, bytes] of builder.journal.blocks) {
      this.bytes.set(bytes, this.blockOf(JOURNAL_INODE as InodeNumber, index) * BLOCK_SIZE);
    }
  }

  /** The block of the device under block `index` of an inode. */
  blockOf(number: InodeNumber, index: number): number {
    const inode = this.#sound.internalInode(number);
    return findRun(this.#sound, inode, index as FileBlock, newRun()).fsBlock;
  }

  inodeAt(number: number): number {
    const { block, at } = this.#sound.groups.locateInode(number as InodeNumber);
    return block * BLOCK_SIZE + at;
  }

  open(journalDevice?: MemoryDevice): Filesystem {
    return openFilesystem(new MemoryDevice(this.bytes), {
      onWarning: (message) => this.warnings.push(message),
      ...(journalDevice !== undefined && { journalDevice }),
    });
  }
}

/** A journal with one transaction: the second block of /folder/big becomes all 0xaa. */
function oneTransaction(target: Dirty): JournalBuilder {
  const builder = new JournalBuilder({ version: 3 });
  builder.transaction([{ block: target.blockOf(BIG, 1), data: filled(0xaa) }]);
  return builder;
}

function errorOf(open: () => unknown): unknown {
  try {
    open();
  } catch (error) {
    return error;
  }
  return undefined;
}

test("openFilesystem() shows what the journal holds, says so, and leaves the image alone", () => {
  const dirty = new Dirty();
  dirty.install(oneTransaction(dirty));
  const before = dirty.bytes.slice();
  const fs = dirty.open();
  const block = new Uint8Array(BLOCK_SIZE);
  fs.device.read(dirty.blockOf(BIG, 1) * BLOCK_SIZE, block);
  expect(block).toEqual(filled(0xaa));
  expect(dirty.warnings).toEqual(["replayed 1 transaction of the journal in memory"]);
  expect(Buffer.compare(dirty.bytes, before)).toBe(0);
});

test("openFilesystem() without recovery shows the image as it lies", () => {
  const dirty = new Dirty();
  dirty.install(oneTransaction(dirty));
  const warnings: string[] = [];
  const fs = openFilesystem(new MemoryDevice(dirty.bytes), {
    noRecovery: true,
    onWarning: (message) => warnings.push(message),
  });
  expect(fs.overlay).toBeUndefined();
  expect(warnings).toHaveLength(1);
});

test("a journalled data block is not on the device as such, its neighbours are", () => {
  const dirty = new Dirty();
  const sound = dirty.open();
  const contents = new Uint8Array(sound.inode(BIG).sizeBytes);
  readFile(sound, sound.inode(BIG), 0, contents);
  dirty.install(oneTransaction(dirty));
  const fs = dirty.open();
  const inode = fs.inode(BIG);
  const types: unknown[] = [];
  for (const offset of [0, BLOCK_SIZE, BLOCK_SIZE + 100, 2 * BLOCK_SIZE]) {
    const { type, length } = iomapForRead(fs, inode, offset, 9000, newIomap());
    types.push([type, Math.min(length, BLOCK_SIZE)]);
  }
  expect(types).toEqual([
    [IomapType.MAPPED, BLOCK_SIZE],
    [IomapType.INLINE, BLOCK_SIZE],
    [IomapType.INLINE, BLOCK_SIZE - 100],
    [IomapType.MAPPED, BLOCK_SIZE],
  ]);
  const replayed = new Uint8Array(contents.length);
  expect(readFile(fs, inode, 0, replayed)).toBe(contents.length);
  contents.fill(0xaa, BLOCK_SIZE, 2 * BLOCK_SIZE);
  expect(replayed).toEqual(contents);
});

test("an empty journal has nothing to say", () => {
  const dirty = new Dirty();
  const builder = oneTransaction(dirty);
  setBe32(builder.journal.view(0), 0, JS.start, 0);
  dirty.install(builder);
  expect(dirty.open().overlay?.untilReplayed(0, 4096)).toBe(4096);
  expect(dirty.warnings).toEqual([]);
});

test("a journal that was given up is replayed with a warning", () => {
  const dirty = new Dirty();
  const builder = oneTransaction(dirty);
  setBe32(builder.journal.view(0), 0, JS.errno, -5 >>> 0);
  dirty.install(builder);
  dirty.open();
  expect(dirty.warnings).toEqual([
    "the journal was given up after error EIO: run e2fsck",
    "replayed 1 transaction of the journal in memory",
  ]);
});

test("journal features that we do not have are refused by name", () => {
  const dirty = new Dirty();
  const builder = oneTransaction(dirty);
  setBe32(builder.journal.view(0), 0, JS.featureIncompat, 0x1000_0001);
  dirty.install(builder);
  const error = errorOf(() => dirty.open());
  expect(error).toBeInstanceOf(UnsupportedError);
  expect(String(error)).toContain("journal FEATURE_I28");
});

test("a journal inode that is none is journal-superblock", () => {
  const dirty = new Dirty();
  dirty.view.setUint16(dirty.inodeAt(JOURNAL_INODE) + InodeLayout.mode, 0o040700, true);
  expect((errorOf(() => dirty.open()) as CorruptionError).rule).toBe("journal-superblock");
});

test("a hole in the journal inode is journal-block", () => {
  const dirty = new Dirty();
  dirty.install(oneTransaction(dirty));
  dirty.view.setUint32(dirty.inodeAt(JOURNAL_INODE) + InodeLayout.block + 4, 0, true);
  const error = errorOf(() => dirty.open()) as CorruptionError;
  expect([error.rule, error.place]).toEqual(["journal-block", { inode: JOURNAL_INODE }]);
});

test("a filesystem that needs recovery and has no journal opens with a warning", () => {
  const dirty = new Dirty();
  const compat = dirty.view.getUint32(SUPERBLOCK + S.featureCompat, true);
  dirty.view.setUint32(SUPERBLOCK + S.featureCompat, compat & ~Compat.HAS_JOURNAL, true);
  dirty.open();
  expect(dirty.warnings).toEqual(["the filesystem needs recovery, but has no journal"]);
});

const UUID = Uint8Array.from({ length: 16 }, (_, index) => 0x11 * index);
const UUID_TEXT = "00112233-4455-6677-8899-aabbccddeeff";

/** An image whose journal is on a device of its own, and that device. */
function external(): { dirty: Dirty; journal: Uint8Array } {
  const dirty = new Dirty();
  dirty.view.setUint32(SUPERBLOCK + S.journalInum, 0, true);
  dirty.bytes.set(UUID, SUPERBLOCK + S.journalUuid);
  const builder = new JournalBuilder({ start: 3 });
  builder.transaction([{ block: dirty.blockOf(BIG, 1), data: filled(0xaa) }]);
  setBe32(builder.journal.view(0), 0, JS.first, 3);
  // With blocks of 1 KiB the journal's superblock is in block 2, behind that of ext4.
  const journal = new Uint8Array(1400 * BLOCK_SIZE);
  for (const [index, bytes] of builder.journal.blocks) {
    journal.set(bytes, (index === 0 ? 2 : index) * BLOCK_SIZE);
  }
  const view = new DataView(journal.buffer);
  view.setUint16(SUPERBLOCK + S.magic, 0xef53, true);
  view.setUint32(SUPERBLOCK + S.featureIncompat, Incompat.JOURNAL_DEV, true);
  view.setUint32(SUPERBLOCK + S.blocksCountLo, 1400, true);
  journal.set(UUID, SUPERBLOCK + S.uuid);
  return { dirty, journal };
}

test("an external journal is replayed when it is given", () => {
  const { dirty, journal } = external();
  const fs = dirty.open(new MemoryDevice(journal));
  const block = new Uint8Array(BLOCK_SIZE);
  fs.device.read(dirty.blockOf(BIG, 1) * BLOCK_SIZE, block);
  expect(block).toEqual(filled(0xaa));
});

test("an external journal that is not given is asked for by its UUID", () => {
  const error = errorOf(() => external().dirty.open());
  expect(error).toBeInstanceOf(FsError);
  expect((error as FsError).message).toBe(
    `the journal is on another device, with UUID ${UUID_TEXT}: name it with journal_path=`,
  );
});

test("a device that is not the journal that is wanted is refused", () => {
  const { dirty, journal } = external();
  const opened = (bytes: Uint8Array): string =>
    String((errorOf(() => dirty.open(new MemoryDevice(bytes))) as FsError).message);
  const other = journal.slice();
  other[SUPERBLOCK + S.uuid] = 1;
  expect(opened(other)).toBe(
    `the journal device has UUID 01${UUID_TEXT.slice(2)}, not ${UUID_TEXT}`,
  );
  expect(opened(new Uint8Array(100))).toBe("the journal device holds no ext4 journal");
  expect(opened(image(NAME))).toBe("the journal device holds no ext4 journal");

  const shared = journal.slice();
  new DataView(shared.buffer).setUint32(2 * BLOCK_SIZE + JS.nrUsers, 2);
  expect(opened(shared)).toBe("the journal device has 2 users");

  const damaged = journal.slice();
  new DataView(damaged.buffer).setUint32(
    SUPERBLOCK + S.featureRoCompat,
    RoCompat.METADATA_CSUM,
    true,
  );
  expect(opened(damaged)).toMatch(/^journal-checksum /);
});
