/** What a filesystem has besides its readers' parts once it may be changed. */
import type { WritableDevice } from "../base/block-device.ts";
import type { InodeNumber } from "../base/numbers.ts";
import type { Allocator } from "./alloc/allocator.ts";
import type { ErrorPolicy } from "./error-policy.ts";
import type { Timestamp } from "./format/inode.ts";
import type { InodeTimes } from "./inode-times.ts";
import type { InPlaceTarget } from "./journal/in-place.ts";
import type { Journal } from "./journal/journal.ts";
import type { Transactions } from "./journal/transaction.ts";
import type { KernelData } from "./map/kernel-data.ts";
import type { StaleTails } from "./map/stale-tails.ts";
import type { MountProtection } from "./mount-protection.ts";
import type { XattrHints } from "./ops/xattr-hints.ts";
import type { Orphans } from "./orphans.ts";
import type { Quotas } from "./quota/quotas.ts";
import type { SuperblockEditor } from "./superblock-editor.ts";

/**
 * Told before the file bytes from `from` up to `end` of `inode` get another place on the device, or
 * none. On return nobody moves data by an older answer of `iomapForRead` or `iomapForWrite` any more.
 */
export type InvalidateMappings = (inode: InodeNumber, from: number, end: number) => void;

export interface Writer {
  readonly device: WritableDevice;
  /** Set while a kernel moves file contents by itself. */
  kernelData: KernelData | undefined;
  readonly transactions: Transactions;
  readonly superblock: SuperblockEditor;
  /** Where changes go that no journal covers. */
  readonly inPlace: InPlaceTarget;
  /** Set when changes go through a journal. */
  readonly journal: Journal | undefined;
  /** `s_state` as the last user left it. */
  readonly stateBefore: number;
  readonly orphans: Orphans;
  /** What is free; for `alloc/`. */
  readonly allocator: Allocator;
  readonly times: InodeTimes;
  readonly errors: ErrorPolicy;
  /** With the MMP feature. */
  readonly protection: MountProtection | undefined;
  readonly xattrHints: XattrHints;
  /** With the quota feature. */
  readonly quotas: Quotas | undefined;
  /** The clock that timestamps come from. */
  readonly now: () => Timestamp;
  /** A number from 0 up to, not including, 1: for generations, hash seeds and placement. */
  readonly random: () => number;
  readonly staleTails: StaleTails;
  /** @see InvalidateMappings */
  readonly invalidateMappings: InvalidateMappings;
  /** New inodes belong to the group of their directory. */
  readonly bsdGroups: boolean;
  /** Who may use the reserved blocks besides root. */
  readonly reserveUid: number;
  readonly reserveGid: number;
  /** Whether the operation in hand may use the blocks that are reserved for root. */
  mayUseReserve: () => boolean;
}
