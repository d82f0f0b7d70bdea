/**
 * Freezing: everything is written and the image is as after an unmount, but for files that are open and
 * have no name, so that it can be copied as it lies, while whoever wants to change something waits.
 *
 * @see fs/ext4/super.c, ext4_freeze and ext4_unfreeze
 */
import { Errno } from "../../base/errno.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { finishKernelUses, refuseUnconverted } from "../map/kernel-completion.ts";
import { settleFilesystem, unsettleFilesystem } from "../open-writable.ts";

/**
 * Freezes `fs`. Until it is thawed, changes are refused with EROFS: whoever froze it lets none begin.
 *
 * @returns a function that thaws it.
 * @throws FsError EIO or ENOSPC when something could not be written; EROFS when it cannot be changed anyway.
 */
export function freeze(fs: Filesystem): () => void {
  if (!fs.isWritable) return () => {};
  const { transactions } = fs.writer;
  finishKernelUses(fs);
  refuseUnconverted(fs);
  const target = settleFilesystem(fs);
  const release = transactions.hold(new FsError(Errno.EROFS, "the filesystem is frozen"));
  return () => {
    release();
    unsettleFilesystem(fs, target);
  };
}
