/**
 * The operations that make changes durable: FSYNC, FSYNCDIR, SYNCFS; and FLUSH, which has nothing to
 * do. Where nothing is ever changed, all are refused as unknown: they succeed then, and the kernel
 * does not ask again.
 */
import { Errno } from "../../base/errno.ts";
import { FSYNC_FDATASYNC, FsyncIn, Opcode } from "../abi.ts";
import { ROOT_NODE } from "../nodes.ts";
import type { Reply } from "../reply.ts";
import type { Request } from "../request.ts";
import type { Context, Operation } from "./operation.ts";

/** Sent at every close(2), until it is once refused as unknown. Changes no lookup counts. */
export const Flush: Operation = {
  opcode: Opcode.FLUSH,
  name: "FLUSH",
  serve: (_context, _request, reply) => reply.error(Errno.ENOSYS),
};

function sync({ fs }: Context, request: Request, reply: Reply): number {
  if (fs.changes === undefined) return reply.error(Errno.ENOSYS);
  const flags = request.u32(request.takeStruct(FsyncIn), FsyncIn.fsyncFlags);
  fs.changes.syncFile(request.inode, (flags & FSYNC_FDATASYNC) !== 0);
  return reply.finish();
}

function syncAll({ fs }: Context, reply: Reply): number {
  if (fs.changes === undefined) return reply.error(Errno.ENOSYS);
  fs.changes.syncFilesystem();
  return reply.finish();
}

function describeSync(request: Request): string {
  const flags = request.u32(request.takeStruct(FsyncIn), FsyncIn.fsyncFlags);
  return (flags & FSYNC_FDATASYNC) !== 0 ? "data" : "all";
}

/** Sent by fsync(2) and fdatasync(2), and after a write with O_SYNC. Changes no lookup counts. */
export const Fsync: Operation = {
  opcode: Opcode.FSYNC,
  name: "FSYNC",
  serve: sync,
  describe: describeSync,
};

/**
 * Sent by fsync(2) of a directory. For the root it does what SYNCFS would, which most kernels do not
 * send. Changes no lookup counts.
 */
export const Fsyncdir: Operation = {
  opcode: Opcode.FSYNCDIR,
  name: "FSYNCDIR",
  serve(context, request, reply) {
    if (request.node === ROOT_NODE) return syncAll(context, reply);
    return sync(context, request, reply);
  },
  describe: describeSync,
};

/** Sent by syncfs(2) and sync(2) on mounts of type fuseblk, since Linux 6.18, and on all with iomap. */
export const Syncfs: Operation = {
  opcode: Opcode.SYNCFS,
  name: "SYNCFS",
  serve: (context, _request, reply) => syncAll(context, reply),
};
