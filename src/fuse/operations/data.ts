/**
 * The operations that read the contents of files: OPEN, RELEASE, READ, LSEEK, BMAP.
 *
 * File data does not pass through here. READ only says where on the device the bytes lie; the shim
 * keeps that and moves the bytes, for this request and all that follow on the same range. The
 * exception are bytes that are not on the device as such (inline data, blocks that the journal has
 * newer): an iomap of type INLINE, whose READ is answered from here.
 */
import { Errno } from "../../base/errno.ts";
import { setLe32, setLe64 } from "../../base/layout.ts";
import { FsError, type Inode, InodeFlags, IomapType } from "../../ext4/index.ts";
import {
  BmapIn,
  BmapOut,
  InitFlag,
  LseekIn,
  LseekOut,
  Opcode,
  OpenFlag,
  OpenIn,
  OpenOut,
  ReadIn,
  Whence,
} from "../abi.ts";
import { isDirectory, isRegular } from "../attributes.ts";
import { SERVE_BY_SHIM } from "../channel.ts";
import type { IomapState } from "../iomap-state.ts";
import { hasFeature } from "../negotiation.ts";
import type { Reply } from "../reply.ts";
import { noteAccess, refuseFixed } from "./changing.ts";
import { keepMappings } from "./kept-mappings.ts";
import { MappingBatch } from "./mappings.ts";
import type { Context, Operation } from "./operation.ts";

/** How many mappings are fetched ahead of what a READ needs. */
const MAPPINGS_AHEAD = 64;

/** @throws FsError ENOKEY when the contents are encrypted: keys are never given to this server. */
export function refuseEncrypted(inode: Inode): void {
  if (isRegular(inode.mode) && (inode.flags & InodeFlags.ENCRYPT) !== 0) {
    throw new FsError(Errno.ENOKEY, `inode ${inode.number} is encrypted`);
  }
}

/** Flags of open(2). @see include/uapi/asm-generic/fcntl.h */
const O_ACCMODE = 0o3;
const O_RDONLY = 0o0;
const O_WRONLY = 0o1;
const O_TRUNC = 0o1000;
const O_APPEND = 0o2000;
/** What the kernel is told of a file that is opened, without being asked. */
const FIRST_BYTES = 64 * 1024;

/** @throws FsError ENOKEY or EPERM when the contents of `inode` are not to be had with `flags`. */
function refuseOpen(inode: Inode, flags: number): void {
  refuseEncrypted(inode);
  if ((flags & O_ACCMODE) !== O_RDONLY) refuseFixed(inode, (flags & O_APPEND) !== 0);
}

/** Has the kernel keep where the start of a file lies. It asks if that does not work. */
function mapFirst(context: Context, state: IomapState, inode: Inode): void {
  const length = Math.min(inode.sizeBytes, FIRST_BYTES);
  if (!state.host.usesCache || !isRegular(inode.mode) || length === 0) return;
  keepMappings(context, state, inode, 0, length);
}

/**
 * Sent by open(2), until it is once refused as unknown: the kernel then opens files without asking,
 * and keeps their pages. Where it keeps asking, what must not be opened is refused where the kernel's
 * ext4 refuses it; and when a read would have to change the access time, pages are dropped, and what the
 * shim knows of the file, so that its next READ comes here. A kernel that moves file contents enforces
 * all that by itself, and asks every time. Changes no lookup counts.
 */
