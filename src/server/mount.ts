/**
 * Puts a mount together, in the order in which each part can refuse:
 *
 *     device ──► filesystem ──► kernel mount ──► channel ──► session
 *
 * and takes it apart again in reverse. Runs in the worker; whatever prevents the mount becomes a
 * `MountFailure` in words for people, with nothing left open or mounted.
 */
import { readFileSync } from "node:fs";
import { isAbsolute } from "node:path";
import { Errno } from "../base/errno.ts";
import {
  closeFilesystem,
  type Filesystem,
  mmpIntervalSeconds,
  mmpRefresh,
  settleKernelEnds,
  storeExpiredTimes,
} from "../ext4/index.ts";
import { type Channel, MAX_WRITE_BYTES, Session, serveExt4 } from "../fuse/index.ts";
import type { Addon, MountRequest, MountResult, NativeChannel } from "../native/binding.ts";
import { callerOf } from "./caller.ts";
import { type Image, openImage } from "./image.ts";
import { iomapHost } from "./iomap.ts";
import { errnoText, MountFailure } from "./mount-failure.ts";
import { isDescriptor, type MountPlan, type WritingPlan } from "./plan.ts";
import { say } from "./print.ts";
import { unwind } from "./unwind.ts";

/** Threads that wait for the device so that the request loop does not. */
const IO_THREADS = 4;
const MS_PER_SECOND = 1000;
/** How often it is looked whether times have waited for long enough, and how long that normally is. */
const EXPIRY_LOOKED_AT_MS = 1000;
const EXPIRY_SECONDS = 12 * 60 * 60;
/** By then the kernel has written what it was to. @see dirty_expire_centisecs in proc_sys_vm(5) */
const WRITEBACK_SECONDS = 60;
/** The smallest page of any machine: the largest block that all kernels take of a block device. */
const DEVICE_BLOCK_BYTES_MAX = 4096;

/** Unmounts, where that waits for the answer to DESTROY: a thread of ours that waited could not be killed. */
const UNMOUNT_PROGRAM = "umount";

/** What the caller wants to see happen. */
export interface MountHooks {
  /** The kernel has the answer to INIT. */
  readonly onReady: () => void;
  /** Stands between the session and the shim. */
  readonly wrapChannel: (channel: NativeChannel) => Channel;
}

/** A mount that the kernel has and that waits to be served. */
export interface Mount {
  readonly channel: NativeChannel;
  readonly fuseFd: number;
  readonly unmounter: string;
  /**
   * Serves until the mount or the connection is gone.
   *
   * @throws NegotiationError when the kernel is not what the mount needs.
   */
  serve(): void;
  /**
   * Writes what is not on the device yet, and marks the filesystem as clean. To be called when nothing
   * is served any more. @returns undefined, or why that failed.
   */
  finish(): string | undefined;
  /** Whether the connection ended with an unmount. */
  isUnmounted(): boolean;
  /** Frees everything. The mount itself must be gone, or goes stale. */
  close(): void;
}

/**
 * Makes the mount of `plan`.
 *
 * @throws MountFailure when something prevents it.
 */
