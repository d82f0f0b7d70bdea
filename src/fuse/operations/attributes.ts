/** The operations about what a node is: GETATTR, STATX, READLINK, ACCESS. */
import { Errno } from "../../base/errno.ts";
import { FsError } from "../../ext4/index.ts";
import { GetattrIn, Opcode, StatxIn } from "../abi.ts";
import type { Operation } from "./operation.ts";

/** The kernel has room for a path of PATH_MAX less its NUL. @see fuse_readlink_page() */
const TARGET_LENGTH_MAX = 4095;

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

/** Sent once per symlink: the kernel keeps the target. Changes no lookup counts. */
export const Readlink: Operation = {
  opcode: Opcode.READLINK,
  name: "READLINK",
  serve({ fs }, request, reply) {
    const target = fs.readLink(request.inode);
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