export const Open: Operation = {
  opcode: Opcode.OPEN,
  name: "OPEN",
  serve(context, request, reply) {
    const { fs, channel, connection, iomapState } = context;
    const isMoved = iomapState?.isActive === true;
    const optional = connection !== undefined && hasFeature(connection, InitFlag.NO_OPEN_SUPPORT);
    if (optional && !fs.asksAtOpen && !isMoved) {
      return reply.error(Errno.ENOSYS);
    }
    const flags = request.u32(request.takeStruct(OpenIn), OpenIn.flags);
    const inode = fs.inode(request.inode);
    if (isMoved) {
      refuseEncrypted(inode);
      iomapState.noteOpened(request.node);
      if ((flags & O_TRUNC) === 0) mapFirst(context, iomapState, inode);
      setLe32(reply.view, reply.append(OpenOut), OpenOut.openFlags, OpenFlag.KEEP_CACHE);
      return reply.finish();
    }
    refuseOpen(inode, flags);
    const reads = (flags & O_ACCMODE) !== O_WRONLY;
    const isDue = reads && (fs.changes?.isAccessDue(request.inode) ?? false);
    if (isDue) channel.invalidate(request.node, 0, Number.MAX_SAFE_INTEGER);
    const at = reply.append(OpenOut);
    setLe32(reply.view, at, OpenOut.openFlags, isDue ? 0 : OpenFlag.KEEP_CACHE);
    return reply.finish();
  },
};

/**
 * Sent when a file that was opened by OPEN, or made by TMPFILE, is closed for the last time. Bytes of
 * it may still be in the page cache of the kernel.
 */
export const Release: Operation = {
  opcode: Opcode.RELEASE,
  name: "RELEASE",
  serve({ fs, channel, iomapState }, request, reply) {
    const isUnused = iomapState?.isActive === true && iomapState.noteReleased(request.node);
    if (!isUnused || fs.changes === undefined) return reply.finish();
    const inode = fs.inode(request.inode);
    const blocksBefore = inode.blocksForStat;
    fs.changes.giveReserveBack(request.inode);
    if (inode.blocksForStat !== blocksBefore) channel.forgetAttributes(request.node);
    return reply.finish();
  },
};

/**
 * Maps what the READ needs.
 *
 * @returns where the mappings end, or -1 when bytes among them are INLINE.
 */
function mapRange(
  { fs, iomap }: Context,
  inode: Inode,
  offset: number,
  end: number,
  batch: MappingBatch,
): number {
  let at = offset;
  while (at < end) {
    fs.iomapForRead(inode, at, end - at, iomap);
    if (iomap.type === IomapType.INLINE) return -1;
    batch.add();
    at = iomap.offset + iomap.length;
  }
  return at;
}

/**
 * Maps on from `offset`, so that the READs to come are the shim's alone. This is only a favour: what
 * goes wrong here would be told to a request that did not ask for it, and shows again if it is.
 */
function mapAhead({ fs, iomap }: Context, inode: Inode, offset: number, batch: MappingBatch): void {
  try {
    let at = offset;
    while (at < inode.sizeBytes && batch.total < MAPPINGS_AHEAD) {
      fs.iomapForRead(inode, at, inode.sizeBytes - at, iomap);
      if (iomap.type === IomapType.INLINE) return;
      batch.add();
      at = iomap.offset + iomap.length;
    }
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
  }
}

/**
 * Answers a kernel that moves file contents, and asks for those that are within an inode, or were until
 * now: the rest of the block is zeros, and an answer without bytes would be an error to it.
 */
function readPadded(
  { fs }: Context,
  reply: Reply,
  inode: Inode,
  offset: number,
  end: number,
): number {
  reply.appendFilled(Math.max(0, end - offset), (into) => {
    into.fill(0, fs.readFile(inode, offset, into));
    return into.length;
  });
  return reply.finish();
}

/**
 * Sent for pages of a file that are not cached, and for every read with O_DIRECT; it arrives here
 * only when the shim does not know where they are. Changes no lookup counts.
 */
