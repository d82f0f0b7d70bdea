/**
 * What a mount needs so that the kernel can move file data by itself (iomap):
 *
 *     the kernel offers it       asked before the image is opened
 *     a block device             an image in a file becomes a loop device
 *     blocks where maps say      not under a journal that is replayed in memory only
 *     blocks like the device's   so that its cache has no metadata and data in one
 *
 * Where something is missing the shim moves the data, unless the mount is not to be without.
 */
import { Errno } from "../base/errno.ts";
import { FileDevice } from "../device/file-device.ts";
import { canLeaveData, type Filesystem, Incompat } from "../ext4/index.ts";
import type { IomapHost } from "../fuse/index.ts";
import {
  type Addon,
  BACKING_IOMAP_DEVICE,
  IOMAP_FILE_IO,
  OPEN_DIRECT,
  OPEN_WRITE,
} from "../native/binding.ts";
import { errnoText, MountFailure } from "./mount-failure.ts";
import { descriptorIn, type MountPlan } from "./plan.ts";

/** The smallest page of any machine: the largest inline data that all kernels take. */
const PAGE_BYTES_MIN = 4096;
/** A connection that does not exist yet. */
const NO_CONNECTION = -1;

/**
 * Whether the kernel offers what `plan` may use.
 *
 * @throws MountFailure when it needs that, and the kernel does not.
 */
export function isIomapOffered(addon: Pick<Addon, "iomapSupport">, plan: MountPlan): boolean {
  if (plan.iomap === "forbid") return false;
  const support = addon.iomapSupport(descriptorIn(plan.mountpoint) ?? NO_CONNECTION);
  if ((support & IOMAP_FILE_IO) !== 0) return true;
  return lacksIomap(
    plan,
    "which takes a kernel that has it for FUSE (fuse.enable_iomap=1) and CAP_SYS_RAWIO",
  );
}

/** @returns false, for a mount that can do without iomap. @throws MountFailure for one that cannot. */
function lacksIomap(plan: MountPlan, why: string): false {
  if (plan.iomap === "require") throw new MountFailure(`needs iomap, ${why}`);
  return false;
}

/** What is to become a block device. */
export interface ImageFile {
  readonly fd: number;
  readonly write: boolean;
  /** The smallest block in which it is read and written. */
  readonly blockBytes: number;
}

/**
 * Attaches the image in a file to a loop device.
 *
 * @returns a descriptor, or undefined where the mount has to do without.
 * @throws MountFailure when somebody else has attached it: data that goes through another device would
 *   not be seen here. Who only reads can do that from the file, as ever.
 */
export function attachImage(
  addon: Pick<Addon, "attachLoop">,
  plan: MountPlan,
  { fd, write, blockBytes }: ImageFile,
): number | undefined {
  const flags = (write ? OPEN_WRITE : 0) | (plan.image.direct ? OPEN_DIRECT : 0);
  const { offsetBytes } = plan.image;
  const device = addon.attachLoop(fd, plan.device, offsetBytes, flags, blockBytes);
  if (typeof device !== "number") return device.fd;
  if (device === -Errno.EBUSY && write)
    throw new MountFailure(`attached to a loop device already: ${errnoText(-device)}`);
  lacksIomap(plan, `and cannot be attached to a loop device: ${errnoText(-device)}`);
  return undefined;
}

/**
 * Whether the data of the files of `fs` lies where their maps say, and the kernel can move it there.
 *
 * @throws MountFailure when it has to.
 */
export function canBeMapped(
  plan: MountPlan,
  fs: Filesystem,
  { offsetBytes }: Pick<Placement, "offsetBytes">,
): boolean {
  const { superblock } = fs;
  const { blockSize } = superblock;
  if (!canLeaveData(fs))
    return lacksIomap(plan, "but its journal is not empty and cannot be replayed without writing");
  if (offsetBytes % blockSize !== 0)
    return lacksIomap(plan, `but it begins within a block of the device, at byte ${offsetBytes}`);
  if (superblock.hasIncompat(Incompat.INLINE_DATA) && blockSize > PAGE_BYTES_MIN)
    return lacksIomap(plan, `but has data within inodes, and blocks of ${blockSize} bytes`);
  return true;
}

/** The block device that the kernel is to be told of. */
export interface IomapDevice
  extends Pick<
    IomapHost,
    | "atomicWriteBytes"
    | "contents"
    | "deviceOffsetBytes"
    | "directMemoryBytes"
    | "directOffsetBytes"
  > {
  readonly fd: number;
}

/** How a filesystem lies on a block device. */
export interface Placement {
  readonly fd: number;
  readonly offsetBytes: number;
  readonly write: boolean;
}

/**
 * Finds out what there is to know of the device, and opens it once more for contents that the kernel
 * leaves to us: past its page cache, because what the kernel reads and writes does not go through that.
 * What anybody has left in that cache is written before the kernel begins.
 *
 * @param undo takes what closes it again.
 * @returns undefined when that is not possible, and not needed.
 * @throws MountFailure when it is needed.
 */
export function iomapDevice(
  addon: Addon,
  plan: MountPlan,
  { fd, offsetBytes, write }: Placement,
  undo: (() => void)[],
): IomapDevice | undefined {
  const without = (what: string, error: number): undefined => {
    lacksIomap(plan, `but cannot be ${what}: ${errnoText(-error)}`);
  };
  const path = `/proc/self/fd/${fd}`;
  const directFd = addon.openDevice(path, OPEN_DIRECT | (write ? OPEN_WRITE : 0));
  if (directFd < 0) return without("opened past the cache of the device", directFd);
  undo.push(() => addon.closeDescriptor(directFd));
  const info = addon.deviceInfo(directFd);
  if (typeof info === "number") return without("measured", info);
  const error = addon.flushDevice(fd);
  if (error < 0) return without("flushed", error);
  const { alignmentBytes, atomicWriteMinBytes: min, atomicWriteMaxBytes: max } = info;
  return {
    fd,
    deviceOffsetBytes: offsetBytes,
    directMemoryBytes: info.directMemoryBytes || alignmentBytes,
    directOffsetBytes: info.directOffsetBytes || alignmentBytes,
    ...(max === 0 ? {} : { atomicWriteBytes: { min, max } }),
    contents: write ? new FileDevice(addon, directFd, offsetBytes, plan.device) : undefined,
  };
}

type HostCalls = Pick<
  Addon,
  "avoidRecursion" | "blockSize" | "openBacking" | "setBackingBlockSize" | "setBlockSize"
>;

/** What the session needs for a mount that exists as the connection `fuseFd`. */
export function iomapHost(
  addon: HostCalls,
  plan: MountPlan,
  { fd, ...device }: IomapDevice,
  fuseFd: number,
): IomapHost {
  return {
    ...device,
    required: plan.iomap === "require",
    usesCache: plan.iomapCache,
    onAgreed() {
      // Who cannot be kept from that is no worse off than any server of FUSE.
      addon.avoidRecursion(fuseFd);
    },
    registerDevice: () => addon.openBacking(fuseFd, fd, BACKING_IOMAP_DEVICE, 0),
    setBlockSize(id, bytes) {
      // The kernel may do it in our name; if we have the right to, we can do it ourselves.
      if (addon.setBackingBlockSize(fuseFd, id, bytes) === 0) return 0;
      const error = addon.setBlockSize(fd, bytes);
      const now = error === 0 ? bytes : addon.blockSize(fd);
      return now > 0 && now <= bytes ? 0 : error;
    },
  };
}
