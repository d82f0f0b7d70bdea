/**
 * Transactions: how metadata changes. Every change is made through a handle (`Tx`) that belongs to
 * one operation; what the handles of some seconds changed commits together, wholly or not at all.
 *
 *     transact(credits, tx => …)     one operation: all of it happens, or it throws and none of it
 *     running transaction            blocks and inodes that finished operations changed
 *     commit()                       hands them to the journal (or, without one, writes them)
 *
 * Everything is synchronous and on one thread, so there is one handle at a time, and a commit only
 * ever happens between two handles: a block in the running transaction is never one that a commit
 * is still writing.
 *
 * Rollback: the first time that a handle touches a block or an inode, its bytes are saved; when the
 * operation throws they come back. Whoever keeps knowledge outside of blocks and inodes takes it
 * back with `onRollback`.
 */
import { Errno } from "../../base/errno.ts";
import type { FsBlock } from "../../base/numbers.ts";
import type { BlockGroups } from "../alloc/groups.ts";
import type { Block, BlockCache, Seal } from "../cache/block-cache.ts";
import type { InodeCache } from "../cache/inode-cache.ts";
import { CorruptionError, DeliberateStop, FsError } from "../errors.ts";
import type { Inode, Timestamp } from "../format/inode.ts";

/** What a revoke block of 1 KiB holds of 64-bit block numbers, with room for a checksum. */
const REVOKES_PER_BLOCK_MIN = 125;

/** When so many inodes have changed, they are stored in their blocks before the commit asks for it. */
const CHANGED_INODES_MAX = 4096;
/** Copies of blocks that are kept for the next handles: more than one of them needs. */
const FREE_COPIES_MAX = 64;

/** What finished operations changed and the next commit makes durable. */
export class Transaction {
  /** Counts from 1; not the journal's sequence number. */
  readonly id: number;
  /** Blocks that were changed, by number. They are pinned in the block cache. */
  readonly blocks = new Map<FsBlock, Block>();
  /** Blocks of the inode table that will be changed when the inodes are stored. */
  readonly inodeBlocks = new Set<FsBlock>();
  /** Metadata blocks that were freed: older records of them in the journal must not be replayed. */
  readonly revoked = new Set<FsBlock>();
  readonly afterCommit: (() => void)[] = [];

  constructor(id: number) {
    this.id = id;
  }

  /** An inode in `block` of the inode table changes, and with it the block when the inode is stored. */
  noteInodeIn(block: FsBlock): void {
    if (!this.blocks.has(block)) this.inodeBlocks.add(block);
  }

  /** Blocks that its commit will write, at the most. */
  get size(): number {
    const revokeBlocks = Math.ceil(this.revoked.size / REVOKES_PER_BLOCK_MIN);
    return this.blocks.size + this.inodeBlocks.size + revokeBlocks;
  }
  get isEmpty(): boolean {
    return this.size === 0 && this.revoked.size === 0 && this.afterCommit.length === 0;
  }
}

/** Where committed transactions go: a journal, or straight to their places. */
export interface CommitTarget {
  /** The most blocks that one transaction may change. */
  readonly blocksMax: number;

  /**
   * Makes `transaction` durable, and all file data written before it. Blocks are sealed already. On
   * return each block has `isChanged` false, and is unpinned or has `awaitsCheckpoint` true.
   *
   * @throws any Error when it cannot; nobody will write to the filesystem after that.
   */
  commit(transaction: Transaction): void;

  /** Writes all committed blocks to their places, and makes the journal empty. */
  checkpoint(): void;

  /** Takes the contents away that an empty journal still has. Absent where there is no journal. */
  eraseLog?(how: LogErasure): void;
}

/** Lets the blocks of the log read as zeros; or leaves it to the device what they read as. */
export type LogErasure = "zero" | "discard";

