/**
 * Where the bytes of an operation are: asks the mapping cache, then the server, and says afterwards
 * what became of it (IOMAP_BEGIN and IOMAP_END).
 *
 *     begin_in   32: opflags 0 u32, attr_ino 8, pos 16, count 24
 *     begin_out  64: read mapping 0, write mapping 32
 *     end_in     72: opflags 0 u32, attr_ino 8, pos 16, count 24, written 32, mapping 40
 */
import { Errno, isWriteClass, MapFlag, MapType, Opcode, OpFlag } from "./abi.ts";
import { fetchInline, storeInline } from "./inline.ts";
import type { Inode } from "./inode.ts";
import {
  checkedMapping,
  checkSlot,
  describeMapping,
  endOf,
  isPlaced,
  type Mapping,
  type RawMapping,
  readMapping,
  trimmed,
  writeMapping,
} from "./mapping.ts";
import type { Mount } from "./mount.ts";
import { Body } from "./wire.ts";

const BEGIN_REPLY_BYTES = 64;
/** A server that has just filled the cache is believed so many times. */
const RETRIES_MAX = 16;

/** What an operation acts on. */
export interface Target {
  /** Where data goes, or comes from. */
  readonly mapping: Mapping;
  /** Of a write that goes elsewhere: where the old data is. */
  readonly source: Mapping | undefined;
  /** Of inline data: the bytes of the mapping, to be changed by a write. */
  readonly inline: Uint8Array | undefined;
  /** Of what came from the cache: its sequence then. */
  readonly sequence: number | undefined;
  /** `MapFlag`s that the operation itself adds for IOMAP_END. */
  flags: number;
}

/** Whether `target` may still be used. */
export function isCurrent(inode: Inode, { sequence }: Target): boolean {
  return sequence === undefined || sequence === inode.mappings?.sequence;
}

/** Finds out where `pos` and what follows it is. @throws SystemError */
export function begin(
  mount: Mount,
  inode: Inode,
  opflags: number,
  pos: number,
  count: number,
): Target {
  for (let round = 0; ; round++) {
    const found = fromCache(inode, opflags, pos, count) ?? ask(mount, inode, opflags, pos, count);
    if (found !== "retry") return withInline(mount, inode, opflags, pos, count, found);
    if (round >= RETRIES_MAX)
      mount.violations.fail("retry-for-ever", `node ${inode.node} at ${pos}`, Errno.EINTR);
  }
}

interface Found {
  readonly mapping: Mapping;
  readonly source: Mapping | undefined;
  readonly isPureOverwrite: boolean;
  readonly sequence: number | undefined;
}

/** Section 8.3. @returns undefined when the server has to be asked. */
function fromCache(inode: Inode, opflags: number, pos: number, count: number): Found | undefined {
  const cache = inode.mappings;
  if (cache === undefined || (opflags & (OpFlag.ATOMIC | OpFlag.SWAPFILE)) !== 0) return undefined;
  const isWrite = isWriteClass(opflags);
  const write = isWrite && cache.hasWriteFork ? cache.find("write", pos) : undefined;
  if (isWrite && cache.hasWriteFork && write === undefined) return undefined;
  const read = cache.find("read", pos);
  if (read === undefined) return undefined;
  const isElsewhere = write !== undefined && write.type !== MapType.PURE_OVERWRITE;
  const destination = isElsewhere ? write : read;
  if (isWrite && !isUsable(destination, opflags)) return undefined;
  if (destination.type === MapType.DELALLOC && (opflags & OpFlag.DIRECT) !== 0) return undefined;
  const start = pos - (pos % inode.blockSize);
  const end = Math.ceil((pos + count) / inode.blockSize) * inode.blockSize;
  return {
    mapping: trimmed(destination, start, end),
    source: isElsewhere ? trimmed(read, start, end) : undefined,
    isPureOverwrite: !isElsewhere,
    sequence: cache.sequence,
  };
}

const isUsable = (destination: Mapping, opflags: number): boolean =>
  destination.type !== MapType.HOLE || (opflags & (OpFlag.ZERO | OpFlag.UNSHARE)) !== 0;

function ask(
  mount: Mount,
  inode: Inode,
  opflags: number,
  pos: number,
  count: number,
): Found | "retry" {
  const body = new Body().u32(opflags).u32(0).u64(inode.attrIno).u64(pos).u64(count);
  const reply = mount.ask(Opcode.IOMAP_BEGIN, inode.node, body, BEGIN_REPLY_BYTES);
  const read = readMapping(reply, 0);
  const write = readMapping(reply, 32);
  checkReply(mount, inode, opflags, pos, read, write);

  const isRetry = (slot: RawMapping): boolean => slot.type === MapType.RETRY_CACHE;
  if (isRetry(read) || (isRetry(write) && mount.isPost)) return "retry";
  const isWrite = isWriteClass(opflags);
  if (isRetry(write)) {
    const detail = `node ${inode.node} at ${pos}`;
    if (isWrite) mount.violations.fail("retry-write-slot", detail, Errno.EIO);
    mount.violations.note("retry-write-slot", detail);
  }
  const isElsewhere = isWrite && write.type !== MapType.PURE_OVERWRITE;
  return {
    mapping: checkedMapping(isElsewhere ? write : read),
    source: isElsewhere ? checkedMapping(read) : undefined,
    isPureOverwrite: !isElsewhere,
    sequence: undefined,
  };
}

