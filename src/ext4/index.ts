/** The public face of the ext4 library: all that other layers may import. */
export { loadBlockBitmap, loadInodeBitmap } from "./alloc/bitmaps.ts";
export { trimFree } from "./alloc/trim.ts";
export { type DirectorySink, lookup, parentOf, readDirectory } from "./dir/directory.ts";
export { type ErrorsBehaviour, reportCorruption } from "./error-policy.ts";
export {
  CORRUPTION_RULES,
  CorruptionError,
  type CorruptionRule,
  FsError,
  type Place,
  UnsupportedError,
} from "./errors.ts";
export { type Filesystem, type OpenOptions, openFilesystem, ROOT_INODE } from "./filesystem.ts";
export type { Crc32c } from "./format/checksum.ts";
export { Compat, Incompat, RoCompat } from "./format/features.ts";
export { FileType, type Inode, InodeFlags, type Timestamp } from "./format/inode.ts";
export type { Superblock } from "./format/superblock.ts";
export type { LogErasure } from "./journal/transaction.ts";
export { copyFileRange } from "./map/copy.ts";
export { FallocateMode, fallocate } from "./map/fallocate.ts";
export { readFile, seekData, seekHole, streamFile } from "./map/file.ts";
export { fitsInline } from "./map/inline-editor.ts";
export { type Iomap, IomapType, iomapForRead, newIomap } from "./map/iomap.ts";
export {
  finishKernelUse,
  finishKernelWrite,
  giveReserveBack,
  noteKernelEnd,
  settleKernelEnds,
} from "./map/kernel-completion.ts";
export { canLeaveData, isUncommitted, leaveDataToKernel } from "./map/kernel-data.ts";
export { iomapForKernel, iomapForKernelWrite } from "./map/kernel-iomap.ts";
export { setSize } from "./map/truncate.ts";
export { iomapForWrite, writeFile } from "./map/write.ts";
export { mmpIntervalSeconds, mmpRefresh } from "./mount-protection.ts";
export {
  closeFilesystem,
  finishFilesystem,
  isUnfinished,
  openWritableFilesystem,
  type WriteOptions,
} from "./open-writable.ts";
export { type AttributeChanges, setAttributes } from "./ops/attributes.ts";
export { createFile, createTemporary, makeDirectory, makeSymlink } from "./ops/create.ts";
export {
  setFlags,
  setGeneration,
  setProject,
  USER_VISIBLE,
  XFLAGS,
} from "./ops/file-attributes.ts";
export { freeze } from "./ops/freeze.ts";
export { setLabel, setUuid } from "./ops/identity.ts";
export { type Limits, limitsOf } from "./ops/limits.ts";
export { link, removeDirectory, unlink } from "./ops/link.ts";
export type { NewInode } from "./ops/new-inode.ts";
export { readLink, sizeForStat } from "./ops/read-link.ts";
export { release } from "./ops/release.ts";
export { type RenameOptions, rename } from "./ops/rename.ts";
export { ShutdownMode, shutdown } from "./ops/shutdown.ts";
export { type FilesystemStatistics, statFilesystem } from "./ops/statfs.ts";
export { checkpointJournal, syncFile, syncFilesystem } from "./ops/sync.ts";
export { isAccessDue, noteAccess, noteWrite, storeExpiredTimes, storeTimes } from "./ops/times.ts";
export {
  getXattr,
  listXattrs,
  removeXattr,
  setXattr,
  XattrFlags,
} from "./ops/xattr.ts";
