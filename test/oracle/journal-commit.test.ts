/**
 * What commits leave on a device when the power fails, at each moment and with any part of the
 * unflushed writes lost, judged by e2fsck: its replay of the journal, our view of it and our
 * recovery must all come to the same, and that must be what one of the commits left.
 *
 * The blocks that the transactions change belong to nobody, so that nothing but the journal is
 * tested, and e2fsck has nothing to say about the rest of the filesystem. Some of them are freed
 * and then written as a file's data would be: past the journal.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { WritableDevice } from "../../src/base/block-device.ts";
import { be32, setBe32, setU8, sizeOf } from "../../src/base/layout.ts";
import type { FileBlock, FsBlock } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  ChecksumType,
  JOURNAL_MAGIC,
  JournalCompat,
  JournalIncompat,
  JournalSuperblockLayout,
  sealJournalSuperblock,
} from "../../src/ext4/format/jbd2.ts";
import {
  closeFilesystem,
  type Filesystem,
  openFilesystem,
  openWritableFilesystem,
} from "../../src/ext4/index.ts";
import { findRun } from "../../src/ext4/map/iomap.ts";
import { newRun } from "../../src/ext4/map/run.ts";
import { debugfs, e2fsck, mke2fs } from "../support/e2fsprogs.ts";
import { type Random, randomFrom, seedOfRun } from "../support/random.ts";
import { output, run, skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { Scope } from "../support/scope.ts";

const S = JournalSuperblockLayout;
const SUPERBLOCK_OFFSET = 1024;
/** Blocks at the end of the device that the transactions change. */
const AREA_BLOCKS = 48;

/** The bytes of the devices of one filesystem: its own, and its journal's if it has one. */
type Disks = readonly Uint8Array[];

interface Setup {
  readonly blockSize: number;
  readonly size: string;
  readonly features?: string;
  /** Blocks of an external journal. */
  readonly externalBlocks?: number;
  /** Checksums that mke2fs does not set up. */
  readonly checksums?: 1 | 2;
  readonly transactions: number;
  /** Moments at which e2fsck is asked: it takes long. */
  readonly judged: number;
}

const setups: Record<string, Setup> = {
  "no checksums, 32 bit": {
    blockSize: 1024,
    size: "8M",
    features: "^metadata_csum,^64bit",
    transactions: 120,
    judged: 25,
  },
  "checksums v1": {
    blockSize: 1024,
    size: "8M",
    features: "^metadata_csum,64bit",
    checksums: 1,
    transactions: 80,
    judged: 25,
  },
  "checksums v2, 32 bit": {
    blockSize: 1024,
    size: "8M",
    features: "^metadata_csum,^64bit",
    checksums: 2,
    transactions: 80,
    judged: 25,
  },
  "checksums v2, 64 bit": {
    blockSize: 1024,
    size: "8M",
    features: "^metadata_csum,64bit",
    checksums: 2,
    transactions: 80,
    judged: 25,
  },
  "checksums v3, 32 bit": {
    blockSize: 1024,
    size: "8M",
    features: "metadata_csum,^64bit",
    transactions: 80,
    judged: 25,
  },
  "checksums v3, blocks of 4 KiB": {
    blockSize: 4096,
    size: "16M",
    transactions: 80,
    judged: 20,
  },
  "checksums v3, blocks of 64 KiB": {
    blockSize: 65536,
    size: "160M",
    transactions: 30,
    judged: 3,
  },
  "external journal, blocks of 1 KiB": {
    blockSize: 1024,
    size: "4M",
    externalBlocks: 1100,
    transactions: 80,
    judged: 20,
  },
  "external journal, blocks of 4 KiB": {
    blockSize: 4096,
    size: "8M",
    externalBlocks: 1100,
    transactions: 60,
    judged: 15,
  },
};

const scope = new Scope();
afterAll(() => scope.close());

