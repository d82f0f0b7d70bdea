/**
 * One quota file: finds the entry of an id, makes one when there is none, and changes it. Its blocks
 * change in transactions like any other metadata. Entries stay when nothing is used any more.
 */
import { le16, le32, le64, setLe16, setLe32, setLe64, sizeOf } from "../../base/layout.ts";
import type { FileBlock, InodeNumber } from "../../base/numbers.ts";
import type { Block } from "../cache/block-cache.ts";
import { CorruptionError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Inode } from "../format/inode.ts";
import {
  QUOTA_BLOCK_SIZE,
  QUOTA_DEPTH,
  QUOTA_ENTRIES,
  QUOTA_ROOT,
  QUOTA_VERSION,
  QuotaBlockHeader,
  QuotaEntry,
  QuotaHeader,
  quotaEntryAt,
  quotaPointerAt,
} from "../format/quota.ts";
import type { Tx } from "../journal/transaction.ts";
import { createFileBlock } from "../map/change.ts";
import { readFileBlock } from "../map/iomap.ts";

/** Bounds what is remembered of where entries lie. */
const PLACES_MAX = 65536;
/** The deadline of an entry that would be all zeros, and so a free one, without it. */
const DEADLINE_ESCAPE = 1;

/** Where an entry lies: which block of the quota file, and where in it. */
interface EntryPlace {
  readonly block: number;
  readonly at: number;
}

export class QuotaFile {
  readonly number: InodeNumber;
  readonly #fs: Filesystem;
  readonly #places = new Map<number, EntryPlace>();

  /** @throws CorruptionError `quota` when inode `number` is no quota file of this kind. */
  constructor(fs: Filesystem, number: InodeNumber, magic: number) {
    this.#fs = fs;
    this.number = number;
    const view = this.#view(0);
    const found = le32(view, 0, QuotaHeader.magic);
    const version = le32(view, 0, QuotaHeader.version);
    if (found !== magic || version !== QUOTA_VERSION) {
      throw this.#damage(0, `magic 0x${found.toString(16)}, version ${version}`);
    }
  }

