/**
 * Exchanges the map of an inode for one of the other kind, over the same blocks: what `chattr +e` and
 * `chattr -e` ask for.
 *
 * @see fs/ext4/migrate.c, ext4_ext_migrate and ext4_ind_migrate
 */

import { Errno } from "../../base/errno.ts";
import type { FileBlock, FsBlock } from "../../base/numbers.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { extentLengthMax } from "../format/extent.ts";
import { Incompat } from "../format/features.ts";
import { type Inode, InodeFlags, InodeLayout } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { DIRECT_COUNT, indirectBlock, LEVELS, POINTER_SIZE } from "./block-map.ts";
import { hasBlockMap, MAP_CREDITS } from "./change.ts";
import { ExtentEditor } from "./extent-editor.ts";
import { extentRoot, formatExtentRoot } from "./extent-tree.ts";
import { findRun } from "./iomap.ts";
import { HOLE, newRun } from "./run.ts";
import { giveMapBlock } from "./space.ts";

/** A bitmap and the descriptors of its group. */
const FREE_CREDITS = 2;
/** A node, the bitmap and the descriptors for it, and its parent. */
const NODE_CREDITS = 4;
/** A block map names no block beyond. */
const FS_BLOCK_END = 0x1_0000_0000;

/** A conversion that is possible. */
export interface Conversion {
  /** Blocks that it changes at the most. */
  readonly credits: number;
  /** Carries it out, but for the flag EXTENTS. Nothing may have changed since it was planned. */
  convert(tx: Tx): void;
}

/** @throws FsError EOPNOTSUPP when `inode` cannot have the other kind of map. */
export function planConversion(fs: Filesystem, inode: Inode): Conversion {
  const { superblock } = fs;
  if (!hasBlockMap(fs, inode) || superblock.clusterBlocks > 1) refuse(inode, "has but one map");
  if (inode.hasFlag(InodeFlags.EXTENTS)) return planBlockMap(fs, inode);
  if (!superblock.hasIncompat(Incompat.EXTENTS)) refuse(inode, "the filesystem has no extents");
  return planExtents(fs, inode);
}

/** Only for what needs no indirect block, as with the kernel. */
function planBlockMap(fs: Filesystem, inode: Inode): Conversion {
  const root = extentRoot(fs, inode);
  const count = root.entryCount;
  const isSmall =
    root.depth === 0 &&
    count <= 1 &&
    (count === 0 ||
      (root.end(0) <= DIRECT_COUNT &&
        !root.isUnwritten(0) &&
        root.start(0) + root.length(0) <= FS_BLOCK_END));
  if (!isSmall) refuse(inode, "has more than a few blocks in one piece");
  const [from, length, start] =
    count === 0 ? [0, 0, 0] : [root.fileBlock(0), root.length(0), root.start(0)];
  return {
    credits: 1,
    convert(tx) {
      const { iBlock, raw } = tx.edit(inode);
      iBlock.fill(0);
      inode.extentRoot = undefined;
      for (let each = 0; each < length; each++) {
        raw.setUint32(InodeLayout.block + POINTER_SIZE * (from + each), start + each, true);
      }
    },
  };
}

interface Piece {
  readonly block: number;
  readonly count: number;
  readonly start: number;
}

function planExtents(fs: Filesystem, inode: Inode): Conversion {
  const creditsMax = fs.writer.transactions.creditsMax / 2;
  const perNode = Math.floor(fs.superblock.blockSize / 16);
  const tables = mapBlocksOf(fs, inode, creditsMax / FREE_CREDITS);
  const pieces = piecesOf(fs, inode, (creditsMax / NODE_CREDITS) * perNode);
  const credits =
    MAP_CREDITS +
    tables.length * FREE_CREDITS +
    Math.ceil((2 * pieces.length) / perNode) * NODE_CREDITS;
  if (credits > creditsMax) refuse(inode, "has too many blocks for one transaction");
  return {
    credits,
    convert(tx) {
      formatExtentRoot(tx.edit(inode));
      const editor = new ExtentEditor(fs, tx, inode);
      for (const { block, count, start } of pieces) editor.insert(block, count, start, false);
      for (const table of tables) giveMapBlock(fs, tx, inode, table);
    },
  };
}

/** What a block map maps, in pieces that an extent can hold. */
function piecesOf(fs: Filesystem, inode: Inode, most: number): Piece[] {
  const perBlock = fs.superblock.blockSize / POINTER_SIZE;
  const end = DIRECT_COUNT + perBlock + perBlock ** 2 + perBlock ** LEVELS;
  const lengthMax = extentLengthMax(false);
  const pieces: Piece[] = [];
  const run = newRun();
  for (let block = 0; block < end; block += run.count) {
    findRun(fs, inode, block as FileBlock, run);
    if (run.fsBlock === HOLE) continue;
    for (let at = 0; at < run.count; at += lengthMax) {
      const count = Math.min(lengthMax, run.count - at);
      pieces.push({ block: block + at, count, start: run.fsBlock + at });
    }
    if (pieces.length > most) refuse(inode, "has too many pieces for one transaction");
  }
  return pieces;
}

/** The indirect blocks of a block map. */
function mapBlocksOf(fs: Filesystem, inode: Inode, most: number): FsBlock[] {
  const perBlock = fs.superblock.blockSize / POINTER_SIZE;
  const found: FsBlock[] = [];
  const collect = (pointer: number, level: number): void => {
    if (pointer === 0) return;
    const { number, view } = indirectBlock(fs, inode, pointer);
    found.push(number);
    if (found.length > most) refuse(inode, "has too many blocks for one transaction");
    if (level === 1) return;
    for (let index = 0; index < perBlock; index++) {
      collect(view.getUint32(index * POINTER_SIZE, true), level - 1);
    }
  };
  for (let level = 1; level <= LEVELS; level++) {
    const at = InodeLayout.block + POINTER_SIZE * (DIRECT_COUNT + level - 1);
    collect(inode.raw.getUint32(at, true), level);
  }
  return found;
}

function refuse(inode: Inode, why: string): never {
  throw new FsError(Errno.EOPNOTSUPP, `inode ${inode.number} keeps its map: ${why}`);
}
