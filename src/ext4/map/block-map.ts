/**
 * The block map of ext2 and ext3: how a file without EXTENTS_FL says where its blocks are.
 *
 *     i_block  | 12 direct | indirect | double | triple |      32-bit block numbers, 0 is a hole
 *
 * An indirect block is full of block numbers (P = block size / 4 of them); a double one of numbers
 * of indirect blocks; a triple one of numbers of double ones.
 *
 * @see ext4/ifork.rst, "Direct/Indirect Block Addressing"
 */
import type { FileBlock, FsBlock } from "../../base/numbers.ts";
import type { Block } from "../cache/block-cache.ts";
import { CorruptionError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { type Inode, InodeLayout } from "../format/inode.ts";
import { HOLE, type Run } from "./run.ts";

export const DIRECT_COUNT = 12;
export const POINTER_SIZE = 4;
export const LEVELS = 3;

/** Answers where `fileBlock` of a file with a block map lies, and how far that goes on. */
export function findMappedRun(fs: Filesystem, inode: Inode, fileBlock: FileBlock, run: Run): Run {
  const perBlock = fs.superblock.blockSize / POINTER_SIZE;
  if (fileBlock < DIRECT_COUNT) {
    return scan(fs, inode, inode.raw, InodeLayout.block, fileBlock, DIRECT_COUNT, 1, run);
  }
  let index = fileBlock - DIRECT_COUNT;
  let span = 1;
  for (let level = 1; level <= LEVELS; level++) {
    const covered = span * perBlock;
    if (index < covered) {
      const at = InodeLayout.block + POINTER_SIZE * (DIRECT_COUNT + level - 1);
      return descend(fs, inode, inode.raw.getUint32(at, true), index, span, run);
    }
    index -= covered;
    span = covered;
  }
  throw new CorruptionError(
    "block-range",
    { inode: inode.number },
    `file block ${fileBlock} cannot be mapped`,
  );
}

/**
 * Follows the pointer `number` to an indirect block whose entries cover `span` file blocks each;
 * `index` counts file blocks from the first that it covers.
 */
function descend(
  fs: Filesystem,
  inode: Inode,
  number: number,
  index: number,
  span: number,
  run: Run,
): Run {
  const perBlock = fs.superblock.blockSize / POINTER_SIZE;
  let pointer = number;
  let within = index;
  let each = span;
  while (pointer !== 0) {
    const { view } = indirectBlock(fs, inode, pointer);
    const entry = Math.floor(within / each);
    if (each === 1) return scan(fs, inode, view, 0, entry, perBlock, 1, run);
    pointer = view.getUint32(POINTER_SIZE * entry, true);
    if (pointer === 0) {
      scan(fs, inode, view, 0, entry, perBlock, each, run);
      run.count -= within % each;
      return run;
    }
    within %= each;
    each /= perBlock;
  }
  run.fsBlock = HOLE;
  run.unwritten = false;
  run.count = each * perBlock - within;
  return run;
}

/**
 * Counts how many of the pointers from `index` on continue the first one: consecutive blocks, or
 * holes of `each` file blocks.
 */
function scan(
  fs: Filesystem,
  inode: Inode,
  view: DataView,
  at: number,
  index: number,
  end: number,
  each: number,
  run: Run,
): Run {
  const first = view.getUint32(at + POINTER_SIZE * index, true);
  let count = 1;
  while (index + count < end) {
    const next = view.getUint32(at + POINTER_SIZE * (index + count), true);
    if (next !== (first === 0 ? 0 : first + count)) break;
    count++;
  }
  run.unwritten = false;
  run.count = count * each;
  run.fsBlock = HOLE;
  if (first !== 0) {
    run.fsBlock = checkedPointer(fs, inode, first);
    checkedPointer(fs, inode, first + count - 1);
  }
  return run;
}

/** The indirect block `number` of `inode`. @throws CorruptionError when it cannot be one. */
export function indirectBlock(fs: Filesystem, inode: Inode, number: number): Block {
  const block = checkedPointer(fs, inode, number);
  fs.verifyOwner(inode.number, block, 1);
  return fs.blocks.get(block);
}

/** `block` as the file's own. @throws CorruptionError `block-range` when it cannot be. */
export function checkedPointer(fs: Filesystem, inode: Inode, block: number): FsBlock {
  const { firstDataBlock, blockCount } = fs.superblock;
  if (block > firstDataBlock && block < blockCount) return block as FsBlock;
  throw new CorruptionError(
    "block-range",
    { inode: inode.number, block },
    `the last block is ${blockCount - 1}`,
  );
}
