/**
 * SETATTR, and what sends it without being asked: the times of iomap inodes, which the kernel keeps and
 * the server is told some time later, and set-id bits that a write takes away.
 */
import { Opcode, SetattrValid } from "./abi.ts";
import type { Inode } from "./inode.ts";
import type { Mount } from "./mount.ts";
import { Body } from "./wire.ts";

const ATTR_OUT_BYTES = 104;
const SETUID = 0o4000;
const SETGID = 0o2000;
const GROUP_EXECUTE = 0o010;
const NANOSECONDS = 1_000_000_000n;

/** What a SETATTR changes. Times are nanoseconds since 1970. */
interface Changes {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly atime?: bigint;
  readonly mtime?: bigint;
  readonly ctime?: bigint;
  /** The size is that of an open file. */
  readonly isOfHandle?: boolean;
}

/**
 * Sends SETATTR.
 *
 *     setattr_in  88: valid 0 u32, fh 8, size 16, lock_owner 24, atime 32, mtime 40, ctime 48, their
 *                 nanoseconds 56, 60, 64, mode 68, uid 76, gid 80
 */
export function setattr(mount: Mount, inode: Inode, changes: Changes): void {
  const { mode, uid, gid, size, atime, mtime, ctime, isOfHandle = false } = changes;
  const bit = (value: unknown, flag: number): number => (value === undefined ? 0 : flag);
  const valid =
    bit(mode, SetattrValid.MODE) |
    bit(uid, SetattrValid.UID) |
    bit(gid, SetattrValid.GID) |
    bit(size, SetattrValid.SIZE) |
    bit(atime, SetattrValid.ATIME) |
    bit(mtime, SetattrValid.MTIME) |
    bit(ctime, SetattrValid.CTIME) |
    (isOfHandle ? SetattrValid.FH | SetattrValid.LOCKOWNER : 0);
  const times = [atime ?? 0n, mtime ?? 0n, ctime ?? 0n];
  const nanoseconds = (time: bigint): bigint => ((time % NANOSECONDS) + NANOSECONDS) % NANOSECONDS;
  const body = new Body().u32(valid).u32(0).u64(0);
  body.u64(size ?? 0).u64(0);
  for (const time of times) body.u64((time - nanoseconds(time)) / NANOSECONDS);
  for (const time of times) body.u32(Number(nanoseconds(time)));
  body.u32(mode ?? 0).u32(0);
  body
    .u32(uid ?? 0)
    .u32(gid ?? 0)
    .u32(0);
  const reply = mount.ask(Opcode.SETATTR, inode.node, body, ATTR_OUT_BYTES);
  mount.takeAttributes(inode, reply, "setattr");
}

/** Notes that the contents were read or written. Of iomap inodes only: others have it from the server. */
export function touch(mount: Mount, inode: Inode, how: "read" | "write"): void {
  if (!inode.isIomap) return;
  const now = mount.now();
  // As with the option "relatime".
  if (how === "read" && inode.atime > inode.mtime && inode.atime > inode.ctime) return;
  if (how === "read") inode.atime = now;
  else {
    inode.mtime = now;
    inode.ctime = now;
  }
  inode.timesAreDirty = true;
}

/** Tells the server the times that it does not know. */
export function flushTimes(mount: Mount, inode: Inode): void {
  if (!inode.timesAreDirty || inode.isEvicted) return;
  inode.timesAreDirty = false;
  const { atime, mtime, ctime } = inode;
  setattr(mount, inode, { atime, mtime, ctime });
}

/** Notes that a name or an xattr of an iomap inode has changed; the server hears of the time at once. */
export function noteChange(mount: Mount, inode: Inode): void {
  if (!inode.isIomap) return;
  inode.ctime = mount.now();
  inode.timesAreDirty = true;
  flushTimes(mount, inode);
}

/** With the SETATTR of an iomap inode goes its new ctime. */
export function withChangeTime(mount: Mount, inode: Inode, changes: Changes): Changes {
  if (!inode.isIomap) return changes;
  inode.ctime = mount.now();
  return { ...changes, ctime: inode.ctime };
}

/** What a write by somebody else than root takes from the mode. */
export function stripPrivileges(mount: Mount, inode: Inode): void {
  if (!inode.isIomap || mount.connection.caller.uid === 0) return;
  const mode = withoutSetid(inode.mode);
  if (mode !== inode.mode) setattr(mount, inode, withChangeTime(mount, inode, { mode }));
}

export function withoutSetid(mode: number): number {
  const group = (mode & GROUP_EXECUTE) === 0 ? 0 : SETGID;
  return mode & ~(SETUID | group);
}
