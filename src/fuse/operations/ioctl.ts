/**
 * IOCTL: the calls that read and change the flags, project, version and label that ext4 keeps, and
 * those for the administrator: FITRIM, CHECKPOINT and SHUTDOWN.
 *
 * The kernel allows a FUSE server only calls whose number tells direction and size of the argument.
 * That rules out EXT4_IOC_GETFSUUID, which reads a length from the caller although its number says
 * that it only writes, and EXT4_IOC_SETFSUUID, whose number leaves out the UUID. SHUTDOWN arrives
 * without the flags that say how: its number says that it only writes, too.
 *
 * @see ioctl_iflags(2), include/uapi/linux/fs.h, include/uapi/linux/ext4.h
 */
import { Errno } from "../../base/errno.ts";
import { layout, setLe32, setLe64, setU8, sizeOf } from "../../base/layout.ts";
import { FsError, type Inode } from "../../ext4/index.ts";
import { IoctlIn, IoctlOut, Opcode } from "../abi.ts";
import { isDirectory } from "../attributes.ts";
import { visibleFlags, xflags } from "../file-flags.ts";
import type { Reply } from "../reply.ts";
import type { Request } from "../request.ts";
import type { ServedFilesystem } from "../served.ts";
import type { ServedChanges } from "../served-changes.ts";
import { changesOf, keepInStep } from "./changing.ts";
import type { Context, Operation } from "./operation.ts";

/** The calls that are answered. Where a number holds the size of a long, both sizes are there. */
// biome-ignore format: a table
const Command = {
  FS_IOC_GETFLAGS: 0x8008_6601,    FS_IOC32_GETFLAGS: 0x8004_6601,
  FS_IOC_GETVERSION: 0x8008_7601,  FS_IOC32_GETVERSION: 0x8004_7601,
  EXT4_IOC_GETVERSION: 0x8008_6603, EXT4_IOC32_GETVERSION: 0x8004_6603,
  FS_IOC_FSGETXATTR: 0x801c_581f,
  FS_IOC_GETFSLABEL: 0x8100_9431,
  FS_IOC_GETFSUUID: 0x8011_1500,
} as const;

/** The calls that change something. */
// biome-ignore format: a table
const Change = {
  FS_IOC_SETFLAGS: 0x4008_6602,    FS_IOC32_SETFLAGS: 0x4004_6602,
  FS_IOC_SETVERSION: 0x4008_7602,  FS_IOC32_SETVERSION: 0x4004_7602,
  EXT4_IOC_SETVERSION: 0x4008_6604, EXT4_IOC32_SETVERSION: 0x4004_6604,
  FS_IOC_FSSETXATTR: 0x401c_5820,
  FS_IOC_SETFSLABEL: 0x4100_9432,
  FITRIM: 0xc018_5879,
  EXT4_IOC_CHECKPOINT: 0x4004_662b,
  EXT4_IOC_SHUTDOWN: 0x8004_587d,
} as const;
const CHANGES: ReadonlySet<number> = new Set(Object.values(Change));

/** What a number of 32 bits looks like, given or answered. */
// biome-ignore format: a table
const Int = layout("int", 4, {
  value: [0, "le32"],
});

// biome-ignore format: a table
const Fsxattr = layout("fsxattr", 28, {
  xflags:     [0, "le32"],
  extsize:    [4, "le32"],
  nextents:   [8, "le32"],
  projid:     [12, "le32"],
  cowextsize: [16, "le32"],
  pad:        [20, 8],
});

/** Given: the range, and the shortest run of free space that is worth it. Answered: bytes trimmed. */
// biome-ignore format: a table
const FstrimRange = layout("fstrim_range", 24, {
  start:  [0, "le64"],
  len:    [8, "le64"],
  minlen: [16, "le64"],
});

/** Flags of EXT4_IOC_CHECKPOINT. */
const Checkpoint = { DISCARD: 1, ZEROOUT: 2, DRY_RUN: 4 } as const;

/** The 16 bytes of the UUID follow. */
// biome-ignore format: a table
const Fsuuid2 = layout("fsuuid2", 1, {
  len: [0, "u8"],
});

/** ext4 hands out its 16 bytes and a NUL. @see ext4_ioctl_getlabel() in fs/ext4/ioctl.c */
const LABEL_SIZE = 17;

/** Appends the answer to the reply. @throws FsError ENOTTY when the call is not known. */
function append(fs: ServedFilesystem, command: number, request: Request, reply: Reply): void {
  switch (command) {
    case Command.FS_IOC_GETFLAGS:
    case Command.FS_IOC32_GETFLAGS: {
      const { flags, mode } = fs.inode(request.inode);
      setLe32(reply.view, reply.append(Int), Int.value, visibleFlags(flags, isDirectory(mode)));
      return;
    }
    case Command.FS_IOC_GETVERSION:
    case Command.FS_IOC32_GETVERSION:
    case Command.EXT4_IOC_GETVERSION:
    case Command.EXT4_IOC32_GETVERSION: {
      const { generation } = fs.inode(request.inode);
      setLe32(reply.view, reply.append(Int), Int.value, generation);
      return;
    }
    case Command.FS_IOC_FSGETXATTR: {
      const { flags, mode, projectId } = fs.inode(request.inode);
      const at = reply.append(Fsxattr);
      const visible = visibleFlags(flags, isDirectory(mode));
      setLe32(reply.view, at, Fsxattr.xflags, xflags(visible));
      setLe32(reply.view, at, Fsxattr.projid, projectId);
      return;
    }
    case Command.FS_IOC_GETFSLABEL: {
      const label = new Uint8Array(LABEL_SIZE);
      label.set(fs.volumeName.subarray(0, LABEL_SIZE - 1));
      reply.appendBytes(label);
      return;
    }
    case Command.FS_IOC_GETFSUUID: {
      setU8(reply.view, reply.append(Fsuuid2), Fsuuid2.len, fs.uuid.length);
      reply.appendBytes(fs.uuid);
      return;
    }
    default:
      throw new FsError(Errno.ENOTTY, `ioctl 0x${command.toString(16)} is not known`);
  }
}

