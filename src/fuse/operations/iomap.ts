/**
 * The operations with which a kernel that moves file contents by itself asks where they are and says
 * what it did: IOMAP_CONFIG, IOMAP_BEGIN, IOMAP_END, IOMAP_IOEND.
 *
 *     read                BEGIN                                          (none when its cache knows)
 *     buffered write      BEGIN … END if the file became longer … later BEGIN(WRITEBACK) … IOEND
 *     direct write        BEGIN … IOEND if blocks were unwritten or the file became longer
 *
 * The kernel asks about any range of a file, whatever size it has here. What it says is checked: it
 * never writes outside of what it was given, but a request that cannot be meant seriously is refused
 * and logged.
 */
import { Errno } from "../../base/errno.ts";
import { bytesAt, le16, setLe32, setLe64, setU8 } from "../../base/layout.ts";
import { FsError, type Inode, InodeFlags, IomapType } from "../../ext4/index.ts";
import {
  ConfigFlag,
  IoendFlag,
  IomapBeginIn,
  IomapBeginOut,
  IomapConfigIn,
  IomapConfigOut,
  IomapEndIn,
  IomapIo,
  IomapIoendIn,
  IomapIoendOut,
  IomapOpcode,
  MappingFlag,
  MappingType,
  OpFlag,
} from "../iomap-abi.ts";
import type { IomapState, Mapping } from "../iomap-state.ts";
import { IomapRequiredError, usesIomap } from "../negotiation.ts";
import type { Reply } from "../reply.ts";
import { type Request, SuspectRequest } from "../request.ts";
import { changesOf } from "./changing.ts";
import { durabilityFlags, keepMappings } from "./kept-mappings.ts";
import type { Context, Operation } from "./operation.ts";

const sum = (flags: Readonly<Record<string, number>>): number =>
  Object.values(flags).reduce((all, flag) => all | flag, 0);
const OP_FLAGS_KNOWN = sum(OpFlag);
const IOEND_FLAGS_KNOWN = sum(IoendFlag);
/** What may find bytes in the page cache, or leave some there, that are to be written later. */
const WRITES = OpFlag.WRITE | OpFlag.WRITEBACK;
/** Whatever else they are: these leave holes alone. */
const LEAVES_HOLES = OpFlag.ZERO | OpFlag.UNSHARE;
/** What these write is there in pages already, which may reach over the end of the file. */
const OF_PAGES = OpFlag.FAULT | OpFlag.WRITEBACK;
/** Writes that cannot end with a FUSE_WRITE of all the contents of a small file. */
const NEEDS_BLOCKS = OpFlag.FAULT | OpFlag.DIRECT | OpFlag.WRITEBACK | OpFlag.ATOMIC;
/** Answers to these are not kept: they have to carry flags, or to stay as they are. */
const NOT_KEPT = OpFlag.ATOMIC | OpFlag.SWAPFILE;
const UUID_BYTES = 16;
const ERRNO_MAX = 4095;
/** The largest that the kernel takes in a reply. @see fs/fuse/dev.c, fuse_dev_do_write */
const REPLY_ERRNO_MAX = 511;

/** @throws FsError ENOSYS when the kernel was not given any inode to move the contents of. */
function stateOf({ iomapState }: Context): IomapState {
  if (iomapState?.isActive === true) return iomapState;
  throw new FsError(Errno.ENOSYS, "no device is registered");
}

function refuseFlags(flags: number, known: number): void {
  const unknown = (flags & ~known) >>> 0;
  if (unknown !== 0) throw new SuspectRequest(`unknown flags 0x${unknown.toString(16)}`);
}

/** @throws SuspectRequest when the inode that the request names is not that of its node. */
function refuseOtherInode(request: Request, number: number): void {
  if (number !== request.inode) throw new SuspectRequest(`inode ${number} is not that of the node`);
}

function refuseOtherDevice(state: IomapState, device: number): void {
  if (device === 0 || device === state.device) return;
  throw new SuspectRequest(`device ${device} was never registered`);
}

/**
 * Registers the device.
 *
 * @returns whether the kernel can move contents; otherwise they stay ours, and the log says why.
 * @throws IomapRequiredError when it cannot and must.
 */
