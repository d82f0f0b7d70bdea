/**
 * Feature sets and block sizes that the kernel's ext4 can mount here, and what each is filled with:
 * sections of populate.py.
 */
import { type Configuration, encryptFolder } from "./build.ts";
import { debugfs } from "./e2fsprogs.ts";
import { run } from "./run.ts";

/** What any filesystem can hold. */
const BASIC = [
  ...["types", "owners", "modes", "times", "symlinks", "names", "xattrs", "links", "folders"],
  ...["sparse", "fragmented", "flags"],
];
/** And one with extents. */
export const EXTENTS = [...BASIC, "unwritten"];

const ext4 = (features: string, ...rest: string[]): string[] => [
  ...["-t", "ext4", "-N", "4096", "-b", "4096", "-O", features],
  ...rest,
];

/** This kernel may fill no image with quota files, so they are added afterwards. */
function addQuota(image: string): void {
  run("tune2fs", ["-O", "project,quota", image]);
  debugfs(image, ["sif types/file projid 4711"], true);
  run("e2fsck", ["-fy", image], { accept: [0, 1] });
}

export const CONFIGURATIONS: readonly Configuration[] = [
  // What people have.
  { name: "ext4, as mke2fs makes it", mke2fs: ["-t", "ext4"], sections: [...EXTENTS] },
  {
    name: "ext4 on 1 KiB blocks",
    mke2fs: ext4("dir_index", "-b", "1024"),
    sections: [...EXTENTS, "hashed"],
  },
  {
    name: "ext4 on 2 KiB blocks",
    mke2fs: ext4("dir_index", "-b", "2048"),
    sections: [...EXTENTS, "hashed"],
  },
  { name: "ext3", mke2fs: ["-t", "ext3", "-N", "4096"], sections: BASIC },
  {
    name: "ext3 on 1 KiB blocks, 128-byte inodes",
    mke2fs: ["-t", "ext3", "-N", "4096", "-b", "1024", "-I", "128"],
    sections: [...BASIC, "hashed"],
  },
  { name: "ext2", mke2fs: ["-t", "ext2", "-N", "4096"], sections: BASIC },
  {
    name: "ext2 on 1 KiB blocks",
    mke2fs: ["-t", "ext2", "-N", "4096", "-b", "1024"],
    sections: BASIC,
  },
  {
    name: "ext2 without any feature",
    mke2fs: ["-t", "ext2", "-N", "4096", "-b", "1024", "-I", "128", "-O", "none"],
    sections: BASIC.filter((each) => each !== "xattrs"),
  },
  // Inodes.
  { name: "128-byte inodes", mke2fs: ext4("^extra_isize", "-I", "128"), sections: EXTENTS },
  { name: "512-byte inodes", mke2fs: ext4("extra_isize", "-I", "512"), sections: EXTENTS },
  { name: "1,024-byte inodes", mke2fs: ext4("extra_isize", "-I", "1024"), sections: EXTENTS },
  { name: "4 KiB inodes", mke2fs: ext4("extra_isize", "-I", "4096"), sections: EXTENTS },
  {
    name: "^extra_isize, ^huge_file, ^dir_nlink",
    mke2fs: ext4("^extra_isize,^huge_file,^dir_nlink"),
    sections: EXTENTS,
  },
  // Layout of block groups.
  { name: "^64bit", mke2fs: ext4("^64bit"), sections: EXTENTS },
  {
    name: "meta_bg",
    mke2fs: ext4("meta_bg,^resize_inode", "-b", "1024", "-g", "1024"),
    sections: EXTENTS,
  },
  {
    name: "meta_bg, ^64bit, ^flex_bg",
    mke2fs: ext4("meta_bg,^resize_inode,^64bit,^flex_bg", "-b", "1024"),
    sections: EXTENTS,
  },
  { name: "^flex_bg", mke2fs: ext4("^flex_bg", "-b", "1024"), sections: EXTENTS },
  {
    name: "sparse_super2",
    mke2fs: ext4("sparse_super2,^sparse_super,^resize_inode", "-b", "1024"),
    sections: EXTENTS,
  },
  {
    name: "^sparse_super",
    mke2fs: ext4("^sparse_super,^resize_inode", "-b", "1024"),
    sections: EXTENTS,
  },
  { name: "bigalloc, 64 KiB clusters", mke2fs: ext4("bigalloc", "-C", "65536"), sections: EXTENTS },
  {
    name: "bigalloc, 16 KiB clusters of 1 KiB blocks",
    mke2fs: ext4("bigalloc", "-b", "1024", "-C", "16384"),
    sections: EXTENTS,
  },
  { name: "bigalloc, 8 KiB clusters", mke2fs: ext4("bigalloc", "-C", "8192"), sections: EXTENTS },
  // Checksums.
  { name: "^metadata_csum", mke2fs: ext4("^metadata_csum"), sections: EXTENTS },
  {
    name: "^metadata_csum, uninit_bg",
    mke2fs: ext4("^metadata_csum,uninit_bg"),
    sections: EXTENTS,
  },
  {
    name: "^metadata_csum, uninit_bg, ^64bit on 1 KiB blocks",
    mke2fs: ext4("^metadata_csum,uninit_bg,^64bit", "-b", "1024"),
    sections: EXTENTS,
  },
  { name: "metadata_csum_seed", mke2fs: ext4("metadata_csum_seed"), sections: EXTENTS },
  // Files.
  {
    name: "^extent on 1 KiB blocks",
    mke2fs: ext4("^extent,^64bit", "-b", "1024"),
    sections: BASIC,
  },
  { name: "^extent on 4 KiB blocks", mke2fs: ext4("^extent,^64bit"), sections: BASIC },
  {
    name: "extent tree of depth 3",
    mke2fs: ext4("extent", "-b", "1024"),
    sections: ["deep_extents"],
  },
  { name: "inline_data", mke2fs: ext4("inline_data"), sections: [...EXTENTS, "inline"] },
  {
    name: "inline_data in 1,024-byte inodes of 1 KiB blocks",
    mke2fs: ext4("inline_data", "-b", "1024", "-I", "1024"),
    sections: [...EXTENTS, "inline"],
  },
  {
    name: "inline_data without checksums",
    mke2fs: ext4("inline_data,^metadata_csum", "-I", "512"),
    sections: [...EXTENTS, "inline"],
  },
  { name: "ea_inode", mke2fs: ext4("ea_inode"), sections: EXTENTS },
  { name: "ea_inode on 1 KiB blocks", mke2fs: ext4("ea_inode", "-b", "1024"), sections: EXTENTS },
  {
    name: "ea_inode and inline_data without checksums",
    mke2fs: ext4("ea_inode,inline_data,^metadata_csum"),
    sections: [...EXTENTS, "inline"],
  },
  // Directories.
  {
    name: "^dir_index",
    mke2fs: ext4("^dir_index", "-b", "1024"),
    sections: [...EXTENTS, "hashed"],
  },
  { name: "^filetype", mke2fs: ext4("^filetype"), sections: EXTENTS },
  {
    name: "^filetype, ^dir_index, ^metadata_csum on 1 KiB blocks",
    mke2fs: ext4("^filetype,^dir_index,^metadata_csum", "-b", "1024"),
    sections: EXTENTS,
  },
  ...["legacy", "half_md4", "tea"].flatMap((hash) =>
    [1, 2].map((flags) => ({
      name: `directories hashed with ${hash}, ${flags === 1 ? "signed" : "unsigned"}`,
      mke2fs: ext4("dir_index", "-b", "1024"),
      debugfs: [`ssv def_hash_version ${hash}`, `ssv flags ${flags}`],
      sections: ["names", "folders", "hashed"],
    })),
  ),
  {
    name: "large_dir, with two levels of inner nodes",
    mke2fs: ext4("large_dir", "-b", "1024"),
    sections: ["three_levels"],
    size: "256M",
  },
  // The rest.
  {
    name: "quota and project",
    mke2fs: ext4("dir_index"),
    sections: EXTENTS,
    finish: addQuota,
  },
  { name: "orphan_file", mke2fs: ext4("orphan_file"), sections: EXTENTS },
  { name: "fast_commit", mke2fs: ext4("fast_commit"), sections: EXTENTS },
  { name: "mmp", mke2fs: ext4("mmp"), sections: BASIC },
  { name: "no journal", mke2fs: ext4("^has_journal"), sections: EXTENTS },
  { name: "stable_inodes", mke2fs: ext4("stable_inodes"), sections: ["types"] },
  {
    name: "everything at once",
    mke2fs: ext4(
      "metadata_csum_seed,inline_data,ea_inode,large_dir,bigalloc,orphan_file,fast_commit,encrypt",
      ...["-C", "16384", "-I", "512"],
    ),
    sections: [...EXTENTS, "inline", "hashed", "encrypted"],
    prepare: (mountpoint) => encryptFolder(mountpoint, "encrypted", []),
    finish: addQuota,
  },
  {
    name: "encrypted folders, seen without their keys",
    mke2fs: ext4("encrypt,stable_inodes"),
    sections: ["encrypted"],
    prepare: (mountpoint) => encryptFolder(mountpoint, "encrypted", []),
  },
  {
    name: "encrypted folders on 1 KiB blocks, names padded to 4 bytes",
    mke2fs: ext4("encrypt", "-b", "1024"),
    sections: ["encrypted", "types"],
    prepare: (mountpoint) => encryptFolder(mountpoint, "encrypted", ["-f", "0"]),
  },
  {
    name: "encrypted folders with inline data and without checksums",
    mke2fs: ext4("encrypt,inline_data,^metadata_csum"),
    sections: ["encrypted"],
    prepare: (mountpoint) => encryptFolder(mountpoint, "encrypted", ["-f", "2"]),
  },
];
