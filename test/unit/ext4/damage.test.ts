/**
 * Each rule of the format that `src/ext4` checks outside of directories and journals: an image that
 * breaks exactly that rule, and the call that has to notice. Directories and the journal have such
 * tests beside their own.
 */
import { describe, expect, test } from "vitest";
import type { GroupIndex, InodeNumber } from "../../../src/base/numbers.ts";
import { MemoryDevice } from "../../../src/device/memory-device.ts";
import { GroupDescriptorLayout } from "../../../src/ext4/format/group-descriptor.ts";
import { InodeLayout } from "../../../src/ext4/format/inode.ts";
import { MmpLayout } from "../../../src/ext4/format/mmp.ts";
import { SuperblockLayout as S } from "../../../src/ext4/format/superblock.ts";
import {
  type CorruptionRule,
  type Filesystem,
  getXattr,
  loadBlockBitmap,
  lookup,
  openFilesystem,
  ROOT_INODE,
  readFile,
  readLink,
} from "../../../src/ext4/index.ts";
import { Patient } from "../../support/patient.ts";

const SUPERBLOCK = 1024;

const readAll = (path: string) => (patient: Patient, fs: Filesystem) => {
  const inode = fs.inode(patient.number(path));
  readFile(fs, inode, 0, new Uint8Array(Math.min(inode.sizeBytes, 1 << 20)));
};
const stat = (path: string) => (patient: Patient, fs: Filesystem) => fs.inode(patient.number(path));
const link = (path: string) => (patient: Patient, fs: Filesystem) =>
  readLink(fs, patient.number(path));
const xattr = (path: string, name: string) => (patient: Patient, fs: Filesystem) =>
  getXattr(fs, patient.number(path), ascii(name));
const open = (): void => {};

const ascii = (text: string): Uint8Array =>
  Uint8Array.from(text, (character) => character.charCodeAt(0));

interface Case {
  readonly rule: CorruptionRule;
  readonly what: string;
  readonly image: string;
  readonly damage: (patient: Patient) => void;
  readonly notice: (patient: Patient, fs: Filesystem) => unknown;
}

const BIG = "/folder/big";
const FILE = "/folder/file";
const EXTENT_MAGIC = 0;
const EXTENT_ENTRIES = 2;
const EXTENT_DEPTH = 6;
const FIRST_EXTENT = 12;

