/**
 * The operations that change the contents of files: WRITE, FALLOCATE, COPY_FILE_RANGE.
 *
 * As for READ, data does not pass through here: WRITE has blocks allocated, says where they are, and
 * the shim puts the bytes there. The exception is data that lies within the inode.
 */
import { Errno } from "../../base/errno.ts";
import { setLe32, setLe64 } from "../../base/layout.ts";
import { FallocateMode, FsError, type Inode, InodeFlags, IomapType } from "../../ext4/index.ts";
import {
  CopyFileRangeIn,
  CopyFileRangeOut,
  FallocateIn,
  Opcode,
  WRITE_KILL_SUIDGID,
  WRITE_LOCKOWNER,
  WriteIn,
  WriteOut,
} from "../abi.ts";
import { isDirectory, isRegular } from "../attributes.ts";
import { SERVE_BY_SHIM } from "../channel.ts";
import { nodeOf } from "../nodes.ts";
import type { Reply } from "../reply.ts";
import type { Request } from "../request.ts";
import type { ServedChanges } from "../served-changes.ts";
import { changesOf, hasPrivileges, isStranger, keepInStep, refuseFixed } from "./changing.ts";
import { refuseEncrypted } from "./data.ts";
import { MappingBatch } from "./mappings.ts";
import type { Context, Operation } from "./operation.ts";

/** COPY_FILE_RANGE answers in 32 bits, and the kernel takes the result for an int. */
const COPY_BYTES_MAX = 0x7fff_f000;
const ROOT_USER = 0;

/** Takes set-id bits and capabilities away from `inode`, if it has any. */
function takePrivileges(
  { fs, channel }: Context,
  changes: ServedChanges,
  request: Request,
  inode: Inode,
): void {
  if (!hasPrivileges(fs, inode)) return;
  changes.setAttributes(inode.number, { killSetid: true, isStranger: isStranger(request, inode) });
  // What the kernel asks again after a WRITE does not include the mode.
  channel.forgetAttributes(nodeOf(inode.number));
}

/** As a WRITE by the caller would, for requests that do not say what the kernel wants. */
function takePrivilegesAs(
  context: Context,
  changes: ServedChanges,
  request: Request,
  inode: Inode,
): void {
  if (request.uid !== ROOT_USER) takePrivileges(context, changes, request, inode);
}

/** @throws FsError when a WRITE at `offset` must not be. */
function refuseWrite(inode: Inode, offset: number): void {
  if (isDirectory(inode.mode)) throw new FsError(Errno.EISDIR, "WRITE to a directory");
  if (!isRegular(inode.mode)) throw new FsError(Errno.EINVAL, "WRITE to no regular file");
  refuseEncrypted(inode);
  refuseFixed(inode, offset >= inode.sizeBytes);
}

/**
 * Maps what the WRITE needs, as far as there is space. One past the page cache is to have all of it: an
 * answer of fewer bytes makes the kernel report EIO for an asynchronous one. Its own ext4 fails such a
 * write as a whole, too.
 *
 * @returns false when the file keeps its contents in its inode.
 * @throws FsError when not even its first byte has a place.
 */
function mapForWrite(
  context: Context,
  changes: ServedChanges,
  request: Request,
  { offset, end, mayBeShort }: { offset: number; end: number; mayBeShort: boolean },
): boolean {
  const { fs, channel, iomap } = context;
  const batch = new MappingBatch(context, request.node, fs.inode(request.inode));
  for (let at = offset; at < end; at = iomap.offset + iomap.length) {
    try {
      changes.iomapForWrite(fs.inode(request.inode), at, end - at, iomap);
    } catch (error) {
      if (at === offset || !mayBeShort || !(error instanceof FsError)) throw error;
      break;
    }
    if (iomap.type === IomapType.INLINE) return false;
    batch.add();
    const { isNew } = iomap;
    if (!isNew || iomap.offset + iomap.length >= end) continue;
    batch.flush();
    if (channel.storeMapped() < 0) throw new FsError(Errno.EIO, "new blocks cannot be written");
  }
  batch.flush();
  return true;
}

/** Stores what is mapped before the reply does, and waits for it. The reply says how much that is. */
function makeDurable({ channel }: Context, changes: ServedChanges, request: Request): void {
  if (channel.storeMapped() === 0) changes.syncFile(request.inode, false);
}

function answerWritten(reply: Reply, bytes: number): number {
  setLe32(reply.view, reply.append(WriteOut), WriteOut.size, bytes);
  return reply.finish();
}

/**
 * Sent by write(2) piece by piece, and for pages that were changed through a mapping. It arrives here
 * only when the shim cannot overwrite the bytes where they are. Changes no lookup counts.
 */
