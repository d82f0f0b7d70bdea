/**
 * Multiple mount protection: keeps two hosts that reach the same device from writing at once. Each
 * writes a sequence number of its own into the MMP block, over and over, and one that finds another
 * number there is not alone.
 *
 *     claim      is the block quiet?  write a number ──► wait ──► is it still there?
 *     refresh    is the last number still there?  write the next one      (every interval)
 *     release    write "clean"
 *
 * The block is read from and written to the device directly: it belongs to no transaction.
 *
 * @see ext4/mmp.rst; fs/ext4/mmp.c, ext4_multi_mount_protect and kmmpd
 */
import type { WritableDevice } from "../base/block-device.ts";
import { Errno } from "../base/errno.ts";
import type { FsBlock } from "../base/numbers.ts";
import { readDevice } from "./cache/block-cache.ts";
import { CorruptionError, DeliberateStop, type FsError } from "./errors.ts";
import type { Filesystem } from "./filesystem.ts";
import type { Checksums } from "./format/checksum.ts";
import { Incompat } from "./format/features.ts";
import type { Timestamp } from "./format/inode.ts";
import {
  MMP_SEQ_CLEAN,
  MMP_SEQ_FSCK,
  MMP_SEQ_MAX,
  mmpCheckIntervalSeconds,
  mmpHost,
  mmpSequence,
  storeMmp,
  verifyMmp,
} from "./format/mmp.ts";
import type { Superblock } from "./format/superblock.ts";

const UPDATE_INTERVAL_DEFAULT_SECONDS = 5;
const CHECK_INTERVAL_MIN_SECONDS = 5;
/** Twice the longest interval that tune2fs accepts: nobody waits for what an image may claim. */
const CHECK_INTERVAL_MAX_SECONDS = 600;
/** Waiting for a quiet block takes two check intervals and a second, but no more than this longer. */
const WAIT_EXTRA_MAX_SECONDS = 60;
/** A user that misses one refresh is still alive. */
const CHECK_MULTIPLE = 2;

export interface MountProtectionParts {
  readonly device: WritableDevice;
  readonly now: () => Timestamp;
  readonly random: () => number;
  /** Returns after so many milliseconds; without it, a block that is not clean is refused at once. */
  readonly sleep?: ((ms: number) => void) | undefined;
  /** What other hosts are told about us; ASCII. */
  readonly hostName?: string | undefined;
  readonly deviceName?: string | undefined;
}

export class MountProtection {
  /** How often to call `refresh`. */
  readonly intervalSeconds: number;
  readonly #superblock: Superblock;
  readonly #checksums: Checksums;
  readonly #parts: MountProtectionParts;
  readonly #block: FsBlock;
  readonly #hostName: Uint8Array;
  readonly #deviceName: Uint8Array;
  #sequence = 0;

  /** The protection that `fs` asks for, claimed; undefined when it asks for none. */
  static claim(fs: Filesystem, parts: MountProtectionParts): MountProtection | undefined {
    if (!fs.superblock.hasIncompat(Incompat.MMP)) return undefined;
    const protection = new MountProtection(fs, parts);
    protection.#claim();
    return protection;
  }

  private constructor(fs: Filesystem, parts: MountProtectionParts) {
    this.#superblock = fs.superblock;
    this.#checksums = fs.checksums;
    this.#parts = parts;
    this.#block = fs.superblock.mmpBlock as FsBlock;
    this.#hostName = asciiOf(parts.hostName ?? "");
    this.#deviceName = asciiOf(parts.deviceName ?? "");
    const { mmpUpdateIntervalSeconds } = fs.superblock;
    this.intervalSeconds = mmpUpdateIntervalSeconds || UPDATE_INTERVAL_DEFAULT_SECONDS;
    const { firstDataBlock, blockCount } = fs.superblock;
    if (this.#block <= firstDataBlock || this.#block >= blockCount) {
      throw new CorruptionError(
        "block-range",
        { block: this.#block },
        "not the place of an MMP block",
      );
    }
  }

  /** @throws FsError EBUSY when another user is or may be active. */
  #claim(): void {
    const found = this.#read();
    const sequence = mmpSequence(found);
    if (sequence === MMP_SEQ_FSCK) throw inUse(found, "e2fsck is running");
    const isClean = sequence === MMP_SEQ_CLEAN;
    if (!isClean) {
      this.#wait(found);
      if (mmpSequence(this.#read()) !== sequence) throw inUse(found, "it is mounted");
    }
    this.#write(1 + Math.floor(this.#parts.random() * MMP_SEQ_MAX));
    if (!isClean) this.#wait(found);
    this.#verifyOwn(this.#read());
  }

  /** Shows that we are alive. @throws FsError EBUSY when somebody else is, too. */
  refresh(): void {
    this.#verifyOwn(this.#read());
    this.#write(this.#sequence >= MMP_SEQ_MAX ? 1 : this.#sequence + 1);
  }

  /** Says that the filesystem is not in use any more, unless somebody else has taken it. */
  release(): void {
    if (mmpSequence(this.#read()) === this.#sequence) this.#write(MMP_SEQ_CLEAN);
  }

  #verifyOwn(found: DataView): void {
    if (mmpSequence(found) !== this.#sequence) throw inUse(found, "it is mounted");
  }

  #wait(found: DataView): void {
    const { sleep } = this.#parts;
    if (sleep === undefined) throw inUse(found, "it may be mounted");
    const interval = this.#checkInterval(this.intervalSeconds, mmpCheckIntervalSeconds(found));
    sleep(Math.min(interval * 2 + 1, interval + WAIT_EXTRA_MAX_SECONDS) * 1000);
  }

  #checkInterval(...wanted: number[]): number {
    const longest = Math.max(CHECK_INTERVAL_MIN_SECONDS, ...wanted);
    return Math.min(longest, CHECK_INTERVAL_MAX_SECONDS);
  }

  #read(): DataView {
    const { blockSize } = this.#superblock;
    const bytes = new Uint8Array(blockSize);
    readDevice(this.#parts.device, this.#block * blockSize, bytes);
    const view = new DataView(bytes.buffer);
    verifyMmp(view, this.#checksums, { block: this.#block });
    return view;
  }

  #write(sequence: number): void {
    const view = this.#read();
    storeMmp(view, this.#checksums, {
      sequence,
      timeSeconds: this.#parts.now().seconds,
      checkIntervalSeconds: this.#checkInterval(CHECK_MULTIPLE * this.intervalSeconds),
      hostName: this.#hostName,
      deviceName: this.#deviceName,
    });
    const { device } = this.#parts;
    device.write(this.#block * this.#superblock.blockSize, new Uint8Array(view.buffer));
    device.flush();
    this.#sequence = sequence;
  }
}

/**
 * Shows other hosts that `fs` is in use; to be called every `mmpIntervalSeconds`. When another one
 * turns out to use it as well, or nobody can be told any more, all writing ends.
 */
export function mmpRefresh(fs: Filesystem): void {
  if (!fs.isWritable) return;
  const { protection, transactions } = fs.writer;
  if (transactions.isAborted) return;
  try {
    protection?.refresh();
  } catch (error) {
    transactions.abort(error);
  }
}

/** How often `mmpRefresh` has to be called; undefined when it has not. */
export function mmpIntervalSeconds(fs: Filesystem): number | undefined {
  return fs.isWritable ? fs.writer.protection?.intervalSeconds : undefined;
}

function inUse(found: DataView, what: string): FsError {
  const host = String.fromCharCode(...mmpHost(found));
  return new DeliberateStop(Errno.EBUSY, `in use on host ${host}: ${what}`);
}

function asciiOf(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