function activate({ fs, log }: Context, state: IomapState): boolean {
  const { host } = state;
  const device = host.registerDevice();
  const error = device < 0 ? device : host.setBlockSize(device, fs.blockSize);
  const what = device < 0 ? "register the device" : "set the block size of the device";
  if (error < 0) {
    if (host.required) throw new IomapRequiredError(`the kernel does not ${what}`, -error);
    log(`iomap is not used: the kernel does not ${what} (errno ${-error})`);
    return false;
  }
  state.activate(device);
  if (host.contents !== undefined) fs.changes?.leaveDataToKernel(host.contents);
  return true;
}

/**
 * Sent once, right after INIT; everything else waits for the answer. The device has to be registered
 * now: before, the kernel does not take it, and afterwards it may ask at once.
 */
export const IomapConfig: Operation = {
  opcode: IomapOpcode.IOMAP_CONFIG,
  name: "IOMAP_CONFIG",
  serve(context, request, reply) {
    const { fs, iomapState, connection } = context;
    const isAgreed = connection !== undefined && usesIomap(connection);
    if (iomapState === undefined || !isAgreed) return reply.error(Errno.ENOSYS);
    if (iomapState.isActive) throw new SuspectRequest("asked for twice");
    const offered = request.takeStruct(IomapConfigIn);
    activate(context, iomapState);
    const C = IomapConfigOut;
    const at = reply.append(IomapConfigOut);
    const { view } = reply;
    const wanted = ConfigFlag.UUID | ConfigFlag.BLOCKSIZE | ConfigFlag.TIME | ConfigFlag.MAXBYTES;
    setLe64(view, at, C.flags, wanted & request.u64Lo(offered, IomapConfigIn.flags));
    bytesAt(view, at, C.sUuid, UUID_BYTES).set(fs.uuid);
    setU8(view, at, C.sUuidLen, UUID_BYTES);
    setLe32(view, at, C.sBlocksize, fs.blockSize);
    const { times, maxFileBytes } = fs.limits;
    setLe32(view, at, C.sTimeGran, times.granularityNs);
    view.setBigInt64(at + C.sTimeMin, BigInt(times.min), true);
    view.setBigInt64(at + C.sTimeMax, BigInt(times.max), true);
    const maxBytes = Math.min(maxFileBytes, request.u64(offered, IomapConfigIn.maxbytes));
    setLe64(view, at, C.sMaxbytes, maxBytes);
    return reply.finish();
  },
  describe(request) {
    const flags = request.u64Lo(request.takeStruct(IomapConfigIn), IomapConfigIn.flags);
    return `flags 0x${flags.toString(16)}`;
  },
};

/** What IOMAP_BEGIN asks for. */
interface Question {
  readonly inode: Inode;
  readonly opflags: number;
  readonly pos: number;
  readonly count: number;
}

function takeQuestion({ fs }: Context, request: Request): Question {
  const at = request.takeStruct(IomapBeginIn);
  const opflags = request.u32(at, IomapBeginIn.opflags);
  refuseFlags(opflags, OP_FLAGS_KNOWN);
  refuseOtherInode(request, request.u64(at, IomapBeginIn.attrIno));
  const pos = request.u64(at, IomapBeginIn.pos);
  const count = request.u64(at, IomapBeginIn.count);
  if (count === 0) throw new SuspectRequest("asked about no bytes");
  return { inode: fs.inode(request.inode), opflags, pos, count };
}

/** Whether a write leaves all of a small file new, so that it can stay within its inode. */
function keepsInline({ fs }: Context, { inode, opflags, pos, count }: Question): boolean {
  if ((opflags & NEEDS_BLOCKS) !== 0 || pos > 0 || count < inode.sizeBytes) return false;
  return fs.fitsInline(inode, count);
}

/**
 * Finds blocks for a write into `context.iomap`, where there are none and where it may wait for them.
 *
 * @returns whether the file was given some.
 */
function findForWrite(context: Context, request: Request, question: Question): boolean {
  const { iomap, fs } = context;
  const { inode, opflags, pos, count } = question;
  const changes = changesOf(context, request);
  if ((opflags & (OpFlag.NOWAIT | OpFlag.OVERWRITE_ONLY)) !== 0) {
    fs.iomapForKernel(inode, pos, count, iomap);
    const isReady = iomap.type === IomapType.MAPPED || iomap.type === IomapType.UNWRITTEN;
    const isOverwrite = iomap.type === IomapType.MAPPED;
    if ((opflags & OpFlag.OVERWRITE_ONLY) !== 0 ? isOverwrite : isReady) return false;
    throw new FsError(Errno.EAGAIN, "a write that has to allocate first");
  }
  const blocksBefore = inode.blocksForStat;
  changes.iomapForKernelWrite(inode, pos, count, iomap, (opflags & OF_PAGES) === 0);
  if (inode.blocksForStat === blocksBefore) return false;
  context.channel.forgetAttributes(request.node);
  return true;
}

