/** Fast commits: which of them count, and what each tag makes of a golden image. */
import { describe, expect, test } from "vitest";
import { Errno } from "../../../../src/base/errno.ts";
import type { FileBlock, InodeNumber } from "../../../../src/base/numbers.ts";
import { MemoryDevice } from "../../../../src/device/memory-device.ts";
import { CorruptionError, UnsupportedError } from "../../../../src/ext4/errors.ts";
import { Filesystem } from "../../../../src/ext4/filesystem.ts";
import { FcTagType } from "../../../../src/ext4/format/fast-commit.ts";
import { InodeFlags, InodeLayout } from "../../../../src/ext4/format/inode.ts";
import { lookup, parentOf, ROOT_INODE, readFile } from "../../../../src/ext4/index.ts";
import { FastCommitLog } from "../../../../src/ext4/journal/fast-commit-log.ts";
import { FastCommitReplay } from "../../../../src/ext4/journal/fast-commit-replay.ts";
import { type NewerBlocks, ReplayedDevice } from "../../../../src/ext4/journal/replayed-device.ts";
import { findRun } from "../../../../src/ext4/map/iomap.ts";
import { HOLE, newRun } from "../../../../src/ext4/map/run.ts";
import { expectation, image } from "../../../support/images.ts";
import { bytesOf, entriesOf } from "../../../support/library-view.ts";
import { FastCommitBuilder, value } from "./fast-commit-builder.ts";
import { BLOCK_COUNT, checksums, JournalBuilder } from "./journal-builder.ts";

const AREA_BLOCKS = 300;
const INODE_SIZE = 256;

function journalWithArea(): JournalBuilder {
  return new JournalBuilder({ fastCommitBlocks: AREA_BLOCKS });
}

function logOf(builder: JournalBuilder): FastCommitLog {
  const { journal, sequence } = builder;
  return new FastCommitLog(journal, builder.superblock(), sequence, INODE_SIZE, checksums);
}

describe("FastCommitLog", () => {
  test("counts complete fast commits and their tags", () => {
    const builder = journalWithArea();
    const area = new FastCommitBuilder(builder);
    area.unlink(2, 12, "a").tail();
    area.unlink(2, 13, "b").unlink(2, 14, "c").tail();
    const log = logOf(builder);
    expect(log).toMatchObject({ commitCount: 2, tagCount: 6, isTorn: false });
    const types = [...log.tags()].map(({ type }) => type);
    const { HEAD, UNLINK, TAIL } = FcTagType;
    expect(types).toEqual([HEAD, UNLINK, TAIL, UNLINK, UNLINK, TAIL]);
  });

  test("follows a fast commit over several blocks", () => {
    const builder = journalWithArea();
    const area = new FastCommitBuilder(builder);
    for (let index = 0; index < 100; index++) area.unlink(2, 12, "n".repeat(100));
    area.tail();
    const unlinks = [...logOf(builder).tags()].filter(({ type }) => type === FcTagType.UNLINK);
    expect(unlinks.length).toBe(100);
    expect(area.index).toBeGreaterThan(builder.superblock().fastCommitFirst + 5);
  });

  test("fills the area to its last block", () => {
    const builder = journalWithArea();
    const area = new FastCommitBuilder(builder);
    while (area.index < BLOCK_COUNT) area.unlink(2, 12, "a").tail();
    expect(logOf(builder).commitCount).toBe(AREA_BLOCKS - 1);
  });

  test("is empty when nothing or something older was written", () => {
    expect(logOf(journalWithArea())).toMatchObject({ commitCount: 0, isTorn: false });
    const older = journalWithArea();
    new FastCommitBuilder(older, older.sequence - 1).unlink(2, 12, "a").tail(older.sequence - 1);
    expect(logOf(older)).toMatchObject({ commitCount: 0, isTorn: false });
  });

  test("is empty without the feature", () => {
    expect(logOf(new JournalBuilder())).toMatchObject({ commitCount: 0, isTorn: false });
  });

  test.each<[string, (area: FastCommitBuilder) => void]>([
    ["has no tail", (area) => area.unlink(2, 12, "b")],
    ["has a tail with another checksum", (area) => area.unlink(2, 12, "b").tail(undefined, 1)],
    ["has a tail of another transaction", (area) => area.unlink(2, 12, "b").tail(1)],
    ["has a tag that is too short", (area) => area.tag(FcTagType.ADD_RANGE, value([1])).tail()],
    ["has a tag of an unknown type", (area) => area.tag(10, value([1])).tail()],
    ["has an entry without a name", (area) => area.link(2, 12, "").tail()],
    ["has an inode that is too long", (area) => area.inode(12, new Uint8Array(257)).tail()],
  ])("leaves out a last fast commit that %s", (_, spoil) => {
    const first = journalWithArea();
    spoil(new FastCommitBuilder(first));
    expect(logOf(first)).toMatchObject({ commitCount: 0, isTorn: true });

    const second = journalWithArea();
    const area = new FastCommitBuilder(second);
    area.unlink(2, 12, "a").tail();
    spoil(area);
    expect(logOf(second)).toMatchObject({ commitCount: 1, tagCount: 3, isTorn: false });
  });

  test("refuses features that it does not know, by name", () => {
    const builder = journalWithArea();
    new FastCommitBuilder(builder, undefined, 0x8000_0002).unlink(2, 12, "a").tail();
    expect(() => logOf(builder)).toThrow(UnsupportedError);
    expect(() => logOf(builder)).toThrow(/fast_commit FEATURE_1, fast_commit FEATURE_31/);
  });
});