function freshDisks(setup: Setup): Disks {
  const folder = scope.temporaryFolder();
  const image = join(folder, "image");
  const { blockSize, size, features = "metadata_csum,64bit", externalBlocks } = setup;
  const block = ["-b", String(blockSize)];
  if (externalBlocks === undefined) {
    const journal = ["-J", `size=${blockSize / 1024}`];
    mke2fs(image, size, ["-t", "ext4", "-N", "64", "-O", features, ...block, ...journal]);
    const bytes = bytesOf(image);
    if (setup.checksums !== undefined) setChecksums(bytes, setup.checksums);
    return [bytes];
  }
  const journal = join(folder, "journal");
  mke2fs(journal, String(externalBlocks * blockSize), ["-O", "journal_dev", ...block]);
  const uuid = /UUID: +(\S+)/.exec(output("dumpe2fs", ["-h", journal]))?.[1];
  mke2fs(image, size, ["-t", "ext4", "-N", "64", "-O", `${features},^has_journal`, ...block]);
  const external = ["feature has_journal", "ssv journal_dev 0x9999", `ssv journal_uuid ${uuid}`];
  debugfs(image, external, true);
  const journalBytes = bytesOf(journal);
  const index = Math.floor(SUPERBLOCK_OFFSET / blockSize) + 1;
  const view = new DataView(
    journalBytes.buffer,
    journalBytes.byteOffset + index * blockSize,
    sizeOf(S),
  );
  setBe32(view, 0, S.nrUsers, 1);
  return [bytesOf(image), journalBytes];
}

const bytesOf = (file: string): Uint8Array => new Uint8Array(readFileSync(file));

/** Turns the checksums on that a kernel without metadata_csum would be told to use. */
function setChecksums(image: Uint8Array, version: 1 | 2): void {
  const fs = openFilesystem(new MemoryDevice(image));
  const view = journalSuperblock(fs, image);
  if (version === 1) {
    setBe32(view, 0, S.featureCompat, JournalCompat.CHECKSUM);
  } else {
    const incompat = be32(view, 0, S.featureIncompat) | JournalIncompat.CSUM_V2;
    setBe32(view, 0, S.featureIncompat, incompat);
    setU8(view, 0, S.checksumType, ChecksumType.CRC32C);
    sealJournalSuperblock(view, fs.checksums);
  }
}

function journalSuperblock(fs: Filesystem, image: Uint8Array): DataView {
  const inode = fs.internalInode(fs.superblock.journalInode);
  const { fsBlock } = findRun(fs, inode, 0 as FileBlock, newRun());
  const at = image.byteOffset + fsBlock * fs.superblock.blockSize;
  return new DataView(image.buffer, at, sizeOf(S));
}

/** What happened to the disks, in order. */
type Event =
  | { readonly disk: number; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly disk: number; readonly offset: undefined };

/** The disks of one filesystem, which remember what was done to them. */
class Recorder {
  readonly events: Event[] = [];
  readonly #disks: Disks;

  constructor(disks: Disks) {
    this.#disks = disks;
  }

  device(disk: number): WritableDevice {
    const bytes = this.#disks[disk] as Uint8Array;
    const memory = new MemoryDevice(bytes);
    return {
      sizeBytes: memory.sizeBytes,
      read: (offset, into) => memory.read(offset, into),
      write: (offset, written) => {
        memory.write(offset, written);
        this.events.push({ disk, offset, bytes: written.slice() });
      },
      flush: () => this.events.push({ disk, offset: undefined }),
      discard: () => {},
      zero: (offset, length) => memory.zero(offset, length),
    };
  }

  open(): Filesystem {
    const external = this.#disks.length > 1 && { journalDevice: this.device(1) };
    return openWritableFilesystem(this.device(0), { ...external });
  }
}

/** What the area holds: bytes, or undefined where any bytes will do, by block number. */
type State = ReadonlyMap<number, Uint8Array | undefined>;

/** What a random history of transactions did, and what each of its commits left. */
class History {
  readonly recorder: Recorder;
  /** By the number of commits. */
  readonly states: State[] = [];
  /** By the number of commits, how many events there were when it began and when it returned. */
  readonly begun: number[] = [0];
  readonly done: number[] = [0];
  readonly first: number;
  readonly #random: Random;
  readonly #fs: Filesystem;
  readonly #blockSize: number;
  readonly #now = new Map<number, Uint8Array | undefined>();
  /** Blocks that a committed transaction has freed. */
  readonly #free = new Set<number>();

