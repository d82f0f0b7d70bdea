/**
 * Extent trees: how a file with EXTENTS_FL says where its blocks are.
 *
 *     node     | header 12 | entry 12 | entry 12 | ... | tail 4 (checksum; not in the inode) |
 *     depth 0  entries are extents (leaf);  depth 1 to 5  entries are indexes to deeper nodes
 *
 * The root lies in the 60 bytes of `i_block`, every other node fills a block. Entries are sorted by
 * file block and do not overlap; the first entry of a node begins where its parent says.
 *
 * @see ext4/ifork.rst, "Extent Tree"
 */

import { layout, le16, le32, sizeOf } from "../../base/layout.ts";
import type { FileBlock, FsBlock } from "../../base/numbers.ts";
import { join32 } from "../../base/numbers.ts";
import { CorruptionError, type Place } from "../errors.ts";

// biome-ignore format: a table
export const ExtentHeader = layout("ext4_extent_header", 12, {
  magic:   [0x0, "le16"],  entries:    [0x2, "le16"],
  max:     [0x4, "le16"],  depth:      [0x6, "le16"],
  generation: [0x8, "le32"],
});

/** Leaf entry. A `len` above 32768 marks an unwritten extent of `len - 32768` blocks. */
// biome-ignore format: a table
export const Extent = layout("ext4_extent", 12, {
  block:   [0x0, "le32"],
  len:     [0x4, "le16"],
  startHi: [0x6, "le16"],
  startLo: [0x8, "le32"],
});

/** Index entry: the node that holds the file blocks from `block` on. */
// biome-ignore format: a table
export const ExtentIndex = layout("ext4_extent_idx", 12, {
  block:  [0x0, "le32"],
  leafLo: [0x4, "le32"],
  leafHi: [0x8, "le16"],
});

// biome-ignore format: a table
export const ExtentTail = layout("ext4_extent_tail", 4, {
  checksum: [0x0, "le32"],
});

export const EXT_MAGIC = 0xf30a;
/** Deeper trees cannot be needed: 4 entries in the root, at least 84 in each node. */
export const EXT_DEPTH_MAX = 5;
/** The longest written extent; longer `len` values mean unwritten. */
const INIT_MAX_LEN = 32768;
const ENTRY_SIZE = sizeOf(Extent);
/** No file block has this number or a greater one. */
export const FILE_BLOCK_END = 0xffff_ffff;

/** A node of an extent tree, read in place. Lives as long as the bytes under it. */
export class ExtentNode {
  readonly #view: DataView;
  readonly entryCount: number;
  readonly depth: number;

  /** @param view the node's bytes, already checked by `checkExtentNode`. */
  constructor(view: DataView) {
    this.#view = view;
    this.entryCount = le16(view, 0, ExtentHeader.entries);
    this.depth = le16(view, 0, ExtentHeader.depth);
  }

  /** The first file block of entry `index`, of a leaf and of an index node alike. */
  fileBlock(index: number): FileBlock {
    return le32(this.#view, ENTRY_SIZE * (index + 1), Extent.block) as FileBlock;
  }

  /** Blocks in extent `index` of a leaf. */
  length(index: number): number {
    const stored = le16(this.#view, ENTRY_SIZE * (index + 1), Extent.len);
    return stored > INIT_MAX_LEN ? stored - INIT_MAX_LEN : stored;
  }
  isUnwritten(index: number): boolean {
    return le16(this.#view, ENTRY_SIZE * (index + 1), Extent.len) > INIT_MAX_LEN;
  }

  /** Where extent `index` of a leaf starts on the device. */
  start(index: number): FsBlock {
    const at = ENTRY_SIZE * (index + 1);
    return join32(
      le16(this.#view, at, Extent.startHi),
      le32(this.#view, at, Extent.startLo),
    ) as FsBlock;
  }

  /** The node below entry `index` of an index node. */
  child(index: number): FsBlock {
    const at = ENTRY_SIZE * (index + 1);
    return join32(
      le16(this.#view, at, ExtentIndex.leafHi),
      le32(this.#view, at, ExtentIndex.leafLo),
    ) as FsBlock;
  }

  /** The last entry that starts at or before `block`, or -1. */
  find(block: FileBlock): number {
    let low = 0;
    let high = this.entryCount;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.fileBlock(middle) <= block) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

/** What a node has to agree with. */
export interface ExtentNodeBounds {
  readonly depth: number;
  /** File blocks that its entries may cover: from (its parent's entry) and up to, not including. */
  readonly from: number;
  readonly end: number;
  /** True below the root: the first entry begins exactly at `from`. */
  readonly exactStart: boolean;
  /** Blocks of the device that may be pointed to. */
  readonly firstFsBlock: number;
  readonly endFsBlock: number;
}

/** Where the tail of a node in a block lies: behind as many entries as there is room for. */
export function extentTailOffset(view: DataView): number {
  return ENTRY_SIZE * (le16(view, 0, ExtentHeader.max) + 1);
}

/**
 * Checks one node before anything in it is believed.
 *
 * @throws CorruptionError naming the rule that it breaks.
 */
export function checkExtentNode(view: DataView, bounds: ExtentNodeBounds, place: Place): void {
  const magic = le16(view, 0, ExtentHeader.magic);
  if (magic !== EXT_MAGIC)
    throw new CorruptionError("extent-magic", place, `0x${magic.toString(16)}`);
  const entries = le16(view, 0, ExtentHeader.entries);
  const max = le16(view, 0, ExtentHeader.max);
  const depth = le16(view, 0, ExtentHeader.depth);
  const room = Math.floor(view.byteLength / ENTRY_SIZE) - 1;
  if (depth !== bounds.depth || depth > EXT_DEPTH_MAX) {
    throw new CorruptionError("extent-depth", place, `${depth}, not ${bounds.depth}`);
  }
  if (entries > max || max > room || max === 0 || (entries === 0 && depth > 0)) {
    throw new CorruptionError("extent-count", place, `${entries} of ${max}, room for ${room}`);
  }

  const node = new ExtentNode(view);
  let end = bounds.from;
  for (let index = 0; index < entries; index++) {
    const first = node.fileBlock(index);
    const length = depth === 0 ? node.length(index) : 1;
    if (first < end || first + length > bounds.end || length === 0) {
      throw new CorruptionError(
        "extent-order",
        place,
        `entry ${index} covers ${length} from ${first}`,
      );
    }
    if (index === 0 && bounds.exactStart && first !== bounds.from) {
      throw new CorruptionError("extent-order", place, `starts at ${first}, not ${bounds.from}`);
    }
    const target = depth === 0 ? node.start(index) : node.child(index);
    if (target < bounds.firstFsBlock || target + length > bounds.endFsBlock) {
      throw new CorruptionError("extent-range", place, `entry ${index} lies at ${target}`);
    }
    end = first + length;
  }
}
