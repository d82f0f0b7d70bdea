/**
 * The operations that make names and inodes: MKNOD, MKDIR, SYMLINK, LINK, TMPFILE; and CREATE, which
 * is refused as unknown. The kernel then makes new files with MKNOD and opens them as it opens all
 * others, which is one request in place of two (CREATE, RELEASE).
 */
import { Errno } from "../../base/errno.ts";
import { setLe32 } from "../../base/layout.ts";
import { FileType } from "../../ext4/index.ts";
import { CreateIn, LinkIn, MkdirIn, MknodIn, Opcode, OpenFlag, OpenOut } from "../abi.ts";
import { decodeDevice } from "../device-number.ts";
import { nodeOf } from "../nodes.ts";
import { quoted } from "../text.ts";
import { changesOf, newInode } from "./changing.ts";
import type { Operation } from "./operation.ts";

const PERMISSIONS = 0o7777;
const SYMLINK_MODE = FileType.SYMLINK | 0o777;

function isDevice(mode: number): boolean {
  const type = mode & FileType.MASK;
  return type === FileType.CHARACTER || type === FileType.BLOCK;
}

const octal = (mode: number): string => `0${mode.toString(8)}`;

/** Sent by mknod(2), and by open(2) for a file that is not there. Adds one lookup to the new node. */
export const Mknod: Operation = {
  opcode: Opcode.MKNOD,
  name: "MKNOD",
  changes: "names",
  serve(context, request, reply) {
    const changes = changesOf(context, request);
    const at = request.takeStruct(MknodIn);
    const mode = request.u32(at, MknodIn.mode);
    const attributes = newInode(context, request, mode, request.u32(at, MknodIn.umask));
    const device = decodeDevice(request.u32(at, MknodIn.rdev));
    return reply.entry(
      changes.createFile(
        request.inode,
        request.takeName(),
        isDevice(mode) ? { ...attributes, device } : attributes,
      ),
    );
  },
  describe(request) {
    const mode = request.u32(request.takeStruct(MknodIn), MknodIn.mode);
    return `${quoted(request.takeName())} mode ${octal(mode)}`;
  },
};

/** Sent by mkdir(2). Adds one lookup to the new node. */
export const Mkdir: Operation = {
  opcode: Opcode.MKDIR,
  name: "MKDIR",
  changes: "names",
  serve(context, request, reply) {
    const changes = changesOf(context, request);
    const at = request.takeStruct(MkdirIn);
    const mode = FileType.DIRECTORY | (request.u32(at, MkdirIn.mode) & PERMISSIONS);
    const attributes = newInode(context, request, mode, request.u32(at, MkdirIn.umask));
    return reply.entry(changes.makeDirectory(request.inode, request.takeName(), attributes));
  },
  describe(request) {
    const mode = request.u32(request.takeStruct(MkdirIn), MkdirIn.mode);
    return `${quoted(request.takeName())} mode ${octal(mode)}`;
  },
};

/** Sent by symlink(2). Adds one lookup to the new node. */
export const Symlink: Operation = {
  opcode: Opcode.SYMLINK,
  name: "SYMLINK",
  changes: "names",
  serve(context, request, reply) {
    const changes = changesOf(context, request);
    const name = request.takeName();
    const attributes = newInode(context, request, SYMLINK_MODE, 0);
    return reply.entry(changes.makeSymlink(request.inode, name, request.takeName(), attributes));
  },
  describe: (request) => `${quoted(request.takeName())} to ${quoted(request.takeName())}`,
};

/** Sent by link(2). Adds one lookup to the node that gets another name. */
export const Link: Operation = {
  opcode: Opcode.LINK,
  name: "LINK",
  changes: "names",
  serve(context, request, reply) {
    const changes = changesOf(context, request);
    const linked = request.inodeAt(request.u64(request.takeStruct(LinkIn), LinkIn.oldnodeid));
    const inode = changes.link(linked, request.inode, request.takeName());
    context.lifetimes?.noteLinked(inode);
    return reply.entry(inode);
  },
  describe(request) {
    const node = request.u64(request.takeStruct(LinkIn), LinkIn.oldnodeid);
    return `${quoted(request.takeName())} to node ${node}`;
  },
};

/**
 * Sent by open(2) with O_TMPFILE. The file is open already and has no name. Adds one lookup to the
 * new node.
 */
export const Tmpfile: Operation = {
  opcode: Opcode.TMPFILE,
  name: "TMPFILE",
  changes: "names",
  serve(context, request, reply) {
    const changes = changesOf(context, request);
    const at = request.takeStruct(CreateIn);
    const mode = FileType.REGULAR | (request.u32(at, CreateIn.mode) & PERMISSIONS);
    const attributes = newInode(context, request, mode, request.u32(at, CreateIn.umask));
    const inode = changes.createTemporary(request.inode, attributes);
    reply.appendEntry(inode);
    context.lifetimes?.noteUnlinked(inode);
    context.iomapState?.noteOpened(nodeOf(inode.number));
    setLe32(reply.view, reply.append(OpenOut), OpenOut.openFlags, OpenFlag.KEEP_CACHE);
    return reply.finish();
  },
};

/** Sent by open(2) for a file that is not there, until it is once refused as unknown. */
export const Create: Operation = {
  opcode: Opcode.CREATE,
  name: "CREATE",
  serve(context, request, reply) {
    changesOf(context, request);
    return reply.error(Errno.ENOSYS);
  },
};
