/** Times that change without an operation: when they change, and when they are stored. */
import { describe, expect, test } from "vitest";
import type { InodeNumber } from "../../../src/base/numbers.ts";
import { MemoryDevice } from "../../../src/device/memory-device.ts";
import {
  closeFilesystem,
  type Filesystem,
  noteAccess,
  noteWrite,
  openFilesystem,
  openWritableFilesystem,
  storeExpiredTimes,
  storeTimes,
  syncFile,
  type Timestamp,
  type WriteOptions,
} from "../../../src/ext4/index.ts";
import { expectation, image } from "../../support/images.ts";

const NAME = "ext4-4k";
const FILE = expectation(NAME).paths["/folder/sparse"] as InodeNumber;
const DIRECTORY = expectation(NAME).paths["/folder"] as InodeNumber;
const START = 2_000_000_000;
const DAY = 24 * 60 * 60;
const at = (seconds: number, nanoseconds = 0): Timestamp => ({ seconds, nanoseconds });

/** A filesystem whose clock the test sets. */
class Clocked {
  readonly bytes = image(NAME);
  time = at(START);
  readonly fs: Filesystem;

  constructor(options: WriteOptions) {
    const now = (): Timestamp => this.time;
    this.fs = openWritableFilesystem(new MemoryDevice(this.bytes), { ...options, now });
  }
  /** The access time after a read at `time`. */
  read(time: Timestamp, number = FILE): Timestamp {
    this.time = time;
    noteAccess(this.fs, number);
    return this.fs.inode(number).accessedAt;
  }
  get hasChanges(): boolean {
    return this.fs.writer.transactions.hasChanges;
  }
  /** What the device says after a crash now. */
  stored(number = FILE): { accessedAt: Timestamp; modifiedAt: Timestamp; changedAt: Timestamp } {
    const { accessedAt, modifiedAt, changedAt } = openFilesystem(
      new MemoryDevice(this.bytes.slice()),
    ).inode(number);
    return { accessedAt, modifiedAt, changedAt };
  }
}

describe("noteAccess", () => {
  test("with relatime moves the access time once after each change, and once a day", () => {
    const clocked = new Clocked({});
    expect(clocked.read(at(START, 5))).toEqual(at(START, 5));
    expect(clocked.read(at(START + 9))).toEqual(at(START, 5));
    noteWrite(clocked.fs, FILE, at(START + 10));
    expect(clocked.read(at(START + 11))).toEqual(at(START + 11));
    expect(clocked.read(at(START + 11 + DAY - 1))).toEqual(at(START + 11));
    expect(clocked.read(at(START + 11 + DAY))).toEqual(at(START + 11 + DAY));
  });

  test("with strictatime moves it every time", () => {
    const clocked = new Clocked({ atime: "strictatime" });
    clocked.read(at(START));
    expect(clocked.read(at(START, 1))).toEqual(at(START, 1));
    clocked.fs.writer.transactions.commit();
    expect(clocked.stored().accessedAt).toEqual(at(START, 1));
  });

  test("with noatime changes nothing, with nodiratime nothing on directories", () => {
    const never = new Clocked({ atime: "noatime" });
    expect(never.read(at(START))).toEqual(never.stored().accessedAt);
    const files = new Clocked({ nodiratime: true });
    expect(files.read(at(START))).toEqual(at(START));
    expect(files.read(at(START), DIRECTORY)).toEqual(files.stored(DIRECTORY).accessedAt);
  });

  test("does nothing on a filesystem that is open for reading", () => {
    const fs = openFilesystem(new MemoryDevice(image(NAME)));
    const before = fs.inode(FILE).accessedAt;
    noteAccess(fs, FILE);
    expect(fs.inode(FILE).accessedAt).toEqual(before);
  });
});

