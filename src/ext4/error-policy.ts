/**
 * What follows when a mounted filesystem turns out to be damaged: the superblock says so (how often,
 * what first and what last, and that e2fsck has to look), and then the policy of `errors=`:
 *
 *     continue     goes on; the record is part of the running transaction
 *     remount-ro   ends all writing: what was not committed is lost, later changes get EROFS
 *     panic        the same, and the server is told to end
 *
 * Once transactions have ended, the record goes straight to the device. A journal that is replayed
 * afterwards must not put older fields in their place (`keepErrorFields`).
 *
 * @see ext4/super.rst, "s_error_count" and following; fs/ext4/super.c, ext4_handle_error and
 * save_error_info
 */
import type { WritableDevice } from "../base/block-device.ts";
import { Errno } from "../base/errno.ts";
import { bytesAt, le16, le32, setLe16, setLe32, setLe64, setU8, widthOf } from "../base/layout.ts";
import { type CorruptionError, DeliberateStop, FsError } from "./errors.ts";
import type { Filesystem } from "./filesystem.ts";
import type { Timestamp } from "./format/inode.ts";
import { SuperblockLayout, SuperblockState } from "./format/superblock.ts";
import type { Transactions } from "./journal/transaction.ts";
import type { SuperblockEditor } from "./superblock-editor.ts";

export type ErrorsBehaviour = "continue" | "remount-ro" | "panic";

/** `s_errors`. */
const ERRORS_CONTINUE = 1;
const ERRORS_PANIC = 3;

/** `s_last_error_errcode`. @see fs/ext4/ext4.h, EXT4_ERR_EIO and following */
const ErrorCode = { EIO: 2, EFSBADCRC: 4, EFSCORRUPTED: 5 } as const;

const COUNT_MAX = 0xffff_ffff;
const SUPERBLOCK_CREDITS = 1;

/** One error as the superblock has room for it. */
interface ErrorRecord {
  readonly time: Timestamp;
  readonly inode: number;
  readonly block: number;
  /** Which check has failed; ASCII. */
  readonly rule: string;
  readonly code: number;
}

interface PendingErrors {
  readonly count: number;
  readonly first: ErrorRecord;
  readonly last: ErrorRecord;
}

export interface ErrorPolicyParts {
  readonly device: WritableDevice;
  readonly transactions: Transactions;
  readonly superblock: SuperblockEditor;
  readonly now: () => Timestamp;
  /** What the superblock asks for, if absent. */
  readonly behaviour?: ErrorsBehaviour | undefined;
  readonly onPanic: (error: CorruptionError) => void;
}

export class ErrorPolicy {
  readonly behaviour: ErrorsBehaviour;
  readonly #parts: ErrorPolicyParts;
  /** Errors that the superblock does not tell of yet. */
  #pending: PendingErrors | undefined;
  /** The transaction that has taken in errors: later ones join them when it commits. */
  #recordedIn = 0;

  constructor(parts: ErrorPolicyParts) {
    this.#parts = parts;
    this.behaviour = parts.behaviour ?? behaviourOf(parts.superblock.view);
    parts.transactions.beforeCommit((tx) =>
      this.#takePending((pending) => parts.superblock.edit(tx, (view) => store(view, pending))),
    );
  }

  /** Records `error` and does what the policy says. Not to be called within a handle. */
  report(error: CorruptionError): void {
    const { transactions } = this.#parts;
    if (transactions.isAborted) return;
    const { inode = 0, block = 0 } = error.place;
    const isChecksum = error.rule.endsWith("-checksum");
    const code = isChecksum ? ErrorCode.EFSBADCRC : ErrorCode.EFSCORRUPTED;
    this.#add({ time: this.#parts.now(), inode, block, rule: error.rule, code });
    if (this.behaviour === "continue") {
      this.#store();
      return;
    }
    this.#storeAtOnce();
    transactions.abort(new DeliberateStop(Errno.EROFS, error.message, { cause: error }));
    if (this.behaviour === "panic") this.#parts.onPanic(error);
  }

  /** Records that changes could not be written. @param error what ended the transactions. */
  recordAbort(error: unknown): void {
    if (error instanceof DeliberateStop) return;
    this.#add({ time: this.#parts.now(), inode: 0, block: 0, rule: "commit", code: ErrorCode.EIO });
    this.#storeAtOnce();
  }

