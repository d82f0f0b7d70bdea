/**
 * What the protocol layer asks of a filesystem that it may change. Each method is the function of the
 * same name in `src/ext4/index.ts`, where it is documented.
 */
import type { WritableDevice } from "../base/block-device.ts";
import { Errno } from "../base/errno.ts";
import type { InodeNumber } from "../base/numbers.ts";
import type {
  AttributeChanges,
  CorruptionError,
  Filesystem,
  Inode,
  Iomap,
  LogErasure,
  NewInode,
  RenameOptions,
  Timestamp,
} from "../ext4/index.ts";
import * as ext4 from "../ext4/index.ts";

/** Who asks for something. What it says may be found out only when it is asked. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
}

/** The changes that one mount may ask for. */
export interface ServedChanges {
  /** What follows is asked for by `caller`. */
  actAs(caller: Caller): void;

  createFile(parent: InodeNumber, name: Uint8Array, attributes: NewInode): Inode;
  makeDirectory(parent: InodeNumber, name: Uint8Array, attributes: NewInode): Inode;
  makeSymlink(
    parent: InodeNumber,
    name: Uint8Array,
    target: Uint8Array,
    attributes: NewInode,
  ): Inode;
  createTemporary(parent: InodeNumber, attributes: NewInode): Inode;
  link(inode: InodeNumber, parent: InodeNumber, name: Uint8Array): Inode;
  unlink(parent: InodeNumber, name: Uint8Array): Inode;
  removeDirectory(parent: InodeNumber, name: Uint8Array): Inode;
  rename(
    fromParent: InodeNumber,
    fromName: Uint8Array,
    toParent: InodeNumber,
    toName: Uint8Array,
    options: RenameOptions,
  ): Inode | undefined;
  release(inode: InodeNumber): void;

  setAttributes(inode: InodeNumber, changes: AttributeChanges): Inode;
  noteWrite(inode: InodeNumber, time: Timestamp): void;
  noteAccess(inode: InodeNumber): void;
  isAccessDue(inode: InodeNumber): boolean;
  storeTimes(inode: InodeNumber): void;

  iomapForWrite(inode: Inode, offset: number, length: number, answer: Iomap): Iomap;
  writeFile(inode: Inode, offset: number, bytes: Uint8Array): number;
  leaveDataToKernel(contents: WritableDevice): void;
  iomapForKernelWrite(
    inode: Inode,
    offset: number,
    length: number,
    answer: Iomap,
    grows: boolean,
  ): Iomap;
  finishKernelWrite(inode: InodeNumber, offset: number, length: number, converts: boolean): number;
  noteKernelEnd(inode: InodeNumber, end: number): void;
  giveReserveBack(inode: InodeNumber): void;
  finishKernelUse(inode: InodeNumber): void;
  isUncommitted(inode: Inode): boolean;

  fallocate(inode: InodeNumber, mode: number, offset: number, length: number): void;
  copyFileRange(
    from: InodeNumber,
    fromOffset: number,
    to: InodeNumber,
    toOffset: number,
    length: number,
  ): number;

  setXattr(
    inode: InodeNumber,
    name: Uint8Array,
    value: Uint8Array,
    options: { readonly flags: number; readonly killSetgid: boolean },
  ): void;
  removeXattr(inode: InodeNumber, name: Uint8Array): void;

  setFlags(inode: InodeNumber, flags: number): void;
  setProject(inode: InodeNumber, projectId: number, xflags: number): void;
  setGeneration(inode: InodeNumber, generation: number): void;
  setLabel(label: Uint8Array): void;
  trimFree(start: number, length: number, minLength: number): number;
  checkpoint(erasure: LogErasure | undefined): void;
  shutdown(): void;
  /** @throws FsError EBUSY when it is frozen already. */
  freeze(): void;
  /** @throws FsError EINVAL when it is not frozen. */
  thaw(): void;

  syncFile(inode: InodeNumber, dataOnly: boolean): void;
  syncFilesystem(): void;
  /** Makes what operations changed durable, with all file data that was written before. */
  commit(): void;
  /** The image turned out to be damaged: its policy on errors applies. */
  reportCorruption(error: CorruptionError): void;
  /** A bug of ours was met: nothing is changed any more. */
  abort(error: unknown): void;
}

const ROOT_USER = 0;
const ROOT_GROUP = 0;