const NAME = "ext4-1k";
const { paths } = expectation(NAME);
const numberOf = (path: string): InodeNumber => paths[path] as InodeNumber;
const FOLDER = numberOf("/folder");
const FILE = numberOf("/folder/file");
const BIG = numberOf("/folder/big");
/** An inode that is not in use, and a block that nothing uses. */
const FREE_INODE = 100 as InodeNumber;
const FREE_BLOCK = 1500;
const nothing: NewerBlocks = {
  numbers: new Float64Array(),
  contents: () => new Uint8Array(),
};

/** The golden image after the fast commits that `write` makes. */
function replayed(write: (area: FastCommitBuilder) => void): Filesystem {
  const builder = journalWithArea();
  const area = new FastCommitBuilder(builder);
  write(area);
  area.tail();
  const device = new MemoryDevice(image(NAME));
  const below = new Filesystem(device, {});
  const { blockSize } = below.superblock;
  const replay = new FastCommitReplay(below, logOf(builder));
  const overlay = new ReplayedDevice(device, blockSize, replay.blocksOver(device, nothing));
  const fs = new Filesystem(device, {}, overlay);
  fs.recovered = replay.changesOf(fs);
  return fs;
}

/** A stored inode of `mode` with `links`, as a tag has it. */
function rawInode(mode: number, links: number, sizeBytes = 0): Uint8Array {
  const raw = new Uint8Array(128 + 32);
  const view = new DataView(raw.buffer);
  view.setUint16(InodeLayout.mode, mode, true);
  view.setUint16(InodeLayout.linksCount, links, true);
  view.setUint32(InodeLayout.sizeLo, sizeBytes, true);
  view.setUint32(InodeLayout.flags, InodeFlags.EXTENTS, true);
  view.setUint32(InodeLayout.generation, 77, true);
  view.setUint32(InodeLayout.blocksLo, 2, true);
  view.setUint16(InodeLayout.extraIsize, 32, true);
  return raw;
}

const names = (fs: Filesystem, directory: InodeNumber): string[] =>
  entriesOf(fs, directory)
    .map(({ name }) => name)
    .sort();

