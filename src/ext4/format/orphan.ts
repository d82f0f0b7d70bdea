/**
 * A block of the orphan file: the numbers of inodes that have to be freed or truncated when the
 * filesystem is mounted again. An entry is in use when it is not 0; their order means nothing.
 *
 *     | inode 4 | inode 4 | inode 4 | ...          | magic 4, checksum 4 |
 *
 * The checksum starts from the orphan file's inode seed and goes over the block's own number (64
 * bits) and the entries; the tail is not covered. All blocks exist and have their tails from the
 * time on when mke2fs or tune2fs made the file: nobody makes it longer or shorter.
 *
 * @see ext4/orphan.rst; fs/ext4/orphan.c, ext4_orphan_file_block_csum_verify
 */
import { layout, le32, setLe32, sizeOf } from "../../base/layout.ts";
import type { Block } from "../cache/block-cache.ts";
import { CorruptionError, type Place } from "../errors.ts";
import type { Checksums } from "./checksum.ts";

// biome-ignore format: a table
export const OrphanTail = layout("ext4_orphan_block_tail", 8, {
  magic: [0x0, "le32"],  checksum: [0x4, "le32"],
});

const ORPHAN_BLOCK_MAGIC = 0x0b10ca04;
const ENTRY_SIZE = 4;

/** Entries of an orphan block of `blockSize` bytes. */
export function orphanEntries(blockSize: number): number {
  return (blockSize - sizeOf(OrphanTail)) / ENTRY_SIZE;
}

/** The inode number in entry `index`, or 0. */
export function orphanAt(block: Block, index: number): number {
  return block.view.getUint32(index * ENTRY_SIZE, true);
}

export function setOrphanAt(block: Block, index: number, number: number): void {
  block.view.setUint32(index * ENTRY_SIZE, number, true);
}

/** Brings the checksum of an orphan block up to date. @param seed of the orphan file's inode. */
export function sealOrphanBlock(block: Block, seed: number, checksums: Checksums): void {
  if (!checksums.enabled) return;
  const at = tailOf(block);
  setLe32(block.view, at, OrphanTail.checksum, checksumOf(block, seed, checksums));
}

/** @throws CorruptionError `orphan-magic` or `orphan-checksum`. */
export function verifyOrphanBlock(block: Block, seed: number, checksums: Checksums): void {
  const at = tailOf(block);
  const place: Place = { block: block.number };
  const magic = le32(block.view, at, OrphanTail.magic);
  if (magic !== ORPHAN_BLOCK_MAGIC) {
    throw new CorruptionError("orphan-magic", place, `0x${magic.toString(16)}`);
  }
  if (!checksums.enabled) return;
  const stored = le32(block.view, at, OrphanTail.checksum);
  const found = checksumOf(block, seed, checksums);
  if (stored === found) return;
  throw new CorruptionError("orphan-checksum", place, `stored ${stored}, computed ${found}`);
}

function tailOf({ bytes }: Block): number {
  return bytes.length - sizeOf(OrphanTail);
}

function checksumOf(block: Block, seed: number, checksums: Checksums): number {
  const entries = block.bytes.subarray(0, tailOf(block));
  return checksums.over(checksums.overLe64(seed, block.number), entries);
}
