/**
 * The page cache, in blocks of the filesystem: a block that is there is up to date as a whole. Reads
 * fill it, writes change it, `writeback.ts` brings it to the device.
 */
import { MapFlag, MapType } from "./abi.ts";
import type { Inode, Page } from "./inode.ts";
import { iterate, type Target } from "./iomap.ts";
import type { Mapping } from "./mapping.ts";
import type { Mount } from "./mount.ts";

const READAHEAD_BLOCKS_MAX = 32;

/** Bytes of the file that lie in one block. */
export interface Piece {
  readonly block: number;
  /** Within the block. */
  readonly from: number;
  readonly to: number;
  /** Within the file. */
  readonly pos: number;
}

export function* piecesOf(blockSize: number, pos: number, length: number): Generator<Piece> {
  const end = pos + length;
  for (let at = pos; at < end; ) {
    const block = Math.floor(at / blockSize);
    const from = at - block * blockSize;
    const to = Math.min(blockSize, end - block * blockSize);
    yield { block, from, to, pos: at };
    at += to - from;
  }
}

/** What a read of `block` finds at `mapping`. */
function contentsOf(mount: Mount, inode: Inode, block: number, target: Target): Uint8Array {
  const { blockSize } = inode;
  const bytes = new Uint8Array(blockSize);
  const mapping: Mapping = target.source ?? target.mapping;
  const at = block * blockSize;
  if (mapping.type === MapType.INLINE) {
    const { inline } = target;
    const length = Math.max(0, Math.min(inode.size - at, blockSize));
    bytes.set(inline?.subarray(0, length) ?? bytes);
    return bytes;
  }
  const isData = mapping.type === MapType.MAPPED && (mapping.flags & MapFlag.NEW) === 0;
  if (isData && at < inode.size) mount.devices.read(mapping.addr + (at - mapping.offset), bytes);
  return bytes;
}

export function addPage(inode: Inode, block: number, bytes: Uint8Array): Page {
  const page = { bytes, isDirty: false, isUnderWriteback: false };
  inode.pages.set(block, page);
  return page;
}

/** The page for `block`, read from where `target` says if it is not there. */
export function pageFor(mount: Mount, inode: Inode, block: number, target: Target): Page {
  const page = inode.pages.get(block);
  return page ?? addPage(inode, block, contentsOf(mount, inode, block, target));
}

/** Reads what of [pos, pos + length) is not in the cache, and sometimes more. */
export function fillPages(mount: Mount, inode: Inode, pos: number, length: number): void {
  const { blockSize } = inode;
  const last = Math.floor((pos + length - 1) / blockSize);
  const lastOfFile = Math.floor((inode.size - 1) / blockSize);
  for (let block = Math.floor(pos / blockSize); block <= last; block++) {
    if (inode.pages.has(block)) continue;
    let ahead = block + 1;
    const limit = Math.min(lastOfFile, last + mount.random.below(READAHEAD_BLOCKS_MAX));
    while (ahead <= limit && !inode.pages.has(ahead)) ahead += 1;
    const start = block * blockSize;
    iterate(mount, inode, 0, start, ahead * blockSize - start, (target, at, count) => {
      for (const piece of piecesOf(blockSize, at, count))
        pageFor(mount, inode, piece.block, target);
      return count;
    });
  }
}

/** Drops pages from `start` up to `end` that are wholly inside; dirty ones too. */
export function dropPages(inode: Inode, start: number, end = Number.POSITIVE_INFINITY): void {
  const { blockSize } = inode;
  for (const block of inode.pages.keys()) {
    const at = block * blockSize;
    if (at >= start && at + blockSize <= end) inode.pages.delete(block);
  }
}

/** Pages that nobody would miss. */
export function cleanBlocks(inode: Inode): number[] {
  return [...inode.pages]
    .filter(([, page]) => !page.isDirty && !page.isUnderWriteback)
    .map(([block]) => block);
}