const cases: Case[] = [
  {
    rule: "superblock-magic",
    what: "another magic number",
    image: "no-checksums",
    damage: (p) => p.set16(SUPERBLOCK + S.magic, 0x1234),
    notice: open,
  },
  {
    rule: "superblock-checksum",
    what: "a changed label",
    image: "ext4-4k",
    damage: (p) => p.flip(SUPERBLOCK + S.volumeName),
    notice: open,
  },
  {
    rule: "superblock-size",
    what: "more blocks than the device has",
    image: "no-checksums",
    damage: (p) => p.set32(SUPERBLOCK + S.blocksCountLo, 0x7fffffff),
    notice: open,
  },
  ...(
    [
      ["blocks of 2^60 bytes", S.logBlockSize, 50],
      ["no blocks in a group", S.blocksPerGroup, 0],
      ["no inodes in a group", S.inodesPerGroup, 0],
      ["more inodes than the groups hold", S.inodesCount, 0x7fffffff],
      ["a first data block behind the end", S.firstDataBlock, 0x7fffffff],
      ["a first inode among the reserved", S.firstIno, 3],
    ] as const
  ).map(
    ([what, at, value]): Case => ({
      rule: "superblock-geometry",
      what,
      image: "no-checksums",
      damage: (p) => p.set32(SUPERBLOCK + at, value),
      notice: open,
    }),
  ),
  {
    rule: "superblock-geometry",
    what: "inodes of 100 bytes",
    image: "no-checksums",
    damage: (p) => p.set16(SUPERBLOCK + S.inodeSize, 100),
    notice: open,
  },
  {
    rule: "superblock-geometry",
    what: "wide descriptors of 32 bytes",
    image: "no-checksums",
    damage: (p) => {
      p.set32(
        SUPERBLOCK + S.featureIncompat,
        p.view.getUint32(SUPERBLOCK + S.featureIncompat, true) | 0x80,
      );
      p.set16(SUPERBLOCK + S.descSize, 32);
    },
    notice: open,
  },
  {
    rule: "descriptor-checksum",
    what: "a changed count (crc32c)",
    image: "ext4-4k",
    damage: (p) => p.flip(p.descriptor + GroupDescriptorLayout.freeInodesCountLo),
    notice: stat(FILE),
  },
  {
    rule: "descriptor-checksum",
    what: "a changed count (crc16)",
    image: "gdt-csum",
    damage: (p) => p.flip(p.descriptor + GroupDescriptorLayout.freeInodesCountLo),
    notice: stat(FILE),
  },
  {
    rule: "descriptor-location",
    what: "an inode table behind the end",
    image: "no-checksums",
    damage: (p) => p.set32(p.descriptor + GroupDescriptorLayout.inodeTableLo, 0x7fffffff),
    notice: stat(FILE),
  },
  {
    rule: "inode-number",
    what: "an inode that the filesystem keeps for itself",
    image: "no-checksums",
    damage: () => {},
    notice: (_, fs) => fs.inode(5 as InodeNumber),
  },
  {
    rule: "inode-number",
    what: "an inode behind the last",
    image: "no-checksums",
    damage: () => {},
    notice: (_, fs) => fs.inode(0x7fffffff as InodeNumber),
  },
  {
    rule: "inode-checksum",
    what: "a changed size",
    image: "ext4-4k",
    damage: (p) => p.flip(p.inode(FILE) + InodeLayout.sizeLo),
    notice: stat(FILE),
  },
  {
    rule: "inode-checksum",
    what: "a changed size in a 128-byte inode",
    image: "inode-128",
    damage: (p) => p.flip(p.inode(FILE) + InodeLayout.sizeLo),
    notice: stat(FILE),
  },
  {
    rule: "inode-size",
    what: "extra fields longer than the inode",
    image: "no-checksums",
    damage: (p) => p.set16(p.inode(FILE) + InodeLayout.extraIsize, 400),
    notice: stat(FILE),
  },
  {
    rule: "inode-size",
    what: "a size above 2^53",
    image: "no-checksums",
    damage: (p) => p.set32(p.inode(FILE) + InodeLayout.sizeHigh, 0x7fffffff),
    notice: stat(FILE),
  },
  {
    rule: "inode-mode",
    what: "an unknown type",
    image: "no-checksums",
    damage: (p) => p.set16(p.inode(FILE) + InodeLayout.mode, 0o170644),
    notice: stat(FILE),
  },
  {
    rule: "extent-magic",
    what: "another magic number in the root",
    image: "no-checksums",
    damage: (p) => p.set16(p.iBlock(BIG) + EXTENT_MAGIC, 0x1234),
    notice: readAll(BIG),
  },
  {
    rule: "extent-depth",
    what: "a depth of 6",
    image: "no-checksums",
    damage: (p) => p.set16(p.iBlock(BIG) + EXTENT_DEPTH, 6),
    notice: readAll(BIG),
  },
  {
    rule: "extent-count",
    what: "more entries than there is room for",
    image: "no-checksums",
    damage: (p) => p.set16(p.iBlock(BIG) + EXTENT_ENTRIES, 5),
    notice: readAll(BIG),
  },
  {
    rule: "extent-order",
    what: "an extent of no blocks",
    image: "no-checksums",
    damage: (p) => p.set16(p.iBlock(BIG) + FIRST_EXTENT + 4, 0),
    notice: readAll(BIG),
  },
  {
    rule: "extent-range",
    what: "an extent behind the end of the device",
    image: "no-checksums",
    damage: (p) => p.set32(p.iBlock(BIG) + FIRST_EXTENT + 8, 0x7fffffff),
    notice: readAll(BIG),
  },
  {
    rule: "extent-depth",
    what: "an index that leads back to a node above it",
    image: "no-checksums",
    damage: (p) => {
      // The root becomes an index of depth 2 whose only child claims depth 1 and is its own child.
      const node = p.blockOf(BIG);
      for (const [at, depth] of [
        [p.iBlock(BIG), 2],
        [node, 1],
      ] as const) {
        p.set16(at, 0xf30a);
        p.set16(at + EXTENT_ENTRIES, 1);
        p.set16(at + 4, 4);
        p.set16(at + EXTENT_DEPTH, depth);
        p.set32(at + FIRST_EXTENT, 0);
        p.set32(at + FIRST_EXTENT + 4, node / p.blockSize);
        p.set32(at + FIRST_EXTENT + 8, 0);
      }
    },
    notice: readAll(BIG),
  },
  {
    rule: "block-range",
    what: "a direct block behind the end",
    image: "ext2-1k",
    damage: (p) => p.set32(p.iBlock(BIG), 0x7fffffff),
    notice: readAll(BIG),
  },
  {
    rule: "block-range",
    what: "an indirect block behind the end",
    image: "no-extents",
    damage: (p) => {
      p.set32(p.iBlock("/folder/double") + 4 * 13, 0x7fffffff);
      p.reseal("/folder/double");
    },
    notice: readAll("/folder/double"),
  },
  {
    rule: "symlink-length",
    what: "a short target with a zero byte",
    image: "no-checksums",
    damage: (p) => p.view.setUint8(p.iBlock("/folder/fast") + 2, 0),
    notice: link("/folder/fast"),
  },
  {
    rule: "symlink-length",
    what: "a target as long as its block",
    image: "no-checksums",
    damage: (p) => p.set32(p.inode("/folder/slow") + InodeLayout.sizeLo, p.blockSize),
    notice: link("/folder/slow"),
  },
  {
    rule: "xattr-entry",
    what: "a name that runs over the end of the inode",
    image: "no-checksums",
    damage: (p) => p.view.setUint8(firstXattr(p, FILE), 255),
    notice: xattr(FILE, "user.one"),
  },
  {
    rule: "xattr-value",
    what: "a value that runs over the end of the inode",
    image: "no-checksums",
    damage: (p) => p.set32(firstXattr(p, FILE) + 8, 4096),
    notice: xattr(FILE, "user.one"),
  },
  {
    rule: "xattr-value",
    what: "a value that lies over the entries",
    image: "no-checksums",
    damage: (p) => p.set16(firstXattr(p, FILE) + 2, 0),
    notice: xattr(FILE, "user.one"),
  },
  {
    rule: "xattr-magic",
    what: "another magic number in the block",
    image: "no-checksums",
    damage: (p) => p.flip(p.xattrBlock(BIG)),
    notice: xattr(BIG, "user.value"),
  },
  {
    rule: "xattr-checksum",
    what: "a changed value in the block",
    image: "ext4-4k",
    damage: (p) => p.flip(p.xattrBlock(BIG) + p.blockSize - 4),
    notice: xattr(BIG, "user.value"),
  },
  {
    rule: "extent-checksum",
    what: "a changed generation in a node",
    image: "extent-depth",
    damage: (p) => {
      const node = p.view.getUint32(p.iBlock("/pieces") + FIRST_EXTENT + 4, true);
      p.flip(node * p.blockSize + 8);
    },
    notice: readAll("/pieces"),
  },
  {
    rule: "inline-data",
    what: "a size above what the inode holds",
    image: "inline-data",
    damage: (p) => {
      p.set32(p.inode("/b60") + InodeLayout.sizeLo, 100);
      p.reseal("/b60");
    },
    notice: readAll("/b60"),
  },
  {
    rule: "xattr-inode",
    what: "a changed value in an inode of its own",
    image: "ea-inode",
    damage: (p) => {
      const holder = p.view.getUint32(firstXattr(p, "/one") + 4, true);
      p.flip(p.blockOfInode(holder as InodeNumber));
    },
    notice: xattr("/one", "user.large"),
  },
  {
    rule: "bitmap-checksum",
    what: "a changed bit",
    image: "ext4-4k",
    damage: (p) => {
      const bitmap = p.view.getUint32(p.descriptor + GroupDescriptorLayout.blockBitmapLo, true);
      p.flip(bitmap * p.blockSize);
    },
    notice: (_, fs) => loadBlockBitmap(fs, 0 as GroupIndex),
  },
];

