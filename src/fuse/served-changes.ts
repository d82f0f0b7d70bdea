/**
 * What the protocol layer asks of a filesystem that it may change. Each method is the function of the
 * same name in `src/ext4/index.ts`, where it is documented.
 */
import type { InodeNumber } from "../base/numbers.ts";
import type { CorruptionError, Inode, Iomap, Timestamp } from "../ext4/index.ts";

/** What a new inode is to be. */
export interface NewInode {
  /** With the bits of the type. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Of the process that makes it. */
  readonly umask: number;
  readonly rdev?: { readonly major: number; readonly minor: number };
}

/** What is to be different of an inode; what is not named stays. */
export interface AttributeChanges {
  /** Permissions, set-id bits and the sticky bit. */
  mode?: number;
  uid?: number;
  gid?: number;
  accessedAt?: Timestamp | "now";
  modifiedAt?: Timestamp | "now";
  changedAt?: Timestamp;
  sizeBytes?: number;
  /** Set-id bits go, where a write by somebody without privileges takes them, and capabilities. */
  killSetid?: boolean;
}

export interface RenameOptions {
  readonly noReplace?: boolean;
  readonly exchange?: boolean;
  /** Stays behind in the place of the old name. */
  readonly whiteout?: NewInode;
}

/** The changes that one mount may ask for. */
export interface ServedChanges {
  /** The requests that follow come from this user. */
  actAs(uid: number, gid: number): void;

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

  iomapForWrite(inode: Inode, offset: number, length: number, answer: Iomap): Iomap;
  writeFile(inode: Inode, offset: number, bytes: Uint8Array): number;
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
  shutdown(): void;

  syncFile(inode: InodeNumber, dataOnly: boolean): void;
  syncFilesystem(): void;
  /** Makes what operations changed durable, with all file data that was written before. */
  commit(): void;
  /** The image turned out to be damaged: its policy on errors applies. */
  reportCorruption(error: CorruptionError): void;
  /** A bug of ours was met: nothing is changed any more. */
  abort(error: unknown): void;
}
