/**
 * Keeps the quota files right (features quota and project): whatever an operation changes of owners,
 * block counts and the number of inodes is charged to users, groups and projects in its own handle,
 * so that a crash never finds one without the other. Limits are not enforced.
 *
 * What counts are the root directory and the inodes behind the reserved ones, but not the quota
 * files. A value in an inode of its own (ops/xattr-value-inode.ts) is charged to each inode that
 * has the attribute: its blocks are among theirs, and it is one more inode.
 *
 * @see fs/quota/dquot.c; e2fsck/pass1.c, check_blocks
 */
import { le32 } from "../../base/layout.ts";
import type { InodeNumber } from "../../base/numbers.ts";
import { type Filesystem, ROOT_INODE } from "../filesystem.ts";
import { Incompat, RoCompat } from "../format/features.ts";
import { type Inode, InodeFlags, parseUsage, type Usage } from "../format/inode.ts";
import { QuotaMagic } from "../format/quota.ts";
import { SuperblockLayout } from "../format/superblock.ts";
import type { Tx } from "../journal/transaction.ts";
import { blockXattrs, inodeXattrs } from "../ops/xattr-entries.ts";
import { QuotaFile } from "./quota-file.ts";

const SECTOR_SIZE = 512;

/**
 * Blocks that a handle changes at the most for three kinds of quota: the entries of two ids; for an
 * id that is new the three tree blocks, one with entries and its neighbour on the list, the header,
 * and to extend the file an inode, a bitmap and a descriptor.
 */
export const QUOTA_CREDITS = 3 * (2 + 9);

/** What counts for one kind of quota. */
interface Kind {
  readonly file: QuotaFile;
  readonly idOf: (usage: Usage) => number;
}

/** What an id has come to use, by kind and id. */
type Charges = Map<number, { bytes: number; inodes: number }>;

export class Quotas {
  readonly #fs: Filesystem;
  readonly #kinds: readonly Kind[];
  /** Inodes that hold values which the handle in hand has given to an inode, or taken from it. */
  readonly #values = new Map<Inode, number>();

  private constructor(fs: Filesystem, kinds: readonly Kind[]) {
    this.#fs = fs;
    this.#kinds = kinds;
  }

  /**
   * The quotas of `fs`, or undefined when the feature is off.
   *
   * @param superblock the bytes of the superblock.
   * @throws CorruptionError `quota` when a quota file is none.
   */
  static of(fs: Filesystem, superblock: DataView): Quotas | undefined {
    if (!fs.superblock.hasRoCompat(RoCompat.QUOTA)) return undefined;
    const kinds: Kind[] = [];
    const add = (field: typeof S.usrQuotaInum, magic: number, idOf: Kind["idOf"]): void => {
      const number = le32(superblock, 0, field) as InodeNumber;
      if (number !== 0) kinds.push({ file: new QuotaFile(fs, number, magic), idOf });
    };
    const S = SuperblockLayout;
    add(S.usrQuotaInum, QuotaMagic.USER, ({ uid }) => uid);
    add(S.grpQuotaInum, QuotaMagic.GROUP, ({ gid }) => gid);
    if (fs.superblock.hasRoCompat(RoCompat.PROJECT)) {
      add(S.prjQuotaInum, QuotaMagic.PROJECT, ({ projectId }) => projectId);
    }
    return kinds.length === 0 ? undefined : new Quotas(fs, kinds);
  }

  /** Notes that `inode` has `change` more values in inodes of their own. */
  noteValueInodes(tx: Tx, inode: Inode, change: number): void {
    if (this.#values.size === 0) tx.onRollback(() => this.#values.clear());
    this.#values.set(inode, (this.#values.get(inode) ?? 0) + change);
  }

  /** Charges what the handle `tx`, which is about to finish, has changed. */
  settle(tx: Tx): void {
    const charges = this.#kinds.map((): Charges => new Map());
    const freed = new Set(tx.freedInodes);
    for (const [inode, bytes] of tx.touchedInodes) {
      if (this.#counts(inode)) this.#settleInode(charges, inode, bytes, freed.has(inode));
    }
    for (const inode of tx.createdInodes) {
      if (!this.#counts(inode) || freed.has(inode)) continue;
      this.#charge(charges, inode, inode.blocks512, 1 + this.#valueInodes(inode));
    }
    this.#values.clear();
    this.#kinds.forEach(({ file }, index) => {
      for (const [id, { bytes, inodes }] of charges[index] as Charges) {
        if (bytes !== 0 || inodes !== 0) file.charge(tx, id, bytes, inodes);
      }
    });
  }

  #settleInode(charges: Charges[], inode: Inode, bytes: Uint8Array, isFreed: boolean): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const before = parseUsage(view, this.#fs.superblock);
    const valuesChange = this.#values.get(inode) ?? 0;
    if (!isFreed && valuesChange === 0 && isSame(before, inode)) return;
    const values = this.#valueInodes(inode);
    this.#charge(charges, before, -before.blocks512, -(1 + values - valuesChange));
    if (!isFreed) this.#charge(charges, inode, inode.blocks512, 1 + values);
  }

  #charge(charges: Charges[], usage: Usage, blocks512: number, inodes: number): void {
    this.#kinds.forEach(({ idOf }, index) => {
      const ofKind = charges[index] as Charges;
      const id = idOf(usage);
      const known = ofKind.get(id) ?? { bytes: 0, inodes: 0 };
      ofKind.set(id, known);
      known.bytes += blocks512 * SECTOR_SIZE;
      known.inodes += inodes;
    });
  }

  #counts(inode: Inode): boolean {
    const { number } = inode;
    if (number !== ROOT_INODE && number < this.#fs.superblock.firstInode) return false;
    if (inode.hasFlag(InodeFlags.EA_INODE)) return false;
    return !this.#kinds.some(({ file }) => file.number === number);
  }

  #valueInodes(inode: Inode): number {
    if (!this.#fs.superblock.hasIncompat(Incompat.EA_INODE)) return 0;
    const entries = [...inodeXattrs(inode), ...blockXattrs(this.#fs, inode)];
    return entries.filter(({ valueInode }) => valueInode !== 0).length;
  }
}

function isSame(a: Usage, b: Usage): boolean {
  return (
    a.blocks512 === b.blocks512 && a.uid === b.uid && a.gid === b.gid && a.projectId === b.projectId
  );
}