describe("noteWrite", () => {
  test("shows at once, and is stored with the next commit", () => {
    const clocked = new Clocked({});
    noteWrite(clocked.fs, FILE, at(START, 7));
    expect(clocked.fs.inode(FILE).modifiedAt).toEqual(at(START, 7));
    expect(clocked.fs.inode(FILE).timesChangedIn).toBe(clocked.fs.writer.transactions.runningId);
    expect(clocked.hasChanges).toBe(true);
    clocked.fs.writer.transactions.commit();
    const time = at(START, 7);
    expect(clocked.stored()).toMatchObject({ modifiedAt: time, changedAt: time });
  });

  test("survives the rollback of an operation on the same inode", () => {
    const clocked = new Clocked({ lazytime: true });
    noteWrite(clocked.fs, FILE, at(START, 7));
    const operation = () =>
      clocked.fs.transact(1, (tx) => {
        tx.edit(clocked.fs.inode(FILE)).mode = 0;
        throw new Error("no");
      });
    expect(operation).toThrow("no");
    closeFilesystem(clocked.fs);
    expect(clocked.stored().modifiedAt).toEqual(at(START, 7));
  });
});

describe("lazytime", () => {
  test("makes no commit, but is stored when it is asked for", () => {
    const clocked = new Clocked({ lazytime: true });
    const before = clocked.stored();
    noteWrite(clocked.fs, FILE, at(START, 7));
    clocked.read(at(START, 8), DIRECTORY);
    expect(clocked.hasChanges).toBe(false);
    clocked.fs.writer.transactions.commit();
    expect(clocked.stored()).toEqual(before);
    storeTimes(clocked.fs, FILE);
    clocked.fs.writer.transactions.commit();
    expect(clocked.stored().modifiedAt).toEqual(at(START, 7));
    expect(clocked.stored(DIRECTORY).accessedAt).not.toEqual(at(START, 8));
    closeFilesystem(clocked.fs);
    expect(clocked.stored(DIRECTORY).accessedAt).toEqual(at(START, 8));
  });

  test("is stored by fsync after later commits, and not by fdatasync", () => {
    const clocked = new Clocked({ lazytime: true });
    noteWrite(clocked.fs, FILE, at(START, 7));
    clocked.fs.transact(1, (tx) => {
      tx.edit(clocked.fs.inode(DIRECTORY)).uid = 5;
    });
    clocked.fs.writer.transactions.commit();
    syncFile(clocked.fs, FILE, true);
    expect(clocked.stored().modifiedAt).not.toEqual(at(START, 7));
    syncFile(clocked.fs, FILE, false);
    expect(clocked.stored().modifiedAt).toEqual(at(START, 7));
  });

  test("is stored once the oldest time has waited for so long as somebody says", () => {
    const clocked = new Clocked({ lazytime: true });
    clocked.time = at(START);
    noteWrite(clocked.fs, FILE, at(START, 7));
    clocked.time = at(START + 9);
    storeExpiredTimes(clocked.fs, 10);
    expect(clocked.hasChanges).toBe(false);
    clocked.time = at(START + 10);
    storeExpiredTimes(clocked.fs, 10);
    clocked.fs.writer.transactions.commit();
    expect(clocked.stored().modifiedAt).toEqual(at(START, 7));
    storeExpiredTimes(clocked.fs, 0);
    expect(clocked.hasChanges).toBe(false);
  });

  test("is stored with the next change of the inode", () => {
    const clocked = new Clocked({ lazytime: true });
    noteWrite(clocked.fs, FILE, at(START, 7));
    clocked.fs.transact(1, (tx) => {
      tx.edit(clocked.fs.inode(FILE)).uid = 5;
    });
    clocked.fs.writer.transactions.commit();
    expect(clocked.stored().modifiedAt).toEqual(at(START, 7));
  });

  test("waits no longer than a day", () => {
    const clocked = new Clocked({ lazytime: true });
    noteWrite(clocked.fs, FILE, at(START));
    noteWrite(clocked.fs, DIRECTORY, at(START + DAY - 1));
    expect(clocked.hasChanges).toBe(false);
    noteWrite(clocked.fs, DIRECTORY, at(START + DAY));
    expect(clocked.hasChanges).toBe(true);
  });
});
