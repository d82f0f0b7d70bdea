/**
 * What opening for changes does to a journal and to the superblock, and when commits write what.
 * What survives a crash is test/oracle/journal-commit.test.ts.
 */
import { describe, expect, test } from "vitest";
import type { WritableDevice } from "../../../../src/base/block-device.ts";
import { be32, le16, setBe32, setLe32 } from "../../../../src/base/layout.ts";
import type { FileBlock, FsBlock } from "../../../../src/base/numbers.ts";
import { MemoryDevice } from "../../../../src/device/memory-device.ts";
import { FsError } from "../../../../src/ext4/errors.ts";
import { Incompat } from "../../../../src/ext4/format/features.ts";
import {
  JournalBlockType,
  JournalCompat,
  JournalIncompat,
  JournalSuperblock,
  JournalSuperblockLayout,
  sealJournalSuperblock,
} from "../../../../src/ext4/format/jbd2.ts";
import { SuperblockLayout, SuperblockState } from "../../../../src/ext4/format/superblock.ts";
import {
  closeFilesystem,
  type Filesystem,
  openFilesystem,
  openWritableFilesystem,
} from "../../../../src/ext4/index.ts";
import { findRun } from "../../../../src/ext4/map/iomap.ts";
import { newRun } from "../../../../src/ext4/map/run.ts";
import { image } from "../../../support/images.ts";

const S = JournalSuperblockLayout;
const SUPERBLOCK = 1024;
const BLOCK_SIZE = 1024;
const JOURNAL_BLOCKS = 1024;
/** Blocks at the end of the image, which are free. */
const AREA_BLOCKS = 600;

/** A golden image with blocks of 1 KiB, and its journal's superblock, to be changed by tests. */
class Disk implements WritableDevice {
  readonly bytes: Uint8Array;
  readonly sizeBytes: number;
  readonly superblock: DataView;
  readonly journal: DataView;
  readonly warnings: string[] = [];
  /** Calls so far, and where the first failing one is. */
  calls: string[] = [];
  failsFrom = Number.POSITIVE_INFINITY;
  readonly #device: MemoryDevice;
  readonly #before: Filesystem;