/** What a block was before a handle changed it. */
interface SavedBlock {
  readonly block: Block;
  readonly bytes: Uint8Array;
  readonly wasChanged: boolean;
  readonly seal: Seal | undefined;
  readonly verifiedAs: number;
}

/** One operation's right to change metadata. */
export class Tx {
  /** The time of the operation: what its timestamps are set to. */
  readonly now: Timestamp;
  readonly transaction: Transaction;
  readonly #owner: Transactions;
  readonly #id: number;
  readonly #saved: SavedBlock[] = [];
  readonly #savedInodes: [Inode, Uint8Array, boolean, number][] = [];
  readonly #created: Block[] = [];
  readonly #createdInodes: Inode[] = [];
  readonly #freedInodes: Inode[] = [];
  readonly #forgotten: FsBlock[] = [];
  readonly #undo: (() => void)[] = [];
  #mustCommit = false;

  constructor(owner: Transactions, id: number, transaction: Transaction, now: Timestamp) {
    this.#owner = owner;
    this.#id = id;
    this.transaction = transaction;
    this.now = now;
  }

  /**
   * Announces a change of the bytes of `block`; to be called before the first.
   *
   * @param newSeal brings its checksum up to date before it is written; kept until another replaces it.
   * @returns `block`.
   */
  modify(block: Block, newSeal?: Seal): Block {
    if (block.savedBy !== this.#id) {
      block.savedBy = this.#id;
      const { isChanged: wasChanged, seal, verifiedAs } = block;
      const bytes = this.#owner.save(block.bytes);
      this.#saved.push({ block, bytes, wasChanged, seal, verifiedAs });
      if (!block.isChanged) this.#take(block);
    }
    if (newSeal !== undefined) block.seal = newSeal;
    return block;
  }

  /**
   * A zeroed metadata block in the place of `number`, which was just allocated.
   *
   * @throws CorruptionError `bitmap-used` when it has changes that wait to be written: whatever said
   *   that it was free was wrong.
   */
  create(number: FsBlock, seal?: Seal): Block {
    if (this.#owner.blocks.isPinned(number)) {
      throw new CorruptionError("bitmap-used", { block: number }, "allocated, but in use");
    }
    const block = this.#owner.blocks.create(number);
    block.savedBy = this.#id;
    block.seal = seal;
    this.#created.push(block);
    this.#take(block);
    return block;
  }

  /** What this handle does has to be durable when it has ended. */
  commitAtEnd(): void {
    this.#mustCommit = true;
  }
  get mustCommit(): boolean {
    return this.#mustCommit;
  }

  /** Says that the metadata block `number` was freed. Its contents are never written again. */
  forget(number: FsBlock): void {
    this.#forgotten.push(number);
  }