export function makeMount(addon: Addon, plan: MountPlan, hooks: MountHooks): Mount {
  const undo: (() => void)[] = [];
  const undoImage: (() => void)[] = [];
  const close = (): void => {
    unwind(undo);
    unwind(undoImage);
  };
  const tell = (line: string): void => say(`${plan.device}: ${line}`);
  let session: Session | undefined;
  let blockBytes = 0;
  try {
    for (const notice of plan.notices) tell(notice);
    const image = openImage(
      addon,
      plan,
      {
        invalidateMappings: (inode, from, end) => session?.invalidateMappings(inode, from, end),
        onFreed: (start, count) => session?.noteFreed(start * blockBytes, count * blockBytes),
        onDamage: (error) => session?.reportDamage(error),
        onPanic: panic,
        onAbort: (error) => tell(`nothing is written any more: ${reasonOf(error)}`),
      },
      undoImage,
    );
    const { deviceFd, offsetBytes, device, fs } = image;
    blockBytes = fs.superblock.blockSize;
    const { fuseFd, unmounter } = mountInKernel(addon, plan, image, undo);
    const channel = new addon.Channel({
      fuseFd,
      deviceFd,
      deviceDirect: plan.image.direct,
      deviceOffsetBytes: offsetBytes,
      blockBytes,
      bodyBytesMax: MAX_WRITE_BYTES,
      ioThreads: IO_THREADS,
      traceTransfers: plan.trace,
    });
    undo.push(() => channel.close());
    device.beforeFlush(() => channel.drain());
    session = new Session(hooks.wrapChannel(channel), serveExt4(fs, plan.presentation), {
      ...plan.session,
      log: tell,
      callerOf,
      ...(plan.trace ? { trace: say } : {}),
      ...(image.iomap === undefined ? {} : { iomap: iomapHost(addon, plan, image.iomap, fuseFd) }),
      onReady: hooks.onReady,
      onDestroy: () => {
        finish();
        unwind(undoImage);
      },
    });
    const served = session;
    const finish = once(() => closeMounted(served, fs));
    startTimers(served, fs, plan.image.writing);
    return {
      channel,
      fuseFd,
      unmounter,
      serve: () => served.serve(),
      finish,
      isUnmounted: () => served.isEnded || channel.closedBy() === Errno.ENODEV,
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** What has to happen again and again while the filesystem may be changed. */
function startTimers(session: Session, fs: Filesystem, writing: WritingPlan | undefined): void {
  if (!fs.isWritable || writing === undefined) return;
  session.every(writing.commitSeconds * MS_PER_SECOND, () => {
    settleKernelEnds(fs, WRITEBACK_SECONDS);
    fs.writer.transactions.commit();
  });
  if (writing.lazytime) {
    session.every(EXPIRY_LOOKED_AT_MS, () => storeExpiredTimes(fs, lazytimeExpirySeconds()));
  }
  const mmpSeconds = mmpIntervalSeconds(fs);
  if (mmpSeconds !== undefined) {
    session.every(mmpSeconds * MS_PER_SECOND, () => mmpRefresh(fs));
  }
}

/** How long the owner of the machine lets times wait that changed under `lazytime`. @see proc(5) */
function lazytimeExpirySeconds(): number {
  try {
    return Number(readFileSync("/proc/sys/vm/dirtytime_expire_seconds", "utf8"));
  } catch {
    return EXPIRY_SECONDS;
  }
}

/** `action`, which happens at the first call only; all calls return what that one did. */
function once<T>(action: () => T): () => T {
  let done: { readonly result: T } | undefined;
  return () => {
    done ??= { result: action() };
    return done.result;
  };
}

/** Writes everything. @returns why that was not possible, in words for people. */
function closeMounted(session: Session, fs: Filesystem): string | undefined {
  if (!fs.isWritable) return undefined;
  const { isAborted, isShutDown } = fs.writer.transactions;
  try {
    session.finish();
    closeFilesystem(fs);
  } catch (error) {
    return reasonOf(error);
  }
  return isAborted && !isShutDown ? "some changes could not be written" : undefined;
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}

/** The policy of the image wants the machine to stop; this process is all that we may stop. */
function panic(error: Error): void {
  say(`errors=panic: ${error.message}`);
  process.kill(process.pid, "SIGABRT");
}

function mountInKernel(
  addon: Addon,
  plan: MountPlan,
  image: Image,
  undo: (() => void)[],
): { fuseFd: number; unmounter: string } {
  const request: MountRequest = {
    ...plan.mount,
    deviceBlockBytes: 0,
    mountpoint: plan.mountpoint,
    readOnly: !image.fs.isWritable,
    // Where pages are larger than 4 KiB, the pages agreed on in INIT would be more than this.
    maxReadBytes: Math.min(plan.mount.maxReadBytes || MAX_WRITE_BYTES, MAX_WRITE_BYTES),
  };
  const { fd, message, unmounter } =
    mountAsDevice(addon, plan, image, request) ?? addon.mount(request);
  if (fd < 0) throw new MountFailure(`${message}: ${errnoText(-fd)}`);
  undo.push(() => addon.closeDescriptor(fd));
  const waitsForUs =
    image.iomap !== undefined && unmounter === "" && !isDescriptor(plan.mountpoint);
  return { fuseFd: fd, unmounter: waitsForUs ? UNMOUNT_PROGRAM : unmounter };
}

/**
 * Mounts a block device that may be written as type fuseblk. The kernel claims it for the mount, so
 * our own claim ends just before. With iomap all of that comes with any mount, and the claim stays ours:
 * whoever has it sets the block size.
 *
 * @returns undefined where it is to be an ordinary mount.
 * @throws MountFailure when somebody else has claimed the device in between.
 */
function mountAsDevice(
  addon: Addon,
  plan: MountPlan,
  { deviceFd, device, fs, iomap }: Image,
  request: MountRequest,
): MountResult | undefined {
  const possible =
    plan.mount.asDevice &&
    iomap === undefined &&
    device.isBlockDevice &&
    fs.isWritable &&
    isAbsolute(request.fsname) &&
    !request.autoUnmount &&
    !isDescriptor(plan.mountpoint) &&
    process.geteuid?.() === 0;
  if (!possible || addon.claimDevice(deviceFd, false) < 0) return undefined;
  const deviceBlockBytes = Math.min(fs.superblock.blockSize, DEVICE_BLOCK_BYTES_MAX);
  const result = addon.mount({ ...request, deviceBlockBytes });
  if (result.fd >= 0) return result;
  const error = addon.claimDevice(deviceFd, true);
  if (error < 0) throw new MountFailure(`cannot be claimed again: ${errnoText(-error)}`);
  return undefined;
}
