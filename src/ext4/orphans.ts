/**
 * Orphans: inodes that no name leads to but somebody has open, and inodes whose truncation takes
 * more than one transaction. Each is recorded on the device with the change that makes it one, so
 * that the first mount after a crash can finish what was begun.
 *
 *     orphan list   s_last_orphan ─► inode ─► inode ─► 0     chained through i_dtime, newest first
 *     orphan file   a table of inode numbers (orphan-file.ts), when the feature is on and it has
 *                   room; the list takes the others
 *     no journal    known in memory only, as a crash leaves the whole filesystem to e2fsck anyway
 *
 * @see ext4/orphan.rst; fs/ext4/orphan.c
 */
import { le32, setLe32 } from "../base/layout.ts";
import type { GroupIndex, InodeNumber } from "../base/numbers.ts";
import { loadInodeBitmap } from "./alloc/bitmaps.ts";
import { hasKnownErrors } from "./error-policy.ts";
import { CorruptionError, FsError } from "./errors.ts";
import type { Filesystem } from "./filesystem.ts";
import { Compat } from "./format/features.ts";
import { I_BLOCK_SIZE, type Inode } from "./format/inode.ts";
import { SuperblockLayout } from "./format/superblock.ts";
import type { Tx } from "./journal/transaction.ts";
import { OrphanFile } from "./orphan-file.ts";

/**
 * Blocks that adding or removing one changes at the most: the superblock, the inode's own block and
 * that of its neighbour on the list.
 */
export const ORPHAN_CREDITS = 3;

/** How orphans come to their end at a mount. Both work in handles of their own. */
export interface OrphanFinishers {
  /** Frees what `inode` has allocated past its size. */
  truncate(inode: Inode): void;
  /** Frees `inode`, which nothing links to, and removes it from the orphans with that. */
  free(inode: Inode): void;
  /** Told of a record that cannot be followed; what it stood for is left to e2fsck. */
  onDamage(error: CorruptionError): void;
}

export interface FinishedOrphans {
  freed: number;
  truncated: number;
}

/** The end of the orphan list, and what precedes its first inode: the superblock. */
const NONE = 0 as InodeNumber;

export class Orphans {
  readonly #fs: Filesystem;
  readonly #file: OrphanFile | undefined;
  readonly #isRecorded: boolean;
  /** Slots in the orphan file. */
  readonly #slots = new Map<InodeNumber, number>();
  /** For each inode on the list the one that points to it; `i_dtime` leads the other way. */
  readonly #newer = new Map<InodeNumber, InodeNumber>();
  readonly #unrecorded = new Set<InodeNumber>();

  /**
   * @param isRecorded whether there is a journal that makes the records worth keeping.
   * @throws CorruptionError when the orphan file is damaged.
   */
  constructor(fs: Filesystem, isRecorded: boolean) {
    this.#fs = fs;
    this.#isRecorded = isRecorded;
    if (fs.superblock.hasCompat(Compat.ORPHAN_FILE)) this.#file = new OrphanFile(fs);
  }

  /** Whether the orphan file is in use. */
  get mayBeInFile(): boolean {
    return this.#isRecorded && this.#file !== undefined;
  }
  /** Whether there is one in the orphan file. */
  get areInFile(): boolean {
    return this.#file?.isEmpty === false;
  }

  has(number: InodeNumber): boolean {
    return this.#newer.has(number) || this.#slots.has(number) || this.#unrecorded.has(number);
  }

