/**
 * Ends all use of a mounted filesystem at once, as if the power had gone: a test's way to see what
 * would be left of it. Unlike with a real crash, some of it may be made durable before.
 *
 * @see fs/ext4/ioctl.c, ext4_force_shutdown
 */
import { Errno } from "../../base/errno.ts";
import { DeliberateStop, FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { settleFilesystem } from "../open-writable.ts";

/** What EXT4_IOC_SHUTDOWN is called with. @see EXT4_GOING_FLAGS_DEFAULT and following */
export const ShutdownMode = {
  /** Everything is written first, and the filesystem is clean. */
  DEFAULT: 0,
  /** All finished operations are committed first; the next mount has to replay the journal. */
  LOGFLUSH: 1,
  /** What is not committed is lost. */
  NOLOGFLUSH: 2,
} as const;

/**
 * Ends all writing to `fs`: later operations get EIO. Does nothing when that has happened before.
 *
 * @throws FsError EINVAL when there is no such mode, EIO when something could not be written.
 */
export function shutdown(fs: Filesystem, mode: number): void {
  if (mode < ShutdownMode.DEFAULT || mode > ShutdownMode.NOLOGFLUSH) {
    throw new FsError(Errno.EINVAL, `shutdown mode ${mode}`);
  }
  const { transactions } = fs.writer;
  if (transactions.isAborted) return;
  if (mode === ShutdownMode.DEFAULT) settleFilesystem(fs);
  if (mode === ShutdownMode.LOGFLUSH) transactions.commit();
  const end = new DeliberateStop(Errno.EIO, "the filesystem was shut down");
  transactions.abort(end, end);
}
