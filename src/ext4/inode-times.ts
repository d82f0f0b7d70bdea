/**
 * Times that change without anything else: the access time when a file is read, the modification
 * time when the shim has written data by itself. They change in memory at once, so that everybody
 * sees them, and no handle is started for it. When they reach the device:
 *
 *     normally      with the next commit
 *     lazytime      with the next change of the inode, when somebody syncs it, when nobody uses it any
 *                   more, or after a day, or as soon as the owner of the machine wants
 *
 * @see mount(8), "relatime", "lazytime"; fs/inode.c, atime_needs_update and relatime_need_update
 */
import type { InodeNumber } from "../base/numbers.ts";
import type { InodeCache } from "./cache/inode-cache.ts";
import { type Inode, InodeFlags, type Timestamp } from "./format/inode.ts";
import type { Transactions } from "./journal/transaction.ts";

export interface TimesOptions {
  /**
   * When reading changes the access time: `relatime` (if absent) once after each change of the file,
   * and once a day; `strictatime` every time.
   */
  readonly atime?: "relatime" | "strictatime" | "noatime" | undefined;
  /** Reading a directory leaves its access time alone. */
  readonly nodiratime?: boolean | undefined;
  /** Times alone do not make a commit. */
  readonly lazytime?: boolean | undefined;
}

export interface InodeTimesParts extends TimesOptions {
  readonly transactions: Transactions;
  readonly inodes: InodeCache;
  readonly now: () => Timestamp;
}

const DAY_SECONDS = 24 * 60 * 60;
/** Bounds the memory that inodes take up whose times wait to be stored. */
const KEPT_MAX = 4096;

export class InodeTimes {
  readonly #parts: InodeTimesParts;
  /** When the oldest of the times that wait was set, in seconds. */
  #waitingSince = 0;

  constructor(parts: InodeTimesParts) {
    this.#parts = parts;
  }

  /** `inode` was read. */
  noteAccess(inode: Inode): void {
    const now = this.#parts.now();
    if (!this.#isDue(inode, now)) return;
    inode.accessedAt = now;
    this.#note(inode, now);
  }

  /** Whether `noteAccess` would change anything now. */
  isAccessDue(inode: Inode): boolean {
    return this.#isDue(inode, this.#parts.now());
  }

  /** Data of `inode` was written at `time`. */
  noteWrite(inode: Inode, time: Timestamp): void {
    if (isSame(inode.modifiedAt, time) && isSame(inode.changedAt, time)) return;
    inode.modifiedAt = time;
    inode.changedAt = time;
    this.#note(inode, time);
  }

  /** Makes times that wait part of the next commit: those of one inode, or all. */
  store(number?: InodeNumber): void {
    const { transactions, inodes } = this.#parts;
    for (const inode of inodes.takeKept(number)) transactions.touch(inode);
  }

  /** The same for all, if the oldest of them waits for `ageSeconds` or longer. */
  storeExpired(ageSeconds: number): void {
    if (this.#parts.inodes.keptCount === 0) return;
    if (this.#parts.now().seconds - this.#waitingSince >= ageSeconds) this.store();
  }

  #isDue(inode: Inode, now: Timestamp): boolean {
    const { atime = "relatime", nodiratime = false } = this.#parts;
    if (atime === "noatime" || inode.hasFlag(InodeFlags.NOATIME)) return false;
    if (nodiratime && inode.isDirectory) return false;
    const { accessedAt } = inode;
    if (atime === "strictatime") return !isSame(accessedAt, now);
    return (
      !isBefore(inode.modifiedAt, accessedAt) ||
      !isBefore(inode.changedAt, accessedAt) ||
      now.seconds - accessedAt.seconds >= DAY_SECONDS
    );
  }

  #note(inode: Inode, { seconds }: Timestamp): void {
    const { transactions, inodes, lazytime = false } = this.#parts;
    if (transactions.isAborted) return;
    if (!lazytime) {
      transactions.touch(inode);
      return;
    }
    if (inodes.keptCount === 0) this.#waitingSince = seconds;
    inodes.keep(inode);
    const isOld = seconds - this.#waitingSince >= DAY_SECONDS;
    if (isOld || inodes.keptCount > KEPT_MAX) this.store();
  }
}

function isSame(a: Timestamp, b: Timestamp): boolean {
  return a.seconds === b.seconds && a.nanoseconds === b.nanoseconds;
}

function isBefore(a: Timestamp, b: Timestamp): boolean {
  return a.seconds < b.seconds || (a.seconds === b.seconds && a.nanoseconds < b.nanoseconds);
}