/** @throws FsError EPERM when the caller is not root, which the kernel leaves to us here. */
function refuseOthers(request: Request): void {
  if (request.uid !== 0) throw new FsError(Errno.EPERM, "only root may do that");
}

/** @throws FsError EPERM when the caller neither owns `inode` nor is root. */
function refuseStrangers(request: Request, inode: Inode): void {
  if (request.uid !== inode.uid) refuseOthers(request);
}

/** Tells of new flags and a new time of change: after an IOCTL the kernel does not expect either. */
function tellChanged(context: Context, request: Request): void {
  keepInStep(context, request.node, context.fs.inode(request.inode));
  context.channel.forgetAttributes(request.node);
}

/** Makes the change `command`. Whoever may set flags and projects the kernel has checked. */
function change(context: Context, command: number, request: Request, reply: Reply): void {
  const { fs } = context;
  const changes = changesOf(context, request);
  switch (command) {
    case Change.FS_IOC_SETFLAGS:
    case Change.FS_IOC32_SETFLAGS:
      changes.setFlags(request.inode, request.u32(request.takeStruct(Int), Int.value));
      tellChanged(context, request);
      return;
    case Change.FS_IOC_SETVERSION:
    case Change.FS_IOC32_SETVERSION:
    case Change.EXT4_IOC_SETVERSION:
    case Change.EXT4_IOC32_SETVERSION:
      refuseStrangers(request, fs.inode(request.inode));
      changes.setGeneration(request.inode, request.u32(request.takeStruct(Int), Int.value));
      tellChanged(context, request);
      return;
    case Change.FS_IOC_FSSETXATTR: {
      const at = request.takeStruct(Fsxattr);
      const xflagsWanted = request.u32(at, Fsxattr.xflags);
      changes.setProject(request.inode, request.u32(at, Fsxattr.projid), xflagsWanted);
      tellChanged(context, request);
      return;
    }
    case Change.FS_IOC_SETFSLABEL: {
      refuseOthers(request);
      const label = request.takeRest();
      const end = label.indexOf(0);
      changes.setLabel(label.slice(0, end < 0 ? label.length : end));
      return;
    }
    case Change.FITRIM: {
      refuseOthers(request);
      const at = request.takeStruct(FstrimRange);
      const start = request.u64(at, FstrimRange.start);
      const minLength = request.u64(at, FstrimRange.minlen);
      const trimmed = changes.trimFree(start, request.u64(at, FstrimRange.len), minLength);
      const answer = reply.append(FstrimRange);
      setLe64(reply.view, answer, FstrimRange.start, start);
      setLe64(reply.view, answer, FstrimRange.len, trimmed);
      setLe64(reply.view, answer, FstrimRange.minlen, minLength);
      return;
    }
    case Change.EXT4_IOC_CHECKPOINT:
      refuseOthers(request);
      checkpoint(changes, request.u32(request.takeStruct(Int), Int.value));
      return;
    case Change.EXT4_IOC_SHUTDOWN:
      refuseOthers(request);
      changes.shutdown();
  }
}

function checkpoint(changes: ServedChanges, flags: number): void {
  const isDiscard = (flags & Checkpoint.DISCARD) !== 0;
  const isZeroout = (flags & Checkpoint.ZEROOUT) !== 0;
  const known = Checkpoint.DISCARD | Checkpoint.ZEROOUT | Checkpoint.DRY_RUN;
  if ((flags & ~known) !== 0 || (isDiscard && isZeroout))
    throw new FsError(Errno.EINVAL, `checkpoint with flags ${flags}`);
  if ((flags & Checkpoint.DRY_RUN) !== 0) return;
  changes.checkpoint(isZeroout ? "zero" : isDiscard ? "discard" : undefined);
}

/** Sent by ioctl(2), for files and directories alike. Changes no lookup counts. */
export const Ioctl: Operation = {
  opcode: Opcode.IOCTL,
  name: "IOCTL",
  changes: "attributes",
  serve(context, request, reply) {
    const at = request.takeStruct(IoctlIn);
    const outSize = request.u32(at, IoctlIn.outSize);
    const command = request.u32(at, IoctlIn.cmd);
    const before = reply.room - sizeOf(IoctlOut);
    reply.append(IoctlOut);
    if (CHANGES.has(command)) change(context, command, request, reply);
    else append(context.fs, command, request, reply);
    const answered = before - reply.room;
    if (answered > outSize) {
      throw new FsError(Errno.EINVAL, `room for ${outSize} of ${answered} bytes`);
    }
    return reply.finish();
  },
  describe: (request) =>
    `command 0x${request.u32(request.takeStruct(IoctlIn), IoctlIn.cmd).toString(16)}`,
};