  /** All of them, as they are now. */
  numbers(): InodeNumber[] {
    return [...this.#newer.keys(), ...this.#slots.keys(), ...this.#unrecorded];
  }

  /** Records `inode`, unless it is recorded already. */
  add(tx: Tx, inode: Inode): void {
    const { number } = inode;
    if (this.has(number)) return;
    if (!this.#isRecorded) {
      this.#unrecorded.add(number);
      tx.onRollback(() => this.#unrecorded.delete(number));
      return;
    }
    const slot = this.#file?.add(tx, number) ?? -1;
    if (slot < 0) this.#addToList(tx, inode);
    else this.#setSlot(tx, number, slot);
  }

  /** Takes the record of `inode` away, if there is one. */
  remove(tx: Tx, inode: Inode): void {
    const { number } = inode;
    const slot = this.#slots.get(number);
    if (slot !== undefined) {
      this.#file?.clear(tx, slot);
      this.#setSlot(tx, number, undefined);
    } else if (this.#newer.has(number)) {
      this.#removeFromList(tx, inode);
    } else if (this.#unrecorded.delete(number)) {
      tx.onRollback(() => this.#unrecorded.add(number));
    }
  }

  /**
   * Finishes all orphans that a crash has left: frees those without links, truncates the others to
   * their size. On a filesystem with known errors the list is dropped instead, as the kernel does,
   * since following it might free what is in use.
   *
   * Every step takes a record away, so that no image can make this go on forever.
   */
  finishAll(finishers: OrphanFinishers): FinishedOrphans {
    const finished = { freed: 0, truncated: 0 };
    if (hasKnownErrors(this.#fs.writer.superblock.view)) {
      if (this.#first !== NONE) this.#fs.transact(ORPHAN_CREDITS, (tx) => this.#setFirst(tx, NONE));
      return finished;
    }
    this.#finishList(finishers, finished);
    this.#finishFile(finishers, finished);
    return finished;
  }

  /** Goes on with the first of the list until there is none; the rest behind a damaged one is lost. */
  #finishList(finishers: OrphanFinishers, finished: FinishedOrphans): void {
    while (this.#first !== NONE) {
      const number = this.#first;
      this.#newer.set(number, NONE);
      if (this.#finish(number, finishers, finished)) continue;
      this.#newer.delete(number);
      if (this.#isStopped) return;
      this.#fs.transact(ORPHAN_CREDITS, (tx) => this.#setFirst(tx, NONE));
    }
  }

  #finishFile(finishers: OrphanFinishers, finished: FinishedOrphans): void {
    for (const [slot, number] of this.#file?.entries() ?? []) {
      this.#slots.set(number, slot);
      if (this.#finish(number, finishers, finished)) continue;
      this.#slots.delete(number);
      if (this.#isStopped) return;
      this.#fs.transact(ORPHAN_CREDITS, (tx) => this.#file?.clear(tx, slot));
    }
  }

  /** @returns false when damage, which was reported, is in the way. */
  #finish(number: InodeNumber, finishers: OrphanFinishers, finished: FinishedOrphans): boolean {
    try {
      const inode = this.#get(number);
      if (inode.linkCount === 0) {
        finishers.free(inode);
        finished.freed++;
      } else {
        finishers.truncate(inode);
        finished.truncated++;
      }
      if (this.has(number)) this.#fs.transact(ORPHAN_CREDITS, (tx) => this.remove(tx, inode));
      return true;
    } catch (error) {
      if (!(error instanceof FsError) || this.#isStopped) throw error;
      const damage =
        error instanceof CorruptionError
          ? error
          : new CorruptionError("orphan-inode", { inode: number }, error.message);
      finishers.onDamage(damage);
      return false;
    }
  }

  /** The inode `number` if it can be an orphan. @see fs/ext4/ialloc.c, ext4_orphan_get */
  #get(number: InodeNumber): Inode {
    const { firstInode, inodeCount, inodesPerGroup } = this.#fs.superblock;
    const refuse = (found: string): never => {
      throw new CorruptionError("orphan-inode", { inode: number }, found);
    };
    if (number < firstInode || number > inodeCount) refuse("no inode that can be an orphan");
    const group = Math.floor((number - 1) / inodesPerGroup) as GroupIndex;
    const bit = (number - 1) % inodesPerGroup;
    const bitmap = loadInodeBitmap(this.#fs, group);
    if (((bitmap[bit >> 3] as number) & (1 << (bit & 7))) === 0) refuse("marked as free");
    const inode = this.#fs.internalInode(number);
    if (inode.linkCount > 0 && !canTruncate(inode)) refuse("linked, and nothing to truncate");
    return inode;
  }

  #addToList(tx: Tx, inode: Inode): void {
    const first = this.#first;
    tx.edit(inode).deletionTime = first;
    this.#setFirst(tx, inode.number);
    if (this.#newer.has(first)) this.#setNewer(tx, first, inode.number);
    this.#setNewer(tx, inode.number, NONE);
  }

  #removeFromList(tx: Tx, inode: Inode): void {
    const older = inode.deletionTime as InodeNumber;
    const newer = this.#newer.get(inode.number) as InodeNumber;
    if (newer === NONE) this.#setFirst(tx, older);
    else tx.edit(this.#fs.internalInode(newer)).deletionTime = older;
    if (this.#newer.has(older)) this.#setNewer(tx, older, newer);
    this.#setNewer(tx, inode.number, undefined);
    tx.edit(inode).deletionTime = 0;
  }

  /** Damage may end all writing, as the policy on errors says. */
  get #isStopped(): boolean {
    return this.#fs.writer.transactions.isAborted;
  }

  get #first(): InodeNumber {
    return le32(this.#fs.writer.superblock.view, 0, SuperblockLayout.lastOrphan) as InodeNumber;
  }
  #setFirst(tx: Tx, number: InodeNumber): void {
    this.#fs.writer.superblock.edit(tx, (view) =>
      setLe32(view, 0, SuperblockLayout.lastOrphan, number),
    );
  }

  #setNewer(tx: Tx, number: InodeNumber, newer: InodeNumber | undefined): void {
    replace(tx, this.#newer, number, newer);
  }
  #setSlot(tx: Tx, number: InodeNumber, slot: number | undefined): void {
    replace(tx, this.#slots, number, slot);
  }
}

/** Sets or deletes `map[key]` until a rollback. */
function replace<K, V>(tx: Tx, map: Map<K, V>, key: K, value: V | undefined): void {
  const put = (next: V | undefined): void => {
    if (next === undefined) map.delete(key);
    else map.set(key, next);
  };
  const before = map.get(key);
  put(value);
  tx.onRollback(() => put(before));
}

/** @see fs/ext4/inode.c, ext4_can_truncate */
function canTruncate(inode: Inode): boolean {
  if (inode.isSymlink) return inode.sizeBytes >= I_BLOCK_SIZE;
  return inode.isRegular || inode.isDirectory;
}
