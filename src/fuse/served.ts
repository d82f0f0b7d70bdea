/**
 * What the protocol layer asks of the filesystem it serves. `serveExt4` puts an opened image behind
 * it; tests pass a stand-in, so that the wire is tested without an image.
 *
 * Nothing here knows FUSE: inodes are named by their numbers, and an answer that is expected (no
 * such entry, no such xattr) is a value.
 */
import type { InodeNumber } from "../base/numbers.ts";
import type { DirectorySink, Filesystem, Inode, Iomap, Limits } from "../ext4/index.ts";
import * as ext4 from "../ext4/index.ts";
import { type ServedChanges, serveChanges } from "./served-changes.ts";

/** Each method is the function of the same name in `src/ext4/index.ts`, where it is documented. */
export interface ServedFilesystem {
  readonly blockSize: number;
  readonly volumeName: Uint8Array;
  readonly uuid: Uint8Array;
  /** The kernel is to ask before it opens a file: the image has encrypted files, or it was wanted. */
  readonly asksAtOpen: boolean;
  /** Whether a request may name this inode, in use or not. */
  hasInode(number: InodeNumber): boolean;
  inode(number: InodeNumber): Inode;
  lookup(parent: InodeNumber, name: Uint8Array): InodeNumber | 0;
  parentOf(directory: InodeNumber): InodeNumber;
  readDirectory(directory: InodeNumber, fromHi: number, fromLo: number, sink: DirectorySink): void;
  sizeForStat(inode: Inode): number;
  readLink(inode: InodeNumber): Uint8Array;
  getXattr(inode: InodeNumber, name: Uint8Array): Uint8Array | undefined;
  listXattrs(inode: InodeNumber): Uint8Array;
  totals(): ReturnType<typeof ext4.statFilesystem>;
  iomapForRead(inode: Inode, offset: number, length: number, answer: Iomap): Iomap;
  iomapForKernel(inode: Inode, offset: number, length: number, answer: Iomap): Iomap;
  fitsInline(inode: Inode, sizeBytes: number): boolean;
  readonly limits: Limits;
  readFile(inode: Inode, offset: number, into: Uint8Array): number;
  seekData(inode: Inode, offset: number): number;
  seekHole(inode: Inode, offset: number): number;
  /** Absent from a read-only mount. */
  readonly changes: ServedChanges | undefined;
}

/** How an image is presented. */
export interface PresentationOptions {
  /** Count the filesystem's own blocks as part of its size, as Minix did. */
  readonly minixdf: boolean;
  /**
   * Have the kernel ask at every open(2): what may not be written to is refused there, and reading a file
   * that is cached counts as access.
   */
  readonly asksAtOpen: boolean;
}

/** Serves the opened image `fs`. */
export function serveExt4(
  fs: Filesystem,
  { minixdf, asksAtOpen }: PresentationOptions,
): ServedFilesystem {
  return {
    blockSize: fs.superblock.blockSize,
    get volumeName() {
      return fs.superblock.volumeName;
    },
    uuid: fs.superblock.uuid,
    asksAtOpen: asksAtOpen || fs.superblock.hasIncompat(ext4.Incompat.ENCRYPT),
    hasInode: (number) => fs.hasInode(number),
    inode: (number) => fs.inode(number),
    lookup: (parent, name) => ext4.lookup(fs, parent, name),
    parentOf: (directory) => ext4.parentOf(fs, directory),
    readDirectory: (directory, fromHi, fromLo, sink) =>
      ext4.readDirectory(fs, directory, fromHi, fromLo, sink),
    sizeForStat: (inode) => ext4.sizeForStat(fs, inode),
    readLink: (inode) => ext4.readLink(fs, inode),
    getXattr: (inode, name) => ext4.getXattr(fs, inode, name),
    listXattrs: (inode) => ext4.listXattrs(fs, inode),
    totals: () => ext4.statFilesystem(fs, { minixdf }),
    iomapForRead: (inode, offset, length, answer) =>
      ext4.iomapForRead(fs, inode, offset, length, answer),
    iomapForKernel: (inode, offset, length, answer) =>
      ext4.iomapForKernel(fs, inode, offset, length, answer),
    fitsInline: (inode, sizeBytes) => ext4.fitsInline(fs, inode, sizeBytes),
    limits: ext4.limitsOf(fs),
    readFile: (inode, offset, into) => ext4.readFile(fs, inode, offset, into),
    seekData: (inode, offset) => ext4.seekData(fs, inode, offset),
    seekHole: (inode, offset) => ext4.seekHole(fs, inode, offset),
    changes: fs.isWritable ? serveChanges(fs) : undefined,
  };
}