/** Byte offset of the first in-inode xattr entry. */
function firstXattr(patient: Patient, path: string): number {
  const inode = patient.inode(path);
  const extra = patient.view.getUint16(inode + InodeLayout.extraIsize, true);
  return inode + 128 + extra + 4;
}

describe("a damaged image", () => {
  test.each(cases)("is refused by $rule: $what ($image)", ({ rule, image, damage, notice }) => {
    const patient = new Patient(image);
    damage(patient);
    const act = (): void => {
      notice(patient, patient.open());
    };
    expect(act).toThrow(expect.objectContaining({ name: "CorruptionError", rule }));
  });

  test("in one inode leaves the others readable", () => {
    const patient = new Patient("ext4-4k");
    patient.flip(patient.inode(FILE) + InodeLayout.sizeLo);
    const fs = patient.open();
    expect(() => fs.inode(patient.number(FILE))).toThrow("inode-checksum");
    expect(fs.inode(patient.number(BIG)).sizeBytes).toBe(9000);
    expect(lookup(fs, ROOT_INODE, ascii("folder"))).toBe(patient.number("/folder"));
  });
});

describe("multiple mount protection", () => {
  const warningsOf = (damage: (patient: Patient, mmp: number) => void): string[] => {
    const patient = new Patient("mmp");
    const mmp = patient.view.getUint32(SUPERBLOCK + S.mmpBlockLo, true) * patient.blockSize;
    damage(patient, mmp);
    const warnings: string[] = [];
    openFilesystem(new MemoryDevice(patient.bytes), { onWarning: (line) => warnings.push(line) });
    return warnings;
  };

  test("says nothing of a filesystem that was unmounted", () => {
    expect(warningsOf(() => {})).toEqual([]);
  });
  test("warns of a changed block by rule", () => {
    expect(warningsOf((p, mmp) => p.flip(mmp))).toEqual([expect.stringContaining("mmp-magic")]);
    expect(warningsOf((p, mmp) => p.flip(mmp + MmpLayout.nodename))).toEqual([
      expect.stringContaining("mmp-checksum"),
    ]);
  });
});

describe("unknown features", () => {
  test("an unknown INCOMPAT bit is refused by name", () => {
    const patient = new Patient("no-checksums");
    patient.set32(SUPERBLOCK + S.featureIncompat, 0x80001002);
    expect(() => patient.open()).toThrow("unsupported features: dirdata, FEATURE_I31");
  });
  test("an unknown RO_COMPAT bit does not prevent reading", () => {
    const patient = new Patient("no-checksums");
    const at = SUPERBLOCK + S.featureRoCompat;
    patient.set32(at, patient.view.getUint32(at, true) | 0x40000000);
    expect(lookup(patient.open(), ROOT_INODE, ascii("folder"))).toBe(patient.number("/folder"));
  });
});
