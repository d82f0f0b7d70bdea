/**
 * Brings dirty pages to the device: at any time, in any order, in pieces of any size, and with their
 * completions handled whenever. Takes no lock that a system call holds.
 */
import { Errno, IoendFlag, MapFlag, MapType, OpFlag } from "./abi.ts";
import type { Inode, Page } from "./inode.ts";
import { Ioend, reportLost } from "./ioend.ts";
import { begin, isCurrent, type Target } from "./iomap.ts";
import { covers, endOf } from "./mapping.ts";
import type { Mount } from "./mount.ts";
import { SystemError } from "./rules.ts";
import { flushTimes } from "./setattr.ts";

/** A run of dirty blocks is cut at random, once in so many blocks. */
const CUT_EVERY = 6;

/** Blocks from `first` up to `end`, taken from the dirty ones. */
interface Run {
  readonly first: number;
  readonly pages: readonly Page[];
}

/** Writes back what is dirty in [start, end), and waits until its ends are handled. */
export function writeBack(
  mount: Mount,
  inode: Inode,
  start = 0,
  end = Number.POSITIVE_INFINITY,
): void {
  if (inode.isEvicted) return;
  for (;;) {
    waitForIoends(mount, inode, start, end);
    const dirty = dirtyBlocks(inode, start, end);
    if (dirty.length === 0) return;
    writeSome(mount, inode, dirty);
  }
}

/** Writes some run of dirty blocks back, and leaves its end for later. */
export function writeBackSome(mount: Mount, inode: Inode): void {
  const dirty = dirtyBlocks(inode, 0, Number.POSITIVE_INFINITY).filter(
    (block) => inode.pages.get(block)?.isUnderWriteback !== true,
  );
  if (dirty.length > 0) writeSome(mount, inode, dirty);
}

/** Handles the ends of what is under way in [start, end): in any order, joined or not. */
export function waitForIoends(
  mount: Mount,
  inode: Inode,
  start = 0,
  end = Number.POSITIVE_INFINITY,
): void {
  for (;;) {
    const waiting = mount.ioends.filter(
      (ioend) => ioend.inode === inode && ioend.overlaps(start, end),
    );
    if (waiting.length === 0) return;
    completeOne(mount, waiting[mount.random.below(waiting.length)] as Ioend);
  }
}

/** Handles the end of `ioend`, perhaps together with those that continue it. */
export function completeOne(mount: Mount, ioend: Ioend): void {
  ioend.transfer();
  for (;;) {
    const next = mount.ioends.find((each) => each !== ioend && ioend.canJoin(each));
    if (next === undefined || mount.random.below(3) === 0) break;
    next.transfer();
    // Whether it can still be joined is known only when it has succeeded or not.
    if (!ioend.canJoin(next)) break;
    ioend.join(next);
  }
  ioend.complete();
}

function dirtyBlocks(inode: Inode, start: number, end: number): number[] {
  const { blockSize } = inode;
  const blocks: number[] = [];
  for (const [block, page] of inode.pages) {
    const at = block * blockSize;
    if (page.isDirty && at < end && at + blockSize > start) blocks.push(block);
  }
  return blocks.sort((one, other) => one - other);
}

function writeSome(mount: Mount, inode: Inode, dirty: readonly number[]): void {
  const { writesBackInOrder = false } = mount.options;
  const from = writesBackInOrder ? 0 : mount.random.below(dirty.length);
  const pages: Page[] = [];
  const first = dirty[from] as number;
  for (let index = from; index < dirty.length; index++) {
    const block = dirty[index] as number;
    const page = inode.pages.get(block) as Page;
    if (block !== first + pages.length || page.isUnderWriteback) break;
    if (!writesBackInOrder && pages.length > 0 && mount.random.below(CUT_EVERY) === 0) break;
    pages.push(page);
  }
  for (const page of pages) {
    page.isDirty = false;
    page.isUnderWriteback = true;
  }
  writeRun(mount, inode, { first, pages });
}

