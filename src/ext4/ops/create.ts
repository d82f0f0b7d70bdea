/** Operations that make inodes: files, devices, directories, symbolic links, unnamed files. */
import { Errno } from "../../base/errno.ts";
import type { FileBlock, InodeNumber } from "../../base/numbers.ts";
import { initDirectory } from "../dir/dots.ts";
import { addEntry } from "../dir/entries.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { FileType, I_BLOCK_SIZE, type Inode, InodeFlags } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";
import { createFileBlock } from "../map/change.ts";
import { change } from "./change.ts";
import { Credits } from "./credits.ts";
import { makeInode, type NewInode } from "./new-inode.ts";
import {
  countSubdirectory,
  directoryForNewName,
  directoryToChange,
  refuseTooManySubdirectories,
} from "./refusals.ts";

const SYMLINK_MODE = FileType.SYMLINK | 0o777;

/** What `createFile` makes. */
const { REGULAR, CHARACTER, BLOCK, FIFO, SOCKET } = FileType;
const FILE_TYPES: readonly number[] = [REGULAR, CHARACTER, BLOCK, FIFO, SOCKET];

/**
 * Makes the regular file, device, FIFO or socket `name`.
 *
 * @throws FsError EINVAL for another type; EEXIST, ENAMETOOLONG, ENOSPC, EPERM in an immutable
 *   directory, ENOENT in one that was removed.
 */
export function createFile(
  fs: Filesystem,
  parent: InodeNumber,
  name: Uint8Array,
  attributes: NewInode,
): Inode {
  refuseOtherTypes(attributes, FILE_TYPES);
  return change(fs, Credits.CREATE, (tx) => {
    const directory = directoryForNewName(fs, parent, name);

    const inode = makeInode(fs, tx, directory, attributes);
    addEntry(fs, tx, directory, name, inode.number, inode.mode);
    return inode;
  });
}

/** Makes the directory `name`. @throws FsError as `createFile` does, and EMLINK. */
export function makeDirectory(
  fs: Filesystem,
  parent: InodeNumber,
  name: Uint8Array,
  attributes: NewInode,
): Inode {
  return change(fs, Credits.CREATE, (tx) => {
    const directory = directoryForNewName(fs, parent, name);
    refuseTooManySubdirectories(fs, directory);

    const mode = (attributes.mode & ~FileType.MASK) | FileType.DIRECTORY;
    const inode = makeInode(fs, tx, directory, { ...attributes, mode });
    inode.linkCount = 2;
    initDirectory(fs, tx, inode, parent);
    addEntry(fs, tx, directory, name, inode.number, inode.mode);
    countSubdirectory(fs, tx.edit(directory));
    return inode;
  });
}

/**
 * Makes the symbolic link `name`. A target of up to 59 bytes lies in the inode, a longer one in a
 * block of its own.
 *
 * @throws FsError as `createFile` does; ENAMETOOLONG also when the target does not fit a block.
 */
export function makeSymlink(
  fs: Filesystem,
  parent: InodeNumber,
  name: Uint8Array,
  target: Uint8Array,
  attributes: NewInode,
): Inode {
  if (target.length === 0 || target.includes(0)) {
    throw new FsError(Errno.ENOENT, "not a target of a symbolic link");
  }
  return change(fs, Credits.CREATE, (tx) => {
    const directory = directoryForNewName(fs, parent, name);
    if (target.length >= fs.superblock.blockSize) {
      throw new FsError(Errno.ENAMETOOLONG, `a target of ${target.length} bytes`);
    }
    refuseEncrypted(directory);

    const inode = makeInode(fs, tx, directory, { ...attributes, mode: SYMLINK_MODE });
    storeTarget(fs, tx, inode, target);
    addEntry(fs, tx, directory, name, inode.number, inode.mode);
    return inode;
  });
}

/**
 * Makes a regular file without a name, near the directory `parent`: `link` may give it one. Without
 * one it goes with `release`, or at the next mount.
 */
export function createTemporary(fs: Filesystem, parent: InodeNumber, attributes: NewInode): Inode {
  refuseOtherTypes(attributes, [REGULAR]);
  return change(fs, Credits.CREATE, (tx) => {
    const directory = directoryToChange(fs, parent);

    const inode = makeInode(fs, tx, directory, attributes);
    inode.linkCount = 0;
    fs.writer.orphans.add(tx, inode);
    return inode;
  });
}

function storeTarget(fs: Filesystem, tx: Tx, inode: Inode, target: Uint8Array): void {
  if (target.length < I_BLOCK_SIZE) {
    inode.flags &= ~InodeFlags.EXTENTS;
    inode.iBlock.fill(0);
    inode.iBlock.set(target);
  } else {
    createFileBlock(fs, tx, inode, 0 as FileBlock).bytes.set(target);
  }
  inode.sizeBytes = target.length;
}

function refuseOtherTypes({ mode }: NewInode, types: readonly number[]): void {
  if (types.includes(mode & FileType.MASK)) return;
  throw new FsError(Errno.EINVAL, `0${mode.toString(8)} is not the mode of what is to be made`);
}

/** Targets are encrypted with the directory's key, which we never have. */
function refuseEncrypted(directory: Inode): void {
  if (!directory.hasFlag(InodeFlags.ENCRYPT)) return;
  throw new FsError(Errno.ENOKEY, `inode ${directory.number} is encrypted`);
}
