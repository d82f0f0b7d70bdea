/**
 * What a filesystem is called: its label and its UUID. Copies of the superblock in other groups are
 * brought up to date as well, so that a tool which has to fall back on one shows the same.
 *
 * @see fs/ext4/ioctl.c, ext4_ioctl_setlabel, ext4_ioctl_setuuid and ext4_update_superblocks_fn
 */
import { Errno } from "../../base/errno.ts";
import type { GroupIndex } from "../../base/numbers.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { Compat, Incompat, RoCompat } from "../format/features.ts";

const LABEL_MAX = 16;
const UUID_SIZE = 16;
/** One superblock, primary or copy. */
const CREDITS = 1;

/** @throws FsError EINVAL when `label` has more than 16 bytes. */
export function setLabel(fs: Filesystem, label: Uint8Array): void {
  if (label.length > LABEL_MAX) {
    throw new FsError(Errno.EINVAL, `a label of ${label.length} bytes`);
  }

  fs.transact(CREDITS, (tx) => fs.writer.superblock.setVolumeName(tx, label));
  renewCopies(fs);
}

/**
 * @throws FsError EINVAL when `uuid` has not 16 bytes, EOPNOTSUPP when something else on the filesystem
 *   depends on its UUID.
 */
export function setUuid(fs: Filesystem, uuid: Uint8Array): void {
  if (uuid.length !== UUID_SIZE) throw new FsError(Errno.EINVAL, `a UUID of ${uuid.length} bytes`);
  const { superblock: parsed } = fs;
  const hasChecksums = parsed.hasRoCompat(RoCompat.GDT_CSUM | RoCompat.METADATA_CSUM);
  if (hasChecksums && !parsed.hasIncompat(Incompat.CSUM_SEED)) {
    throw new FsError(Errno.EOPNOTSUPP, "checksums depend on the UUID");
  }
  if (parsed.hasCompat(Compat.STABLE_INODES)) {
    throw new FsError(Errno.EOPNOTSUPP, "encryption depends on the UUID");
  }

  fs.transact(CREDITS, (tx) => fs.writer.superblock.setUuid(tx, uuid));
  renewCopies(fs);
}

/** Commits, since tools read labels from the device itself. */
function renewCopies(fs: Filesystem): void {
  const { superblock, transactions } = fs.writer;
  for (let group = 0; group < fs.superblock.groupCount; group++) {
    fs.transact(CREDITS, (tx) => superblock.renewCopy(tx, group as GroupIndex));
  }
  transactions.checkpoint();
}
