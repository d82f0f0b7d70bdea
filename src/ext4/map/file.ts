/**
 * File contents for whoever has no shim: the library's readers, inline data, and directories'
 * bytes. Everything comes from `iomapForRead`.
 */
import { Errno } from "../../base/errno.ts";
import type { FileBlock } from "../../base/numbers.ts";
import { readDevice } from "../cache/block-cache.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { type Inode, InodeFlags } from "../format/inode.ts";
import { contentsDevice } from "./contents-device.ts";
import { inlineData } from "./inline-data.ts";
import { holdsMetadata, IomapType, iomapForRead, newIomap, readFileBlock } from "./iomap.ts";

/**
 * Reads into `into` from byte `offset` of the file on.
 *
 * @returns bytes read: fewer than asked for only at the end of the file, 0 from there on.
 * @throws FsError EISDIR on a directory, ENOKEY on an encrypted file.
 */
export function readFile(fs: Filesystem, inode: Inode, offset: number, into: Uint8Array): number {
  if (inode.isDirectory) throw new FsError(Errno.EISDIR, `inode ${inode.number} is a directory`);
  if (inode.isRegular && inode.hasFlag(InodeFlags.ENCRYPT)) {
    throw new FsError(Errno.ENOKEY, `inode ${inode.number} is encrypted`);
  }
  const { blockSize } = fs.superblock;
  const end = Math.min(inode.sizeBytes, offset + into.length);
  const isCached = holdsMetadata(inode);
  const source = fs.isWritable ? contentsDevice(fs) : fs.device;
  const answer = newIomap();
  for (let at = offset; at < end; at += answer.length) {
    iomapForRead(fs, inode, at, end - at, answer);
    if (isCached && answer.type === IomapType.MAPPED) {
      answer.type = IomapType.INLINE;
      answer.length = Math.min(answer.length, blockSize - (at % blockSize));
    }
    const part = into.subarray(at - offset, Math.min(at + answer.length, end) - offset);
    if (answer.type === IomapType.MAPPED) readDevice(source, answer.addr, part);
    else if (answer.type === IomapType.INLINE) readInline(fs, inode, at, part);
    else part.fill(0);
  }
  return Math.max(0, end - offset);
}

const PIECE_BYTES = 64 * 1024;

/**
 * The contents of a file from byte `offset` up to `end`, piece by piece: for a loop, or for
 * `Readable.from` in Node. Each piece is memory of its own.
 *
 * @throws FsError as `readFile` does, when the piece concerned is asked for.
 */
export function* streamFile(
  fs: Filesystem,
  inode: Inode,
  offset = 0,
  end = inode.sizeBytes,
): Generator<Uint8Array> {
  for (let at = offset; at < end; at += PIECE_BYTES) {
    const piece = new Uint8Array(Math.min(PIECE_BYTES, end - at));
    const length = readFile(fs, inode, at, piece);
    if (length > 0) yield piece.subarray(0, length);
    if (length < piece.length) return;
  }
}

/** Bytes that are not on the device as such: in the inode, the block cache, the replayed journal. */
function readInline(fs: Filesystem, inode: Inode, offset: number, into: Uint8Array): void {
  if (inode.hasFlag(InodeFlags.INLINE_DATA)) {
    const data = inlineData(inode);
    into.fill(0);
    into.set(data.subarray(offset, offset + into.length));
    return;
  }
  const { blockSize } = fs.superblock;
  const block = readFileBlock(fs, inode, Math.floor(offset / blockSize) as FileBlock);
  const within = offset % blockSize;
  if (block !== undefined) into.set(block.bytes.subarray(within, within + into.length));
}

/** The first byte at or after `offset` that is stored, or -1 when there is none before the end. */
export function seekData(fs: Filesystem, inode: Inode, offset: number): number {
  return seek(fs, inode, offset, true);
}

/** The first byte at or after `offset` that is not stored (the end counts); -1 past the end. */
export function seekHole(fs: Filesystem, inode: Inode, offset: number): number {
  return seek(fs, inode, offset, false);
}

/**
 * A block map whose indirect blocks point to each other can pretend to have billions of runs. After
 * this many a search ends with the answer that lseek(2) always allows: all the rest is data.
 */
const SEEK_RUNS_MAX = 100_000;

function seek(fs: Filesystem, inode: Inode, offset: number, wanted: boolean): number {
  if (offset < 0 || offset >= inode.sizeBytes) return -1;
  const answer = newIomap();
  let runs = 0;
  for (let at = offset; at < inode.sizeBytes; at += answer.length) {
    if (++runs > SEEK_RUNS_MAX) return wanted ? at : inode.sizeBytes;
    iomapForRead(fs, inode, at, inode.sizeBytes - at, answer);
    const isData = answer.type === IomapType.MAPPED || answer.type === IomapType.INLINE;
    if (isData === wanted) return at;
  }
  return wanted ? -1 : inode.sizeBytes;
}
