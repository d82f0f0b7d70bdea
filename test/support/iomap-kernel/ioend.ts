/**
 * What happens when data has reached the device: IOMAP_IOEND, where the server has to know.
 *
 *     ioend_in   48: flags 0 u32, error 4 s32, attr_ino 8, pos 16, new_addr 24, written 32, dev 40 u32
 *     ioend_out   8: newsize 0
 */
import { Errno, IoendFlag, NULL_ADDR, Opcode } from "./abi.ts";
import type { Inode, Page } from "./inode.ts";
import { isErrno } from "./mapping.ts";
import type { Mount } from "./mount.ts";
import { Body } from "./wire.ts";

const REPLY_BYTES = 8;
const SECTOR_BYTES = 512;

export interface Completion {
  readonly flags: number;
  /** Zero or a positive errno. */
  readonly error: number;
  readonly pos: number;
  readonly written: number;
  readonly newAddr: bigint;
  readonly dev: number;
}

/**
 * Handles the end of I/O as section 9.8 says.
 *
 * @throws SystemError when the server refuses what was written well.
 */
export function complete(mount: Mount, inode: Inode, completion: Completion): void {
  const { error, pos, written, newAddr, dev } = completion;
  const end = pos + written;
  const isAppend = error === 0 && written > 0 && end > inode.diskSize;
  const flags = completion.flags | (isAppend ? IoendFlag.APPEND : 0);
  const news = IoendFlag.SHARED | IoendFlag.UNWRITTEN | IoendFlag.APPEND;
  const isSwapOff = (flags & IoendFlag.SWAPOFF) !== 0;
  const isSent = error !== 0 || isSwapOff || (written > 0 && (flags & news) !== 0);
  let newSize = error === 0 ? Math.max(inode.diskSize, end) : inode.diskSize;
  if (isSent) {
    const body = new Body().u32(flags).u32(-error).u64(inode.attrIno).u64(pos);
    body.u64(newAddr).u64(written).u32(dev).u32(0);
    const reply = tell(mount, inode, body, isSwapOff, error !== 0);
    if (reply !== undefined) {
      newSize = mount.isPost ? Math.max(inode.diskSize, reply) : reply;
      if (error === 0 && reply < end && written > 0)
        mount.violations.note("ioend-newsize", `node ${inode.node}: ${reply}, not ${end}`);
    }
  }
  inode.diskSize = newSize;
  // Writeback ends at the size, which a truncation may have moved since.
  if (error === 0 && (flags & IoendFlag.DIRECT) !== 0) inode.size = Math.max(inode.size, end);
  if (error === 0) inode.dropMappings(pos, end);
}

/** @returns the server's size on disk, if it has said so. */
function tell(
  mount: Mount,
  inode: Inode,
  body: Body,
  isSwapOff: boolean,
  hasFailed: boolean,
): number | undefined {
  const always = isSwapOff && mount.isPost;
  try {
    if (!always)
      return mount.askIfAble(Opcode.IOMAP_IOEND, inode.node, body, REPLY_BYTES)?.number(0);
    return mount.ask(Opcode.IOMAP_IOEND, inode.node, body, REPLY_BYTES).number(0);
  } catch (error) {
    if (hasFailed || (always && isErrno(error, Errno.ENOSYS))) return undefined;
    throw error;
  }
}

/** One write of the writeback, from the device's start on it until its completion is handled. */
export class Ioend {
  readonly inode: Inode;
  readonly #mount: Mount;
  /** Without APPEND, which is decided at the end. */
  readonly flags: number;
  readonly pos: number;
  readonly addr: number;
  readonly dev: number;
  /** Of whole blocks; of the file only as far as it reached then. */
  #bytes: Uint8Array;
  #written: number;
  #pages: readonly Page[];
  #isOnDevice = false;
  #error = 0;

  constructor(
    mount: Mount,
    inode: Inode,
    at: { flags: number; pos: number; addr: number; dev: number; written: number },
    bytes: Uint8Array,
    pages: readonly Page[],
  ) {
    this.#mount = mount;
    this.inode = inode;
    this.flags = at.flags;
    this.pos = at.pos;
    this.addr = at.addr;
    this.dev = at.dev;
    this.#written = at.written;
    this.#bytes = bytes;
    this.#pages = pages;
  }

  get end(): number {
    return this.pos + this.#written;
  }

  overlaps(start: number, end: number): boolean {
    return this.pos < end && this.pos + this.#bytes.length > start;
  }

  /** Moves the data. At the latest, just before the end is handled. */
  transfer(): void {
    if (this.#isOnDevice) return;
    this.#isOnDevice = true;
    try {
      this.#mount.devices.write(this.addr, this.#bytes);
    } catch (error) {
      if (!isErrno(error, Errno.EIO)) throw error;
      this.#error = Errno.EIO;
    }
  }

  /** Whether `next` can be handled together with this one. */
  canJoin(next: Ioend): boolean {
    return (
      next.inode === this.inode &&
      next.flags === this.flags &&
      (next.flags & IoendFlag.BOUNDARY) === 0 &&
      next.pos === this.pos + this.#bytes.length &&
      next.addr === this.addr + this.#bytes.length &&
      next.dev === this.dev &&
      next.#error === this.#error
    );
  }

  /** Takes over what `next` has to do. */
  join(next: Ioend): void {
    const bytes = new Uint8Array(this.#bytes.length + next.#bytes.length);
    this.#written = this.#bytes.length + next.#written;
    bytes.set(this.#bytes);
    bytes.set(next.#bytes, this.#bytes.length);
    this.#bytes = bytes;
    this.#pages = [...this.#pages, ...next.#pages];
    remove(this.#mount.ioends, next);
  }

  /** Handles the end. An error of the server's is ignored by v7, and kept for fsync by later kernels. */
  complete(): void {
    remove(this.#mount.ioends, this);
    this.transfer();
    const { inode } = this;
    if (this.#error !== 0) inode.writebackError = this.#error;
    try {
      complete(this.#mount, inode, {
        ...{ flags: this.flags, error: this.#error, pos: this.pos, written: this.#written },
        ...{ newAddr: BigInt(Math.floor(this.addr / SECTOR_BYTES)), dev: this.dev },
      });
    } catch (error) {
      this.#mount.noteIoendRefusal(inode, error);
    }
    for (const page of this.#pages) page.isUnderWriteback = false;
  }
}

function remove<T>(list: T[], item: T): void {
  const index = list.indexOf(item);
  if (index >= 0) list.splice(index, 1);
}

/** Of a range that cannot be written back: the server may take back what it has promised. */
export function reportLost(
  mount: Mount,
  inode: Inode,
  pos: number,
  length: number,
  errno: number,
): void {
  try {
    complete(mount, inode, {
      ...{ flags: 0, error: errno, pos, written: length, newAddr: NULL_ADDR, dev: 0 },
    });
  } catch (error) {
    mount.noteIoendRefusal(inode, error);
  }
}