  /** Announces a change of `inode`; to be called before the first. It is stored with the commit. */
  edit(inode: Inode): Inode {
    if (inode.savedBy === this.#id) return inode;
    inode.savedBy = this.#id;
    const isNew = this.#owner.inodes.markChanged(inode);
    const bytes = this.#owner.saveInode(inode);
    this.#savedInodes.push([inode, bytes, isNew, inode.changedIn]);
    inode.changedIn = this.transaction.id;
    if (isNew) this.transaction.noteInodeIn(this.#owner.groups.locateInode(inode.number).block);
    return inode;
  }

  /** Takes in an inode that did not exist before. */
  createInode(inode: Inode): Inode {
    this.#owner.inodes.put(inode);
    this.#owner.inodes.markChanged(inode);
    inode.savedBy = this.#id;
    inode.changedIn = this.transaction.id;
    this.transaction.noteInodeIn(this.#owner.groups.locateInode(inode.number).block);
    this.#createdInodes.push(inode);
    this.onRollback(() => this.#owner.inodes.drop(inode.number));
    return inode;
  }

  /** Says that `inode` has been freed. */
  noteFreed(inode: Inode): void {
    this.#freedInodes.push(inode);
  }

  /** The inodes that this handle has touched so far, as they were before it did. */
  get touchedInodes(): Iterable<readonly [inode: Inode, before: Uint8Array]> {
    return this.#savedInodes.map(([inode, before]) => [inode, before] as const);
  }

  /** The inodes that did not exist before this handle. */
  get createdInodes(): readonly Inode[] {
    return this.#createdInodes;
  }
  /** The inodes that do not exist after it. */
  get freedInodes(): readonly Inode[] {
    return this.#freedInodes;
  }

  /** `undo` is called, the last one first, if the operation throws. */
  onRollback(undo: () => void): void {
    this.#undo.push(undo);
  }

  /** `action` is called when the transaction that this handle belongs to has become durable. */
  afterCommit(action: () => void): void {
    const { afterCommit } = this.transaction;
    const { length } = afterCommit;
    afterCommit.push(action);
    this.onRollback(() => {
      afterCommit.length = length;
    });
  }

  /** The operation succeeded. The journal's. */
  finish(): void {
    for (const number of this.#forgotten) {
      this.transaction.blocks.delete(number);
      this.#owner.blocks.drop(number);
      this.transaction.revoked.add(number);
    }
    for (const { bytes } of this.#saved) this.#owner.recycle(bytes);
    for (const [, bytes] of this.#savedInodes) this.#owner.recycleInode(bytes);
  }

  /** The operation failed: everything becomes what it was before. The journal's. */
  rollback(): void {
    while (this.#undo.length > 0) (this.#undo.pop() as () => void)();
    for (const block of this.#created) {
      this.transaction.blocks.delete(block.number);
      this.#owner.blocks.drop(block.number);
    }
    for (const { block, bytes, wasChanged, seal, verifiedAs } of this.#saved) {
      block.bytes.set(bytes);
      block.seal = seal;
      block.verifiedAs = verifiedAs;
      this.#owner.recycle(bytes);
      block.savedBy = 0;
      if (wasChanged) continue;
      block.isChanged = false;
      this.transaction.blocks.delete(block.number);
      if (!block.awaitsCheckpoint) this.#owner.blocks.unpin(block);
    }
    for (const [inode, bytes, isNew, changedIn] of this.#savedInodes) {
      inode.restore(bytes);
      this.#owner.recycleInode(bytes);
      inode.savedBy = 0;
      inode.changedIn = changedIn;
      if (isNew) this.#owner.inodes.unmarkChanged(inode);
    }
  }

  #take(block: Block): void {
    block.isChanged = true;
    this.#owner.blocks.pin(block);
    this.transaction.blocks.set(block.number, block);
    // A record of this transaction would be revoked with the older ones.
    if (this.transaction.revoked.delete(block.number)) {
      this.onRollback(() => this.transaction.revoked.add(block.number));
    }
  }
}

export interface TransactionsOptions {
  readonly blocks: BlockCache;
  readonly inodes: InodeCache;
  readonly groups: BlockGroups;
  readonly target: CommitTarget;
  readonly now: () => Timestamp;
  /** Told when the filesystem has become read-only because it could not be written. */
  readonly onAbort: (error: unknown) => void;
}

/** The transactions of one filesystem. */
export class Transactions {
  readonly blocks: BlockCache;
  readonly inodes: InodeCache;
  readonly groups: BlockGroups;
  #target: CommitTarget;
  readonly #now: () => Timestamp;
  readonly #onAbort: (error: unknown) => void;
  readonly #beforeFinish: ((tx: Tx) => void)[] = [];
  readonly #beforeCommit: ((tx: Tx) => void)[] = [];
  readonly #free: Uint8Array[] = [];
  readonly #freeForInodes: Uint8Array[] = [];
  #running = new Transaction(1);
  #handles = 0;
  /** Blocks that the hooks of `beforeFinish` may change in each handle. */
  #hookCredits = 0;
  #current: Tx | undefined;
  readonly #whenIdle: (() => void)[] = [];
  #aborted: FsError | undefined;
  /** Set while nothing is changed: what operations get. */
  #held: FsError | undefined;

  constructor({ blocks, inodes, groups, target, now, onAbort }: TransactionsOptions) {
    this.blocks = blocks;
    this.inodes = inodes;
    this.groups = groups;
    this.#target = target;
    this.#now = now;
    this.#onAbort = onAbort;
    this.beforeCommit((tx) => this.#storeInodes(tx));
  }

  /** The id of the running transaction: all with a lower one are durable. */
  get runningId(): number {
    return this.#running.id;
  }
  /** True when a commit would write something. */
  get hasChanges(): boolean {
    return !this.#running.isEmpty;
  }
  get isAborted(): boolean {
    return this.#aborted !== undefined;
  }
  /** Whether it was aborted by a shutdown, which is no failure. */
  get isShutDown(): boolean {
    return this.#aborted instanceof DeliberateStop;
  }
  /** The most blocks that a handle may ask for. */
  get creditsMax(): number {
    return this.#target.blocksMax - this.#hookCredits;
  }

  /**
   * Sends all further commits to `target`. Nothing may wait to be committed.
   *
   * @returns where they went until now.
   */
  useTarget(target: CommitTarget): CommitTarget {
    if (this.hasChanges) throw new Error("changes were made for another target");
    const before = this.#target;
    this.#target = target;
    return before;
  }

  /**
   * `hook` runs at the end of every operation, in its handle: it can see what the operation did, and
   * when it throws, that is undone.
   *
   * @param credits blocks that it will change at the most.
   */
  beforeFinish(hook: (tx: Tx) => void, credits: number): void {
    this.#beforeFinish.push(hook);
    this.#hookCredits += credits;
  }

  /** `hook` runs in a handle at the start of every commit, in the order of these calls. */
  beforeCommit(hook: (tx: Tx) => void): void {
    // Inodes are stored last, since the other hooks may change some.
    this.#beforeCommit.splice(Math.max(0, this.#beforeCommit.length - 1), 0, hook);
  }

  /**
   * Runs one operation in a handle. When it throws, nothing of it has happened.
   *
   * @param credits blocks that it will change at the most: the running transaction commits first if
   *   they may not fit.
   * @throws FsError EROFS after writing has ended, EIO when a commit fails, and whatever `operation`
   *   throws.
   */
  transact<T>(credits: number, operation: (tx: Tx) => T): T {
    const refusal = this.#aborted ?? this.#held;
    if (refusal !== undefined) throw refusal;
    if (this.#current !== undefined) throw new Error("a handle within a handle");
    if (this.#running.size + credits > this.creditsMax) this.commit();
    if (this.inodes.changedCount >= CHANGED_INODES_MAX) this.#storeInodesEarly();
    try {
      let mustCommit = false;
      const result = this.#run((tx) => {
        const answer = operation(tx);
        for (const hook of this.#beforeFinish) hook(tx);
        mustCommit = tx.mustCommit;
        return answer;
      });
      if (mustCommit) this.commit();
      return result;
    } finally {
      while (this.#whenIdle.length > 0) (this.#whenIdle.shift() as () => void)();
    }
  }

  /** Calls `action` when no handle is open: at once, or as soon as the one in hand has ended. */
  whenIdle(action: () => void): void {
    if (this.#current === undefined) action();
    else this.#whenIdle.push(action);
  }

  /**
   * Takes in a change of `inode` that was made without a handle, since nothing about it can fail:
   * new times. It is stored with the next commit.
   *
   * @throws FsError EIO when a commit that makes room fails.
   */
  touch(inode: Inode): void {
    const isFull = this.#running.size >= this.#target.blocksMax;
    if (isFull && this.#current === undefined) this.commit();
    inode.timesChangedIn = this.#running.id;
    if (!this.inodes.markChanged(inode)) return;
    this.#running.noteInodeIn(this.groups.locateInode(inode.number).block);
  }

  #run<T>(operation: (tx: Tx) => T): T {
    const tx = new Tx(this, ++this.#handles, this.#running, this.#now());
    this.#current = tx;
    try {
      const result = operation(tx);
      tx.finish();
      return result;
    } catch (error) {
      tx.rollback();
      throw error;
    } finally {
      this.#current = undefined;
    }
  }

  /**
   * Makes all finished operations durable. Does nothing when there are none, or while they are held.
   *
   * @throws FsError EIO when that fails; from then on nothing can be changed.
   */
  commit(): void {
    if (this.#aborted !== undefined) throw this.#aborted;
    const transaction = this.#running;
    if (transaction.isEmpty || this.#held !== undefined) return;
    try {
      this.#run((tx) => {
        for (const hook of this.#beforeCommit) hook(tx);
      });
      for (const block of transaction.blocks.values()) block.seal?.(block);
      this.#target.commit(transaction);
    } catch (error) {
      this.abort(error);
      throw new FsError(Errno.EIO, "the changes cannot be committed", { cause: error });
    }
    this.#running = new Transaction(transaction.id + 1);
    for (const action of transaction.afterCommit) action();
  }

  /** Whether commits go to a journal. */
  get hasLog(): boolean {
    return this.#target.eraseLog !== undefined;
  }

  /**
   * Commits, writes everything to its place and empties the journal.
   *
   * @param erasure what becomes of the contents that the journal still has; nothing if absent.
   */
  checkpoint(erasure?: LogErasure): void {
    // What is done after a commit may have changed something again.
    while (!this.#running.isEmpty) this.commit();
    try {
      this.#target.checkpoint();
      if (erasure !== undefined) this.#target.eraseLog?.(erasure);
    } catch (error) {
      this.abort(error);
      throw new FsError(Errno.EIO, "committed changes cannot be written", { cause: error });
    }
  }

  /**
   * Ends all writing: what was not committed is lost, what was stays in the journal.
   *
   * @param refusal what later operations get; EROFS if absent.
   */
  abort(error: unknown, refusal?: FsError): void {
    if (this.#aborted !== undefined) return;
    this.#aborted = refusal ?? new FsError(Errno.EROFS, "the filesystem has become read-only");
    this.#onAbort(error);
  }

  /**
   * Lets nothing be changed for a while. Times that change meanwhile wait for the end of it.
   *
   * @param refusal what operations get.
   * @returns a function that ends it.
   */
  hold(refusal: FsError): () => void {
    this.#held = refusal;
    return () => {
      this.#held = undefined;
    };
  }

  /** Puts the changed inodes into their blocks, so that they need not all stay in memory. */
  #storeInodesEarly(): void {
    try {
      this.#run((tx) => this.#storeInodes(tx));
    } catch (error) {
      this.abort(error);
      throw new FsError(Errno.EIO, "changed inodes cannot be stored", { cause: error });
    }
  }

  #storeInodes(tx: Tx): void {
    for (const inode of [...this.inodes.changed]) {
      const { block, at } = this.groups.locateInode(inode.number);
      inode.serialize(tx.modify(this.blocks.get(block)).bytes, at);
      this.inodes.markStored(inode);
    }
    this.#running.inodeBlocks.clear();
  }

  /** A copy of `bytes`, in memory that is used again. For handles. */
  save(bytes: Uint8Array): Uint8Array {
    const copy = this.#free.pop() ?? new Uint8Array(bytes.length);
    copy.set(bytes);
    return copy;
  }
  recycle(bytes: Uint8Array): void {
    if (this.#free.length < FREE_COPIES_MAX) this.#free.push(bytes);
  }

  /** The same for inodes. */
  saveInode(inode: Inode): Uint8Array {
    const copy = this.#freeForInodes.pop() ?? new Uint8Array(inode.raw.byteLength);
    inode.save(copy);
    return copy;
  }
  recycleInode(bytes: Uint8Array): void {
    this.#freeForInodes.push(bytes);
  }
}
