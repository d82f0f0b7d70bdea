/**
 * Watches the library from inside while it writes to damaged images. Two things must hold whatever
 * they say:
 *
 *  - What an operation writes past the journal, file data and zeros, never lands in the filesystem's
 *    own blocks, and no block of those is changed as if it were a file's.
 *  - An operation that throws leaves every cached block, inode and descriptor as it was before.
 */
import type { FsBlock, GroupIndex } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import type { SystemZone } from "../../src/ext4/alloc/system-zone.ts";
import { type Block, BlockCache, BlockKind } from "../../src/ext4/cache/block-cache.ts";
import { InodeCache } from "../../src/ext4/cache/inode-cache.ts";
import type { Inode } from "../../src/ext4/format/inode.ts";
import { SUPERBLOCK_OFFSET } from "../../src/ext4/format/superblock.ts";
import type { Filesystem } from "../../src/ext4/index.ts";
import { InPlaceTarget } from "../../src/ext4/journal/in-place.ts";
import { Jbd2Target } from "../../src/ext4/journal/jbd2-target.ts";
import { Transactions, Tx } from "../../src/ext4/journal/transaction.ts";

/** Blocks that are compared after a failed handle, at the most. */
const COMPARED_MAX = 400;

let journalDepth = 0;
let watched: Watch | undefined;

/** What is known about the filesystem in hand. */
interface Watch {
  readonly fs: Filesystem;
  readonly zone: SystemZone;
  readonly blocks: Map<FsBlock, Block>;
  readonly inodes: Map<number, Inode>;
}

/** A device that refuses what no operation may write. */
export class GuardedDevice extends MemoryDevice {
  override write(offset: number, bytes: Uint8Array): void {
    refuseMetadata(offset, bytes.length);
    super.write(offset, bytes);
  }
  override zero(offset: number, length: number): void {
    refuseMetadata(offset, length);
    super.zero(offset, length);
  }
}

function refuseMetadata(offset: number, length: number): void {
  if (watched === undefined || journalDepth > 0 || length === 0) return;
  if (offset === SUPERBLOCK_OFFSET && length === SUPERBLOCK_OFFSET) return;
  const { blockSize } = watched.fs.superblock;
  const first = Math.floor(offset / blockSize) as FsBlock;
  const count = Math.ceil((offset + length) / blockSize) - first;
  if (watched.zone.overlaps(first, count)) {
    throw new Error(`${length} bytes of a file were written to ${offset}: metadata`);
  }
}

/** Begins to watch `fs`. */
export function watch(fs: Filesystem): void {
  watched = { fs, zone: fs.protectSystemBlocks(), blocks: new Map(), inodes: new Map() };
}
/** Ends it. */
export function unwatch(): void {
  watched = undefined;
}

const KINDS_OF_FILES: readonly number[] = [
  BlockKind.EXTENTS,
  BlockKind.DIRECTORY,
  BlockKind.HTREE_ROOT,
  BlockKind.HTREE_NODE,
  BlockKind.XATTR,
  BlockKind.ORPHANS,
];

function refuseForeign(block: Block): void {
  if (watched === undefined || !watched.zone.overlaps(block.number, 1)) return;
  const kind = Math.floor(block.verifiedAs / 0x1_0000_0000);
  if (KINDS_OF_FILES.includes(kind)) {
    throw new Error(`block ${block.number}, which is metadata, was changed as kind ${kind}`);
  }
}

/**
 * Remembers what the watched filesystem is like now.
 *
 * @returns a function that throws when it has become different; `cause` says what should not have
 *   changed it.
 */
export function rememberState(): (cause: unknown) => void {
  const watching = watched;
  if (watching === undefined) return () => {};
  const before = snapshot(watching);
  return (cause) => verifyUnchanged(watching, before, cause);
}

interface Snapshot {
  readonly blocks: readonly (readonly [FsBlock, Uint8Array])[];
  readonly inodes: readonly (readonly [Inode, Uint8Array])[];
  readonly descriptors: readonly object[];
  readonly orphans: string;
}

