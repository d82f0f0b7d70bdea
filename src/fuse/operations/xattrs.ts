/** The operations that read extended attributes: GETXATTR, LISTXATTR. */
import { Errno } from "../../base/errno.ts";
import { setLe32 } from "../../base/layout.ts";
import { FsError } from "../../ext4/index.ts";
import { GetxattrIn, GetxattrOut, InHeader, Opcode } from "../abi.ts";
import type { Reply } from "../reply.ts";
import { quoted } from "../text.ts";
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
    const isRoot = request.u32(0, InHeader.uid) === 0;
    return answer(reply, isRoot ? names : withoutTrusted(names), room);
  },
  describe: (request) => `room ${request.u32(request.takeStruct(GetxattrIn), GetxattrIn.size)}`,
};