  constructor(name: string) {
    this.bytes = image(name);
    this.sizeBytes = this.bytes.length;
    this.#device = new MemoryDevice(this.bytes);
    this.superblock = new DataView(this.bytes.buffer, SUPERBLOCK, 1024);
    this.#before = openFilesystem(new MemoryDevice(image(name)));
    const inode = this.#before.internalInode(this.#before.superblock.journalInode);
    const { fsBlock } = findRun(this.#before, inode, 0 as FileBlock, newRun());
    this.journal = new DataView(this.bytes.buffer, fsBlock * BLOCK_SIZE, BLOCK_SIZE);
  }

  open(): Filesystem {
    return openWritableFilesystem(this, { onWarning: (message) => this.warnings.push(message) });
  }

  /** Changes the journal's superblock. */
  changeJournal(change: (view: DataView) => void): void {
    change(this.journal);
    sealJournalSuperblock(this.journal, this.#before.checksums);
  }

  parsedJournal(): JournalSuperblock {
    return new JournalSuperblock(this.journal, BLOCK_SIZE, JOURNAL_BLOCKS, this.#before.checksums);
  }

  get needsRecovery(): boolean {
    const incompat = this.superblock.getUint32(SuperblockLayout.featureIncompat, true);
    return (incompat & Incompat.RECOVER) !== 0;
  }
  get state(): number {
    return le16(this.superblock, 0, SuperblockLayout.state);
  }

  read(offset: number, into: Uint8Array): void {
    this.#device.read(offset, into);
  }
  write(offset: number, bytes: Uint8Array): void {
    this.#call(`write ${bytes.length / BLOCK_SIZE}`);
    this.#device.write(offset, bytes);
  }
  flush(): void {
    this.#call("flush");
  }
  discard(): void {}
  zero(offset: number, length: number): void {
    this.#device.zero(offset, length);
  }

  #call(what: string): void {
    if (this.calls.length >= this.failsFrom) throw new Error("power failure");
    this.calls.push(what);
  }
}

/** Changes `count` blocks of the area in one handle. */
function change(fs: Filesystem, count: number, value: number): void {
  const first = fs.superblock.blockCount - AREA_BLOCKS;
  fs.transact(count, (tx) => {
    for (let index = 0; index < count; index++) {
      tx.modify(fs.blocks.get((first + index) as FsBlock)).bytes.fill(value);
    }
  });
}

describe("openWritableFilesystem", () => {
  test("says that recovery is needed until the filesystem is closed", () => {
    const disk = new Disk("orphan-file");
    const fs = disk.open();
    expect(disk.needsRecovery).toBe(true);
    expect(disk.state & SuperblockState.VALID).toBe(SuperblockState.VALID);
    expect(disk.parsedJournal().start).toBe(0);
    change(fs, 1, 1);
    fs.writer.transactions.commit();
    expect(disk.parsedJournal().start).toBe(1);
    closeFilesystem(fs);
    expect(disk.needsRecovery).toBe(false);
    expect(disk.parsedJournal().start).toBe(0);
    expect(disk.warnings).toEqual([]);
  });

  test("gives the journal the features that its transactions need, and no others", () => {
    const disk = new Disk("orphan-file");
    disk.changeJournal((view) => {
      setBe32(view, 0, S.featureIncompat, JournalIncompat.ASYNC_COMMIT);
      setBe32(view, 0, S.featureCompat, JournalCompat.CHECKSUM);
    });
    closeFilesystem(disk.open());
    const { REVOKE, CSUM_V3 } = JournalIncompat;
    expect(be32(disk.journal, 0, S.featureIncompat)).toBe(
      REVOKE | CSUM_V3 | JournalIncompat["64BIT"],
    );
    expect(be32(disk.journal, 0, S.featureCompat)).toBe(0);
    expect(disk.parsedJournal().checksumVersion).toBe(3);
  });

  test("makes a superblock of version 2 of one of version 1", () => {
    const disk = new Disk("ext3-1k");
    setBe32(disk.journal, 0, S.blocktype, JournalBlockType.SUPERBLOCK_V1);
    new Uint8Array(disk.journal.buffer, disk.journal.byteOffset).fill(0xaa, 0x24, 1024);
    closeFilesystem(disk.open());
    const { uuid, userCount, checksumVersion } = disk.parsedJournal();
    expect({ userCount, checksumVersion }).toEqual({ userCount: 1, checksumVersion: 0 });
    expect(be32(disk.journal, 0, S.featureIncompat)).toBe(JournalIncompat.REVOKE);
    expect(uuid).toEqual(openFilesystem(new MemoryDevice(disk.bytes)).superblock.uuid);
  });

  test("makes an error that the journal recorded one of the filesystem", () => {
    const disk = new Disk("ext3-1k");
    disk.changeJournal((view) => setBe32(view, 0, S.errno, -5 >>> 0));
    const fs = disk.open();
    expect(disk.state & SuperblockState.ERROR).toBe(SuperblockState.ERROR);
    expect(disk.parsedJournal().errorNumber).toBe(0);
    closeFilesystem(fs);
    expect(disk.state).toBe(SuperblockState.ERROR | SuperblockState.VALID);
  });

  test("throws away a log that the superblock does not know of", () => {
    const disk = new Disk("ext3-1k");
    const sequence = disk.parsedJournal().sequence;
    disk.changeJournal((view) => setBe32(view, 0, S.start, 5));
    const fs = disk.open();
    expect(disk.parsedJournal().start).toBe(0);
    expect(disk.parsedJournal().sequence).toBe(sequence + JOURNAL_BLOCKS);
    closeFilesystem(fs);
  });

  test("refuses to leave a journal alone that is needed, and no other", () => {
    const disk = new Disk("ext3-1k");
    const fs = openWritableFilesystem(disk, { noRecovery: true });
    expect(disk.state & SuperblockState.VALID).toBe(0);
    expect(disk.needsRecovery).toBe(false);
    closeFilesystem(fs);
    expect(disk.state & SuperblockState.VALID).toBe(SuperblockState.VALID);
    const incompat = disk.superblock.getUint32(SuperblockLayout.featureIncompat, true);
    setLe32(disk.superblock, 0, SuperblockLayout.featureIncompat, incompat | Incompat.RECOVER);
    expect(() => openWritableFilesystem(disk, { noRecovery: true })).toThrow(/its journal holds/);
  });

  test("says so when there is no journal", () => {
    const warnings: string[] = [];
    const device = new MemoryDevice(image("ext2-1k"));
    const fs = openWritableFilesystem(device, { onWarning: (message) => warnings.push(message) });
    closeFilesystem(fs);
    expect(warnings).toEqual([expect.stringMatching(/^no journal: /)]);
  });
});

describe("commit", () => {
  test("stores all blocks at once, and the commit block when they are safe", () => {
    const disk = new Disk("orphan-file");
    const fs = disk.open();
    change(fs, 30, 1);
    fs.writer.transactions.commit();
    disk.calls = [];
    change(fs, 20, 2);
    fs.writer.transactions.commit();
    expect(disk.calls).toEqual(["write 21", "flush", "write 1", "flush"]);
  });

  test("writes blocks to their places when half of the log is used", () => {
    const disk = new Disk("orphan-file");
    const fs = disk.open();
    const place = disk.bytes.subarray((fs.superblock.blockCount - AREA_BLOCKS) * BLOCK_SIZE);
    const before = place[0];
    let commits = 0;
    for (; place[0] === before; commits++) {
      change(fs, 100, 7 + commits);
      fs.writer.transactions.commit();
      expect(commits).toBeLessThan(6);
    }
    // Each takes 103 blocks: 62 tags fit into a descriptor.
    expect(commits).toBe(5);
    expect(fs.blocks.pinnedCount).toBe(0);
    expect(disk.parsedJournal().start).toBe(5 * 103 + 1);
  });

  test("does not write over a part of the log before it is durable that nobody needs it", () => {
    const disk = new Disk("orphan-file");
    const fs = disk.open();
    for (let commits = 0; commits < 2; commits++) {
      change(fs, 250, commits);
      fs.writer.transactions.commit();
    }
    // More than half is free now, but a crash may leave the superblock that came before.
    expect(disk.calls.at(-1)).toBe("write 1");
    disk.calls = [];
    change(fs, AREA_BLOCKS, 2);
    fs.writer.transactions.commit();
    expect(disk.calls.slice(0, 2)).toEqual(["flush", expect.stringMatching(/^write/)]);
  });

  test("counts sequence numbers in 32 bits", () => {
    const disk = new Disk("orphan-file");
    disk.changeJournal((view) => setBe32(view, 0, S.sequence, 0xffff_fffe));
    const fs = disk.open();
    for (let commits = 0; commits < 3; commits++) {
      change(fs, 1, commits);
      fs.writer.transactions.commit();
    }
    const copy = openFilesystem(new MemoryDevice(disk.bytes.slice()));
    const first = (fs.superblock.blockCount - AREA_BLOCKS) as FsBlock;
    expect(copy.blocks.get(first).bytes[0]).toBe(2);
    closeFilesystem(fs);
    expect(disk.parsedJournal().sequence).toBe(2);
  });

  test("ends all writing when the device fails, and keeps what was committed", () => {
    const disk = new Disk("orphan-file");
    const fs = disk.open();
    change(fs, 3, 1);
    fs.writer.transactions.commit();
    change(fs, 3, 2);
    disk.failsFrom = disk.calls.length + 1;
    expect(() => fs.writer.transactions.commit()).toThrow(FsError);
    disk.failsFrom = Number.POSITIVE_INFINITY;
    expect(() => change(fs, 1, 3)).toThrow(/read-only/);
    closeFilesystem(fs);
    expect(disk.needsRecovery).toBe(true);
    const again = disk.open();
    const first = (fs.superblock.blockCount - AREA_BLOCKS) as FsBlock;
    expect(again.blocks.get(first).bytes[0]).toBe(1);
  });

  test("gives up a transaction that is larger than the log", () => {
    const disk = new Disk("orphan-file");
    const fs = disk.open();
    fs.transact(1, (tx) => {
      for (let block = 1; block <= JOURNAL_BLOCKS; block++) {
        tx.create((fs.superblock.blockCount - block) as FsBlock);
      }
    });
    const commit = (): void => fs.writer.transactions.commit();
    expect(commit).toThrow("the changes cannot be committed");
    expect(fs.writer.transactions.isAborted).toBe(true);
  });
});