/** Serves changes of `fs`, which was opened for writing. */
export function serveChanges(fs: Filesystem): ServedChanges {
  const { reserveUid, reserveGid } = fs.writer;
  let caller: Caller = { uid: ROOT_USER, gid: ROOT_GROUP };
  let thaw: (() => void) | undefined;
  const releasedMeanwhile: InodeNumber[] = [];
  fs.writer.mayUseReserve = () => {
    const { uid, gid } = caller;
    const owns = uid === ROOT_USER || uid === reserveUid;
    return owns || (reserveGid !== ROOT_GROUP && gid === reserveGid);
  };
  return {
    actAs(other) {
      caller = other;
    },
    createFile: (parent, name, attributes) => ext4.createFile(fs, parent, name, attributes),
    makeDirectory: (parent, name, attributes) => ext4.makeDirectory(fs, parent, name, attributes),
    makeSymlink: (parent, name, target, attributes) =>
      ext4.makeSymlink(fs, parent, name, target, attributes),
    createTemporary: (parent, attributes) => ext4.createTemporary(fs, parent, attributes),
    link: (inode, parent, name) => ext4.link(fs, inode, parent, name),
    unlink: (parent, name) => ext4.unlink(fs, parent, name),
    removeDirectory: (parent, name) => ext4.removeDirectory(fs, parent, name),
    rename: (fromParent, fromName, toParent, toName, options) =>
      ext4.rename(fs, fromParent, fromName, toParent, toName, options),
    release(inode) {
      if (thaw === undefined) ext4.release(fs, inode);
      else releasedMeanwhile.push(inode);
    },
    setAttributes: (inode, changes) => ext4.setAttributes(fs, inode, changes),
    noteWrite: (inode, time) => ext4.noteWrite(fs, inode, time),
    noteAccess: (inode) => ext4.noteAccess(fs, inode),
    isAccessDue: (inode) => ext4.isAccessDue(fs, inode),
    storeTimes: (inode) => ext4.storeTimes(fs, inode),
    iomapForWrite: (inode, offset, length, answer) =>
      ext4.iomapForWrite(fs, inode, offset, length, answer),
    writeFile: (inode, offset, bytes) => ext4.writeFile(fs, inode, offset, bytes),
    leaveDataToKernel: (contents) => ext4.leaveDataToKernel(fs, contents),
    iomapForKernelWrite: (inode, offset, length, answer, grows) =>
      ext4.iomapForKernelWrite(fs, inode, offset, length, answer, grows),
    finishKernelWrite: (inode, offset, length, converts) =>
      ext4.finishKernelWrite(fs, inode, offset, length, converts),
    noteKernelEnd: (inode, end) => ext4.noteKernelEnd(fs, inode, end),
    giveReserveBack: (inode) => ext4.giveReserveBack(fs, inode),
    finishKernelUse: (inode) => ext4.finishKernelUse(fs, inode),
    isUncommitted: (inode) => ext4.isUncommitted(fs, inode),
    fallocate: (inode, mode, offset, length) => ext4.fallocate(fs, inode, mode, offset, length),
    copyFileRange: (from, fromOffset, to, toOffset, length) =>
      ext4.copyFileRange(fs, from, fromOffset, to, toOffset, length),
    setXattr: (inode, name, value, setting) => ext4.setXattr(fs, inode, name, value, setting),
    removeXattr: (inode, name) => ext4.removeXattr(fs, inode, name),
    setFlags: (inode, flags) => ext4.setFlags(fs, inode, flags),
    setProject: (inode, projectId, xflags) => ext4.setProject(fs, inode, projectId, xflags),
    setGeneration: (inode, generation) => ext4.setGeneration(fs, inode, generation),
    setLabel: (label) => ext4.setLabel(fs, label),
    trimFree: (start, length, minLength) => ext4.trimFree(fs, start, length, minLength),
    checkpoint: (erasure) => ext4.checkpointJournal(fs, erasure),
    shutdown: () => ext4.shutdown(fs, ext4.ShutdownMode.LOGFLUSH),
    freeze() {
      if (thaw !== undefined) throw new ext4.FsError(Errno.EBUSY, "the filesystem is frozen");
      thaw = ext4.freeze(fs);
    },
    thaw() {
      if (thaw === undefined) throw new ext4.FsError(Errno.EINVAL, "nothing is frozen");
      const end = thaw;
      thaw = undefined;
      end();
      for (const inode of releasedMeanwhile.splice(0)) ext4.release(fs, inode);
    },
    syncFile: (inode, dataOnly) => ext4.syncFile(fs, inode, dataOnly),
    syncFilesystem: () => ext4.syncFilesystem(fs),
    commit: () => fs.writer.transactions.commit(),
    reportCorruption: (error) => ext4.reportCorruption(fs, error),
    abort: (error) => fs.writer.transactions.abort(error),
  };
}
