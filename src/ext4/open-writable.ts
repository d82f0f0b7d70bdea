/**
 * Opens a filesystem for changes, and closes it again.
 *
 *     open     replay the journal ──► mark the superblock ──► finish orphans ──► ready
 *     close    commit ──► write everything to its place ──► mark the superblock clean
 *
 * @see fs/ext4/super.c, ext4_fill_super, ext4_setup_super and ext4_put_super
 */
import type { WritableDevice } from "../base/block-device.ts";
import { le16, setLe16, setLe32 } from "../base/layout.ts";
import { UnsupportedError } from "./errors.ts";
import { Filesystem, type OpenOptions } from "./filesystem.ts";
import { ROCOMPAT_SUPPORTED, RoCompat, roCompatNames } from "./format/features.ts";
import type { Timestamp } from "./format/inode.ts";
import { SuperblockLayout, SuperblockState } from "./format/superblock.ts";
import { InPlaceTarget } from "./journal/in-place.ts";
import { Transactions } from "./journal/transaction.ts";
import { Orphans } from "./orphans.ts";
import { SuperblockEditor } from "./superblock-editor.ts";

export interface WriteOptions extends OpenOptions {
  /** The clock; the machine's if absent. */
  readonly now?: () => Timestamp;
  /** Numbers from 0 up to, not including, 1; `Math.random` if absent. */
  readonly random?: () => number;
  /** Told when the filesystem has become read-only because it could not be written. */
  readonly onAbort?: (error: unknown) => void;
}

/** Blocks that marking the superblock changes. */
const SUPERBLOCK_CREDITS = 1;

/**
 * Opens the filesystem on `device` for reading and writing.
 *
 * @throws CorruptionError when this is not a filesystem or a damaged one.
 * @throws UnsupportedError when it has features that forbid writing, or reading.
 */
export function openWritableFilesystem(
  device: WritableDevice,
  options: WriteOptions = {},
): Filesystem {
  const fs = new Filesystem(device, options);
  refuseUnsupported(fs);
  const now = options.now ?? machineTime;
  const transactions = new Transactions({
    blocks: fs.blocks,
    inodes: fs.inodes,
    groups: fs.groups,
    target: new InPlaceTarget(device, fs.blocks, fs.superblock.blockSize),
    now,
    onAbort: options.onAbort ?? (() => {}),
  });
  fs.setWriter({
    device,
    transactions,
    superblock: new SuperblockEditor(fs.superblock, fs.blocks, fs.checksums),
    orphans: new Orphans(fs),
    now,
    random: options.random ?? Math.random,
    mayUseReserve: true,
  });
  markMounted(fs);
  return fs;
}

/**
 * Writes everything and marks the filesystem as clean. It can only be read after that.
 *
 * @throws FsError EIO when something could not be written.
 */
export function closeFilesystem(fs: Filesystem): void {
  if (!fs.isWritable) return;
  const { transactions, superblock } = fs.writer;
  transactions.checkpoint();
  fs.transact(SUPERBLOCK_CREDITS, (tx) => {
    superblock.setFeature(tx, "roCompat", RoCompat.ORPHAN_PRESENT, false);
    superblock.edit(tx, (view) => {
      setLe16(
        view,
        0,
        SuperblockLayout.state,
        le16(view, 0, SuperblockLayout.state) | SuperblockState.VALID,
      );
      setLe32(view, 0, SuperblockLayout.wtime, tx.now.seconds % 0x1_0000_0000);
    });
  });
  transactions.checkpoint();
  fs.setWriter(undefined);
}

function markMounted(fs: Filesystem): void {
  const { superblock, transactions, orphans } = fs.writer;
  fs.transact(SUPERBLOCK_CREDITS, (tx) => {
    if (orphans.usesFile) superblock.setFeature(tx, "roCompat", RoCompat.ORPHAN_PRESENT, true);
    superblock.edit(tx, (view) => {
      const S = SuperblockLayout;
      setLe16(view, 0, S.state, le16(view, 0, S.state) & ~SuperblockState.VALID);
      setLe16(view, 0, S.mntCount, (le16(view, 0, S.mntCount) + 1) & 0xffff);
      setLe32(view, 0, S.mtime, tx.now.seconds % 0x1_0000_0000);
    });
  });
  transactions.commit();
}

function refuseUnsupported(fs: Filesystem): void {
  const unknown = fs.superblock.features.roCompat & ~ROCOMPAT_SUPPORTED;
  if (unknown === 0) return;
  const names = roCompatNames(unknown);
  const plural = names.length > 1 ? "s" : "";
  throw new UnsupportedError(
    names,
    `cannot be written, only read: feature${plural} ${names.join(", ")}`,
  );
}

function machineTime(): Timestamp {
  const milliseconds = Date.now();
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanoseconds: (milliseconds - seconds * 1000) * 1_000_000 };
}