  /** Adds to what `id` uses; what would become negative becomes 0. */
  charge(tx: Tx, id: number, bytes: number, inodes: number): void {
    const { block, at } = this.#find(id) ?? this.#insert(tx, id);
    const view = this.#change(tx, block);
    const add = (field: typeof QuotaEntry.space, amount: number): void => {
      setLe64(view, at, field, Math.max(0, this.#count(view, at, field) + amount));
    };
    add(QuotaEntry.space, bytes);
    add(QuotaEntry.inodes, inodes);
    if (isFree(view, at)) setLe64(view, at, QuotaEntry.inodeDeadline, DEADLINE_ESCAPE);
  }

  #find(id: number): EntryPlace | undefined {
    const known = this.#places.get(id);
    if (known !== undefined) return known;
    let block = QUOTA_ROOT;
    for (let level = 0; level < QUOTA_DEPTH; level++) {
      block = this.#view(block).getUint32(quotaPointerAt(id, level), true);
      if (block === 0) return undefined;
    }
    const view = this.#view(block);
    for (let index = 0; index < QUOTA_ENTRIES; index++) {
      const at = quotaEntryAt(index);
      if (le32(view, at, QuotaEntry.id) !== id || isFree(view, at)) continue;
      return this.#remember(id, { block, at });
    }
    throw this.#damage(block, `no entry for id ${id}`);
  }

  #remember(id: number, place: EntryPlace): EntryPlace {
    if (this.#places.size >= PLACES_MAX) this.#places.clear();
    this.#places.set(id, place);
    return place;
  }

  /** Makes an entry for an id that has none. */
  #insert(tx: Tx, id: number): EntryPlace {
    let block = QUOTA_ROOT;
    for (let level = 0; level < QUOTA_DEPTH; level++) {
      const pointerAt = quotaPointerAt(id, level);
      let next = this.#view(block).getUint32(pointerAt, true);
      if (next === 0) {
        const isLowest = level === QUOTA_DEPTH - 1;
        next = isLowest ? this.#blockWithRoom(tx) : this.#takeBlock(tx);
        this.#change(tx, block).setUint32(pointerAt, next, true);
      }
      block = next;
    }
    const view = this.#change(tx, block);
    let index = 0;
    while (index < QUOTA_ENTRIES && !isFree(view, quotaEntryAt(index))) index++;
    if (index === QUOTA_ENTRIES) throw this.#damage(block, "full, and yet on the list");
    setLe32(view, quotaEntryAt(index), QuotaEntry.id, id);
    tx.onRollback(() => this.#places.delete(id));
    return this.#remember(id, { block, at: quotaEntryAt(index) });
  }

  /** A block with a free entry, which is counted as used. */
  #blockWithRoom(tx: Tx): number {
    let block = le32(this.#view(0), 0, QuotaHeader.freeEntry);
    if (block === 0) {
      block = this.#takeBlock(tx);
      setLe32(this.#change(tx, 0), 0, QuotaHeader.freeEntry, block);
    }
    const view = this.#change(tx, block);
    const entries = le16(view, 0, QuotaBlockHeader.entries) + 1;
    setLe16(view, 0, QuotaBlockHeader.entries, entries);
    if (entries >= QUOTA_ENTRIES) this.#unlist(tx, view);
    return block;
  }

  /** Takes a block, which has become full, off the list of those with a free entry. */
  #unlist(tx: Tx, view: DataView): void {
    const next = le32(view, 0, QuotaBlockHeader.nextFree);
    const previous = le32(view, 0, QuotaBlockHeader.prevFree);
    if (next !== 0) setLe32(this.#change(tx, next), 0, QuotaBlockHeader.prevFree, previous);
    if (previous !== 0) setLe32(this.#change(tx, previous), 0, QuotaBlockHeader.nextFree, next);
    else setLe32(this.#change(tx, 0), 0, QuotaHeader.freeEntry, next);
    setLe32(view, 0, QuotaBlockHeader.nextFree, 0);
    setLe32(view, 0, QuotaBlockHeader.prevFree, 0);
  }

  /** A zeroed block that nothing uses: from the list of those, or at the end of the file. */
  #takeBlock(tx: Tx): number {
    const header = this.#change(tx, 0);
    const free = le32(header, 0, QuotaHeader.freeBlock);
    const block = free === 0 ? le32(header, 0, QuotaHeader.blocks) : free;
    if (free === 0) this.#extend(tx, block);
    const view = this.#change(tx, block);
    if (free === 0) setLe32(header, 0, QuotaHeader.blocks, block + 1);
    else setLe32(header, 0, QuotaHeader.freeBlock, le32(view, 0, QuotaBlockHeader.nextFree));
    new Uint8Array(view.buffer, view.byteOffset, QUOTA_BLOCK_SIZE).fill(0);
    return block;
  }

  /** Makes the file so long that it has `block`. */
  #extend(tx: Tx, block: number): void {
    const inode = this.#inode;
    const fileBlock = this.#fileBlock(block);
    if (readFileBlock(this.#fs, inode, fileBlock) === undefined) {
      createFileBlock(this.#fs, tx, inode, fileBlock);
    }
    const sizeBytes = (block + 1) * QUOTA_BLOCK_SIZE;
    if (inode.sizeBytes < sizeBytes) tx.edit(inode).sizeBytes = sizeBytes;
  }

  get #inode(): Inode {
    return this.#fs.internalInode(this.number);
  }

  #fileBlock(block: number): FileBlock {
    return Math.floor((block * QUOTA_BLOCK_SIZE) / this.#fs.superblock.blockSize) as FileBlock;
  }

  #load(block: number): Block {
    const { sizeBytes } = this.#inode;
    if ((block + 1) * QUOTA_BLOCK_SIZE > sizeBytes) {
      throw this.#damage(block, `the file has ${sizeBytes} bytes`);
    }
    const loaded = readFileBlock(this.#fs, this.#inode, this.#fileBlock(block));
    if (loaded === undefined) throw this.#damage(block, "a hole");
    return loaded;
  }

  #view(block: number): DataView {
    return this.#viewIn(this.#load(block), block);
  }
  #change(tx: Tx, block: number): DataView {
    return this.#viewIn(tx.modify(this.#load(block)), block);
  }
  #viewIn({ bytes }: Block, block: number): DataView {
    const at = (block * QUOTA_BLOCK_SIZE) % this.#fs.superblock.blockSize;
    return new DataView(bytes.buffer, bytes.byteOffset + at, QUOTA_BLOCK_SIZE);
  }

  /** @throws CorruptionError `quota` for a number that cannot be meant seriously. */
  #count(view: DataView, at: number, field: typeof QuotaEntry.space): number {
    if (view.getUint32(at + field + 4, true) < 0x20_0000) return le64(view, at, field);
    throw this.#damage(0, `id ${le32(view, at, QuotaEntry.id)} uses more than there can be`);
  }

  #damage(block: number, found: string): CorruptionError {
    const offset = block * QUOTA_BLOCK_SIZE;
    return new CorruptionError("quota", { inode: this.number, offset }, found);
  }
}

function isFree(view: DataView, at: number): boolean {
  for (let offset = 0; offset < sizeOf(QuotaEntry); offset += 4) {
    if (view.getUint32(at + offset, true) !== 0) return false;
  }
  return true;
}
