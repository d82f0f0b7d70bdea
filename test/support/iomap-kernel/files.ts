/** Open files: OPEN, RELEASE, FLUSH, and the way that reads and writes take. */
import { Errno, InitFlag, Opcode, OpenFlag } from "./abi.ts";
import { readBuffered, writeBuffered } from "./buffered.ts";
import { type DirectOptions, readDirect, writeDirect } from "./direct.ts";
import type { Inode } from "./inode.ts";
import { type Mount, refuse } from "./mount.ts";
import { readServed, writeServed } from "./served-data.ts";
import { Body } from "./wire.ts";
import { syncInode, writeBack } from "./writeback.ts";

const OPEN_OUT_BYTES = 16;
const O_RDWR = 2;
const REFUSED = OpenFlag.PASSTHROUGH | OpenFlag.STREAM | OpenFlag.NONSEEKABLE;

export class OpenFile {
  readonly inode: Inode;
  readonly handle: bigint;
  readonly #mount: Mount;
  readonly #flags: number;
  #isOpen = true;

  /** Opens `inode`, for reading and writing. */
  constructor(mount: Mount, inode: Inode) {
    this.#mount = mount;
    this.inode = inode;
    const isOptional = mount.connection.has(InitFlag.NO_OPEN);
    const body = new Body().u32(O_RDWR).u32(0);
    const reply = isOptional
      ? mount.askIfAble(Opcode.OPEN, inode.node, body, OPEN_OUT_BYTES)
      : mount.ask(Opcode.OPEN, inode.node, body, OPEN_OUT_BYTES);
    this.handle = reply?.u64(0) ?? 0n;
    this.#flags = reply?.u32(8) ?? OpenFlag.KEEP_CACHE;
    if (inode.isIomap && (this.#flags & REFUSED) !== 0)
      mount.violations.fail("open-flags", `node ${inode.node}: ${this.#flags}`, Errno.EINVAL);
    inode.opens += 1;
    if (inode.isIomap && (this.#flags & OpenFlag.KEEP_CACHE) === 0) this.#dropClean();
  }

  #dropClean(): void {
    writeBack(this.#mount, this.inode);
    this.inode.pages.clear();
  }

  read(pos: number, length: number, direct: DirectOptions | undefined = undefined): Uint8Array {
    const { inode } = this;
    this.#verify();
    if (!inode.isIomap) return readServed(this.#mount, inode, this.handle, pos, length);
    const isForced = this.#isForced;
    if (!isForced && direct === undefined) return readBuffered(this.#mount, inode, pos, length);
    return readDirect(this.#mount, inode, pos, length, { ...direct, isForced });
  }

  /** @returns how many bytes were written. */
  write(pos: number, bytes: Uint8Array, direct: DirectOptions | undefined = undefined): number {
    const { inode } = this;
    this.#verify();
    if (!inode.isIomap) return writeServed(this.#mount, inode, this.handle, pos, bytes);
    const isForced = this.#isForced;
    if (!isForced && direct === undefined) return writeBuffered(this.#mount, inode, pos, bytes);
    return writeDirect(this.#mount, inode, pos, bytes, { ...direct, isForced });
  }

  get #isForced(): boolean {
    return (this.#flags & OpenFlag.DIRECT_IO) !== 0;
  }

  #verify(): void {
    if (!this.#isOpen) refuse(Errno.EBADF);
    if (this.inode.isDirectory) refuse(Errno.EISDIR);
    if (!this.inode.isRegular) refuse(Errno.EINVAL);
  }

  /** What close(2) does for one descriptor; the last one goes on to RELEASE, some time later. */
  close(): void {
    const mount = this.#mount;
    const { inode, handle } = this;
    if (!this.#isOpen) return;
    this.#isOpen = false;
    if (inode.isIomap) syncInode(mount, inode);
    // flush_in: fh 0, unused 8, padding 12, lock_owner 16.
    mount.askIfAble(Opcode.FLUSH, inode.node, new Body().u64(handle).zeros(16));
    if (inode.isIomap) syncInode(mount, inode);
    if (!mount.connection.lacks(Opcode.OPEN)) {
      mount.queue.push(() => {
        // release_in: fh 0, flags 8 u32, release_flags 12 u32, lock_owner 16.
        mount.connection.ask(Opcode.RELEASE, inode.node, new Body().u64(handle).zeros(16));
      });
    }
    inode.opens -= 1;
    mount.release(inode);
  }
}
