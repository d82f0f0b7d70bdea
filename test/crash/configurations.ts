/**
 * The images that the crash explorer works on: as small as mke2fs makes them with a journal, one for
 * each kind of on-disk structure that a crash could tear.
 */
import type { ModelOptions } from "../support/posix/model.ts";

export interface CrashConfiguration extends ModelOptions {
  readonly name: string;
  /** As truncate(1) takes it. */
  readonly size: string;
  readonly mke2fs: readonly string[];
  /** Kernels are built without what it needs for writing. */
  readonly isRareInKernels?: boolean;
}

// biome-ignore format: a table
export const CRASH_CONFIGURATIONS: readonly CrashConfiguration[] = [
  { name: "4k",           blockSize: 4096, size: "8M", mke2fs: ["-b", "4096"] },
  { name: "1k",           blockSize: 1024, size: "4M", mke2fs: ["-b", "1024"] },
  { name: "inline-data",  blockSize: 1024, size: "4M", mke2fs: ["-b", "1024", "-O", "inline_data"] },
  { name: "no-checksums", blockSize: 1024, size: "4M", mke2fs: ["-b", "1024", "-O", "^metadata_csum,^64bit"] },
  { name: "orphan-file",  blockSize: 1024, size: "4M", mke2fs: ["-b", "1024", "-O", "orphan_file"] },
  { name: "no-extents",   blockSize: 1024, size: "4M", mke2fs: ["-b", "1024", "-O", "^extent,^64bit"], hasExtents: false },
  { name: "quota",        blockSize: 1024, size: "4M", mke2fs: ["-b", "1024", "-O", "quota,project"], isRareInKernels: true },
  { name: "bigalloc",     blockSize: 1024, size: "8M", mke2fs: ["-b", "1024", "-O", "bigalloc", "-C", "4096"], clusterSize: 4096 },
];