  constructor(disks: Disks, { blockSize, transactions }: Setup, random: Random) {
    this.#random = random;
    this.#blockSize = blockSize;
    this.recorder = new Recorder(disks);
    this.#fs = this.recorder.open();
    expect(this.#fs.writer.journal).toBeDefined();
    this.first = this.#fs.superblock.blockCount - AREA_BLOCKS;
    for (let index = 0; index < AREA_BLOCKS; index++) {
      this.#now.set(this.first + index, this.#fs.blocks.get(this.#number(index)).bytes.slice());
    }
    this.states.push(new Map(this.#now));
    for (let count = 0; count < transactions; count++) this.#transaction();
    closeFilesystem(this.#fs);
  }

  #number(index: number): FsBlock {
    return (this.first + index) as FsBlock;
  }

  #transaction(): void {
    const freed = new Set<number>();
    const handles = 1 + this.#random.below(6);
    for (let handle = 0; handle < handles; handle++) this.#handle(freed);
    for (const number of [...this.#free]) {
      if (this.#random.below(3) === 0) this.#writeData(number);
    }
    this.states.push(new Map(this.#now));
    this.begun.push(this.recorder.events.length);
    if (this.#fs.writer.transactions.hasChanges) this.#fs.writer.transactions.commit();
    else this.#fs.writer.device.flush();
    this.done.push(this.recorder.events.length);
    for (const number of freed) if (this.#now.get(number) === undefined) this.#free.add(number);
  }

  /** Some changes at once; one handle in eight fails, so that none of them counts. */
  #handle(freed: Set<number>): void {
    const changes = new Map<number, Uint8Array | undefined>();
    const fails = this.#random.below(8) === 0;
    const touch = (): void =>
      this.#fs.transact(10, (tx) => {
        for (let count = this.#random.below(8); count >= 0; count--) {
          const number = this.#number(this.#random.below(AREA_BLOCKS));
          if (changes.has(number)) continue;
          if (this.#now.get(number) === undefined) {
            // What was freed may come back before the commit, as metadata.
            if (freed.has(number) && this.#random.below(4) > 0) continue;
            const bytes = tx.create(number).bytes;
            this.#fill(bytes);
            changes.set(number, bytes.slice());
          } else if (this.#random.below(5) === 0) {
            tx.forget(number);
            changes.set(number, undefined);
          } else {
            const { bytes } = tx.modify(this.#fs.blocks.get(number));
            this.#fill(bytes);
            changes.set(number, bytes.slice());
          }
        }
        if (fails) throw new RangeError("on purpose");
      });
    if (fails) {
      expect(touch).toThrow(RangeError);
      return;
    }
    touch();
    for (const [number, bytes] of changes) {
      this.#now.set(number, bytes);
      this.#free.delete(number);
      if (bytes === undefined) freed.add(number);
      else freed.delete(number);
    }
  }

  /** Nobody reads a free block, so it may be written at once; the next commit makes that durable. */
  #writeData(number: number): void {
    const bytes = new Uint8Array(this.#blockSize);
    this.#fill(bytes);
    this.#fs.writer.device.write(number * this.#blockSize, bytes);
    this.#now.set(number, bytes);
    this.#free.delete(number);
    this.#fs.blocks.drop(number as FsBlock);
  }

  #fill(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    bytes.fill(this.#random.below(256));
    view.setUint32(0, this.#random.below(4) === 0 ? JOURNAL_MAGIC : this.#random.below(2 ** 32));
    view.setUint32(bytes.length - 4, this.#random.below(2 ** 32));
  }
}

/** What a device writes wholly or not at all. */
const ATOMIC_BYTES = 1024;

/**
 * The disks after crashes between two of the `events`: all that was flushed, and what came after
 * it, or random parts of that.
 *
 * @param every one moment in so many is tried.
 */
function* crashes(
  before: Disks,
  events: readonly Event[],
  random: Random,
  every: number,
): Generator<{ disks: Disks; moment: number }> {
  const durable = before.map((bytes) => bytes.slice());
  let pending: Event[] = [];
  for (let moment = 0; moment <= events.length; moment++) {
    if (random.below(every) === 0) {
      const disks = durable.map((bytes) => bytes.slice());
      const isTorn = random.below(2) === 0;
      for (const event of pending) apply(disks, event, isTorn ? random : undefined);
      yield { disks, moment };
    }
    const event = events[moment];
    if (event === undefined) return;
    if (event.offset !== undefined) {
      pending.push(event);
      continue;
    }
    for (const each of pending) if (each.disk === event.disk) apply(durable, each);
    pending = pending.filter(({ disk }) => disk !== event.disk);
  }
}

/** @param losing picks the parts that are written; absent: all. */
function apply(disks: Disks, event: Event, losing?: Random): void {
  if (event.offset === undefined) return;
  const { disk, offset, bytes } = event;
  for (let at = 0; at < bytes.length; at += ATOMIC_BYTES) {
    if (losing !== undefined && losing.below(3) === 0) continue;
    (disks[disk] as Uint8Array).set(bytes.subarray(at, at + ATOMIC_BYTES), offset + at);
  }
}

/** Makes what is no concern of a replay equal: the journal, and the block of the superblock. */
function maskOf(fs: Filesystem): (disk: Uint8Array) => Uint8Array {
  const { blockSize, journalInode } = fs.superblock;
  const blocks = [Math.floor(SUPERBLOCK_OFFSET / blockSize)];
  if (journalInode !== 0) {
    const inode = fs.internalInode(journalInode);
    const found = newRun();
    for (let at = 0; at < inode.sizeBytes / blockSize; at++) {
      blocks.push(findRun(fs, inode, at as FileBlock, found).fsBlock);
    }
  }
  return (disk) => {
    for (const block of blocks) disk.fill(0, block * blockSize, (block + 1) * blockSize);
    return disk;
  };
}

/** The filesystem as our view of it shows it, without anything being written. */
function seen(disks: Disks): Uint8Array {
  const fs = openFilesystem(new MemoryDevice(disks[0] as Uint8Array), externalOf(disks));
  const bytes = new Uint8Array(fs.device.sizeBytes);
  fs.device.read(0, bytes);
  return bytes;
}

/** The disk after our recovery for good. */
function recovered(disks: Disks): Uint8Array {
  const copies = disks.map((bytes) => bytes.slice());
  const [image] = copies as [Uint8Array];
  openWritableFilesystem(new MemoryDevice(image), externalOf(copies));
  return image;
}

const externalOf = ([, journal]: Disks): { journalDevice?: MemoryDevice } =>
  journal === undefined ? {} : { journalDevice: new MemoryDevice(journal) };

/** The disk after the recovery of e2fsck. */
function recoveredByE2fsck(disks: Disks): Uint8Array {
  const folder = scope.temporaryFolder();
  const files = disks.map((bytes, index) => {
    const file = join(folder, String(index));
    writeFileSync(file, bytes);
    return file;
  });
  const [image, journal] = files as [string, string?];
  const external = journal === undefined ? [] : ["-j", journal];
  run("e2fsck", ["-y", "-E", "journal_only", ...external, image], { accept: [0, 1] });
  return bytesOf(image);
}

/** Whether `disk` holds in the area what `state` says. */
function holds(disk: Uint8Array, state: State, blockSize: number): boolean {
  for (const [number, bytes] of state) {
    const found = disk.subarray(number * blockSize, (number + 1) * blockSize);
    if (bytes !== undefined && Buffer.compare(found, bytes) !== 0) return false;
  }
  return true;
}

const noE2fsprogs = skipBecause("commits against e2fsck", whyNoE2fsprogs());
const MOMENTS = 120;

describe.skipIf(noE2fsprogs)("a crash leaves what a commit left", () => {
  test.each(Object.entries(setups))("%s", (_name, setup) => {
    const seed = seedOfRun();
    const random = randomFrom(seed);
    const { blockSize } = setup;
    const disks = freshDisks(setup);
    const before = disks.map((bytes) => bytes.slice());
    const history = new History(disks, setup, random);
    const { events } = history.recorder;
    const mask = maskOf(openFilesystem(new MemoryDevice(disks[0] as Uint8Array)));
    const moments = Math.min(MOMENTS, setup.judged * 5);
    const every = Math.max(1, Math.floor(events.length / moments));
    let tried = 0;
    let found = -1;
    for (const { disks: crashed, moment } of crashes(before, events, random, every)) {
      const what = `SEED=${seed}, after ${moment} of ${events.length} calls`;
      const image = recovered(crashed);
      const oldest = history.done.filter((done) => done <= moment).length - 1;
      const newest = history.begun.filter((begun) => begun <= moment).length - 1;
      const left = history.states.findIndex(
        (state, index) => index >= oldest && index <= newest && holds(image, state, blockSize),
      );
      expect(left, `${what}: commit ${oldest} to ${newest}`).toBeGreaterThanOrEqual(0);
      const ours = mask(image);
      expect(Buffer.compare(mask(seen(crashed)), ours), what).toBe(0);
      if (tried++ % 5 === 0) {
        expect(Buffer.compare(mask(recoveredByE2fsck(crashed)), ours), what).toBe(0);
      }
      found = Math.max(found, left);
    }
    expect(found).toBeGreaterThan(setup.transactions / 2);
    expect(holds(disks[0] as Uint8Array, history.states.at(-1) as State, blockSize)).toBe(true);
    closedCleanly(disks);
  });
});

/** What e2fsck and dumpe2fs say after the last close. */
function closedCleanly(disks: Disks): void {
  const folder = scope.temporaryFolder();
  const files = disks.map((bytes, index) => {
    const file = join(folder, String(index));
    writeFileSync(file, bytes);
    return file;
  });
  const [image, journal] = files as [string, string?];
  expect(e2fsck(image, journal === undefined ? [] : ["-j", journal])).toBe("");
  const shown = output("dumpe2fs", ["-h", image]);
  expect(shown).not.toContain("needs_recovery");
  expect(shown).toMatch(/Filesystem state: +clean\n/);
}
