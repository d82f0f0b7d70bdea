/**
 * Changes the primary superblock, and what was parsed from it. The copies in other groups stay as
 * they are, as the kernel leaves them; but the filesystem's name is brought up to date there, too.
 */
import type { WritableDevice } from "../base/block-device.ts";
import { bytesAt, le16, le32, setLe32, widthOf } from "../base/layout.ts";
import type { FsBlock, GroupIndex } from "../base/numbers.ts";
import type { Block, BlockCache } from "./cache/block-cache.ts";
import type { Checksums } from "./format/checksum.ts";
import {
  SUPER_MAGIC,
  SUPERBLOCK_OFFSET,
  type Superblock,
  SuperblockLayout,
  trimmed,
} from "./format/superblock.ts";
import type { Tx } from "./journal/transaction.ts";

const SUPERBLOCK_SIZE = 1024;
const FEATURE_FIELDS = {
  compat: SuperblockLayout.featureCompat,
  incompat: SuperblockLayout.featureIncompat,
  roCompat: SuperblockLayout.featureRoCompat,
} as const;

export class SuperblockEditor {
  readonly #superblock: Superblock;
  readonly #blocks: BlockCache;
  readonly #checksums: Checksums;
  readonly #number: FsBlock;
  readonly #at: number;
  /** The cached block, and the view of it that was made last. */
  #viewed: Block | undefined;
  #view: DataView = new DataView(new ArrayBuffer(0));

  constructor(superblock: Superblock, blocks: BlockCache, checksums: Checksums) {
    this.#superblock = superblock;
    this.#blocks = blocks;
    this.#checksums = checksums;
    this.#number = Math.floor(SUPERBLOCK_OFFSET / superblock.blockSize) as FsBlock;
    this.#at = SUPERBLOCK_OFFSET % superblock.blockSize;
  }

  /** The 1,024 bytes of the superblock, for reading. */
  get view(): DataView {
    return this.#viewOf(this.#blocks.get(this.#number));
  }

  /** Lets `change` write to the fields of `SuperblockLayout` in the view that it is given. */
  edit(tx: Tx, change: (view: DataView) => void): void {
    const block = tx.modify(this.#blocks.get(this.#number), (changed) => this.#seal(changed));
    change(this.#viewOf(block));
  }

  /**
   * Lets `change` write to the superblock on the device itself, past all transactions: for what has
   * to be there although none will be committed any more. What is in memory stays as it is.
   *
   * @throws any Error of the device.
   */
  writeThrough(device: WritableDevice, change: (view: DataView) => void): void {
    const bytes = new Uint8Array(SUPERBLOCK_SIZE);
    device.read(SUPERBLOCK_OFFSET, bytes);
    const view = new DataView(bytes.buffer);
    change(view);
    this.#sealView(view);
    device.write(SUPERBLOCK_OFFSET, bytes);
    device.flush();
  }

  /** Sets or clears one feature bit. Does nothing when it is as wanted already. */
  setFeature(tx: Tx, kind: keyof typeof FEATURE_FIELDS, bit: number, on: boolean): void {
    const { features } = this.#superblock;
    const before = features[kind];
    const after = (on ? before | bit : before & ~bit) >>> 0;
    if (after === before) return;
    this.edit(tx, (view) => setLe32(view, 0, FEATURE_FIELDS[kind], after));
    features[kind] = after;
    tx.onRollback(() => {
      features[kind] = before;
    });
  }

  /** @param label at most 16 bytes. */
  setVolumeName(tx: Tx, label: Uint8Array): void {
    const before = this.#superblock.volumeName;
    this.edit(tx, (view) => {
      const field = fieldOf(view, "volumeName");
      field.fill(0);
      field.set(label.subarray(0, field.length));
    });
    this.#superblock.volumeName = trimmed(label.slice());
    tx.onRollback(() => {
      this.#superblock.volumeName = before;
    });
  }

  /** @param uuid 16 bytes. No checksum may depend on the old one. */
  setUuid(tx: Tx, uuid: Uint8Array): void {
    const before = this.#superblock.uuid;
    this.edit(tx, (view) => fieldOf(view, "uuid").set(uuid));
    this.#superblock.uuid = uuid.slice();
    tx.onRollback(() => {
      this.#superblock.uuid = before;
    });
  }

  /**
   * Gives the copy of the superblock at the start of `group` the label and the UUID of the primary
   * one. Does nothing where there is no copy, or a damaged one.
   */
  renewCopy(tx: Tx, group: GroupIndex): void {
    const { blocksPerGroup, firstDataBlock } = this.#superblock;
    if (group === 0 || !this.#superblock.groupHasSuperblock(group)) return;
    const block = this.#blocks.get((group * blocksPerGroup + firstDataBlock) as FsBlock);
    const view = copyOf(block);
    const { magic, checksum } = SuperblockLayout;
    if (le16(view, 0, magic) !== SUPER_MAGIC) return;
    if (this.#checksums.enabled && le32(view, 0, checksum) !== this.#checksumOf(view)) return;
    tx.modify(block, (changed) => this.#sealView(copyOf(changed)));
    for (const field of ["volumeName", "uuid"] as const) {
      fieldOf(view, field).set(fieldOf(this.view, field));
    }
  }

  #viewOf(block: Block): DataView {
    if (this.#viewed !== block) {
      const { buffer, byteOffset } = block.bytes;
      this.#viewed = block;
      this.#view = new DataView(buffer, byteOffset + this.#at, SUPERBLOCK_SIZE);
    }
    return this.#view;
  }

  #seal(block: Block): void {
    this.#sealView(this.#viewOf(block));
  }

  #sealView(view: DataView): void {
    if (!this.#checksums.enabled) return;
    setLe32(view, 0, SuperblockLayout.checksum, this.#checksumOf(view));
  }

  #checksumOf(view: DataView): number {
    const covered = new Uint8Array(view.buffer, view.byteOffset, SuperblockLayout.checksum);
    return this.#checksums.over(0xffff_ffff, covered);
  }
}

function fieldOf(view: DataView, field: "volumeName" | "uuid"): Uint8Array {
  return bytesAt(view, 0, SuperblockLayout[field], widthOf(SuperblockLayout, field));
}

/** A copy of the superblock lies at the start of its block. */
function copyOf({ bytes }: Block): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, SUPERBLOCK_SIZE);
}
