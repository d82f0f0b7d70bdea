/**
 * Puts a mount together, in the order in which each part can refuse:
 *
 *     device ──► filesystem ──► kernel mount ──► channel ──► session
 *
 * and takes it apart again in reverse. Runs in the worker; whatever prevents the mount becomes a
 * `MountFailure` in words for people, with nothing left open or mounted.
 */
import { statSync } from "node:fs";
import type { BlockDevice } from "../base/block-device.ts";
import { FileDevice } from "../device/file-device.ts";
import { CorruptionError, type Filesystem, FsError, openFilesystem } from "../ext4/index.ts";
import { type Channel, MAX_WRITE_BYTES, Session, serveExt4 } from "../fuse/index.ts";
import { type Addon, type NativeChannel, OPEN_DIRECT, OPEN_EXCLUSIVE } from "../native/binding.ts";
import { errnoText, MountFailure } from "./mount-failure.ts";
import type { MountPlan } from "./plan.ts";
import { say } from "./print.ts";

/** Threads that wait for the device so that the request loop does not. */
const IO_THREADS = 4;

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
  readonly byHelper: boolean;
  /** Serves until the connection closes. @throws ProtocolVersionError when the kernel is too old. */
  serve(): void;
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
  const close = (): void => {
    for (let step = undo.pop(); step !== undefined; step = undo.pop()) step();
  };
  try {
    const deviceFd = openDevice(addon, plan, undo);
    const fs = openImage(addon, plan, deviceFd, undo);
    const { fuseFd, byHelper } = mountInKernel(addon, plan, undo);
    const channel = new addon.Channel({
      fuseFd,
      deviceFd,
      deviceDirect: plan.image.direct,
      deviceOffsetBytes: plan.image.offsetBytes,
      blockBytes: fs.superblock.blockSize,
      bodyBytesMax: MAX_WRITE_BYTES,
      ioThreads: IO_THREADS,
      traceTransfers: plan.trace,
    });
    undo.push(() => channel.close());
    const session = new Session(hooks.wrapChannel(channel), serveExt4(fs, plan.presentation), {
      ...plan.session,
      log: (line) => say(`${plan.device}: ${line}`),
      ...(plan.trace ? { trace: say } : {}),
      onReady: hooks.onReady,
    });
    return { channel, fuseFd, byHelper, serve: () => session.serve(), close };
  } catch (error) {
    close();
    throw error;
  }
}

function openDevice(addon: Addon, plan: MountPlan, undo: (() => void)[]): number {
  const direct = plan.image.direct ? OPEN_DIRECT : 0;
  // A reader shares a file with other readers, but takes no block device away from anybody.
  const exclusive = isBlockDevice(plan.device) ? 0 : OPEN_EXCLUSIVE;
  const fd = addon.openDevice(plan.device, direct | exclusive);
  if (fd < 0) throw new MountFailure(`cannot be opened: ${errnoText(-fd)}`);
  undo.push(() => addon.closeDescriptor(fd));
  return fd;
}

function isBlockDevice(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isBlockDevice() ?? false;
}

function openImage(
  addon: Addon,
  plan: MountPlan,
  deviceFd: number,
  undo: (() => void)[],
): Filesystem {
  const { offsetBytes, journalPath, superblockKiB, noRecovery, cacheSizeBytes } = plan.image;
  const device = new FileDevice(addon, deviceFd, offsetBytes, plan.device);
  if (device.sizeBytes <= 0) throw new MountFailure(`offset=${offsetBytes} is past its end`);
  const journalDevice =
    journalPath === undefined ? undefined : openJournalDevice(addon, journalPath, undo);
  let fs: Filesystem;
  try {
    fs = openFilesystem(device, {
      noRecovery,
      cacheSizeBytes,
      crc32c: addon.crc32c,
      ...(journalDevice === undefined ? {} : { journalDevice }),
      ...(superblockKiB === undefined ? {} : { superblockAt: superblockKiB }),
      onWarning: (message) => say(`${plan.device}: ${message}`),
    });
  } catch (error) {
    throw imageFailure(error);
  }
  if (cacheSizeBytes < fs.superblock.blockSize)
    throw new MountFailure(
      `cache_size: takes at least one block, ${fs.superblock.blockSize} bytes`,
    );
  return fs;
}

function openJournalDevice(addon: Addon, path: string, undo: (() => void)[]): BlockDevice {
  const fd = addon.openDevice(path, 0);
  if (fd < 0) throw new MountFailure(`journal ${path} cannot be opened: ${errnoText(-fd)}`);
  undo.push(() => addon.closeDescriptor(fd));
  return new FileDevice(addon, fd, 0, path);
}

/** What opening an image threw, in words for people. Our own bugs go on as they are. */
function imageFailure(error: unknown): unknown {
  if (error instanceof CorruptionError) {
    const what = error.message.slice(error.message.indexOf(": ") + 2);
    return new MountFailure(`${what} (${error.rule})`);
  }
  if (!(error instanceof FsError)) return error;
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : "";
  return new MountFailure(error.message + cause);
}

function mountInKernel(
  addon: Addon,
  plan: MountPlan,
  undo: (() => void)[],
): { fuseFd: number; byHelper: boolean } {
  const { fd, message, byHelper } = addon.mount({
    ...plan.mount,
    mountpoint: plan.mountpoint,
    readOnly: true,
    // Where pages are larger than 4 KiB, the pages agreed on in INIT would be more than this.
    maxReadBytes: Math.min(plan.mount.maxReadBytes || MAX_WRITE_BYTES, MAX_WRITE_BYTES),
  });
  if (fd < 0) throw new MountFailure(`${message}: ${errnoText(-fd)}`);
  undo.push(() => addon.closeDescriptor(fd));
  return { fuseFd: fd, byHelper };
}