const isWrite = (opflags: number): boolean =>
  (opflags & WRITES) !== 0 && (opflags & LEAVES_HOLES) === 0;

/**
 * Puts the answer into `context.iomap`. There is nothing to zero in contents within an inode: behind their
 * end is nothing, and what takes bytes out of a file moves them out first.
 *
 * @returns whether the file was given blocks: maybe more of them than were asked for, to grow into.
 */
function find(context: Context, request: Request, question: Question): boolean {
  const { iomap, fs } = context;
  const { inode, opflags, pos, count } = question;
  if (!isWrite(opflags)) {
    fs.iomapForKernel(inode, pos, count, iomap);
    const isZeroing = (opflags & LEAVES_HOLES) !== 0;
    if (isZeroing && iomap.type === IomapType.INLINE) iomap.type = IomapType.HOLE;
  } else if (keepsInline(context, question)) {
    Object.assign(iomap, { type: IomapType.INLINE, addr: -1, offset: 0, length: fs.blockSize });
  } else {
    return findForWrite(context, request, question);
  }
  return false;
}

/** Refuses what the file or the device cannot do, and prepares the file for what has to hold for long. */
function prepare(context: Context, request: Request, { inode, opflags }: Question): void {
  const state = stateOf(context);
  if ((opflags & OpFlag.DAX) !== 0) throw new FsError(Errno.EOPNOTSUPP, "the device is no memory");
  if ((opflags & OpFlag.ATOMIC) !== 0 && !state.isAtomic(inode)) {
    throw new FsError(Errno.EOPNOTSUPP, `inode ${inode.number} has no atomic writes`);
  }
  if ((opflags & OpFlag.SWAPFILE) === 0) return;
  // Swapping must not depend on blocks that a crash would take back.
  context.fs.changes?.syncFile(request.inode, true);
}

function answer(state: IomapState, reply: Reply, read: Mapping, write: Mapping): number {
  const at = reply.append(IomapBeginOut);
  state.writeMapping(reply.view, at + IomapBeginOut.read, read);
  state.writeMapping(reply.view, at + IomapBeginOut.write, write);
  return reply.finish();
}

/** Sent when the kernel does not know where bytes of a file lie. Changes no lookup counts. */
export const IomapBegin: Operation = {
  opcode: IomapOpcode.IOMAP_BEGIN,
  name: "IOMAP_BEGIN",
  serve(context, request, reply) {
    const state = stateOf(context);
    const question = takeQuestion(context, request);
    const { inode, opflags } = question;
    prepare(context, request, question);
    const isGiven = find(context, request, question);
    const { offset, length, addr, type } = context.iomap;
    const atomic = (opflags & OpFlag.ATOMIC) !== 0 ? MappingFlag.ATOMIC_BIO : 0;
    // A swap file has been made durable, and nothing is going to move its end.
    const isForSwap = (opflags & OpFlag.SWAPFILE) !== 0;
    const flags = atomic | (isForSwap ? 0 : durabilityFlags(context, inode));
    const mapping: Mapping = { offset, length, addr, type, flags };
    const write: Mapping =
      type === IomapType.INLINE && isWrite(opflags)
        ? mapping
        : { ...mapping, type: MappingType.PURE_OVERWRITE, flags: 0 };
    const isInline = type === IomapType.INLINE || (inode.flags & InodeFlags.INLINE_DATA) !== 0;
    const mayKeep = state.host.usesCache && (opflags & NOT_KEPT) === 0 && !isInline;
    const { pos, count } = question;
    // The kernel can drop all that it has for one more: what was asked about comes last.
    if (mayKeep) keepMappings(context, state, inode, offset + length, pos + count, isGiven);
    if (!mayKeep || !state.keepMapping(request.node, inode.number, mapping)) {
      return answer(state, reply, mapping, write);
    }
    const kept: Mapping = { ...mapping, type: MappingType.RETRY_CACHE, flags: 0 };
    return answer(state, reply, kept, write);
  },
  describe(request) {
    const at = request.takeStruct(IomapBeginIn);
    const opflags = request.u32(at, IomapBeginIn.opflags).toString(16);
    const count = request.u64(at, IomapBeginIn.count);
    return `flags 0x${opflags} offset ${request.u64(at, IomapBeginIn.pos)} length ${count}`;
  },
};

