/**
 * Loads the native shim and types it. This is the contract between TypeScript and `native/`: no
 * other file loads the addon, and everything above takes these interfaces, so that tests can run
 * without it.
 *
 * Calls that can fail return a length, a descriptor or zero on success and a negative errno on
 * failure; none throws, but for the constructor of a channel that could not be one.
 */
import { createRequire } from "node:module";

/** What is known of an opened device or image file. */
export interface DeviceInfo {
  readonly sizeBytes: number;
  readonly isBlockDevice: boolean;
  /** Alignment that O_DIRECT wants of offsets, lengths and addresses. */
  readonly alignmentBytes: number;
  /** What the device itself says of that, for addresses and for offsets and lengths; 0 when it does not. */
  readonly directMemoryBytes: number;
  readonly directOffsetBytes: number;
  /** The shortest and the longest write that is done in one piece or not at all; 0 when there is none. */
  readonly atomicWriteMinBytes: number;
  readonly atomicWriteMaxBytes: number;
}

/** A loop device that shows an image. */
export interface LoopDevice {
  /** The only descriptor of it: the device goes away when it is closed. */
  readonly fd: number;
  /** `/dev/loopN`. */
  readonly path: string;
}

/** `iomapSupport`: file data goes past the server. */
export const IOMAP_FILE_IO = 1;
/** `iomapSupport`: and so do writes that are done in one piece or not at all. */
export const IOMAP_ATOMIC_WRITES = 2;

/** `openBacking`: a file that other files' data is to come from. */
export const BACKING_FILE = 0;
/** `openBacking`: a block device that mappings may name. */
export const BACKING_IOMAP_DEVICE = 1;

/** How `openDevice` opens; the flags add up. */
export const OPEN_WRITE = 1;
export const OPEN_DIRECT = 2;
/** O_EXCL on a block device (nobody else may have it mounted), a shared or exclusive `flock` on a file; else EBUSY. */
export const OPEN_EXCLUSIVE = 4;

/** What to mount, and how. */
export interface MountRequest {
  readonly mountpoint: string;
  /** Shown as the source of the mount. Any characters. */
  readonly fsname: string;
  /** The part of the type after `fuse.` or `fuseblk.`. */
  readonly subtype: string;
  /**
   * Not 0: `fsname` is the path of a block device that nobody has claimed, to be mounted as type fuseblk
   * with blocks of this size (512 bytes up to a page). Root only.
   */
  readonly deviceBlockBytes: number;
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  readonly defaultPermissions: boolean;
  /** Longest READ in bytes that the kernel may send; 0 leaves it to the kernel. */
  readonly maxReadBytes: number;
  /** Generic mount flags by name: `nosuid`, `nodev`, `noexec`, `noatime`, `dirsync`, … */
  readonly flags: readonly string[];
  /** Let fusermount3 stay behind and unmount when this process dies. */
  readonly autoUnmount: boolean;
}

export interface MountResult {
  /** The connected `/dev/fuse` descriptor, or a negative errno. */
  readonly fd: number;
  /** What failed, when `fd` is negative: one line for a person, without the errno's text. */
  readonly message: string;
  /** The program that has to undo the mount; empty when none is needed. `unmount` takes it. */
  readonly unmounter: string;
}

export interface ChannelOptions {
  /** The connected `/dev/fuse` descriptor. The channel does not close it. */
  readonly fuseFd: number;
  /** The device that READ and WRITE are served from; opened with OPEN_DIRECT or not. */
  readonly deviceFd: number;
  readonly deviceDirect: boolean;
  /** Where the filesystem starts on the device: added to every mapping. */
  readonly deviceOffsetBytes: number;
  /** The block size of the filesystem: zeros fill the rest of new blocks. */
  readonly blockBytes: number;
  /** Longest request or reply body in bytes. */
  readonly bodyBytesMax: number;
  /** Threads that wait for the device so that the request loop does not. */
  readonly ioThreads: number;
  /** Hand every READ and WRITE to TypeScript before serving it, so that a trace sees it. */
  readonly traceTransfers: boolean;
}