export const Write: Operation = {
  opcode: Opcode.WRITE,
  name: "WRITE",
  serve(context, request, reply) {
    const changes = changesOf(context, request);
    const at = request.takeStruct(WriteIn);
    const offset = request.u64(at, WriteIn.offset);
    const size = request.u32(at, WriteIn.size);
    if (size > request.remaining) throw new FsError(Errno.EINVAL, "a WRITE of less than it says");
    const { fs, channel } = context;
    const inode = fs.inode(request.inode);
    refuseWrite(inode, offset);
    if (size === 0) return answerWritten(reply, 0);
    const flags = request.u32(at, WriteIn.writeFlags);
    if ((flags & WRITE_KILL_SUIDGID) !== 0) takePrivileges(context, changes, request, inode);
    const mayBeShort = (flags & WRITE_LOCKOWNER) === 0;
    // Where the kernel moves contents the shim must not: it would do so through the cache of the device.
    const isMoved = context.iomapState?.isActive === true;
    const range = { offset, end: offset + size, mayBeShort };
    if (!isMoved && mapForWrite(context, changes, request, range)) {
      if ((inode.flags & InodeFlags.SYNC) !== 0) makeDurable(context, changes, request);
      return SERVE_BY_SHIM;
    }
    channel.loadData();
    const written = changes.writeFile(fs.inode(request.inode), offset, request.takeRest());
    keepInStep(context, request.node, fs.inode(request.inode));
    return answerWritten(reply, written);
  },
  describe(request) {
    const at = request.takeStruct(WriteIn);
    return `offset ${request.u64(at, WriteIn.offset)} size ${request.u32(at, WriteIn.size)}`;
  },
};

/** Sent by fallocate(2) and posix_fallocate(3). Changes no lookup counts. */
export const Fallocate: Operation = {
  opcode: Opcode.FALLOCATE,
  name: "FALLOCATE",
  changes: "contents",
  serve(context, request, reply) {
    const changes = changesOf(context, request);
    const at = request.takeStruct(FallocateIn);
    const mode = request.u32(at, FallocateIn.mode);
    const inode = context.fs.inode(request.inode);
    refuseFixed(inode, (mode & ~FallocateMode.KEEP_SIZE) === 0);
    takePrivilegesAs(context, changes, request, inode);
    const offset = request.u64(at, FallocateIn.offset);
    changes.fallocate(request.inode, mode, offset, request.u64(at, FallocateIn.length));
    keepInStep(context, request.node, context.fs.inode(request.inode));
    return reply.finish();
  },
  describe(request) {
    const at = request.takeStruct(FallocateIn);
    const mode = request.u32(at, FallocateIn.mode).toString(16);
    const offset = request.u64(at, FallocateIn.offset);
    return `mode 0x${mode} offset ${offset} length ${request.u64(at, FallocateIn.length)}`;
  },
};

/** Copies what the request asks for. @returns bytes copied, fewer at the end of the source. */
function copy(context: Context, request: Request): number {
  const changes = changesOf(context, request);
  const at = request.takeStruct(CopyFileRangeIn);
  if (request.u64(at, CopyFileRangeIn.flags) !== 0) {
    throw new FsError(Errno.EINVAL, "COPY_FILE_RANGE with flags");
  }
  const nodeOut = request.u64(at, CopyFileRangeIn.nodeidOut);
  const target = context.fs.inode(request.inodeAt(nodeOut));
  refuseFixed(target, false);
  takePrivilegesAs(context, changes, request, target);
  const copied = changes.copyFileRange(
    request.inode,
    request.u64(at, CopyFileRangeIn.offIn),
    request.inodeAt(nodeOut),
    request.u64(at, CopyFileRangeIn.offOut),
    Math.min(request.u64(at, CopyFileRangeIn.len), COPY_BYTES_MAX),
  );
  keepInStep(context, nodeOut, context.fs.inode(request.inodeAt(nodeOut)));
  return copied;
}

function describeCopy(request: Request): string {
  const at = request.takeStruct(CopyFileRangeIn);
  const from = request.u64(at, CopyFileRangeIn.offIn);
  const to = request.u64(at, CopyFileRangeIn.offOut);
  const node = request.u64(at, CopyFileRangeIn.nodeidOut);
  return `from ${from} to node ${node} ${to} length ${request.u64(at, CopyFileRangeIn.len)}`;
}

/** Sent by copy_file_range(2) within one mount. Changes no lookup counts. */
export const CopyFileRange: Operation = {
  opcode: Opcode.COPY_FILE_RANGE,
  name: "COPY_FILE_RANGE",
  changes: "contents",
  serve: (context, request, reply) => answerWritten(reply, copy(context, request)),
  describe: describeCopy,
};

/** The same since 7.45, with room for a larger result. Changes no lookup counts. */
export const CopyFileRange64: Operation = {
  opcode: Opcode.COPY_FILE_RANGE_64,
  name: "COPY_FILE_RANGE_64",
  changes: "contents",
  serve(context, request, reply) {
    const copied = copy(context, request);
    setLe64(reply.view, reply.append(CopyFileRangeOut), CopyFileRangeOut.bytesCopied, copied);
    return reply.finish();
  },
  describe: describeCopy,
};
