/** The operations that give the kernel nodes, and take them back: LOOKUP, FORGET, BATCH_FORGET. */
import { Errno } from "../../base/errno.ts";
import type { InodeNumber } from "../../base/numbers.ts";
import { FsError } from "../../ext4/index.ts";
import { BatchForgetIn, ForgetIn, ForgetOne, Opcode } from "../abi.ts";
import { NO_REPLY } from "../channel.ts";
import type { ServedFilesystem } from "../served.ts";
import { quoted } from "../text.ts";
import type { Operation } from "./operation.ts";

const DOT = 0x2e;

/**
 * Turns a file handle back into an inode. The kernel does not ask for one that somebody has open.
 *
 * @throws FsError ESTALE when it has lost its last name, and is gone or about to be.
 */
function reopen(fs: ServedFilesystem, number: InodeNumber): InodeNumber {
  const { linkCount } = fs.inode(number);
  if (linkCount === 0) throw new FsError(Errno.ESTALE, `inode ${number} has no name any more`);
  return number;
}

function find(fs: ServedFilesystem, from: InodeNumber, name: Uint8Array): InodeNumber | 0 {
  if (name.length === 1 && name[0] === DOT) return reopen(fs, from);
  if (name.length === 2 && name[0] === DOT && name[1] === DOT) return fs.parentOf(from);
  return fs.lookup(from, name);
}

/**
 * Sent for each path component that the kernel's dentry cache does not have, and with "." or ".."
 * to turn an NFS file handle back into a node (then the node may be of any type, and one that the
 * kernel never met). A miss is answered with an entry of node id 0, which the kernel caches too.
 * Adds one lookup to the node found, none on a miss.
 */
export const Lookup: Operation = {
  opcode: Opcode.LOOKUP,
  name: "LOOKUP",
  serve({ fs }, request, reply) {
    const child = find(fs, request.inode, request.takeName());
    return child === 0 ? reply.negativeEntry() : reply.entry(fs.inode(child));
  },
  describe: (request) => quoted(request.takeName()),
};

/** Sent when the kernel drops a node from its cache. Takes `nlookup` lookups from it. Never answered. */
export const Forget: Operation = {
  opcode: Opcode.FORGET,
  name: "FORGET",
  serve({ lifetimes }, request) {
    const at = request.takeStruct(ForgetIn);
    lifetimes?.forget(request.node, request.u64(at, ForgetIn.nlookup));
    return NO_REPLY;
  },
  describe: (request) => `lookups ${request.u64(request.takeStruct(ForgetIn), ForgetIn.nlookup)}`,
};

/** Sent in place of many FORGETs. Takes lookups from each node listed. Never answered. */
export const BatchForget: Operation = {
  opcode: Opcode.BATCH_FORGET,
  name: "BATCH_FORGET",
  serve({ lifetimes }, request) {
    const count = request.u32(request.takeStruct(BatchForgetIn), BatchForgetIn.count);
    for (let index = 0; lifetimes !== undefined && index < count; index++) {
      const at = request.takeStruct(ForgetOne);
      lifetimes.forget(request.u64(at, ForgetOne.nodeid), request.u64(at, ForgetOne.nlookup));
    }
    return NO_REPLY;
  },
  describe: (request) =>
    `nodes ${request.u32(request.takeStruct(BatchForgetIn), BatchForgetIn.count)}`,
};
