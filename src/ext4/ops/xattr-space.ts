/** Space for attributes outside of the inode. */
import { Errno } from "../../base/errno.ts";
import type { FileBlock } from "../../base/numbers.ts";
import type { Block } from "../cache/block-cache.ts";
import { FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import type { Inode } from "../format/inode.ts";
import type { Tx } from "../journal/transaction.ts";

const none = (): never => {
  throw new FsError(Errno.ENOSPC, "no space outside of the inode");
};

export const createFileBlock = (
  _fs: Filesystem,
  _tx: Tx,
  _inode: Inode,
  _fileBlock: FileBlock,
): Block => none();
export const freeFileBlocks = (
  _fs: Filesystem,
  _tx: Tx,
  _inode: Inode,
  _from: FileBlock,
  _end: FileBlock,
  _isMetadata: boolean,
): void => none();
export const initBlockMap = (_fs: Filesystem, _inode: Inode): void => none();
