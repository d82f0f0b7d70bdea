/**
 * The operations on directories: OPENDIR, READDIR, READDIRPLUS, RELEASEDIR.
 *
 * A position is a number of 64 bits that the filesystem chose; it goes to the kernel with each
 * entry and comes back as the offset of the next request. It is carried in two halves and never
 * looked into. There is no state between two requests, so an open directory has no handle.
 */
import { Errno } from "../../base/errno.ts";
import { setLe32 } from "../../base/layout.ts";
import { type DirectorySink, FsError } from "../../ext4/index.ts";
import { InitFlag, Opcode, OpenFlag, OpenOut, ReadIn } from "../abi.ts";
import type { DirentWriter } from "../dirents.ts";
import { hasFeature } from "../negotiation.ts";
import type { Reply } from "../reply.ts";
import type { Request } from "../request.ts";
import { noteAccess } from "./changing.ts";
import type { Context, Operation } from "./operation.ts";

/**
 * Sent by opendir(3), until it is once refused as unknown: the kernel then opens directories
 * without asking, and keeps their contents cached. Changes no lookup counts.
 */
export const Opendir: Operation = {
  opcode: Opcode.OPENDIR,
  name: "OPENDIR",
  serve({ connection }, _request, reply) {
    if (connection !== undefined && hasFeature(connection, InitFlag.NO_OPENDIR_SUPPORT)) {
      return reply.error(Errno.ENOSYS);
    }
    const at = reply.append(OpenOut);
    setLe32(reply.view, at, OpenOut.openFlags, OpenFlag.KEEP_CACHE | OpenFlag.CACHE_DIR);
    return reply.finish();
  },
};

/** Sent when a directory that was opened by OPENDIR is closed. Changes no lookup counts. */
export const Releasedir: Operation = {
  opcode: Opcode.RELEASEDIR,
  name: "RELEASEDIR",
  serve: (_context, _request, reply) => reply.finish(),
};

/**
 * Lists into the reply. What stops a listing after its first record (a corrupt block, say) ends this
 * reply early; the kernel comes back for the rest, and that request gets the error.
 */
function list(
  context: Context,
  request: Request,
  reply: Reply,
  sinkOf: (dirents: DirentWriter) => DirectorySink,
): number {
  const at = request.takeStruct(ReadIn);
  const hi = request.u64Hi(at, ReadIn.offset);
  const lo = request.u64Lo(at, ReadIn.offset);
  const dirents = reply.listing(request.u32(at, ReadIn.size));
  noteAccess(context, request);
  try {
    context.fs.readDirectory(request.inode, hi, lo, sinkOf(dirents));
  } catch (error) {
    if (!(error instanceof FsError) || dirents.isEmpty) throw error;
  }
  if (dirents.isTooSmall) throw new FsError(Errno.EINVAL, "no room for one directory entry");
  if (context.fs.changes !== undefined) {
    const { listings, channel } = context;
    const { version } = context.fs.inode(request.inode);
    if (hi === 0 && lo === 0) listings.begin(request.node, version);
    if (dirents.isEmpty && listings.end(request.node, version))
      channel.forgetContents(request.node);
  }
  return reply.finishListing();
}

function describeListing(request: Request): string {
  const at = request.takeStruct(ReadIn);
  const hi = request.u64Hi(at, ReadIn.offset).toString(16);
  const lo = request.u64Lo(at, ReadIn.offset).toString(16);
  return `from ${hi}:${lo} size ${request.u32(at, ReadIn.size)}`;
}

/** Sent by getdents64(2) when nobody seems to look at the inodes. Changes no lookup counts. */
export const Readdir: Operation = {
  opcode: Opcode.READDIR,
  name: "READDIR",
  serve: (context, request, reply) => list(context, request, reply, (dirents) => dirents.plain),
  describe: describeListing,
};

/**
 * Sent by getdents64(2) at the start of a directory, and further on while the entries are being
 * looked up: one round trip instead of one for each name. Adds one lookup to every node named,
 * except by "." and "..".
 */
export const Readdirplus: Operation = {
  opcode: Opcode.READDIRPLUS,
  name: "READDIRPLUS",
  serve: (context, request, reply) => list(context, request, reply, (dirents) => dirents.plus),
  describe: describeListing,
};