/**
 * Sent when a write made a file longer in the page cache, or did less than was asked about: the one
 * dependable sign of the former. Changes no lookup counts.
 */
export const IomapEnd: Operation = {
  opcode: IomapOpcode.IOMAP_END,
  name: "IOMAP_END",
  serve(context, request, reply) {
    const state = stateOf(context);
    const at = request.takeStruct(IomapEndIn);
    const opflags = request.u32(at, IomapEndIn.opflags);
    refuseFlags(opflags, OP_FLAGS_KNOWN);
    refuseOtherInode(request, request.u64(at, IomapEndIn.attrIno));
    const map = at + IomapEndIn.map;
    refuseOtherDevice(state, request.u32(map, IomapIo.dev));
    const pos = request.u64(at, IomapEndIn.pos);
    const written = request.u64(at, IomapEndIn.written);
    const isNegative = (request.u64Hi(at, IomapEndIn.written) | 0) < 0;
    const flags = le16(request.view, map, IomapIo.flags);
    const grows = (flags & MappingFlag.SIZE_CHANGED) !== 0 && !isNegative && written > 0;
    if (!grows || (opflags & OpFlag.WRITE) === 0) return reply.finish();
    if (written > request.u64(at, IomapEndIn.count)) {
      throw new SuspectRequest(`${written} bytes are more than were asked about`);
    }
    changesOf(context, request).noteKernelEnd(request.inode, pos + written);
    return reply.finish();
  },
  describe(request) {
    const at = request.takeStruct(IomapEndIn);
    const pos = request.u64(at, IomapEndIn.pos);
    return `offset ${pos} length ${request.u64(at, IomapEndIn.count)}`;
  },
};

/**
 * Sent when bytes have reached the device, or could not: unwritten blocks are written now, and the file
 * ends behind them. Changes no lookup counts.
 */
export const IomapIoend: Operation = {
  opcode: IomapOpcode.IOMAP_IOEND,
  name: "IOMAP_IOEND",
  serve(context, request, reply) {
    const state = stateOf(context);
    const at = request.takeStruct(IomapIoendIn);
    const flags = request.u32(at, IomapIoendIn.flags);
    refuseFlags(flags, IOEND_FLAGS_KNOWN);
    refuseOtherInode(request, request.u64(at, IomapIoendIn.attrIno));
    refuseOtherDevice(state, request.u32(at, IomapIoendIn.dev));
    if ((flags & IoendFlag.SHARED) !== 0) throw new SuspectRequest("no block was ever shared");
    const error = request.view.getInt32(at + IomapIoendIn.error, true);
    if (error > 0 || error < -ERRNO_MAX) throw new SuspectRequest(`${error} is no error`);
    // What was allocated for the write stays unwritten, and reads as zeros. ENOSYS would be taken for a
    // server that knows no IOEND.
    const isOrdinary = -error !== Errno.ENOSYS && -error <= REPLY_ERRNO_MAX;
    if (error < 0) return reply.error(isOrdinary ? (-error as Errno) : Errno.EIO);
    const written = request.u64(at, IomapIoendIn.written);
    const pos = request.u64(at, IomapIoendIn.pos);
    const converts = (flags & IoendFlag.UNWRITTEN) !== 0;
    const newSize =
      written === 0
        ? context.fs.inode(request.inode).sizeBytes
        : changesOf(context, request).finishKernelWrite(request.inode, pos, written, converts);
    setLe64(reply.view, reply.append(IomapIoendOut), IomapIoendOut.newsize, newSize);
    return reply.finish();
  },
  describe(request) {
    const at = request.takeStruct(IomapIoendIn);
    const flags = request.u32(at, IomapIoendIn.flags).toString(16);
    const pos = request.u64(at, IomapIoendIn.pos);
    return `flags 0x${flags} offset ${pos} length ${request.u64(at, IomapIoendIn.written)}`;
  },
};