  #add(record: ErrorRecord): void {
    const { count = 0, first = record } = this.#pending ?? {};
    this.#pending = { count: count + 1, first, last: record };
  }

  #store(): void {
    const { transactions, superblock } = this.#parts;
    if (this.#recordedIn === transactions.runningId) return;
    try {
      transactions.transact(SUPERBLOCK_CREDITS, (tx) =>
        this.#takePending((pending) => superblock.edit(tx, (view) => store(view, pending))),
      );
      this.#recordedIn = transactions.runningId;
    } catch (error) {
      // The commit that made room has failed, which ended the transactions and was recorded.
      if (!(error instanceof FsError)) throw error;
    }
  }

  #storeAtOnce(): void {
    const { device, superblock } = this.#parts;
    try {
      this.#takePending((pending) =>
        superblock.writeThrough(device, (view) => store(view, pending)),
      );
    } catch {
      // A device that fails may fail here as well, and then there is nowhere to say so.
    }
  }

  #takePending(write: (pending: PendingErrors) => void): void {
    if (this.#pending === undefined) return;
    write(this.#pending);
    this.#pending = undefined;
  }
}

/**
 * Applies the `errors=` policy of a mounted filesystem to an error that an operation has met there.
 * Does nothing where nothing can be written.
 */
export function reportCorruption(fs: Filesystem, error: CorruptionError): void {
  if (fs.isWritable) fs.writer.errors.report(error);
}

/** Whether the superblock says that there are errors which e2fsck has not repaired. */
export function hasKnownErrors(superblock: DataView): boolean {
  return (le16(superblock, 0, SuperblockLayout.state) & SuperblockState.ERROR) !== 0;
}

/** Gives the superblock `to` the errors that `from` knows: what a replayed journal may lack. */
export function keepErrorFields(from: DataView, to: DataView): void {
  const copy = (start: number, end: number): void =>
    new Uint8Array(to.buffer, to.byteOffset + start, end - start).set(
      new Uint8Array(from.buffer, from.byteOffset + start, end - start),
    );
  copy(S.errorCount, S.lastErrorFunc + FUNC_SIZE);
  copy(S.firstErrorTimeHi, S.lastErrorErrcode + 1);
  const known = le16(from, 0, S.state) & SuperblockState.ERROR;
  setLe16(to, 0, S.state, le16(to, 0, S.state) | known);
}

function behaviourOf(superblock: DataView): ErrorsBehaviour {
  const stored = le16(superblock, 0, SuperblockLayout.errors);
  if (stored === ERRORS_PANIC) return "panic";
  return stored === ERRORS_CONTINUE ? "continue" : "remount-ro";
}

const S = SuperblockLayout;
/** Where the superblock keeps the first error since e2fsck has run, and the last. */
// biome-ignore format: a table
const FIRST = {
  time: S.firstErrorTime, timeHi: S.firstErrorTimeHi, inode: S.firstErrorIno,
  block: S.firstErrorBlock, func: S.firstErrorFunc, line: S.firstErrorLine,
  code: S.firstErrorErrcode,
} as const;
// biome-ignore format: a table
const LAST = {
  time: S.lastErrorTime, timeHi: S.lastErrorTimeHi, inode: S.lastErrorIno,
  block: S.lastErrorBlock, func: S.lastErrorFunc, line: S.lastErrorLine,
  code: S.lastErrorErrcode,
} as const;
const FUNC_SIZE = widthOf(S, "lastErrorFunc");

function store(view: DataView, { count, first, last }: PendingErrors): void {
  setLe16(view, 0, S.state, le16(view, 0, S.state) | SuperblockState.ERROR);
  setLe32(view, 0, S.errorCount, Math.min(le32(view, 0, S.errorCount) + count, COUNT_MAX));
  if (le32(view, 0, S.firstErrorTime) === 0) storeRecord(view, FIRST, first);
  storeRecord(view, LAST, last);
}

function storeRecord(view: DataView, at: typeof FIRST | typeof LAST, record: ErrorRecord): void {
  const { seconds } = record.time;
  setLe32(view, 0, at.time, seconds % 0x1_0000_0000);
  setU8(view, 0, at.timeHi, Math.floor(seconds / 0x1_0000_0000));
  setLe32(view, 0, at.inode, record.inode);
  setLe64(view, 0, at.block, record.block);
  // The kernel's function and line: a rule is what we can be searched for.
  const name = bytesAt(view, 0, at.func, FUNC_SIZE);
  for (let index = 0; index < FUNC_SIZE; index++) name[index] = record.rule.charCodeAt(index);
  setLe32(view, 0, at.line, 0);
  setU8(view, 0, at.code, record.code);
}
