/**
 * Opens the image of a mount: for reading and writing where that was asked for and is possible, for
 * reading otherwise. What cannot be written although it should be is read, with a line that says so,
 * or refused, where the user may not expect that.
 *
 *     not to be written (permissions, a read-only medium)     read-only
 *     norecovery, and a journal that is not empty             read-only
 *     features that are only known how to read                refused: -o ro reads it
 *
 * Where the kernel is to move file data, an image in a file is opened once more, as a loop device over it;
 * the file stays locked meanwhile.
 */
import { statSync } from "node:fs";
import { hostname } from "node:os";
import { basename } from "node:path";
import { Errno } from "../base/errno.ts";
import { FileDevice } from "../device/file-device.ts";
import {
  CorruptionError,
  closeFilesystem,
  type Filesystem,
  FsError,
  finishFilesystem,
  isUnfinished,
  type OpenOptions,
  openFilesystem,
  openWritableFilesystem,
  type Timestamp,
  UnsupportedError,
  type WriteOptions,
} from "../ext4/index.ts";
import { type Addon, OPEN_DIRECT, OPEN_EXCLUSIVE, OPEN_WRITE } from "../native/binding.ts";
import {
  attachImage,
  canBeMapped,
  type IomapDevice,
  iomapDevice,
  isIomapOffered,
} from "./iomap.ts";
import { errnoText, MountFailure } from "./mount-failure.ts";
import type { ImagePlan, MountPlan, WritingPlan } from "./plan.ts";
import { say } from "./print.ts";
import { unwind } from "./unwind.ts";

/** How long a device may be busy that was mounted before, and how often that is looked at. */
const BUSY_MS_MAX = 1000;
const BUSY_LOOKED_AT_MS = 20;

/** An opened image. */
export interface Image {
  readonly deviceFd: number;
  /** Where the filesystem starts on the device that `deviceFd` is. */
  readonly offsetBytes: number;
  readonly device: FileDevice;
  readonly fs: Filesystem;
  /** What the kernel is told of, where it may move the data of files by itself. */
  readonly iomap: IomapDevice | undefined;
}

/** What the filesystem tells and asks while it is being changed. */
export type ImageHooks = Required<
  Pick<WriteOptions, "invalidateMappings" | "onDamage" | "onFreed" | "onPanic" | "onAbort">
>;

/**
 * Opens the image of `plan`.
 *
 * @param undo takes what closes it again, to be called last to first.
 * @throws MountFailure when it cannot be opened.
 */
export function openImage(
  addon: Addon,
  plan: MountPlan,
  hooks: ImageHooks,
  undo: (() => void)[],
): Image {
  const { path, image } = { path: plan.device, image: plan.image };
  const isOffered = isIomapOffered(addon, plan);
  let { writing } = image;
  if (writing === undefined && image.finishes) finishImage(addon, plan);
  let fd = openWhenFree(addon, path, image, writing !== undefined, isOffered);
  if (writing !== undefined && isRefusal(-fd)) {
    writing = undefined;
    if (image.finishes) finishImage(addon, plan);
    say(`${path}: write-protected: mounting read-only`);
    fd = openWhenFree(addon, path, image, false, isOffered);
  }
  if (fd < 0) throw new MountFailure(`cannot be opened: ${errnoText(-fd)}`);
  undo.push(() => addon.closeDescriptor(fd));

  const loopFd = isOffered ? asLoopDevice(addon, plan, fd, writing !== undefined) : undefined;
  if (loopFd !== undefined) undo.push(() => addon.closeDescriptor(loopFd));
  const deviceFd = loopFd ?? fd;
  const offsetBytes = loopFd === undefined ? image.offsetBytes : 0;
  const device = deviceOf(addon, plan, deviceFd, offsetBytes);
  const options = optionsOf(addon, plan, writing !== undefined, undo);
  const fs = openEither(device, path, options, writing, hooks);
  undo.push(() => abandon(fs));
  if (image.cacheSizeBytes < fs.superblock.blockSize) {
    const least = fs.superblock.blockSize;
    throw new MountFailure(`cache_size: takes at least one block, ${least} bytes`);
  }
  const place = { fd: deviceFd, offsetBytes, write: fs.isWritable };
  const isMapped = isOffered && canBeMapped(plan, fs, place) && device.isBlockDevice;
  const iomap = isMapped ? iomapDevice(addon, plan, place, undo) : undefined;
  return { deviceFd, offsetBytes, device, fs, iomap };
}

