/** What is done to the filesystem as a whole: statfs, sync, freeze, thaw, shutdown, unmount. */
import { Errno, Opcode, ROOT_NODE } from "./abi.ts";
import { type Mount, refuse } from "./mount.ts";
import { Body, type Fields } from "./wire.ts";
import { syncInode } from "./writeback.ts";

const STATFS_BYTES = 80;

/** @returns `fuse_kstatfs`: blocks 0, bfree 8, bavail 16, files 24, ffree 32, bsize 40 u32. */
export function statfs(mount: Mount): Fields {
  return mount.ask(Opcode.STATFS, ROOT_NODE, new Body(), STATFS_BYTES);
}

export function syncAll(mount: Mount): void {
  for (const inode of [...mount.inodes.values()]) if (inode.isIomap) syncInode(mount, inode);
  if (mount.connection.hasIomap) mount.askIfAble(Opcode.SYNCFS, ROOT_NODE, new Body().u64(0));
}

/** @throws SystemError EOPNOTSUPP when the server cannot. */
export function freeze(mount: Mount): void {
  syncAll(mount);
  const unlinked = [...mount.inodes.values()].filter(({ nlink }) => nlink === 0).length;
  const body = new Body().u64(unlinked);
  if (mount.askIfAble(Opcode.FREEZE_FS, ROOT_NODE, body) === undefined) refuse(Errno.EOPNOTSUPP);
}

export function thaw(mount: Mount): void {
  mount.askIfAble(Opcode.UNFREEZE_FS, ROOT_NODE);
}

/** The device is gone: nobody wants to know what the server makes of it. */
export function shutdown(mount: Mount): void {
  mount.connection.send(Opcode.SHUTDOWN_FS, ROOT_NODE, new Body().u64(0).bytes);
}

/** What umount(8) does. All files are closed. */
export function unmount(mount: Mount): void {
  const open = [...mount.inodes.values()].find(({ opens }) => opens > 0);
  if (open !== undefined) refuse(Errno.EBUSY, `node ${open.node} is open`);
  mount.undisturbed(() => {
    syncAll(mount);
    mount.drainQueue();
    mount.connection.ask(Opcode.DESTROY, 0);
  });
  mount.devices.releaseAll();
  mount.inodes.clear();
}