function writeRun(mount: Mount, inode: Inode, { first, pages }: Run): void {
  const { blockSize } = inode;
  let target: Target | undefined;
  let done = 0;
  while (done < pages.length) {
    const pos = (first + done) * blockSize;
    // The file ends before it: the page is for nobody.
    if (pos >= inode.size) {
      for (const page of pages.slice(done)) page.isUnderWriteback = false;
      return;
    }
    const isUsable =
      target !== undefined && covers(target.mapping, pos) && isCurrent(inode, target);
    const count = (pages.length - done) * blockSize;
    try {
      if (!isUsable) target = begin(mount, inode, writebackFlags(mount), pos, count);
      const mapped = Math.min(endOf((target as Target).mapping), pos + count);
      const blocks = (mapped - pos) / blockSize;
      submit(mount, inode, target as Target, pos, pages.slice(done, done + blocks));
      done += blocks;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      lose(mount, inode, first + done, error.errno);
      done += 1;
    }
  }
}

const writebackFlags = (mount: Mount): number =>
  mount.isPost ? OpFlag.WRITEBACK + OpFlag.WRITE : OpFlag.WRITEBACK;

/** @throws SystemError when the mapping is none that can be written to. */
function submit(
  mount: Mount,
  inode: Inode,
  { mapping }: Target,
  pos: number,
  pages: readonly Page[],
): void {
  const { violations } = mount;
  const where = `node ${inode.node} at ${pos}, ${pages.length} blocks`;
  if (mapping.type === MapType.INLINE) violations.fail("inline-writeback", where, Errno.EIO);
  if (mapping.type === MapType.DELALLOC) violations.fail("writeback-delalloc", where, Errno.EIO);
  if (mapping.type === MapType.HOLE) {
    violations.note("writeback-hole", where);
    for (const page of pages) page.isUnderWriteback = false;
    return;
  }
  const bytes = new Uint8Array(pages.length * inode.blockSize);
  for (const [index, page] of pages.entries()) {
    const at = pos + index * inode.blockSize;
    // What lies behind the end of the file is zeros, on the device and here.
    if (at + inode.blockSize > inode.size) page.bytes.fill(0, Math.max(0, inode.size - at));
    bytes.set(page.bytes, index * inode.blockSize);
  }
  const written = Math.min(pos + bytes.length, inode.size) - pos;
  const flags =
    IoendFlag.WRITEBACK |
    (mapping.type === MapType.UNWRITTEN ? IoendFlag.UNWRITTEN : 0) |
    ((mapping.flags & MapFlag.SHARED) !== 0 ? IoendFlag.SHARED : 0) |
    ((mapping.flags & MapFlag.BOUNDARY) !== 0 ? IoendFlag.BOUNDARY : 0);
  const addr = mapping.addr + (pos - mapping.offset);
  const ioend = new Ioend(
    mount,
    inode,
    { flags, pos, addr, dev: mapping.dev, written },
    bytes,
    pages,
  );
  mount.ioends.push(ioend);
  if (mount.random.below(2) === 0) ioend.transfer();
}

/** Gives up a block that has no place to go. */
function lose(mount: Mount, inode: Inode, block: number, errno: number): void {
  const page = inode.pages.get(block);
  if (page !== undefined) page.isUnderWriteback = false;
  inode.pages.delete(block);
  inode.writebackError = errno;
  reportLost(mount, inode, block * inode.blockSize, inode.blockSize, errno);
}

/** Writes an inode back as a whole and waits: pages, then times. */
export function syncInode(mount: Mount, inode: Inode): void {
  writeBack(mount, inode);
  flushTimes(mount, inode);
}

/** What went wrong since it was last asked. @throws SystemError */
export function reportWritebackError(inode: Inode): void {
  const errno = inode.writebackError;
  inode.writebackError = 0;
  if (errno !== 0) throw new SystemError(errno, `writeback of node ${inode.node}`);
}
