/** fsync(2) and fdatasync(2), of directories too. */
import { Opcode } from "./abi.ts";
import type { Inode } from "./inode.ts";
import type { Mount } from "./mount.ts";
import { Body } from "./wire.ts";
import { reportWritebackError, syncInode } from "./writeback.ts";

const FDATASYNC = 1;

export function fsync(mount: Mount, inode: Inode, dataOnly: boolean): void {
  if (inode.isIomap) syncInode(mount, inode);
  const body = new Body()
    .u64(0)
    .u32(dataOnly ? FDATASYNC : 0)
    .u32(0);
  const opcode = inode.isDirectory ? Opcode.FSYNCDIR : Opcode.FSYNC;
  mount.askIfAble(opcode, inode.node, body);
  reportWritebackError(inode);
}
