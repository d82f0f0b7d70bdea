/**
 * Changes what stat(2) shows: permissions, owner, times, size.
 *
 * @see fs/attr.c, notify_change; fs/ext4/inode.c, ext4_setattr
 */
import { Errno } from "../../base/errno.ts";
import type { InodeNumber } from "../../base/numbers.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { FileType, type Inode, type Timestamp } from "../format/inode.ts";
import { XattrIndex } from "../format/xattr.ts";
import type { Tx } from "../journal/transaction.ts";
import { setSize } from "../map/truncate.ts";
import { changeModeWithAcl } from "./acl.ts";
import { change } from "./change.ts";
import { Credits } from "./credits.ts";
import { expandExtraSize } from "./extra-size.ts";
import { refuseImmutable, refuseUnremovable } from "./refusals.ts";
import { storeXattr } from "./xattr-store.ts";

/** What is to be different. */
export interface AttributeChanges {
  /** Permissions, set-id and sticky bits; type bits are ignored. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly accessedAt?: Timestamp | "now";
  readonly modifiedAt?: Timestamp | "now";
  /** The time of the call if absent. */
  readonly changedAt?: Timestamp;
  readonly sizeBytes?: number;
  /** The caller lacks the privilege to keep set-id bits while it writes or truncates. */
  readonly killSetid?: boolean;
  /** Whoever asks has found that it may be, or only says what has happened: flags do not forbid it. */
  readonly isSettled?: boolean;
  /** With `killSetid`: nor is the caller in the group of the file. */
  readonly isStranger?: boolean;
}

const PERMISSIONS = 0o7777;
const SETUID = 0o4000;
const SETGID = 0o2000;
const GROUP_EXECUTE = 0o010;
/** `security.capability`, less its prefix. */
const CAPABILITY = Uint8Array.from("capability", (letter) => letter.charCodeAt(0));

/**
 * Changes attributes of inode `number`.
 *
 * @throws FsError EPERM when it is immutable or append-only, EISDIR or EINVAL for the size of
 *   something that has none, EFBIG, ENOSPC.
 */
export function setAttributes(
  fs: Filesystem,
  number: InodeNumber,
  changes: AttributeChanges,
): Inode {
  const inode = fs.inode(number);
  if (changes.isSettled !== true) refuseChanges(inode, changes);
  if (changes.sizeBytes !== undefined) setSize(fs, number, changes.sizeBytes);
  return change(fs, Credits.ATTRIBUTES, (tx) => {
    expandExtraSize(fs, tx, tx.edit(inode));
    const { mode, uid, gid, accessedAt, modifiedAt } = changes;
    if (uid !== undefined) inode.uid = uid;
    if (gid !== undefined) inode.gid = gid;
    if (mode !== undefined) {
      changeModeWithAcl(fs, tx, inode, mode & PERMISSIONS);
    }
    const changesOwner = uid !== undefined || gid !== undefined;
    if (changesOwner || changes.killSetid === true) dropPrivileges(fs, tx, inode, changes);
    else if (changes.sizeBytes !== undefined) dropCapability(fs, tx, inode);
    if (accessedAt !== undefined) inode.accessedAt = accessedAt === "now" ? tx.now : accessedAt;
    if (modifiedAt !== undefined) inode.modifiedAt = modifiedAt === "now" ? tx.now : modifiedAt;
    inode.changedAt = changes.changedAt ?? tx.now;
    return inode;
  });
}

function refuseChanges(inode: Inode, changes: AttributeChanges): void {
  const { mode, uid, gid, accessedAt, modifiedAt, sizeBytes } = changes;
  const setsTime = [accessedAt, modifiedAt].some((time) => time !== undefined && time !== "now");
  if (mode !== undefined || uid !== undefined || gid !== undefined || setsTime) {
    refuseUnremovable(inode);
  } else if (accessedAt !== undefined || modifiedAt !== undefined) {
    refuseImmutable(inode);
  }
  if (sizeBytes === undefined) return;
  if (inode.isDirectory) throw new FsError(Errno.EISDIR, `inode ${inode.number} is a directory`);
  if (!inode.isRegular) throw new FsError(Errno.EINVAL, `inode ${inode.number} is no regular file`);
  refuseUnremovable(inode);
}

/**
 * Takes the set-id bits and file capabilities from `inode`, as a change of its owner or a write by
 * somebody without privileges does.
 *
 * A set-group-ID bit without leave to execute means nothing, and stays for members of the group; what
 * the same call sets on purpose stays in any case.
 *
 * @see fs/attr.c, setattr_should_drop_suidgid
 */
function dropPrivileges(
  fs: Filesystem,
  tx: Tx,
  inode: Inode,
  { mode, isStranger }: AttributeChanges,
): void {
  if (inode.isDirectory) return;
  if (mode === undefined) {
    const dropsGroup = isStranger === true || (inode.mode & GROUP_EXECUTE) !== 0;
    inode.mode &= ~(dropsGroup ? SETUID | SETGID : SETUID);
  }
  dropCapability(fs, tx, inode);
}

function dropCapability(fs: Filesystem, tx: Tx, inode: Inode): void {
  if ((inode.mode & FileType.MASK) !== FileType.REGULAR) return;
  storeXattr(fs, tx, inode, XattrIndex.SECURITY, CAPABILITY, undefined);
}
