/** The structs against what is known of them from fuse_kernel.h. */
import { expect, test } from "vitest";
import { allLayouts, type Layout } from "../../src/base/layout.ts";
import * as abi from "../../src/fuse/abi.ts";
import "../../src/fuse/index.ts";

const isOfTheWire = ({ name }: Layout): boolean =>
  /^(fuse_|fsxattr|fsuuid2|fstrim_range|int$)/.test(name);
const layouts = [...allLayouts()].filter(isOfTheWire);

// biome-ignore format: a table
const SIZES: Record<string, number> = {
  fuse_in_header: 40, fuse_out_header: 16, fuse_attr: 88, fuse_entry_out: 128, fuse_attr_out: 104,
  fuse_getattr_in: 16, fuse_sx_time: 16, fuse_statx: 256, fuse_statx_in: 24, fuse_statx_out: 288,
  fuse_forget_in: 8, fuse_batch_forget_in: 8, fuse_open_in: 8, fuse_open_out: 16, fuse_read_in: 40,
  fuse_dirent: 24, fuse_direntplus: 152, fuse_getxattr_in: 8, fuse_getxattr_out: 8,
  fuse_kstatfs: 80, fuse_lseek_in: 24, fuse_lseek_out: 8, fuse_bmap_in: 16, fuse_bmap_out: 8,
  fuse_ioctl_in: 32, fuse_ioctl_out: 16, fuse_init_in: 64, fuse_init_out: 64, fsxattr: 28,
  fsuuid2: 1, int: 4, fstrim_range: 24, fuse_setattr_in: 88, fuse_mknod_in: 16, fuse_mkdir_in: 8,
  fuse_create_in: 16, fuse_link_in: 8, fuse_rename_in: 8, fuse_rename2_in: 16, fuse_forget_one: 16,
  fuse_write_in: 40, fuse_write_out: 8, fuse_fsync_in: 16, fuse_fallocate_in: 32,
  fuse_copy_file_range_in: 56, fuse_copy_file_range_out: 8, fuse_setxattr_in: 16,
  fuse_setxattr_in_compat: 8,
  // Of the patch series: docs/iomap.md.
  fuse_iomap_io: 32, fuse_iomap_begin_in: 32, fuse_iomap_begin_out: 64, fuse_iomap_end_in: 72,
  fuse_iomap_ioend_in: 48, fuse_iomap_ioend_out: 8, fuse_iomap_config_in: 64,
  fuse_iomap_config_out: 100, fuse_freezefs_in: 8, fuse_shutdownfs_in: 8, fuse_range: 16,
  fuse_iomap_dev_inval_out: 24, fuse_iomap_inval_mappings_out: 48,
  fuse_iomap_upsert_mappings_out: 80,
};

test("every struct of the wire has the size that the kernel's header gives it", () => {
  expect(Object.fromEntries(layouts.map(({ name, size }) => [name, size]))).toEqual(SIZES);
});

test.each(layouts)("$name: fields touch each other and fill the struct", (struct) => {
  let end = 0;
  for (const field of struct.fields.toSorted((a, b) => a.at - b.at)) {
    expect(field.at, field.name).toBe(end);
    end = field.at + field.width;
  }
  expect(end).toBe(struct.name === "fuse_in_header" ? 40 : struct.size);
});

test("opcodeName names every opcode, and numbers the others", () => {
  expect(abi.opcodeName(abi.Opcode.COPY_FILE_RANGE_64)).toBe("COPY_FILE_RANGE_64");
  expect(abi.opcodeName(999)).toBe("opcode 999");
});