/** @throws MountFailure when nothing is left of it behind the offset. */
function deviceOf(
  addon: Addon,
  { device, image }: MountPlan,
  fd: number,
  offsetBytes = image.offsetBytes,
): FileDevice {
  const opened = new FileDevice(addon, fd, offsetBytes, device);
  if (opened.sizeBytes > 0) return opened;
  throw new MountFailure(`offset=${image.offsetBytes} is past its end`);
}

/**
 * Makes a loop device of an image in a file.
 *
 * @returns its descriptor, or undefined where there is none to be had, or no use for it.
 * @throws MountFailure when the mount cannot do without, or cannot be made at all.
 */
function asLoopDevice(
  addon: Addon,
  plan: MountPlan,
  fd: number,
  write: boolean,
): number | undefined {
  const file = deviceOf(addon, plan, fd);
  if (file.isBlockDevice) return undefined;
  const { superblockKiB } = plan.image;
  const { superblock } = orFailure(() =>
    openFilesystem(file, {
      noRecovery: true,
      crc32c: addon.crc32c,
      ...(superblockKiB === undefined ? {} : { superblockAt: superblockKiB }),
    }),
  );
  const staysUnclean = superblock.needsRecovery && !write && !plan.image.noRecovery;
  if (staysUnclean) return undefined;
  return attachImage(addon, plan, { fd, write, blockBytes: superblock.blockSize });
}

/** What is the same for all ways to open the image. */
function optionsOf(
  addon: Addon,
  { device, image }: MountPlan,
  write: boolean,
  undo: (() => void)[],
): OpenOptions & WriteOptions {
  const { journalPath, superblockKiB } = image;
  return {
    noRecovery: image.noRecovery,
    cacheSizeBytes: image.cacheSizeBytes,
    crc32c: addon.crc32c,
    ...(journalPath === undefined
      ? {}
      : { journalDevice: openJournalDevice(addon, journalPath, write, undo) }),
    ...(superblockKiB === undefined ? {} : { superblockAt: superblockKiB }),
    onWarning: (message) => say(`${device}: ${message}`),
    now: clockOf(addon),
    sleep,
    hostName: hostname(),
    deviceName: basename(device),
  };
}

/**
 * Finishes what a crash has left in the image. One that is write-protected is left alone, unless its
 * journal would be needed.
 *
 * @throws MountFailure when that is not possible.
 */
function finishImage(addon: Addon, plan: MountPlan): void {
  const undo: (() => void)[] = [];
  try {
    const readFd = openDevice(addon, plan.device, plan.image, false);
    if (readFd < 0) return; // it is opened once more, and complained of then
    undo.push(() => addon.closeDescriptor(readFd));
    const reading = {
      ...optionsOf(addon, plan, false, undo),
      noRecovery: true,
      onWarning: () => {},
    };
    const asItLies = orFailure(() => openFilesystem(deviceOf(addon, plan, readFd), reading));
    if (!isUnfinished(asItLies)) return;
    unwind(undo);

    const fd = openDevice(addon, plan.device, plan.image, true);
    if (isRefusal(-fd)) {
      if (!asItLies.superblock.needsRecovery) return;
      throw new MountFailure("write-protected, and its journal is not empty: use -o norecovery");
    }
    if (fd < 0) throw new MountFailure(`cannot be opened: ${errnoText(-fd)}`);
    undo.push(() => addon.closeDescriptor(fd));
    const options = optionsOf(addon, plan, true, undo);
    orFailure(() => finishFilesystem(deviceOf(addon, plan, fd), options));
  } finally {
    unwind(undo);
  }
}