/** Section 8.2. @throws SystemError when the kernel would not take the reply. */
function checkReply(
  mount: Mount,
  inode: Inode,
  opflags: number,
  pos: number,
  read: RawMapping,
  write: RawMapping,
): void {
  const { violations, devices, generation } = mount;
  const where = `BEGIN(0x${opflags.toString(16)}) of node ${inode.node} at ${pos}`;
  const context = {
    ...{ generation, blockSize: inode.blockSize, maxBytes: mount.superblock.maxBytes, where },
    hasCache: inode.mappings !== undefined,
  };
  for (const [slot, mapping] of [["read", read] as const, ["write", write] as const]) {
    const shown = `${slot} slot ${describeMapping(mapping)} of ${where}`;
    checkSlot(violations, mapping, slot, context);
    if (mapping.type === MapType.NOCACHE) violations.fail("begin-nocache", shown);
    const isCovered = mapping.offset <= pos && BigInt(pos) < mapping.offset + mapping.length;
    if (!isCovered) violations.fail("begin-first-byte", shown);
    if (isPlaced(mapping) && !devices.has(mapping.dev)) violations.fail("begin-device", shown);
    const isRetry = mapping.type === MapType.RETRY_CACHE;
    if (isRetry && (opflags & (OpFlag.ATOMIC | OpFlag.SWAPFILE)) !== 0)
      laterOnly(mount, "retry-refused", shown, Errno.EUCLEAN);
  }
  const destination = write.type === MapType.PURE_OVERWRITE ? read : write;
  if (!isWriteClass(opflags)) return;
  const isUntorn = isPlaced(destination) && (destination.flags & MapFlag.ATOMIC_BIO) !== 0;
  if ((opflags & OpFlag.ATOMIC) !== 0 && !isUntorn)
    laterOnly(mount, "atomic-mapping", where, Errno.EIO);
  if (isPlaced(destination) && !devices.isWritable)
    laterOnly(mount, "device-access", where, Errno.EACCES);
}

/** A check that v7 does not make: noted there, and without consequences. */
function laterOnly(
  mount: Mount,
  rule: "retry-refused" | "atomic-mapping" | "device-access",
  detail: string,
  errno: number,
): void {
  if (mount.isPost) mount.violations.fail(rule, detail, errno);
  mount.violations.note(rule, detail);
}

function withInline(
  mount: Mount,
  inode: Inode,
  opflags: number,
  pos: number,
  count: number,
  { mapping, source, isPureOverwrite, sequence }: Found,
): Target {
  const isInline = mapping.type === MapType.INLINE && (opflags & OpFlag.REPORT) === 0;
  const isForgotten = isWriteClass(opflags) && isPureOverwrite && !mount.isPost;
  const isWriteback = opflags >= OpFlag.WRITEBACK;
  const inline =
    isInline && !isWriteback
      ? fetchInline(mount, inode, mapping, pos, count, isForgotten)
      : undefined;
  return { mapping, source, sequence, inline, flags: 0 };
}

/**
 * Says what became of an operation, where section 9.7 wants it said.
 *
 * @param count what the mapping had for the operation.
 */
function finish(
  mount: Mount,
  inode: Inode,
  opflags: number,
  pos: number,
  count: number,
  written: number,
  target: Target,
): void {
  if (target.inline !== undefined) {
    if (isWriteClass(opflags) && written > 0) storeInline(mount, inode, target, pos, written);
    return;
  }
  const { flags } = target.mapping;
  // v7 looks into the wrong word, and finds ANON_WRITE there.
  const wanted = mount.isPost ? MapFlag.WANT_IOMAP_END : MapFlag.ANON_WRITE;
  const isShort = written < count;
  const isNews = (target.flags & MapFlag.SIZE_CHANGED) !== 0 || isShort;
  if ((flags & wanted) === 0 && !(isWriteClass(opflags) && isNews)) return;
  const body = new Body().u32(opflags).u32(0).u64(inode.attrIno);
  body.u64(pos).u64(count).u64(written);
  writeMapping(body, { ...target.mapping, flags: flags | target.flags });
  mount.askIfAble(Opcode.IOMAP_END, inode.node, body);
}

/**
 * Goes through [pos, pos + count) mapping by mapping.
 *
 * @param act does the work for `length` bytes at `at`, and says how many it did. None ends the loop,
 *   unless it has found the mapping to be stale.
 * @returns how many bytes were done.
 */
export function iterate(
  mount: Mount,
  inode: Inode,
  opflags: number,
  pos: number,
  count: number,
  act: (target: Target, at: number, length: number) => number,
): number {
  const end = pos + count;
  let at = pos;
  while (at < end) {
    const target = begin(mount, inode, opflags, at, end - at);
    const { mapping, source } = target;
    const isCopied = source !== undefined && source.type !== MapType.HOLE;
    const limit = Math.min(end, endOf(mapping), isCopied ? endOf(source) : end);
    const length = limit - at;
    const done = attempt(
      () => act(target, at, length),
      () => finish(mount, inode, opflags, at, length, 0, target),
    );
    finish(mount, inode, opflags, at, length, done, target);
    at += done;
    if (done === 0 && (target.flags & MapFlag.STALE) === 0) break;
  }
  return at - pos;
}

/** What went wrong first is what counts. */
function attempt(action: () => number, onFailure: () => void): number {
  try {
    return action();
  } catch (error) {
    try {
      onFailure();
    } catch {
      // The operation has failed already.
    }
    throw error;
  }
}
