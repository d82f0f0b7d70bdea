/** The operations on extended attributes: GETXATTR, LISTXATTR, SETXATTR, REMOVEXATTR. */
import { Errno } from "../../base/errno.ts";
import { setLe32 } from "../../base/layout.ts";
import { FsError } from "../../ext4/index.ts";
import {
  GetxattrIn,
  GetxattrOut,
  InitFlag,
  Opcode,
  SETXATTR_ACL_KILL_SGID,
  SetxattrIn,
  SetxattrInCompat,
} from "../abi.ts";
import { hasFeature } from "../negotiation.ts";
import type { Reply } from "../reply.ts";
import { quoted } from "../text.ts";
import { changesOf, keepInStep } from "./changing.ts";
import type { Operation } from "./operation.ts";

/** XATTR_SIZE_MAX and XATTR_LIST_MAX. @see include/uapi/linux/limits.h */
const XATTR_BYTES_MAX = 65536;
/** `trusted.` */
const TRUSTED = [0x74, 0x72, 0x75, 0x73, 0x74, 0x65, 0x64, 0x2e];

/** Answers with `data`, or with its size when the caller asks with room for 0 bytes. */
function answer(reply: Reply, data: Uint8Array, room: number): number {
  if (data.length > XATTR_BYTES_MAX) {
    throw new FsError(Errno.E2BIG, `${data.length} bytes of xattr`);
  }
  if (room === 0) {
    setLe32(reply.view, reply.append(GetxattrOut), GetxattrOut.size, data.length);
    return reply.finish();
  }
  return data.length > room ? reply.error(Errno.ERANGE) : reply.bytes(data);
}

/**
 * Sent by getxattr(2) every time, and by the kernel itself for POSIX ACLs (which it keeps) and when
 * a program with capabilities starts. Changes no lookup counts.
 */
export const Getxattr: Operation = {
  opcode: Opcode.GETXATTR,
  name: "GETXATTR",
  serve({ fs }, request, reply) {
    const room = request.u32(request.takeStruct(GetxattrIn), GetxattrIn.size);
    const value = fs.getXattr(request.inode, request.takeName());
    return value === undefined ? reply.error(Errno.ENODATA) : answer(reply, value, room);
  },
  describe(request) {
    const room = request.u32(request.takeStruct(GetxattrIn), GetxattrIn.size);
    return `${quoted(request.takeName())} room ${room}`;
  },
};

/**
 * The names in `list` that anybody may see: `trusted.*` is for administrators alone, and unlike for
 * GETXATTR the kernel leaves this check to the filesystem.
 */
function withoutTrusted(list: Uint8Array): Uint8Array {
  const shown = new Uint8Array(list.length);
  let length = 0;
  for (let at = 0; at < list.length; ) {
    const end = list.indexOf(0, at) + 1;
    const name = list.subarray(at, end);
    if (!TRUSTED.every((letter, index) => name[index] === letter)) {
      shown.set(name, length);
      length += name.length;
    }
    at = end;
  }
  return shown.subarray(0, length);
}

/** Sent by listxattr(2) every time. Changes no lookup counts. */
export const Listxattr: Operation = {
  opcode: Opcode.LISTXATTR,
  name: "LISTXATTR",
  serve({ fs }, request, reply) {
    const room = request.u32(request.takeStruct(GetxattrIn), GetxattrIn.size);
    const names = fs.listXattrs(request.inode);
    const isRoot = request.uid === 0;
    return answer(reply, isRoot ? names : withoutTrusted(names), room);
  },
  describe: (request) => `room ${request.u32(request.takeStruct(GetxattrIn), GetxattrIn.size)}`,
};

/**
 * Sent by setxattr(2), and for a POSIX ACL by the kernel, which has translated it into the form that
 * getxattr(2) shows. Changes no lookup counts.
 */
export const Setxattr: Operation = {
  opcode: Opcode.SETXATTR,
  name: "SETXATTR",
  changes: "attributes",
  serve(context, request, reply) {
    const changes = changesOf(context, request);
    const { fs, connection } = context;
    const extended = connection !== undefined && hasFeature(connection, InitFlag.SETXATTR_EXT);
    const at = request.takeStruct(extended ? SetxattrIn : SetxattrInCompat);
    const more = extended ? request.u32(at, SetxattrIn.setxattrFlags) : 0;
    const size = request.u32(at, SetxattrIn.size);
    const name = request.takeName();
    if (request.remaining !== size) {
      throw new FsError(Errno.EINVAL, `${request.remaining} bytes of ${size}`);
    }
    changes.setXattr(request.inode, name, request.takeRest(), {
      flags: request.u32(at, SetxattrIn.flags),
      killSetgid: (more & SETXATTR_ACL_KILL_SGID) !== 0,
    });
    keepInStep(context, request.node, fs.inode(request.inode));
    return reply.finish();
  },
};

/** Sent by removexattr(2). Changes no lookup counts. */
export const Removexattr: Operation = {
  opcode: Opcode.REMOVEXATTR,
  name: "REMOVEXATTR",
  changes: "attributes",
  serve(context, request, reply) {
    changesOf(context, request).removeXattr(request.inode, request.takeName());
    keepInStep(context, request.node, context.fs.inode(request.inode));
    return reply.finish();
  },
  describe: (request) => quoted(request.takeName()),
};
