/**
 * A mount as it was asked for: what crosses from the command line on the main thread to the
 * assembly in the worker. Plain data, so that it can be posted; everything is checked and every
 * default filled in before a plan exists.
 */

import type { ErrorsBehaviour } from "../ext4/index.ts";
import type {
  AttributeOptions,
  NegotiationOptions,
  PresentationOptions,
  Synchronous,
} from "../fuse/index.ts";

export interface MountPlan {
  /** The image or device, as it was given: also the default `fsname`. */
  readonly device: string;
  /** A directory, or `/dev/fd/N` for a fuse descriptor that somebody else has mounted. */
  readonly mountpoint: string;

  readonly image: ImagePlan;
  readonly mount: KernelMountPlan;
  readonly presentation: PresentationOptions;
  readonly session: AttributeOptions & NegotiationOptions & { readonly synchronous: Synchronous };

  /** Whether the kernel is to move file data by itself: never, in any case, or where that is possible. */
  readonly iomap: "forbid" | "require" | "default";
  /** Have it keep what it was told about where the data of files lie. */
  readonly iomapCache: boolean;

  /** What of the options is carried out in another way than they say; a line each, for the user. */
  readonly notices: readonly string[];
  /** Report every request on standard error. */
  readonly trace: boolean;
}

/** How the image is opened. */
export interface ImagePlan {
  /** Where the filesystem starts on the device, in bytes. */
  readonly offsetBytes: number;
  /** Show the image as it lies, without what its journal holds. */
  readonly noRecovery: boolean;
  /** Finish for good what a crash has left, also where it is not written to otherwise. */
  readonly finishes: boolean;
  /** The superblock to use, in units of 1 KiB from the start of the filesystem. */
  readonly superblockKiB: number | undefined;
  /** The device of an external journal. */
  readonly journalPath: string | undefined;
  readonly cacheSizeBytes: number;
  /** Read and write the device past the page cache. */
  readonly direct: boolean;
  /** How it is changed; undefined when it is not. */
  readonly writing: WritingPlan | undefined;
}

/** How the image is changed. */
export interface WritingPlan {
  /** Changes are durable after so long at the latest. */
  readonly commitSeconds: number;
  /** What follows damage; what the image says if undefined. */
  readonly errors: ErrorsBehaviour | undefined;
  /** Tell the device which blocks are free. */
  readonly discard: boolean;
  readonly atime: "relatime" | "strictatime" | "noatime";
  readonly nodiratime: boolean;
  readonly lazytime: boolean;
  /** New files belong to the group of their folder; what the image says if undefined. */
  readonly bsdGroups: boolean | undefined;
  /** Who may use the reserve besides root; what the image says if undefined. */
  readonly reserveUid: number | undefined;
  readonly reserveGid: number | undefined;
}

/** What the kernel is told with the mount itself. */
export interface KernelMountPlan {
  readonly fsname: string;
  readonly subtype: string;
  /** Mount a block device as one (type fuseblk) where that is possible. */
  readonly asDevice: boolean;
  readonly allowOther: boolean;
  readonly defaultPermissions: boolean;
  readonly autoUnmount: boolean;
  /** Longest READ in bytes, or 0 for as long as the kernel likes. */
  readonly maxReadBytes: number;
  /** Generic mount flags that are on: `nosuid`, `nodev`, `noexec`, … */
  readonly flags: readonly string[];
}

/** Somebody else's mount, as a fuse descriptor: there is no path to reach or unmount it by. */
export function isDescriptor(mountpoint: string): boolean {
  return descriptorIn(mountpoint) !== undefined;
}

/** The N of `/dev/fd/N`, or undefined for a directory. */
export function descriptorIn(mountpoint: string): number | undefined {
  const [, number] = /^\/(?:dev|proc\/self)\/fd\/(\d+)$/.exec(mountpoint) ?? [];
  return number === undefined ? undefined : Number(number);
}