/** Whether an open for writing failed for what reading may not need. */
function isRefusal(errno: number): boolean {
  return errno === Errno.EACCES || errno === Errno.EPERM || errno === Errno.EROFS;
}

/**
 * The same as `openDevice`, and `waits` for a device that is busy: a kernel that has moved its data lets go
 * of it when the connection of its last mount is gone, which is after umount(2) has returned.
 */
function openWhenFree(
  addon: Addon,
  path: string,
  image: ImagePlan,
  write: boolean,
  waits: boolean,
): number {
  for (let waited = 0; ; waited += BUSY_LOOKED_AT_MS) {
    const fd = openDevice(addon, path, image, write);
    if (fd !== -Errno.EBUSY || !waits || waited >= BUSY_MS_MAX) return fd;
    sleep(BUSY_LOOKED_AT_MS);
  }
}

/** @returns a descriptor or a negative errno. */
function openDevice(addon: Addon, path: string, image: ImagePlan, write: boolean): number {
  const direct = image.direct ? OPEN_DIRECT : 0;
  if (write) return addon.openDevice(path, direct | OPEN_WRITE | OPEN_EXCLUSIVE);
  // A reader shares a file with other readers, but takes no block device away from anybody.
  return addon.openDevice(path, direct | (isBlockDevice(path) ? 0 : OPEN_EXCLUSIVE));
}

function isBlockDevice(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isBlockDevice() ?? false;
}

function openJournalDevice(
  addon: Addon,
  path: string,
  write: boolean,
  undo: (() => void)[],
): FileDevice {
  const fd = addon.openDevice(path, write ? OPEN_WRITE | OPEN_EXCLUSIVE : 0);
  if (fd < 0) throw new MountFailure(`journal ${path} cannot be opened: ${errnoText(-fd)}`);
  undo.push(() => addon.closeDescriptor(fd));
  return new FileDevice(addon, fd, 0, path);
}

function openEither(
  device: FileDevice,
  path: string,
  options: OpenOptions & WriteOptions,
  writing: WritingPlan | undefined,
  hooks: ImageHooks,
): Filesystem {
  if (writing === undefined) return orFailure(() => openFilesystem(device, options));
  try {
    return openWritableFilesystem(device, {
      ...options,
      ...writing,
      ...hooks,
    });
  } catch (error) {
    if (options.noRecovery === true && error instanceof FsError && error.errno === Errno.EROFS) {
      say(`${path}: the journal is not empty: mounting read-only`);
      return orFailure(() => openFilesystem(device, options));
    }
    if (error instanceof UnsupportedError && canBeRead(device, options)) {
      throw new MountFailure(`${error.message}: use -o ro`);
    }
    throw imageFailure(error);
  }
}

function canBeRead(device: FileDevice, options: OpenOptions): boolean {
  try {
    openFilesystem(device, { ...options, noRecovery: true, onWarning: () => {} });
    return true;
  } catch {
    return false;
  }
}

function orFailure<T>(open: () => T): T {
  try {
    return open();
  } catch (error) {
    throw imageFailure(error);
  }
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

/** Closes a filesystem that was not mounted, or could not be closed properly. */
function abandon(fs: Filesystem): void {
  try {
    closeFilesystem(fs);
  } catch {
    // Whoever mounts it next recovers what its journal holds.
  }
}

function clockOf(addon: Addon): () => Timestamp {
  const time = new Float64Array(2);
  return () => {
    addon.readClock(time);
    const [seconds = 0, nanoseconds = 0] = time;
    return { seconds, nanoseconds };
  };
}

/** Stops this thread for some time. */
function sleep(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}
