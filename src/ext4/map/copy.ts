/** copy_file_range(2): copies bytes from file to file without a detour through the kernel. */
import { Errno } from "../../base/errno.ts";
import type { InodeNumber } from "../../base/numbers.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Inode } from "../format/inode.ts";
import { readFile } from "./file.ts";
import { IomapType, iomapForRead, newIomap } from "./iomap.ts";
import { finishKernelUse, refuseUnconverted, settleKernelEnd } from "./kernel-completion.ts";
import { syncIfWanted } from "./synchronous.ts";
import { setSize } from "./truncate.ts";
import { refuseUnwritable, writeBytes } from "./write.ts";

const PIECE_BYTES = 1024 * 1024;
/** No call reads or writes more. @see include/linux/fs.h, MAX_RW_COUNT */
const COPY_MAX = 0x7fff_f000;

/**
 * Copies up to `length` bytes from byte `fromOffset` of the file `from` to byte `toOffset` of the
 * file `to`. Holes of the source stay holes where the destination has ended before.
 *
 * @returns bytes copied: fewer than asked for at the end of the source, or when space ran out.
 * @throws FsError EINVAL when both are the same file and the ranges overlap, or one is no regular
 *   file; ENOSPC and EFBIG, when nothing was copied; EISDIR, ENOKEY, EPERM.
 */
export function copyFileRange(
  fs: Filesystem,
  from: InodeNumber,
  fromOffset: number,
  to: InodeNumber,
  toOffset: number,
  length: number,
): number {
  settleKernelEnd(fs, from);
  finishKernelUse(fs, to);
  for (const file of [from, to]) refuseUnconverted(fs, file);
  const source = fs.inode(from);
  const target = fs.inode(to);
  refuseUnwritable(target);
  if (!source.isRegular) throw new FsError(Errno.EINVAL, `inode ${from} is no regular file`);
  const count = Math.min(length, COPY_MAX, source.sizeBytes - fromOffset);
  if (count <= 0) return 0;
  if (source === target && Math.abs(fromOffset - toOffset) < count) {
    throw new FsError(Errno.EINVAL, "source and destination overlap");
  }

  const piece = new Uint8Array(Math.min(PIECE_BYTES, count));
  let done = 0;
  while (done < count) {
    const wanted = Math.min(count - done, piece.length);
    const hole = holeAt(fs, source, fromOffset + done, count - done);
    if (hole > 0 && toOffset + done >= target.sizeBytes) {
      done += hole;
      continue;
    }
    const part = piece.subarray(0, wanted);
    readFile(fs, source, fromOffset + done, part);
    const written = writeAfter(done, () => writeBytes(fs, target, toOffset + done, part));
    done += written;
    if (written < wanted) break;
  }
  if (done > 0 && toOffset + done > target.sizeBytes) setSize(fs, to, toOffset + done);
  syncIfWanted(fs, target);
  return done;
}

/** What `write` returns; 0 where it fails and `done` bytes are there to be reported instead. */
function writeAfter(done: number, write: () => number): number {
  try {
    return write();
  } catch (error) {
    if (done > 0 && error instanceof FsError) return 0;
    throw error;
  }
}

/** How many of the `length` bytes at `offset` are not stored before the first that is. */
function holeAt(fs: Filesystem, inode: Inode, offset: number, length: number): number {
  const { type, length: found } = iomapForRead(fs, inode, offset, length, newIomap());
  const isStored = type === IomapType.MAPPED || type === IomapType.INLINE;
  return isStored ? 0 : Math.min(found, length);
}
