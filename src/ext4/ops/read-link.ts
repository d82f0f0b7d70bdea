/**
 * Reads symbolic links: targets of up to 59 bytes lie in `i_block`, longer ones in the first block
 * of the file, and with inline data in the inode as well.
 *
 * @see ext4/ifork.rst, "Symbolic Links"; fs/ext4/symlink.c
 */
import { Errno } from "../../base/errno.ts";
import type { FileBlock, InodeNumber } from "../../base/numbers.ts";
import { CorruptionError, FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { I_BLOCK_SIZE, type Inode, InodeFlags } from "../format/inode.ts";
import { noKeyName } from "../format/nokey-name.ts";
import { inlineData } from "../map/inline-data.ts";
import { readFileBlock } from "../map/iomap.ts";
import { knownEnd } from "../map/kernel-data.ts";

const SECTOR_SIZE = 512;
/** Bytes of the length in front of an encrypted target. @see fs/crypto/fscrypt_private.h */
const ENCRYPTED_HEADER_SIZE = 2;

/**
 * The target of the symbolic link `number`, without a terminator. An encrypted target is given the
 * way the kernel gives it to those who lack the key.
 *
 * @throws FsError EINVAL when it is no symbolic link.
 */
export function readLink(fs: Filesystem, number: InodeNumber): Uint8Array {
  const inode = fs.inode(number);
  if (!inode.isSymlink) throw new FsError(Errno.EINVAL, `inode ${number} is no symbolic link`);
  const stored = storedTarget(fs, inode);
  if (inode.hasFlag(InodeFlags.ENCRYPT)) return encryptedTarget(stored, inode);
  if (stored.length === 0 || stored.includes(0)) {
    throw new CorruptionError("symlink-length", { inode: number }, `size is ${inode.sizeBytes}`);
  }
  return stored.slice();
}

/**
 * What stat(2) says of the size: for an encrypted link, that of the target as it is shown; for a file
 * whose contents a kernel moves, all that the kernel has said of it, as it may have forgotten that by now.
 */
export function sizeForStat(fs: Filesystem, inode: Inode): number {
  const shown = inode.isSymlink && inode.hasFlag(InodeFlags.ENCRYPT);
  return shown ? readLink(fs, inode.number).length : knownEnd(fs, inode);
}

function storedTarget(fs: Filesystem, inode: Inode): Uint8Array {
  const { sizeBytes } = inode;
  const wrongLength = (): CorruptionError =>
    new CorruptionError("symlink-length", { inode: inode.number }, `size is ${sizeBytes}`);
  if (inode.hasFlag(InodeFlags.INLINE_DATA)) return inlineData(inode);
  if (isFastSymlink(fs, inode)) {
    if (sizeBytes >= I_BLOCK_SIZE) throw wrongLength();
    return inode.iBlock.subarray(0, sizeBytes);
  }
  const block = readFileBlock(fs, inode, 0 as FileBlock);
  if (block === undefined || sizeBytes >= block.bytes.length) throw wrongLength();
  return block.bytes.subarray(0, sizeBytes);
}

/** A link without blocks of its own (an xattr block does not count) has its target in the inode. */
export function isFastSymlink(fs: Filesystem, inode: Inode): boolean {
  const { blockSize, clusterBlocks } = fs.superblock;
  const forXattrs = inode.xattrBlock === 0 ? 0 : (blockSize * clusterBlocks) / SECTOR_SIZE;
  return inode.blocks512 - forXattrs === 0;
}

function encryptedTarget(stored: Uint8Array, inode: Inode): Uint8Array {
  const length = (stored[0] ?? 0) + (stored[1] ?? 0) * 0x100;
  if (length === 0 || ENCRYPTED_HEADER_SIZE + length > stored.length) {
    throw new CorruptionError(
      "symlink-length",
      { inode: inode.number },
      `${length} encrypted bytes`,
    );
  }
  return noKeyName(stored.subarray(ENCRYPTED_HEADER_SIZE, ENCRYPTED_HEADER_SIZE + length), 0, 0);
}