/**
 * The transport. Structurally the `Channel` of src/fuse/channel.ts, where `next`, `map` and all that
 * concerns WRITE are documented. It belongs to the thread that made it.
 *
 * The cache of mappings is bounded (500,000 intervals, 32 MiB); a batch that `map` is given is
 * complete until the next one, whatever the cache has to drop for it. A batch with an impossible
 * number in it is refused as a whole, so that its READ or WRITE gets EIO. What the kernel forgets
 * (FORGET, BATCH_FORGET) is dropped, before TypeScript sees the request.
 */
export interface NativeChannel {
  readonly request: Uint8Array;
  readonly reply: Uint8Array;
  readonly mappings: Float64Array;
  readonly written: Float64Array;
  next(replyLength: number, timeoutMs: number): number;
  map(nodeId: number, sizeBytes: number, count: number, access: number): void;
  /**
   * Forgets where the bytes of node `nodeId` from `offset` up to `end` lie. No transfer of the node
   * is under way any more when this returns.
   */
  invalidate(nodeId: number, offset: number, end: number): void;
  loadData(): void;
  storeMapped(): number;
  forgetAttributes(nodeId: number): void;
  forgetContents(nodeId: number): void;
  noteForgotten(nodeId: number): void;
  takeWritten(): number;
  /**
   * Tells the kernel something that is no answer to a request: notification `code` with exactly
   * `payload` behind the header. Also while a request is in hand. @returns zero or what the kernel says to
   * that, as a negative errno.
   */
  notify(code: number, payload: Uint8Array): number;
  /** Waits until no WRITE is under way: all that were answered are on the device, or failed. */
  drain(): void;
  /**
   * Why `next` returned CLOSED, as an errno: ENODEV after an unmount, ECONNABORTED when somebody
   * aborted the connection and left the mount behind, 0 after `interruptChannel`.
   */
  closedBy(): number;
  /**
   * Requests so far by opcode (index), served wherever: those from 4089 to 4095 at 121 to 127, what has no
   * place at index 0. Updated in place.
   */
  readonly requestCounts: Float64Array;
  /** Those of them that entered TypeScript. Updated in place. */
  readonly scriptCounts: Float64Array;
  /** Identifies this channel to `interruptChannel`, from any thread. */
  readonly id: number;
  /**
   * Waits for transfers in flight and frees buffers and threads. No call may follow. As long as the
   * kernel keeps a thread until one of its requests is answered, requests are refused with ENOTCONN.
   */
  close(): void;
}

export interface Addon {
  /** Continues the crc32c `seed` over `bytes`, without inverting at either end (as jbd2 and ext4 use it). */
  crc32c(seed: number, bytes: Uint8Array): number;

  /** Puts the time of day into `into`: seconds since 1970, and nanoseconds. */
  readClock(into: Float64Array): void;

