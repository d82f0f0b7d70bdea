/**
 * The operations that take names away: UNLINK, RMDIR, RENAME, RENAME2. An inode that loses its last
 * name stays as long as the kernel uses it.
 */
import { Errno } from "../../base/errno.ts";
import type { InodeNumber } from "../../base/numbers.ts";
import { FsError } from "../../ext4/index.ts";
import { Opcode, Rename2In, RenameFlag, RenameIn } from "../abi.ts";
import { nodeOf } from "../nodes.ts";
import type { Reply } from "../reply.ts";
import type { Request } from "../request.ts";
import { quoted } from "../text.ts";
import { changesOf, ownerOf } from "./changing.ts";
import type { Context, Operation } from "./operation.ts";

/** A name in a directory. */
interface Place {
  readonly parent: InodeNumber;
  readonly name: Uint8Array;
}

const RENAME_FLAGS = RenameFlag.NOREPLACE | RenameFlag.EXCHANGE | RenameFlag.WHITEOUT;

/** Sent by unlink(2). Changes no lookup counts: FORGET does, later. */
export const Unlink: Operation = {
  opcode: Opcode.UNLINK,
  name: "UNLINK",
  changes: "names",
  serve(context, request, reply) {
    const changes = changesOf(context, request);
    context.lifetimes?.noteUnlinked(changes.unlink(request.inode, request.takeName()));
    return reply.finish();
  },
  describe: (request) => quoted(request.takeName()),
};

/** Sent by rmdir(2). Changes no lookup counts: FORGET does, later. */
export const Rmdir: Operation = {
  opcode: Opcode.RMDIR,
  name: "RMDIR",
  changes: "names",
  serve(context, request, reply) {
    const changes = changesOf(context, request);
    context.lifetimes?.noteUnlinked(changes.removeDirectory(request.inode, request.takeName()));
    return reply.finish();
  },
  describe: (request) => quoted(request.takeName()),
};

/** Renames the two names that follow in the request. */
function rename(
  context: Context,
  request: Request,
  reply: Reply,
  toNode: number,
  flags: number,
): number {
  const changes = changesOf(context, request);
  if ((flags & ~RENAME_FLAGS) !== 0) throw new FsError(Errno.EINVAL, `flags ${flags}`);
  const isWhiteout = (flags & RenameFlag.WHITEOUT) !== 0;
  const isExchange = (flags & RenameFlag.EXCHANGE) !== 0;
  const from = { parent: request.inode, name: request.takeName() };
  const to = { parent: request.inodeAt(toNode), name: request.takeName() };
  const replaced = changes.rename(from.parent, from.name, to.parent, to.name, {
    noReplace: (flags & RenameFlag.NOREPLACE) !== 0,
    exchange: isExchange,
    ...(isWhiteout ? { whiteout: { ...ownerOf(context, request), umask: 0 } } : {}),
  });
  if (replaced !== undefined) context.lifetimes?.noteUnlinked(replaced);
  if (from.parent !== to.parent) {
    forgetDotDot(context, to);
    if (isExchange) forgetDotDot(context, from);
  }
  return reply.finish();
}

/** Of a directory that has moved to `place`, the kernel may know who its parent was. */
function forgetDotDot({ fs, channel }: Context, place: Place): void {
  const moved = fs.lookup(place.parent, place.name);
  if (moved !== 0 && fs.inode(moved).isDirectory) channel.forgetContents(nodeOf(moved));
}

function describeNames(request: Request, toNode: number): string {
  return `${quoted(request.takeName())} to node ${toNode} ${quoted(request.takeName())}`;
}

/** Sent by rename(2). Changes no lookup counts. */
export const Rename: Operation = {
  opcode: Opcode.RENAME,
  name: "RENAME",
  changes: "names",
  serve(context, request, reply) {
    const toNode = request.u64(request.takeStruct(RenameIn), RenameIn.newdir);
    return rename(context, request, reply, toNode, 0);
  },
  describe: (request) =>
    describeNames(request, request.u64(request.takeStruct(RenameIn), RenameIn.newdir)),
};

/** Sent by renameat2(2) with flags. Changes no lookup counts. */
export const Rename2: Operation = {
  opcode: Opcode.RENAME2,
  name: "RENAME2",
  changes: "names",
  serve(context, request, reply) {
    const at = request.takeStruct(Rename2In);
    const toNode = request.u64(at, Rename2In.newdir);
    return rename(context, request, reply, toNode, request.u32(at, Rename2In.flags));
  },
  describe(request) {
    const at = request.takeStruct(Rename2In);
    const flags = request.u32(at, Rename2In.flags);
    return `flags ${flags} ${describeNames(request, request.u64(at, Rename2In.newdir))}`;
  },
};
