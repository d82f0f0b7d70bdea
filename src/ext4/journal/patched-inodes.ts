/**
 * Inodes as fast commits left them, in the blocks of the inode table.
 *
 * A tag INODE has the whole stored inode but for `i_block`, which keeps what the last full commit
 * wrote: what became of the file's blocks is told by other tags.
 *
 *     0             0x28     0x64                128 + i_extra_isize      s_inode_size
 *     | from the tag | i_block | from the tag       | as it was             |
 *
 * @see fs/ext4/fast_commit.c, ext4_fc_replay_inode
 */
import type { BlockDevice } from "../../base/block-device.ts";
import { le32, setLe16, sizeOf } from "../../base/layout.ts";
import type { InodeNumber } from "../../base/numbers.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Checksums } from "../format/checksum.ts";
import { EXT_MAGIC, Extent, ExtentHeader } from "../format/extent.ts";
import {
  computeInodeChecksum,
  I_BLOCK_SIZE,
  InodeLayout,
  setInodeChecksum,
} from "../format/inode.ts";
import { lowerBound, type NewerBlocks, ReplayedDevice } from "./replayed-device.ts";

/** How one inode differs from the stored one. */
export interface InodePatch {
  /** Replaces the stored bytes from the start on, but for `i_block`. */
  readonly raw: Uint8Array | undefined;
  /** Replaces `i_block`. */
  readonly iBlock: Uint8Array | undefined;
  readonly linkCount: number;
}

const I_BLOCK_END = InodeLayout.block + I_BLOCK_SIZE;

/** Lays `patches` over the inode table of `fs`, and that over `older`. */
export class PatchedInodes implements NewerBlocks {
  readonly numbers: Float64Array;
  readonly #fs: Filesystem;
  readonly #older: NewerBlocks;
  readonly #below: BlockDevice;
  readonly #patches = new Map<number, [InodeNumber, number, InodePatch][]>();

  /**
   * @param device what `older` lies over.
   * @param fs the filesystem as it is without the patches.
   */
  constructor(
    device: BlockDevice,
    older: NewerBlocks,
    fs: Filesystem,
    patches: ReadonlyMap<InodeNumber, InodePatch>,
  ) {
    this.#fs = fs;
    this.#older = older;
    this.#below = new ReplayedDevice(device, fs.superblock.blockSize, older);
    for (const [number, patch] of patches) {
      const { block, at } = fs.groups.locateInode(number);
      const inBlock = this.#patches.get(block) ?? [];
      inBlock.push([number, at, patch]);
      this.#patches.set(block, inBlock);
    }
    const all = new Set([...older.numbers, ...this.#patches.keys()]);
    this.numbers = Float64Array.from(all).sort();
  }

  contents(index: number): Uint8Array {
    const number = this.numbers[index] as number;
    const patches = this.#patches.get(number);
    if (patches === undefined) {
      return this.#older.contents(lowerBound(this.#older.numbers, number));
    }
    const { blockSize, inodeSize } = this.#fs.superblock;
    const block = new Uint8Array(blockSize);
    this.#below.read(number * blockSize, block);
    for (const [inode, at, patch] of patches) {
      applyPatch(patch, inode, block.subarray(at, at + inodeSize), this.#fs.checksums);
    }
    return block;
  }
}

/** Changes the `stored` bytes of inode `number`, and makes their checksum right. */
export function applyPatch(
  { raw, iBlock, linkCount }: InodePatch,
  number: InodeNumber,
  stored: Uint8Array,
  checksums: Checksums,
): void {
  if (raw !== undefined) {
    stored.set(raw.subarray(0, InodeLayout.block));
    stored.set(raw.subarray(I_BLOCK_END), I_BLOCK_END);
  }
  if (iBlock !== undefined) stored.set(iBlock, InodeLayout.block);
  const view = new DataView(stored.buffer, stored.byteOffset, stored.byteLength);
  setLe16(view, 0, InodeLayout.linksCount, linkCount);
  if (!checksums.enabled) return;
  const seed = checksums.inodeSeed(number, le32(view, 0, InodeLayout.generation));
  setInodeChecksum(view, computeInodeChecksum(view, seed, checksums));
}

/** `i_block` with the root of an extent tree that has nothing in it. */
export function emptyExtentRoot(): Uint8Array {
  const iBlock = new Uint8Array(I_BLOCK_SIZE);
  const view = new DataView(iBlock.buffer);
  setLe16(view, 0, ExtentHeader.magic, EXT_MAGIC);
  setLe16(view, 0, ExtentHeader.max, Math.floor(I_BLOCK_SIZE / sizeOf(Extent)) - 1);
  return iBlock;
}
