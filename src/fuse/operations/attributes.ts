/** The operations about what a node is: GETATTR, STATX, SETATTR, READLINK, ACCESS. */
import { Errno } from "../../base/errno.ts";
import { type AttributeChanges, FsError } from "../../ext4/index.ts";
import { GetattrIn, Opcode, SetattrIn, SetattrValid, StatxIn } from "../abi.ts";
import type { Request } from "../request.ts";
import { changesOf, isExclusive, isStranger, keepInStep, noteAccess } from "./changing.ts";
import type { Operation } from "./operation.ts";

/** The kernel has room for a path of PATH_MAX less its NUL. @see fuse_readlink_page() */
const TARGET_LENGTH_MAX = 4095;
const PERMISSIONS = 0o7777;

/** Sent by stat(2) and its kind when the attributes are not cached. Changes no lookup counts. */
export const Getattr: Operation = {
  opcode: Opcode.GETATTR,
  name: "GETATTR",
  serve({ fs }, request, reply) {
    request.takeStruct(GetattrIn);
    return reply.attributes(fs.inode(request.inode));
  },
};

/**
 * Sent since 7.39 in place of GETATTR when statx(2) asks for the time of creation. Changes no
 * lookup counts.
 */
export const Statx: Operation = {
  opcode: Opcode.STATX,
  name: "STATX",
  serve({ fs }, request, reply) {
    request.takeStruct(StatxIn);
    return reply.statx(fs.inode(request.inode));
  },
  describe(request) {
    const mask = request.u32(request.takeStruct(StatxIn), StatxIn.sxMask);
    return `mask 0x${mask.toString(16)}`;
  },
};

type WantedChanges = { -readonly [K in keyof AttributeChanges]: AttributeChanges[K] };

/** What the `fuse_setattr_in` at `at` asks for. */
function takeChanges(request: Request, at: number): WantedChanges {
  const V = SetattrValid;
  const valid = request.u32(at, SetattrIn.valid);
  const changes: WantedChanges = {};
  if (valid & V.MODE) changes.mode = request.u32(at, SetattrIn.mode) & PERMISSIONS;
  if (valid & V.UID) changes.uid = request.u32(at, SetattrIn.uid);
  if (valid & V.GID) changes.gid = request.u32(at, SetattrIn.gid);
  if (valid & V.SIZE) changes.sizeBytes = request.u64(at, SetattrIn.size);
  if (valid & V.ATIME_NOW) changes.accessedAt = "now";
  else if (valid & V.ATIME) {
    const nanoseconds = request.u32(at, SetattrIn.atimensec);
    changes.accessedAt = { seconds: request.seconds(at, SetattrIn.atime), nanoseconds };
  }
  if (valid & V.MTIME_NOW) changes.modifiedAt = "now";
  else if (valid & V.MTIME) {
    const nanoseconds = request.u32(at, SetattrIn.mtimensec);
    changes.modifiedAt = { seconds: request.seconds(at, SetattrIn.mtime), nanoseconds };
  }
  if (valid & V.CTIME) {
    const nanoseconds = request.u32(at, SetattrIn.ctimensec);
    changes.changedAt = { seconds: request.seconds(at, SetattrIn.ctime), nanoseconds };
  }
  // Whoever changes the owner takes privileges away, and the kernel leaves that to us altogether.
  if (valid & (V.KILL_SUIDGID | V.UID | V.GID)) changes.killSetid = true;
  return changes;
}

/**
 * Sent by chmod(2), chown(2), truncate(2), utimensat(2) and their kind, and by open(2) with O_TRUNC.
 * Changes no lookup counts.
 */
export const Setattr: Operation = {
  opcode: Opcode.SETATTR,
  name: "SETATTR",
  changes: "attributes",
  serve(context, request, reply) {
    const changes = changesOf(context, request);
    const wanted = takeChanges(request, request.takeStruct(SetattrIn));
    if (wanted.sizeBytes !== undefined && wanted.killSetid === true) {
      wanted.isStranger = isStranger(request, context.fs.inode(request.inode));
    }
    // The kernel has checked what it may, and mostly says what has happened.
    if (isExclusive(context, request.node)) wanted.isSettled = true;
    const inode = changes.setAttributes(request.inode, wanted);
    keepInStep(context, request.node, inode);
    return reply.attributes(inode);
  },
  describe: (request) =>
    Object.entries(takeChanges(request, request.takeStruct(SetattrIn)))
      .map(([what, value]) => `${what} ${JSON.stringify(value)}`)
      .join(" "),
};

/** Sent once per symlink: the kernel keeps the target. Changes no lookup counts. */
export const Readlink: Operation = {
  opcode: Opcode.READLINK,
  name: "READLINK",
  serve(context, request, reply) {
    const target = context.fs.readLink(request.inode);
    noteAccess(context, request);
    if (target.length > TARGET_LENGTH_MAX) {
      throw new FsError(Errno.ENAMETOOLONG, `a target of ${target.length} bytes`);
    }
    return reply.bytes(target);
  },
};

/**
 * Sent by access(2) and chdir(2) when the kernel does not check permissions itself. Refusing the
 * operation as unknown makes the kernel allow everything and not ask again, which is what a mount
 * without permission checks (`fakeroot`) means. Changes no lookup counts.
 */
export const Access: Operation = {
  opcode: Opcode.ACCESS,
  name: "ACCESS",
  serve: (_context, _request, reply) => reply.error(Errno.ENOSYS),
};
