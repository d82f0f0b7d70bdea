/**
 * Where a journal's blocks come from: the blocks of the journal inode, or a device of its own.
 *
 *     journal inode     index 0 is its first block
 *     journal device    block indexes count from the start of the device, and index 0 (with blocks
 *                       of 1 KiB: 0 and 1) holds an ext4 superblock that says whose journal it is
 *
 * @see ext4/journal.rst, "External Journal"; fs/ext4/super.c, ext4_get_journal_blkdev
 */
import type { BlockDevice } from "../../base/block-device.ts";
import { Errno } from "../../base/errno.ts";
import { bytesAt, le16, le32, sizeOf, widthOf } from "../../base/layout.ts";
import type { FileBlock } from "../../base/numbers.ts";
import { join32 } from "../../base/numbers.ts";
import { readDevice } from "../cache/block-cache.ts";
import { CorruptionError, FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { Incompat, RoCompat } from "../format/features.ts";
import type { Inode } from "../format/inode.ts";
import { SUPER_MAGIC, SUPERBLOCK_OFFSET, SuperblockLayout } from "../format/superblock.ts";
import { findRun } from "../map/iomap.ts";
import { HOLE, newRun, type Run } from "../map/run.ts";

/** The blocks of a journal by index. */
export interface JournalSource {
  readonly blockSize: number;
  /** Indexes are below this. */
  readonly blockCount: number;
  /** The index of the journal's superblock. */
  readonly superblockIndex: number;
  /** The bytes of block `index`, in memory of their own. */
  readBlock(index: number): Uint8Array;
}

/** Blocks of a journal that lie together on its device. */
export interface JournalRun {
  /** The index of the first. */
  readonly start: number;
  readonly count: number;
  /** Where the first lies, in blocks. */
  readonly deviceBlock: number;
}

/** A journal of which it is known where it lies. */
export interface StoredJournal extends JournalSource {
  /**
   * Where all its blocks lie, by ascending index.
   *
   * @throws CorruptionError `journal-block` when one of them lies nowhere.
   */
  runs(): JournalRun[];
}

/** The journal of a filesystem that keeps it in an inode. */
export class InodeJournal implements StoredJournal {
  readonly blockSize: number;
  readonly blockCount: number;
  readonly superblockIndex = 0;
  readonly #fs: Filesystem;
  readonly #inode: Inode;
  readonly #run = newRun();
  #runStart = 0;

  /** @throws CorruptionError `journal-superblock` when the inode cannot be a journal. */
  constructor(fs: Filesystem, number: number) {
    const inode = fs.internalInode(number);
    if (!inode.isRegular || inode.linkCount === 0) {
      throw new CorruptionError("journal-superblock", { inode: number }, "not a journal inode");
    }
    this.blockSize = fs.superblock.blockSize;
    const blocks = Math.floor(inode.sizeBytes / this.blockSize);
    this.blockCount = Math.min(blocks, fs.superblock.blockCount);
    this.#fs = fs;
    this.#inode = inode;
  }

  /** @throws CorruptionError `journal-block` when the inode has no such block. */
  readBlock(index: number): Uint8Array {
    const { fsBlock } = this.#runAt(index);
    const bytes = new Uint8Array(this.blockSize);
    const offset = (fsBlock + index - this.#runStart) * this.blockSize;
    readDevice(this.#fs.device, offset, bytes);
    return bytes;
  }

  runs(): JournalRun[] {
    const runs: JournalRun[] = [];
    for (let start = 0; start < this.blockCount; ) {
      const { fsBlock, count } = this.#runAt(start);
      const into = start - this.#runStart;
      runs.push({ start, count: count - into, deviceBlock: fsBlock + into });
      start += count - into;
    }
    return runs;
  }

  #runAt(index: number): Run {
    const run = this.#run;
    const into = index - this.#runStart;
    if (into < 0 || into >= run.count) {
      findRun(this.#fs, this.#inode, index as FileBlock, run);
      this.#runStart = index;
    }
    if (run.fsBlock === HOLE || run.unwritten) {
      const place = { inode: this.#inode.number };
      throw new CorruptionError("journal-block", place, `block ${index} was never written`);
    }
    return run;
  }
}

/** A journal on a device of its own. */
export class DeviceJournal implements StoredJournal {
  readonly blockSize: number;
  readonly blockCount: number;
  readonly superblockIndex: number;
  readonly #device: BlockDevice;

  /** @throws FsError EINVAL when `device` is not the journal of `fs`. */
  constructor(fs: Filesystem, device: BlockDevice) {
    const S = SuperblockLayout;
    const bytes = new Uint8Array(sizeOf(S));
    const isLongEnough = device.sizeBytes >= SUPERBLOCK_OFFSET + bytes.length;
    if (isLongEnough) readDevice(device, SUPERBLOCK_OFFSET, bytes);
    const view = new DataView(bytes.buffer);
    const isJournal =
      le16(view, 0, S.magic) === SUPER_MAGIC &&
      (le32(view, 0, S.featureIncompat) & Incompat.JOURNAL_DEV) !== 0;
    if (!isJournal) throw new FsError(Errno.EINVAL, "the journal device holds no ext4 journal");
    const hasChecksum = (le32(view, 0, S.featureRoCompat) & RoCompat.METADATA_CSUM) !== 0;
    const found = fs.checksums.over(0xffff_ffff, bytes.subarray(0, S.checksum));
    if (hasChecksum && found !== le32(view, 0, S.checksum)) {
      throw new CorruptionError("journal-checksum", {}, "the superblock of the journal device");
    }
    const uuid = uuidText(bytesAt(view, 0, S.uuid, widthOf(S, "uuid")));
    const wanted = uuidText(fs.superblock.journalUuid);
    if (uuid !== wanted) {
      throw new FsError(Errno.EINVAL, `the journal device has UUID ${uuid}, not ${wanted}`);
    }
    this.blockSize = fs.superblock.blockSize;
    this.superblockIndex = Math.floor(SUPERBLOCK_OFFSET / this.blockSize) + 1;
    const blocks = join32(le32(view, 0, S.blocksCountHi), le32(view, 0, S.blocksCountLo));
    this.blockCount = Math.min(blocks, Math.floor(device.sizeBytes / this.blockSize));
    this.#device = device;
  }

  readBlock(index: number): Uint8Array {
    const bytes = new Uint8Array(this.blockSize);
    readDevice(this.#device, index * this.blockSize, bytes);
    return bytes;
  }

  runs(): JournalRun[] {
    return [{ start: 0, count: this.blockCount, deviceBlock: 0 }];
  }
}

/** A UUID as people write it. */
export function uuidText(uuid: Uint8Array): string {
  const hex = Array.from(uuid, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