export const Read: Operation = {
  opcode: Opcode.READ,
  name: "READ",
  serve(context, request, reply) {
    const at = request.takeStruct(ReadIn);
    const offset = request.u64(at, ReadIn.offset);
    const inode = context.fs.inode(request.inode);
    if (isDirectory(inode.mode)) throw new FsError(Errno.EISDIR, "READ of a directory");
    if (!isRegular(inode.mode)) throw new FsError(Errno.EINVAL, "READ of no regular file");
    refuseEncrypted(inode);
    const size = request.u32(at, ReadIn.size);
    if (context.iomapState?.isActive === true) {
      // Without an open file: into a buffer of one block, whatever was asked for.
      const isInline = request.u32(at, ReadIn.flags) === 0;
      const limit = isInline ? context.fs.blockSize : inode.sizeBytes;
      return readPadded(context, reply, inode, offset, Math.min(offset + size, limit));
    }
    const end = Math.min(offset + size, inode.sizeBytes);
    if (offset >= end) return reply.finish();

    noteAccess(context, request);
    const batch = new MappingBatch(context, request.node, inode);
    const mappedEnd = mapRange(context, inode, offset, end, batch);
    if (mappedEnd < 0) {
      reply.appendFilled(end - offset, (into) => context.fs.readFile(inode, offset, into));
      return reply.finish();
    }
    mapAhead(context, inode, mappedEnd, batch);
    batch.flush();
    return SERVE_BY_SHIM;
  },
  describe(request) {
    const at = request.takeStruct(ReadIn);
    return `offset ${request.u64(at, ReadIn.offset)} size ${request.u32(at, ReadIn.size)}`;
  },
};

/** Sent by lseek(2) with SEEK_DATA or SEEK_HOLE. Changes no lookup counts. */
export const Lseek: Operation = {
  opcode: Opcode.LSEEK,
  name: "LSEEK",
  serve({ fs }, request, reply) {
    const at = request.takeStruct(LseekIn);
    const offset = request.u64(at, LseekIn.offset);
    const whence = request.u32(at, LseekIn.whence);
    if (whence !== Whence.SEEK_DATA && whence !== Whence.SEEK_HOLE) {
      throw new FsError(Errno.EINVAL, `whence ${whence}`);
    }
    const inode = fs.inode(request.inode);
    const found =
      whence === Whence.SEEK_DATA ? fs.seekData(inode, offset) : fs.seekHole(inode, offset);
    if (found < 0) return reply.error(Errno.ENXIO);
    setLe64(reply.view, reply.append(LseekOut), LseekOut.offset, found);
    return reply.finish();
  },
  describe(request) {
    const at = request.takeStruct(LseekIn);
    const data = request.u32(at, LseekIn.whence) === Whence.SEEK_DATA;
    return `${data ? "data" : "hole"} from ${request.u64(at, LseekIn.offset)}`;
  },
};

/**
 * Sent by the FIBMAP ioctl and by swapon(2), on mounts of a block device only (type fuseblk). The
 * answer is a block of the device, 0 for what has none. A block that was promised and never written
 * counts, as it can be swapped to. Changes no lookup counts.
 */
export const Bmap: Operation = {
  opcode: Opcode.BMAP,
  name: "BMAP",
  serve({ fs, iomap }, request, reply) {
    const at = request.takeStruct(BmapIn);
    const blockSize = request.u32(at, BmapIn.blocksize);
    if (blockSize === 0) throw new FsError(Errno.EINVAL, "BMAP in blocks of no size");
    const inode = fs.inode(request.inode);
    const offset = request.u64(at, BmapIn.block) * blockSize;
    const answer = reply.append(BmapOut);
    // Swapping begins with the first block. What is still to be written would come on top of it.
    if (offset === 0) fs.changes?.syncFile(request.inode, true);
    if (offset < inode.sizeBytes) {
      fs.iomapForRead(inode, offset, blockSize, iomap);
      if (iomap.type === IomapType.MAPPED || iomap.type === IomapType.UNWRITTEN) {
        const device = iomap.addr + (offset - iomap.offset);
        setLe64(reply.view, answer, BmapOut.block, Math.floor(device / blockSize));
      }
    }
    return reply.finish();
  },
  describe: (request) => `block ${request.u64(request.takeStruct(BmapIn), BmapIn.block)}`,
};
