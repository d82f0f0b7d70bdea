/** Flags, projects and versions of inodes, and the name of a filesystem: as e2fsprogs sees them. */
import { describe, expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import type { InodeNumber } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import { SuperblockLayout as S } from "../../src/ext4/format/superblock.ts";
import {
  closeFilesystem,
  InodeFlags as F,
  type Filesystem,
  openWritableFilesystem,
  setFlags,
  setGeneration,
  setLabel,
  setProject,
  setUuid,
} from "../../src/ext4/index.ts";
import { expectation, image } from "../support/images.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { askDebugfs, complaintsAbout, freshImage } from "../support/writable-image.ts";

const NODUMP_XFLAG = 0x80;
const IMMUTABLE_XFLAG = 0x8;

/** A golden image, open for writing. */
class Opened {
  readonly bytes: Uint8Array;
  readonly fs: Filesystem;
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
    this.bytes = image(name);
    this.fs = openWritableFilesystem(new MemoryDevice(this.bytes));
  }
  number(path: string): InodeNumber {
    return expectation(this.#name).paths[path] as InodeNumber;
  }
  flags(path: string): number {
    return this.fs.inode(this.number(path)).flags;
  }
  /** The error number of what `action` throws. */
  static errno(action: () => void): number {
    try {
      action();
    } catch (error) {
      return (error as { errno: number }).errno;
    }
    return 0;
  }
  /** Closes it; what debugfs shows of `path` then. */
  close(path: string): string {
    closeFilesystem(this.fs);
    expect(complaintsAbout(this.bytes)).toBe("");
    return askDebugfs(this.bytes, `stat <${this.number(path)}>`);
  }
}

const skip = skipBecause("file attributes", whyNoE2fsprogs());
const { errno } = Opened;

describe.skipIf(skip)("setFlags", () => {
  test("sets what programs may change and keeps the rest", () => {
    const opened = new Opened("ext4-4k");
    const number = opened.number("/folder/big");
    setFlags(opened.fs, number, F.EXTENTS | F.NODUMP | F.NOATIME | F.INDEX | F.INLINE_DATA);
    expect(opened.flags("/folder/big")).toBe(F.EXTENTS | F.NODUMP | F.NOATIME);
    expect(opened.close("/folder/big")).toContain("Flags: 0x800c0");
  });

  test("refuses flags of other types of files, and unknown ones", () => {
    const opened = new Opened("ext4-4k");
    const refused = (path: string, flags: number): number =>
      errno(() => setFlags(opened.fs, opened.number(path), flags));
    expect(refused("/folder/big", F.EXTENTS | F.DIRSYNC)).toBe(Errno.EOPNOTSUPP);
    expect(refused("/folder/big", F.EXTENTS | F.CASEFOLD)).toBe(Errno.EOPNOTSUPP);
    expect(refused("/folder/fifo", F.SYNC)).toBe(Errno.EOPNOTSUPP);
    expect(refused("/folder/fifo", F.NODUMP)).toBe(0);
    expect(refused("/folder/big", F.EXTENTS | F.HUGE_FILE)).toBe(Errno.EOPNOTSUPP);
    expect(refused("/folder", F.EXTENTS | F.DIRSYNC | F.TOPDIR)).toBe(0);
    expect(opened.close("/folder")).toContain("Flags: 0xb0000");
  });

  test("lets nothing else change on an immutable inode", () => {
    const opened = new Opened("ext4-4k");
    const set = (flags: number): number =>
      errno(() => setFlags(opened.fs, opened.number("/folder/big"), F.EXTENTS | flags));
    expect(set(F.IMMUTABLE)).toBe(0);
    expect(set(F.IMMUTABLE)).toBe(0);
    expect(set(F.IMMUTABLE | F.NODUMP)).toBe(Errno.EPERM);
    expect(set(F.NODUMP)).toBe(0);
  });

  test("changes CASEFOLD on empty directories of filesystems that have it", () => {
    const opened = new Opened("casefold");
    const root = 2 as InodeNumber;
    const { flags } = opened.fs.inode(root);
    const toggled = (number: InodeNumber): number =>
      errno(() => setFlags(opened.fs, number, opened.fs.inode(number).flags ^ F.CASEFOLD));
    expect(toggled(root)).toBe(Errno.ENOTEMPTY);
    expect(opened.fs.inode(root).flags).toBe(flags);
    expect(toggled(opened.number("/lost+found"))).toBe(0);
    expect(opened.close("/lost+found")).toContain("0x400");
  });
});

describe.skipIf(skip)("setProject", () => {
  test("sets the project and the flags that fsx_xflags knows", () => {
    const opened = new Opened("quota-project");
    const path = Object.keys(expectation("quota-project").paths).find(
      (each) => opened.fs.inode(opened.number(each)).isRegular,
    ) as string;
    const number = opened.number(path);
    setProject(opened.fs, number, 77, NODUMP_XFLAG);
    expect(opened.fs.inode(number).projectId).toBe(77);
    expect(errno(() => setProject(opened.fs, number, 0xffff_ffff, 0))).toBe(Errno.EINVAL);
    expect(errno(() => setProject(opened.fs, number, 77, 0x4))).toBe(Errno.EOPNOTSUPP);
    expect(errno(() => setProject(opened.fs, number, 77, 0x1000))).toBe(Errno.EINVAL);
    setProject(opened.fs, number, 77, IMMUTABLE_XFLAG);
    expect(errno(() => setProject(opened.fs, number, 78, IMMUTABLE_XFLAG))).toBe(Errno.EPERM);
    const shown = opened.close(path);
    expect(shown).toMatch(/Project: +77/);
    expect(shown).toContain("Flags: 0x80010");
  });

  test("refuses projects where the filesystem has none", () => {
    const opened = new Opened("ext4-4k");
    const number = opened.number("/folder/big");
    expect(errno(() => setProject(opened.fs, number, 5, 0))).toBe(Errno.EOPNOTSUPP);
    expect(errno(() => setProject(opened.fs, number, 0, NODUMP_XFLAG))).toBe(0);
  });
});

describe.skipIf(skip)("setGeneration", () => {
  test("works where no checksum depends on it", () => {
    const without = new Opened("gdt-csum");
    setGeneration(without.fs, 11 as InodeNumber, 0x1234_5678);
    expect(without.close("/lost+found")).toContain("Generation: 305419896");
    const opened = new Opened("ext4-4k");
    expect(errno(() => setGeneration(opened.fs, 11 as InodeNumber, 1))).toBe(Errno.ENOTTY);
  });
});

describe.skipIf(skip)("setLabel and setUuid", () => {
  const uuid = Uint8Array.from({ length: 16 }, (_, index) => 0x11 * index);
  const text = "00112233-4455-6677-8899-aabbccddeeff";

  test("change the superblock and its copies", () => {
    const bytes = freshImage("64M", ["-b", "1024", "-O", "metadata_csum,metadata_csum_seed"]);
    const fs = openWritableFilesystem(new MemoryDevice(bytes));
    setLabel(fs, new TextEncoder().encode("sixteen letters!"));
    setUuid(fs, uuid);
    closeFilesystem(fs);
    expect(complaintsAbout(bytes)).toBe("");
    expect(askDebugfs(bytes, "stats -h")).toContain(text);
    const copy = bytes.subarray(8193 * 1024);
    const label = copy.subarray(S.volumeName, S.volumeName + 16);
    expect(new TextDecoder().decode(label)).toBe("sixteen letters!");
    expect(copy.slice(S.uuid, S.uuid + 16)).toEqual(uuid);
  });

  test("refuse what is too long, and a UUID that checksums depend on", () => {
    const { fs } = new Opened("ext4-4k");
    expect(errno(() => setLabel(fs, new Uint8Array(17)))).toBe(Errno.EINVAL);
    expect(errno(() => setUuid(fs, new Uint8Array(15)))).toBe(Errno.EINVAL);
    expect(errno(() => setUuid(fs, uuid))).toBe(Errno.EOPNOTSUPP);
  });
});
