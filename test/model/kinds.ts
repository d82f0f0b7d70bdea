/** The kinds of images that random calls are made on. */
import type { ModelOptions } from "../support/posix/model.ts";

export interface Kind extends ModelOptions {
  readonly name: string;
  readonly size: string;
  readonly mke2fs: readonly string[];
}

// biome-ignore format: a table
export const KINDS: readonly Kind[] = [
  { name: "4 KiB blocks",    blockSize: 4096, size: "32M", mke2fs: ["-b", "4096"] },
  { name: "1 KiB blocks",    blockSize: 1024, size: "24M", mke2fs: ["-b", "1024"] },
  { name: "2 KiB blocks",    blockSize: 2048, size: "24M", mke2fs: ["-b", "2048"] },
  { name: "64 KiB blocks",   blockSize: 65536, size: "128M", mke2fs: ["-b", "65536"] },
  { name: "inline data",     blockSize: 4096, size: "32M", mke2fs: ["-b", "4096", "-O", "inline_data"] },
  { name: "inline data, 1k", blockSize: 1024, size: "24M", mke2fs: ["-b", "1024", "-O", "inline_data", "-I", "512"] },
  { name: "no checksums",    blockSize: 1024, size: "24M", mke2fs: ["-b", "1024", "-O", "^metadata_csum,uninit_bg"] },
  { name: "orphan file",     blockSize: 4096, size: "32M", mke2fs: ["-b", "4096", "-O", "orphan_file"] },
  { name: "block maps",      blockSize: 1024, size: "24M", mke2fs: ["-b", "1024", "-O", "^extent,^64bit"], hasExtents: false },
  { name: "quota",           blockSize: 4096, size: "32M", mke2fs: ["-b", "4096", "-O", "quota,project"] },
  { name: "EA inodes",       blockSize: 1024, size: "24M", mke2fs: ["-b", "1024", "-O", "ea_inode"] },
  { name: "bigalloc",        blockSize: 1024, size: "64M", mke2fs: ["-b", "1024", "-O", "bigalloc", "-C", "16384"], clusterSize: 16384 },
  { name: "no journal",      blockSize: 1024, size: "24M", mke2fs: ["-b", "1024", "-O", "^has_journal"] },
  { name: "small inodes",    blockSize: 1024, size: "24M", mke2fs: ["-b", "1024", "-I", "128", "-O", "^dir_index"] },
];

const UUID = "6c1f5c3e-7f0b-4b5e-9d2a-0f3b1a2c4d5e";
/** For mke2fs: the order of names in a directory depends on the seed of its hash, which is random. */
export const REPEATABLE = ["-U", UUID, "-E", `hash_seed=${UUID}`];