function snapshot({ fs, blocks, inodes }: Watch): Snapshot {
  const { groupCount, blockSize } = fs.superblock;
  const superblock = Math.floor(SUPERBLOCK_OFFSET / blockSize);
  const compared = [...blocks].filter(([number]) => number !== superblock).slice(-COMPARED_MAX);
  const groups = Array.from({ length: Math.min(groupCount, COMPARED_MAX) }, (_, group) => group);
  return {
    blocks: compared.map(([number, { bytes }]) => [number, bytes.slice()]),
    inodes: [...inodes.values()].map((inode) => [inode, bytesOf(inode).slice()]),
    descriptors: groups.map((group) => ({ ...fs.groups.descriptor(group as GroupIndex) })),
    orphans: fs.writer.orphans.numbers().sort().join(),
  };
}

function verifyUnchanged({ fs }: Watch, before: Snapshot, cause: unknown): void {
  const fail = (what: string): never => {
    const which = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`${what} changed by an operation that failed: ${which}`, { cause });
  };
  for (const [number, bytes] of before.blocks) {
    if (Buffer.compare(fs.blocks.get(number).bytes, bytes) !== 0) fail(`block ${number} was`);
  }
  for (const [inode, bytes] of before.inodes) {
    if (Buffer.compare(bytesOf(inode), bytes) !== 0) fail(`inode ${inode.number} was`);
  }
  before.descriptors.forEach((descriptor, group) => {
    const now = fs.groups.descriptor(group as GroupIndex);
    const differs = Object.entries(descriptor).some(
      ([name, value]) => Reflect.get(now, name) !== value,
    );
    if (differs) fail(`the descriptor of group ${group} was`);
  });
  if (fs.writer.orphans.numbers().sort().join() !== before.orphans) fail("the orphans were");
}

const bytesOf = ({ raw }: Inode): Uint8Array =>
  new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength);

/** Replaces the method `name` of `prototype` by what `make` makes of it. */
function wrap<T extends object, K extends keyof T>(
  prototype: T,
  name: K,
  make: (original: T[K]) => T[K],
): void {
  prototype[name] = make(prototype[name]);
}

/** Puts the watchmen into the library. To be called once. */
export function installGuards(): void {
  for (const prototype of [Jbd2Target.prototype, InPlaceTarget.prototype]) {
    for (const name of ["commit", "checkpoint"] as const) {
      wrap(
        prototype as Jbd2Target,
        name,
        (original) =>
          function (this: Jbd2Target, ...parameters: [never]): void {
            journalDepth++;
            try {
              original.apply(this, parameters);
            } finally {
              journalDepth--;
            }
          },
      );
    }
  }
  for (const name of ["get", "create"] as const) {
    wrap(
      BlockCache.prototype,
      name,
      (original) =>
        function (this: BlockCache, number: FsBlock): Block {
          const block = original.call(this, number);
          watched?.blocks.delete(number);
          watched?.blocks.set(number, block);
          return block;
        },
    );
  }
  wrap(
    BlockCache.prototype,
    "drop",
    (original) =>
      function (this: BlockCache, number: FsBlock): void {
        watched?.blocks.delete(number);
        original.call(this, number);
      },
  );
  wrap(
    InodeCache.prototype,
    "drop",
    (original) =>
      function (this: InodeCache, number): void {
        watched?.inodes.delete(number);
        original.call(this, number);
      },
  );
  wrap(
    InodeCache.prototype,
    "get",
    (original) =>
      function (this: InodeCache, number): Inode {
        const inode = original.call(this, number);
        watched?.inodes.set(number, inode);
        return inode;
      },
  );
  wrap(
    Tx.prototype,
    "modify",
    (original) =>
      function (this: Tx, block, seal): Block {
        refuseForeign(block);
        return original.call(this, block, seal);
      },
  );
  wrap(
    Transactions.prototype,
    "transact",
    (original) =>
      function <T>(this: Transactions, credits: number, operation: (tx: Tx) => T): T {
        const watching = watched;
        if (watching === undefined) return original.call(this, credits, operation) as T;
        let before: Snapshot | undefined;
        try {
          return original.call(this, credits, (tx: Tx) => {
            before = snapshot(watching);
            return operation(tx);
          }) as T;
        } catch (error) {
          if (before !== undefined) verifyUnchanged(watching, before, error);
          throw error;
        }
      },
  );
}