describe("FastCommitReplay", () => {
  test("makes a file: its inode, its name and its blocks", () => {
    const fs = replayed((area) =>
      area
        .inode(FREE_INODE, rawInode(0o100640, 1, 2000))
        .addRange(FREE_INODE, 0, FREE_BLOCK, 2)
        .create(FOLDER, FREE_INODE, "made"),
    );
    expect(lookup(fs, FOLDER, bytesOf("made"))).toBe(FREE_INODE);
    expect(entriesOf(fs, FOLDER)).toContainEqual({ name: "made", inode: FREE_INODE, type: 8 });
    const inode = fs.inode(FREE_INODE);
    expect(inode).toMatchObject({ mode: 0o100640, linkCount: 1, sizeBytes: 2000, generation: 77 });
    expect(findRun(fs, inode, 0 as FileBlock, newRun())).toEqual({
      fsBlock: FREE_BLOCK,
      count: 2,
      unwritten: false,
    });
  });

  test("makes a directory, and files in it", () => {
    const fs = replayed((area) =>
      area
        .inode(FREE_INODE, rawInode(0o040755, 2, 1024))
        .create(FOLDER, FREE_INODE, "made")
        .link(FREE_INODE, FILE, "inside"),
    );
    expect(names(fs, FREE_INODE)).toEqual([".", "..", "inside"]);
    expect(parentOf(fs, FREE_INODE)).toBe(FOLDER);
    expect(lookup(fs, FREE_INODE, bytesOf("inside"))).toBe(FILE);
    expect(lookup(fs, FREE_INODE, bytesOf("absent"))).toBe(0);
    expect(fs.inode(FREE_INODE)).toMatchObject({ linkCount: 1, sizeBytes: 1024, blocks512: 0 });
    expect(fs.inode(FILE).linkCount).toBe(3);
  });

  test("replaces an inode but for its block map and its xattrs", () => {
    const before = new Filesystem(new MemoryDevice(image(NAME)), {});
    const fs = replayed((area) => area.inode(BIG, rawInode(0o100600, 1, 3000)));
    expect(fs.inode(BIG)).toMatchObject({ mode: 0o100600, sizeBytes: 3000, generation: 77 });
    expect(fs.inode(BIG).iBlock).toEqual(before.inode(BIG).iBlock);
    const tail = (of: Filesystem): Uint8Array => {
      const { raw } = of.inode(BIG);
      return new Uint8Array(raw.buffer, raw.byteOffset + 160, INODE_SIZE - 160);
    };
    expect(tail(fs)).toEqual(tail(before));
    const [ours, theirs] = [new Uint8Array(3000), new Uint8Array(3000)];
    expect(readFile(before, before.inode(BIG), 0, theirs)).toBe(3000);
    // The generation seeds the checksum of extent blocks, but this tree is all in the inode.
    expect(readFile(fs, fs.inode(BIG), 0, ours)).toBe(3000);
    expect(ours).toEqual(theirs);
  });

  test("removes names, and inodes with their last name", () => {
    const fs = replayed((area) =>
      area.unlink(FOLDER, FILE, "file").unlink(FOLDER, BIG, "big").unlink(FOLDER, BIG, "absent"),
    );
    expect(lookup(fs, FOLDER, bytesOf("file"))).toBe(0);
    expect(lookup(fs, FOLDER, bytesOf("hard-link"))).toBe(FILE);
    expect(fs.inode(FILE).linkCount).toBe(1);
    expect(names(fs, FOLDER)).not.toContain("file");
    expect(names(fs, FOLDER)).not.toContain("big");
    expect(() => fs.inode(BIG)).toThrow(expect.objectContaining({ errno: Errno.ESTALE }));
    const run = findRun(fs, fs.internalInode(BIG), 0 as FileBlock, newRun());
    expect(run.fsBlock).toBe(HOLE);
  });

  test("makes something else of the inode of a removed directory", () => {
    const inner = numberOf("/folder/inner");
    const fs = replayed((area) =>
      area
        .unlink(FOLDER, inner, "inner")
        .inode(inner, rawInode(0o100600, 1, 5000))
        .create(FOLDER, inner, "file-now"),
    );
    expect(lookup(fs, FOLDER, bytesOf("inner"))).toBe(0);
    expect(lookup(fs, FOLDER, bytesOf("file-now"))).toBe(inner);
    expect(findRun(fs, fs.inode(inner), 0 as FileBlock, newRun()).fsBlock).toBe(HOLE);

    const again = replayed((area) =>
      area
        .unlink(FOLDER, inner, "inner")
        .inode(inner, rawInode(0o040700, 2, 1024))
        .create(ROOT_INODE, inner, "directory-again"),
    );
    expect(names(again, inner)).toEqual([".", ".."]);
    expect(parentOf(again, inner)).toBe(ROOT_INODE);
  });

  test("gives a name to another inode when the old one is gone, not before", () => {
    const taken = replayed((area) => area.link(FOLDER, BIG, "file"));
    expect(lookup(taken, FOLDER, bytesOf("file"))).toBe(FILE);
    expect(taken.inode(BIG).linkCount).toBe(1);
    const free = replayed((area) => area.unlink(FOLDER, FILE, "file").link(FOLDER, BIG, "file"));
    expect(lookup(free, FOLDER, bytesOf("file"))).toBe(BIG);
    expect(names(free, FOLDER).filter((name) => name === "file")).toEqual(["file"]);
    expect(free.inode(BIG).linkCount).toBe(2);
  });

  test("keeps a name that is another inode's, but counts the link as gone", () => {
    const fs = replayed((area) => area.unlink(FOLDER, FILE, "big"));
    expect(lookup(fs, FOLDER, bytesOf("big"))).toBe(BIG);
    expect(fs.inode(FILE).linkCount).toBe(1);
  });

  test("takes back a name that it added", () => {
    const fs = replayed((area) => area.link(FOLDER, BIG, "more").unlink(FOLDER, BIG, "more"));
    expect(lookup(fs, FOLDER, bytesOf("more"))).toBe(0);
    expect(fs.inode(BIG).linkCount).toBe(1);
  });

  test("passes over tags about inodes and directories that are not in use", () => {
    const fs = replayed((area) =>
      area
        .link(FOLDER, FREE_INODE, "a")
        .link(FREE_INODE, FILE, "b")
        .link(FILE, BIG, "c")
        .link(FOLDER, 0xffff_ffff, "d")
        .link(FOLDER, 8, "e")
        .unlink(FREE_INODE, FILE, "file")
        .addRange(FREE_INODE, 0, FREE_BLOCK, 1)
        .deleteRange(FREE_INODE, 0, 1),
    );
    expect(Object.values(paths)).not.toContain(FREE_INODE);
    expect(names(fs, FOLDER)).toEqual(
      names(
        replayed(() => {}),
        FOLDER,
      ),
    );
    expect(fs.inode(FILE).linkCount).toBe(2);
  });

  test("lays ranges over the extent tree, the later ones over the earlier", () => {
    const below = new Filesystem(new MemoryDevice(image(NAME)), {});
    const first = findRun(below, below.inode(BIG), 0 as FileBlock, newRun());
    expect(first.count).toBeGreaterThan(4);
    const fs = replayed((area) =>
      area
        .addRange(BIG, 2, FREE_BLOCK, 3)
        .deleteRange(BIG, 3, 1)
        .addRange(BIG, 100, FREE_BLOCK + 50, 32768 + 4),
    );
    const runs: unknown[] = [];
    for (const at of [0, 1, 2, 3, 4, 5, 50, 100, 102, 104]) {
      runs.push([at, { ...findRun(fs, fs.inode(BIG), at as FileBlock, newRun()) }]);
    }
    const mapped = (fsBlock: number, count: number, unwritten = false): unknown => ({
      fsBlock,
      count,
      unwritten,
    });
    const rest = findRun(below, below.inode(BIG), 5 as FileBlock, newRun());
    expect(runs).toEqual([
      [0, mapped(first.fsBlock, 2)],
      [1, mapped(first.fsBlock + 1, 1)],
      [2, mapped(FREE_BLOCK, 1)],
      [3, mapped(HOLE, 1)],
      [4, mapped(FREE_BLOCK + 2, 1)],
      [5, { ...rest }],
      [50, mapped(HOLE, 50)],
      [100, mapped(FREE_BLOCK + 50, 4, true)],
      [102, mapped(FREE_BLOCK + 52, 2, true)],
      [104, { ...findRun(below, below.inode(BIG), 104 as FileBlock, newRun()) }],
    ]);
  });

  test.each<[string, (area: FastCommitBuilder) => void]>([
    ["an inode of the filesystem's own", (area) => area.inode(8, rawInode(0o100600, 1))],
    ["an inode past the last one", (area) => area.inode(9999, rawInode(0o100600, 1))],
    ["a new name for no inode", (area) => area.create(FOLDER, FREE_INODE, "x")],
    ["a new directory that is not new", (area) => area.create(ROOT_INODE, FOLDER, "x")],
    ["blocks past the end", (area) => area.addRange(FILE, 0, 2040, 20)],
    ["blocks at the start", (area) => area.addRange(FILE, 0, 1, 1)],
    ["file blocks past the last", (area) => area.addRange(FILE, 0xffff_fffe, FREE_BLOCK, 8)],
    ["the name ..", (area) => area.link(FOLDER, FILE, "..")],
    ["a name with a slash", (area) => area.unlink(FOLDER, FILE, "a/b")],
    ["a name with a zero byte", (area) => area.create(FOLDER, FILE, "a\0b")],
  ])("a tag with %s is fast-commit", (_, write) => {
    try {
      replayed(write);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(CorruptionError);
      expect((error as CorruptionError).rule).toBe("fast-commit");
    }
  });
});
