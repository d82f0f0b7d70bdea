/**
 * Damages images: anywhere, where metadata lies, and, through the library's own transactions, where
 * a checksum would give it away.
 */
import type { FsBlock, InodeNumber } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import { Block, BlockKind, type Seal } from "../../src/ext4/cache/block-cache.ts";
import { directoryOf } from "../../src/ext4/dir/contents.ts";
import { InodeLayout } from "../../src/ext4/format/inode.ts";
import { sealOrphanBlock } from "../../src/ext4/format/orphan.ts";
import { type Filesystem, openFilesystem, openWritableFilesystem } from "../../src/ext4/index.ts";
import { extentSeal } from "../../src/ext4/map/extent-editor.ts";
import { xattrSeal } from "../../src/ext4/ops/xattr-entries.ts";
import type { Random } from "../support/random.ts";
import { attempt, readEverything } from "./read-everything.ts";

const CHANGES_MAX = 12;
/** Metadata sits in front, so that is where many changes go. */
const FRONT_BYTES = 96 * 1024;
/** Values that are likely to cross a limit. */
const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];
const HEAD_BYTES = 64;
/** Blocks that one change through the library may touch, its quotas included. */
const CREDITS = 80;

/** What is known of a sound image: where its metadata lies. */
export interface Anatomy {
  readonly blockSize: number;
  /** Blocks that are read to find all there is. */
  readonly blocks: readonly number[];
  /** How the ones with checksums of their own were verified. */
  readonly verified: readonly { readonly block: number; readonly kind: number; owner: number }[];
  readonly inodes: readonly InodeNumber[];
}

class RecordingReads extends MemoryDevice {
  readonly blocks = new Set<number>();
  blockSize = 0;

  override read(offset: number, into: Uint8Array): void {
    if (into.length === this.blockSize) this.blocks.add(offset / this.blockSize);
    super.read(offset, into);
  }
}

/** Finds out by reading everything. */
export function anatomyOf(image: Uint8Array): Anatomy {
  const device = new RecordingReads(image.slice());
  const verified = new Map<string, Anatomy["verified"][number]>();
  const { markVerified } = Block.prototype;
  Block.prototype.markVerified = function (kind, owner) {
    verified.set(`${this.number} ${kind}`, { block: this.number, kind, owner });
    markVerified.call(this, kind, owner);
  };
  try {
    const { blockSize } = openFilesystem(device, { noRecovery: true }).superblock;
    device.blockSize = blockSize;
    const fs = openWritableFilesystem(device, { sleep: () => {} });
    const inodes = readEverything(fs);
    for (let number = 1; number < fs.superblock.firstInode; number++) {
      if (attempt(() => fs.internalInode(number)) !== undefined) inodes.push(number as InodeNumber);
    }
    return { blockSize, blocks: [...device.blocks], verified: [...verified.values()], inodes };
  } finally {
    Block.prototype.markVerified = markVerified;
  }
}

/** Changes some bytes of `image`, wherever they are. */
export function damageBytes(image: Uint8Array, anatomy: Anatomy, random: Random): void {
  for (let left = 1 + random.below(CHANGES_MAX); left > 0; left--) {
    const { blockSize, blocks } = anatomy;
    const block = blocks[random.below(blocks.length)] as number;
    switch (random.below(4)) {
      case 0:
        damageWithin(image, anatomy, 0, Math.min(FRONT_BYTES, image.length), random);
        break;
      case 1:
        damageWithin(image, anatomy, 0, image.length, random);
        break;
      case 2:
        damageWithin(image, anatomy, block * blockSize, (block + 1) * blockSize, random);
        break;
      default:
        damageWithin(image, anatomy, block * blockSize, block * blockSize + HEAD_BYTES, random);
    }
  }
}

function damageWithin(
  bytes: Uint8Array,
  { blocks, inodes }: Anatomy,
  from: number,
  end: number,
  random: Random,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const at = from + random.below(end - from - 4);
  const edge = EDGES[random.below(EDGES.length)] as number;
  switch (random.below(6)) {
    case 0:
      view.setUint8(at, view.getUint8(at) ^ (1 << random.below(8)));
      break;
    case 1:
      view.setUint32(at & ~3, edge, true);
      break;
    case 2:
      view.setUint16(at & ~1, edge & 0xffff, true);
      break;
    case 3:
      bytes.copyWithin(at, from + random.below(end - from), Math.min(end, at + HEAD_BYTES));
      break;
    case 4:
      // What is taken for a pointer leads into the filesystem's own blocks.
      view.setUint32(at & ~3, blocks[random.below(blocks.length)] as number, true);
      break;
    default:
      view.setUint32(at & ~3, inodes[random.below(inodes.length)] as number, true);
  }
}

/**
 * Changes some inodes and blocks of `image` in the library's own transactions, so that all checksums
 * are right. What was changed last may be in the journal only.
 */
export function damageSealed(image: Uint8Array, anatomy: Anatomy, random: Random): void {
  const fs = openWritableFilesystem(new MemoryDevice(image), {
    errors: "continue",
    sleep: () => {},
  });
  for (let left = 1 + random.below(CHANGES_MAX); left > 0; left--) {
    attempt(() => damageOne(fs, anatomy, random));
  }
  const { transactions } = fs.writer;
  if (random.below(3) > 0) attempt(() => transactions.checkpoint());
  else attempt(() => transactions.commit());
}

function damageOne(fs: Filesystem, anatomy: Anatomy, random: Random): void {
  const { inodes, verified } = anatomy;
  const target = verified[random.below(verified.length)];
  if (target === undefined || random.below(2) === 0) {
    damageInode(fs, inodes[random.below(inodes.length)] as InodeNumber, anatomy, random);
    return;
  }
  const block = fs.blocks.get(target.block as FsBlock);
  fs.transact(CREDITS, (tx) => {
    tx.modify(block, sealOf(fs, target.kind, target.owner));
    const isHead = random.below(2) === 0;
    const end = isHead ? HEAD_BYTES : block.bytes.length;
    damageWithin(block.bytes, anatomy, 0, end, random);
  });
}

function damageInode(fs: Filesystem, number: InodeNumber, anatomy: Anatomy, random: Random): void {
  const inode = fs.internalInode(number);
  fs.transact(CREDITS, (tx) => {
    const { raw } = tx.edit(inode);
    const bytes = new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength);
    const isMap = random.below(2) === 0;
    const [from, end] = isMap ? [InodeLayout.block, InodeLayout.block + 60] : [0, bytes.length];
    damageWithin(bytes, anatomy, from, end, random);
    // The checksum starts from it.
    raw.setUint32(InodeLayout.generation, inode.generation, true);
  });
}

/** How a block that was verified as `kind` gets its checksum. */
function sealOf(fs: Filesystem, kind: number, owner: number): Seal | undefined {
  if (!fs.checksums.enabled) return undefined;
  switch (kind) {
    case BlockKind.EXTENTS:
      return extentSeal(fs, fs.internalInode(owner));
    case BlockKind.DIRECTORY:
      return directoryOf(fs, fs.internalInode(owner)).sealEntries;
    case BlockKind.HTREE_ROOT:
      return directoryOf(fs, fs.internalInode(owner)).sealRoot;
    case BlockKind.HTREE_NODE:
      return directoryOf(fs, fs.internalInode(owner)).sealNode;
    case BlockKind.XATTR:
      return xattrSeal(fs);
    case BlockKind.ORPHANS: {
      const { checksumSeed } = fs.internalInode(owner);
      return (block) => sealOrphanBlock(block, checksumSeed, fs.checksums);
    }
    default:
      return undefined;
  }
}