  /** @returns a descriptor or a negative errno. `/dev/fd/N` and `/proc/self/fd/N` are reopened or, if that is refused, duplicated. */
  openDevice(path: string, flags: number): number;
  deviceInfo(fd: number): DeviceInfo | number;
  /** Reads `into.length` bytes, aligned or not. @returns bytes read (fewer only at the end) or a negative errno. */
  readDevice(fd: number, offset: number, into: Uint8Array): number;
  /** Writes all of `bytes`, aligned or not. @returns zero or a negative errno. */
  writeDevice(fd: number, offset: number, bytes: Uint8Array): number;
  /** Makes what was written safe from a power cut. @returns zero or a negative errno. */
  flushDevice(fd: number): number;
  /** Gives up the contents of a range: TRIM, or a hole in a file. @returns zero or a negative errno. */
  discardDevice(fd: number, offset: number, length: number): number;
  /** Makes a range read as zeros. @returns zero or a negative errno. */
  zeroDevice(fd: number, offset: number, length: number): number;
  /**
   * Claims the block device open as `fd` as OPEN_EXCLUSIVE does, or lets others claim it; `fd` stays
   * what it is. @returns zero or a negative errno, EBUSY when somebody else has it.
   */
  claimDevice(fd: number, exclusive: boolean): number;
  /** The size of the blocks in which the page cache of a block device is read and written, or a negative errno. */
  blockSize(fd: number): number;
  /** Sets that size: a power of two, no smaller than a sector. @returns zero or a negative errno. */
  setBlockSize(fd: number, bytes: number): number;
  /**
   * Attaches the opened image `imageFd` from `offset` on to a loop device, past the page cache where its
   * filesystem can do that with sectors that are not too large.
   *
   * A lock on the image that `imageFd` holds lasts as long as the device.
   *
   * @param name what `losetup` shows.
   * @param flags OPEN_WRITE, if `imageFd` is open for writing, and OPEN_DIRECT; the claim of
   *   OPEN_EXCLUSIVE is always made.
   * @param sectorBytesMax the largest sectors that the device may have, at least 512.
   * @returns the device, or a negative errno: EBUSY when the image is attached already, EINVAL when it is
   *   no file, or less than a sector of it follows `offset`.
   */
  attachLoop(
    imageFd: number,
    name: string,
    offset: number,
    flags: number,
    sectorBytesMax: number,
  ): LoopDevice | number;
  closeDescriptor(fd: number): void;

  /**
   * What this process may expect of the kernel's iomap on the connection `fuseFd`, or on one that it is
   * about to mount (-1): IOMAP_FILE_IO and IOMAP_ATOMIC_WRITES, or 0 where the kernel has no such thing, or
   * not for us.
   */
  iomapSupport(fuseFd: number): number;
  /** Lets whoever mounts the unmounted `fuseFd` have iomap. @returns zero or a negative errno. */
  addIomap(fuseFd: number): number;
  /**
   * Registers `fd` with the connection `fuseFd`, for the kernel to use; ours may be closed then.
   *
   * @param flags BACKING_FILE or BACKING_IOMAP_DEVICE.
   * @param opsMask which operations the kernel carries out on it by itself, each `2 ** (opcode - 1)`. 0
   *   stands for READ and WRITE; no released kernel takes anything else.
   * @returns a number above zero to name it by, or a negative errno.
   */
  openBacking(fuseFd: number, fd: number, flags: number, opsMask: number): number;
  /** @returns zero or a negative errno. */
  closeBacking(fuseFd: number, id: number): number;
  /**
   * `setBlockSize` for a registered device, also without the right to do it ourselves. What was registered
   * must be a claimed descriptor. @returns zero or a negative errno.
   */
  setBackingBlockSize(fuseFd: number, id: number, bytes: number): number;
  /**
   * Keeps the kernel from waiting for the mount `fuseFd` when it has to find memory for this thread, which
   * serves it. The mount must exist: Linux with iomap of early 2026 crashes otherwise.
   *
   * @returns zero or a negative errno.
   */
  avoidRecursion(fuseFd: number): number;

  mount(request: MountRequest): MountResult;
  /**
   * Has the kernel send what it holds back of a mount: pages that were changed through shared mappings.
   * The mount must be served by another thread meanwhile. @returns zero or a negative errno.
   */
  syncMount(mountpoint: string): number;
  /** Detaches the mount. @returns zero or a negative errno. */
  unmount(mountpoint: string, unmounter: string): number;

  readonly Channel: new (options: ChannelOptions) => NativeChannel;
  /**
   * Makes `next` of that channel return CLOSED from now on, from any thread. A thread that waits in
   * `next` can be ended in no other way: not by `terminate()`, and `process.exit()` waits for it.
   */
  interruptChannel(id: number): void;
}

/** Loads the addon. @throws Error when it was not built for this machine. */
export function loadAddon(): Addon {
  const require = createRequire(import.meta.url);
  const load = require("node-gyp-build") as (root: string) => Addon;
  return load(new URL("../../", import.meta.url).pathname);
}
