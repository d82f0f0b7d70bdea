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

import { layout, le16, le32, setLe16, setLe32, sizeOf } from "../../base/layout.ts";
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
  unused: [0xa, "le16"],
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
/** The longest unwritten one: its `len` has to fit 16 bits. */
const UNWRITTEN_MAX_LEN = INIT_MAX_LEN - 1;
const ENTRY_SIZE = sizeOf(Extent);
/** No file block has this number or a greater one. */
export const FILE_BLOCK_END = 0xffff_ffff;

/** The longest extent of one kind, in blocks. */
export function extentLengthMax(unwritten: boolean): number {
  return unwritten ? UNWRITTEN_MAX_LEN : INIT_MAX_LEN;
}

/**
 * A node of an extent tree, read and changed in place. Lives as long as the bytes under it. What
 * changes it may be called only while a transaction has those bytes.
 */
export class ExtentNode {
  readonly #view: DataView;

  /** @param view the node's bytes, already checked by `checkExtentNode`. */
  constructor(view: DataView) {
    this.#view = view;
  }

  get entryCount(): number {
    return le16(this.#view, 0, ExtentHeader.entries);
  }
  get entryMax(): number {
    return le16(this.#view, 0, ExtentHeader.max);
  }
  get depth(): number {
    return le16(this.#view, 0, ExtentHeader.depth);
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

  /** The file block after extent `index` of a leaf. */
  end(index: number): number {
    return this.fileBlock(index) + this.length(index);
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

  /** Makes the bytes a node without entries, with room for `max` of them. */
  format(depth: number, max: number): void {
    setLe16(this.#view, 0, ExtentHeader.magic, EXT_MAGIC);
    setLe16(this.#view, 0, ExtentHeader.entries, 0);
    setLe16(this.#view, 0, ExtentHeader.max, max);
    setLe16(this.#view, 0, ExtentHeader.depth, depth);
    setLe32(this.#view, 0, ExtentHeader.generation, 0);
  }

  setFileBlock(index: number, block: number): void {
    setLe32(this.#view, ENTRY_SIZE * (index + 1), Extent.block, block);
  }

  setLength(index: number, length: number, unwritten: boolean): void {
    const stored = unwritten ? length + INIT_MAX_LEN : length;
    setLe16(this.#view, ENTRY_SIZE * (index + 1), Extent.len, stored);
  }

  setStart(index: number, start: number): void {
    const at = ENTRY_SIZE * (index + 1);
    setLe32(this.#view, at, Extent.startLo, start % 0x1_0000_0000);
    setLe16(this.#view, at, Extent.startHi, Math.floor(start / 0x1_0000_0000));
  }

  /** Puts an extent in front of entry `index` of a leaf that has room for it. */
  insertExtent(
    index: number,
    block: number,
    length: number,
    start: number,
    unwritten: boolean,
  ): void {
    this.#makeGap(index);
    this.setFileBlock(index, block);
    this.setLength(index, length, unwritten);
    this.setStart(index, start);
  }

  /** Puts an entry in front of entry `index` of an index node that has room for it. */
  insertChild(index: number, block: number, child: FsBlock): void {
    this.#makeGap(index);
    this.setFileBlock(index, block);
    const at = ENTRY_SIZE * (index + 1);
    setLe32(this.#view, at, ExtentIndex.leafLo, child % 0x1_0000_0000);
    setLe16(this.#view, at, ExtentIndex.leafHi, Math.floor(child / 0x1_0000_0000));
    setLe16(this.#view, at, ExtentIndex.unused, 0);
  }

  /** Takes entry `index` out. */
  removeEntry(index: number): void {
    const bytes = this.#bytes;
    const { entryCount } = this;
    const at = ENTRY_SIZE * (index + 1);
    bytes.copyWithin(at, at + ENTRY_SIZE, ENTRY_SIZE * (entryCount + 1));
    setLe16(this.#view, 0, ExtentHeader.entries, entryCount - 1);
  }

  /** Moves the entries from `index` on to the end of `other`, which has room for them. */
  moveEntries(index: number, other: ExtentNode): void {
    const { entryCount } = this;
    const before = other.entryCount;
    const moved = this.#bytes.subarray(ENTRY_SIZE * (index + 1), ENTRY_SIZE * (entryCount + 1));
    other.#bytes.set(moved, ENTRY_SIZE * (before + 1));
    setLe16(other.#view, 0, ExtentHeader.entries, before + entryCount - index);
    setLe16(this.#view, 0, ExtentHeader.entries, index);
  }

  #makeGap(index: number): void {
    const { entryCount } = this;
    const at = ENTRY_SIZE * (index + 1);
    this.#bytes.copyWithin(at + ENTRY_SIZE, at, ENTRY_SIZE * (entryCount + 1));
    setLe16(this.#view, 0, ExtentHeader.entries, entryCount + 1);
  }

  get #bytes(): Uint8Array {
    return new Uint8Array(this.#view.buffer, this.#view.byteOffset, this.#view.byteLength);
  }
}

/** Entries that a node of `byteLength` bytes has room for. */
export function extentEntryMax(byteLength: number): number {
  return Math.floor(byteLength / ENTRY_SIZE) - 1;
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
  const room = extentEntryMax(view.byteLength);
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
