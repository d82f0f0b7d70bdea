/**
 * Inline data: the contents of a small file or directory inside its inode, the first 60 bytes in
 * `i_block` and the rest as the value of the in-inode xattr `system.data`.
 *
 * @see ext4/inlinedata.rst
 */
import { CorruptionError } from "../errors.ts";
import { I_BLOCK_SIZE, type Inode } from "../format/inode.ts";
import { compareXattrs, INLINE_DATA } from "../format/xattr.ts";
import { inodeXattrs } from "../ops/xattr-entries.ts";

/** The second part of the inline contents of `inode`: empty when `i_block` holds them all. */
export function inlineContinuation(inode: Inode): Uint8Array {
  const entry = inodeXattrs(inode).find((each) => compareXattrs(each, INLINE_DATA) === 0);
  return entry?.value ?? new Uint8Array();
}

/**
 * All bytes of a file with inline data, `i_size` of them.
 *
 * @throws CorruptionError `inline-data` when the size says that there is more than there is.
 */
export function inlineData(inode: Inode): Uint8Array {
  const { sizeBytes } = inode;
  const more = inlineContinuation(inode);
  if (sizeBytes > I_BLOCK_SIZE + more.length) {
    throw new CorruptionError(
      "inline-data",
      { inode: inode.number },
      `${sizeBytes} bytes, room for ${I_BLOCK_SIZE + more.length}`,
    );
  }
  const whole = new Uint8Array(sizeBytes);
  whole.set(inode.iBlock.subarray(0, Math.min(sizeBytes, I_BLOCK_SIZE)));
  if (sizeBytes > I_BLOCK_SIZE) whole.set(more.subarray(0, sizeBytes - I_BLOCK_SIZE), I_BLOCK_SIZE);
  return whole;
}
