/**
 * Each rule that only matters where something is about to change: an image that breaks exactly that
 * rule, and the call that has to notice before anything is lost.
 */
import { describe, expect, test } from "vitest";
import { Errno } from "../../../src/base/errno.ts";
import type { FsBlock, GroupIndex, InodeNumber } from "../../../src/base/numbers.ts";
import { MemoryDevice } from "../../../src/device/memory-device.ts";
import { freeBlocks } from "../../../src/ext4/alloc/blocks.ts";
import { InodeLayout } from "../../../src/ext4/format/inode.ts";
import { SuperblockLayout } from "../../../src/ext4/format/superblock.ts";
import { XattrBlockHeader } from "../../../src/ext4/format/xattr.ts";
import {
  type CorruptionRule,
  closeFilesystem,
  copyFileRange,
  createFile,
  FallocateMode,
  type Filesystem,
  fallocate,
  iomapForWrite,
  lookup,
  makeDirectory,
  newIomap,
  openWritableFilesystem,
  ROOT_INODE,
  release,
  removeXattr,
  seekHole,
  setSize,
  setXattr,
  unlink,
  writeFile,
} from "../../../src/ext4/index.ts";
import { image } from "../../support/images.ts";
import { bytesOf } from "../../support/library-view.ts";
import { Patient } from "../../support/patient.ts";

const FILE = "/folder/file";
const BIG = "/folder/big";
const CREDITS = 40;
/** Of an extent tree: the first entry, and in that where it leads. */
const FIRST_ENTRY = 12;
const EXTENT_START = FIRST_ENTRY + 8;
const INDEX_LEAF = FIRST_ENTRY + 4;
const JOURNAL = 8;
const SUPERBLOCK = 1024;
const { PUNCH_HOLE, KEEP_SIZE } = FallocateMode;

const corruption = (rule: CorruptionRule): unknown =>
  expect.objectContaining({ name: "CorruptionError", rule });
const owned = (mode: number) => ({ mode, uid: 0, gid: 0, umask: 0 });

/** The first block of the inode table. */
const tableOf = (patient: Patient): number =>
  patient.open().groups.descriptor(0 as GroupIndex).inodeTable;

interface Misled {
  readonly what: string;
  readonly image: string;
  /** Lets the map of a file lead to `block`. */
  readonly damage: (patient: Patient, block: number) => void;
  readonly path: string;
  /** Where in the file the call is to write. */
  readonly offset: number;
}

const MISLED: readonly Misled[] = [
  {
    what: "an extent",
    image: "no-checksums",
    damage: (patient, block) => patient.set32(patient.iBlock(BIG) + EXTENT_START, block),
    path: BIG,
    offset: 10,
  },
  {
    what: "a direct block",
    image: "ext2-1k",
    damage: (patient, block) => patient.set32(patient.iBlock(FILE), block),
    path: FILE,
    offset: 0,
  },
  {
    what: "a pointer in an indirect block",
    image: "ext2-1k",
    damage: (patient, block) => {
      const indirect = patient.view.getUint32(patient.iBlock("/folder/indirect") + 4 * 12, true);
      patient.set32(indirect * patient.blockSize, block);
    },
    path: "/folder/indirect",
    offset: 12 * 1024,
  },
  {
    what: "the pointer to an indirect block",
    image: "ext2-1k",
    damage: (patient, block) => patient.set32(patient.iBlock("/folder/indirect") + 4 * 12, block),
    path: "/folder/indirect",
    offset: 100 * 1024,
  },
  {
    what: "the index of an extent tree",
    image: "extent-depth",
    damage: (patient, block) => {
      // The node is a sound one, but lies in the inode table.
      const at = patient.iBlock("/pieces");
      const node = patient.view.getUint32(at + INDEX_LEAF, true) * patient.blockSize;
      const { blockSize } = patient;
      patient.bytes.copyWithin(block * blockSize, node, node + blockSize);
      patient.set32(at + INDEX_LEAF, block);
      patient.reseal("/pieces");
    },
    path: "/pieces",
    offset: 0,
  },
];

describe("a map that leads into the inode table", () => {
  test.each(MISLED)("is not written through: $what", ({ image: name, damage, path, offset }) => {
    const patient = new Patient(name);
    const inodes = patient.open().superblock.inodesPerGroup;
    const block = tableOf(patient) + Math.floor((inodes * 128) / patient.blockSize) - 1;
    damage(patient, block);
    const fs = patient.openWritable();
    const from = block * patient.blockSize;
    const before = patient.bytes.slice(from, from + patient.blockSize);
    const number = patient.number(path);
    const inode = fs.inode(number);
    const write = (): number => writeFile(fs, inode, offset, bytesOf("overwritten"));
    expect(write).toThrow(corruption("block-system"));
    const answer = (): unknown => iomapForWrite(fs, inode, offset, 1, newIomap());
    expect(answer).toThrow(corruption("block-system"));
    expect(() => setSize(fs, number, 0)).toThrow(corruption("block-system"));
    expect(patient.bytes.slice(from, from + patient.blockSize)).toEqual(before);
  });

  test("is not followed to the entries of a directory", () => {
    const patient = new Patient("ext2-1k");
    patient.set32(patient.iBlock("/folder"), tableOf(patient));
    const fs = patient.openWritable();
    const create = (): unknown =>
      createFile(fs, patient.number("/folder"), bytesOf("new"), owned(0o100644));
    expect(create).toThrow(corruption("block-system"));
  });

  test("is not followed to xattrs", () => {
    const patient = new Patient("no-checksums");
    const table = tableOf(patient);
    const fs = patient.openWritable();
    const number = patient.number(BIG);
    fs.transact(CREDITS, (tx) => {
      tx.edit(fs.inode(number)).xattrBlock = table as FsBlock;
      const { view } = tx.modify(fs.blocks.get(table as FsBlock));
      view.setUint32(XattrBlockHeader.magic, 0xea020000, true);
      view.setUint32(XattrBlockHeader.blocks, 1, true);
    });
    const set = (): void =>
      setXattr(fs, number, bytesOf("user.long"), new Uint8Array(500), { flags: 0 });
    expect(set).toThrow(corruption("block-system"));
  });

  test("is not shared by the next blocks of its cluster", () => {
    const patient = new Patient("bigalloc");
    const table = tableOf(patient);
    const fs = patient.openWritable();
    const { clusterBlocks } = fs.superblock;
    const { number } = createFile(fs, ROOT_INODE, bytesOf("victim"), owned(0o100644));
    const inode = fs.inode(number);
    writeFile(fs, inode, 0, bytesOf("first block"));
    const cluster = table - (table % clusterBlocks);
    const within = Math.max(1, table % clusterBlocks) * 1024;
    fs.transact(CREDITS, (tx) => {
      const view = new DataView(tx.edit(inode).iBlock.buffer, inode.iBlock.byteOffset);
      view.setUint32(EXTENT_START, cluster, true);
    });
    const write = (): number => writeFile(fs, inode, within, bytesOf("another block"));
    expect(write).toThrow(corruption("block-system"));
  });
});

describe("a node of an extent tree that is met in two places", () => {
  test("is refused by extent-order", () => {
    const patient = new Patient("extent-depth");
    const at = patient.iBlock("/pieces");
    const second = at + FIRST_ENTRY + 12;
    const leaf = patient.view.getUint32(at + INDEX_LEAF, true);
    patient.set16(at + 2, 2);
    patient.set32(second, 1000);
    patient.set32(second + 4, leaf);
    patient.set32(second + 8, 0);
    patient.reseal("/pieces");
    const fs = patient.openWritable();
    const inode = fs.inode(patient.number("/pieces"));
    const offset = 1000 * patient.blockSize;
    writeFile(fs, inode, 0, bytesOf("x"));
    const write = (): number => writeFile(fs, inode, offset, bytesOf("x"));
    expect(write).toThrow(corruption("extent-order"));
  });
});

describe("a triple indirect block whose pointers all lead back to it", () => {
  const PATH = "/folder/triple";
  const SIZE = 2 ** 34 - 1;
  const looped = (): { fs: Filesystem; number: InodeNumber } => {
    const patient = new Patient("ext2-1k");
    const block = patient.view.getUint32(patient.iBlock(PATH) + 4 * 14, true);
    for (let index = 0; index < patient.blockSize / 4; index++) {
      patient.set32(block * patient.blockSize + 4 * index, block);
    }
    const fs = patient.openWritable({ errors: "continue" });
    const number = patient.number(PATH);
    fs.transact(CREDITS, (tx) => {
      tx.edit(fs.inode(number)).sizeBytes = SIZE;
    });
    return { fs, number };
  };

  test("cannot be freed, and stays as it is", () => {
    const { fs, number } = looped();
    const { blocks512 } = fs.inode(number);
    expect(() => setSize(fs, number, 0)).toThrow(corruption("bitmap-free"));
    const punch = (): void => fallocate(fs, number, PUNCH_HOLE | KEEP_SIZE, 0, SIZE);
    expect(punch).toThrow(corruption("bitmap-free"));
    expect(fs.inode(number)).toMatchObject({ sizeBytes: SIZE, blocks512 });
  });

  test("is searched for holes, and written to, in little time", () => {
    const { fs, number } = looped();
    expect(seekHole(fs, fs.inode(number), 2 ** 30)).toBe(SIZE);
    expect(writeFile(fs, fs.inode(number), 2 ** 31, new Uint8Array(50_000))).toBe(50_000);
  });
});

describe("a journal", () => {
  // biome-ignore format: a table
  test.each([
    ["lies in the inode table", (patient: Patient, at: number) => patient.set32(at + 4, tableOf(patient))],
    ["has a block twice", (patient: Patient, at: number) => patient.bytes.copyWithin(at + 8, at + 4, at + 8)],
  ] as const)("that %s is not opened", (_, damage) => {
    const patient = new Patient("ext3-1k");
    damage(patient, patient.iBlockOf(JOURNAL as InodeNumber));
    const before = patient.bytes.slice();
    expect(() => patient.openWritable()).toThrow(corruption("journal-block"));
    expect(Buffer.compare(patient.bytes, before)).toBe(0);
  });
});

describe("an inode", () => {
  // biome-ignore format: a table
  test.each([
    ["orphan-file", "orphanFileInum"],
    ["quota-project", "prjQuotaInum"],
    ["quota-project", "usrQuotaInum"],
  ] as const)("of %s that is the filesystem's own is nobody else's: %s", (name, field) => {
    const patient = new Patient(name);
    const number = patient.view.getUint32(SUPERBLOCK + SuperblockLayout[field], true);
    const fs = patient.openWritable();
    expect(() => fs.inode(number as InodeNumber)).toThrow(corruption("inode-number"));
  });

  test("without links is not in use, unless it is an orphan", () => {
    const fs = openWritableFilesystem(new MemoryDevice(image("no-checksums")));
    const { number } = createFile(fs, ROOT_INODE, bytesOf("a"), owned(0o100644));
    unlink(fs, ROOT_INODE, bytesOf("a"));
    expect(fs.inode(number).linkCount).toBe(0);
    release(fs, number);
    const stale = expect.objectContaining({ errno: Errno.ESTALE });
    expect(() => fs.inode(number)).toThrow(stale);
    expect(() => setSize(fs, number, 0)).toThrow(stale);
  });

  test("that counts fewer blocks than it has never counts less than none", () => {
    const fs = openWritableFilesystem(new MemoryDevice(image("no-checksums")));
    const inode = createFile(fs, ROOT_INODE, bytesOf("a"), owned(0o100644));
    writeFile(fs, inode, 0, new Uint8Array(5000));
    fs.transact(CREDITS, (tx) => {
      tx.edit(inode).blocks512 = 2;
    });
    setSize(fs, inode.number, 0);
    expect(inode.blocks512).toBe(0);
  });
});

describe("allocation", () => {
  test("takes no inode where the count of free ones is wrong: bitmap-count", () => {
    const told: string[] = [];
    const fs = openWritableFilesystem(new MemoryDevice(image("no-checksums")), {
      errors: "continue",
      onDamage: ({ rule }) => told.push(rule),
    });
    fs.groups.descriptor(0 as GroupIndex).freeInodes -= 1;
    const create = (): unknown => createFile(fs, ROOT_INODE, bytesOf("a"), owned(0o100644));
    expect(create).toThrow("no inode is free");
    expect(told).toEqual(["bitmap-count"]);
  });

  test("of a block that waits to be written is refused by bitmap-used, and undone", () => {
    const fs = openWritableFilesystem(new MemoryDevice(image("no-checksums")));
    const directory = makeDirectory(fs, ROOT_INODE, bytesOf("folder2"), owned(0o755));
    const addr = iomapOf(fs, directory.number);
    const before = fs.blocks.get(addr).bytes.slice();
    const create = (): void => fs.transact(CREDITS, (tx) => void tx.create(addr));
    expect(create).toThrow(corruption("bitmap-used"));
    expect(fs.blocks.get(addr).bytes).toEqual(before);
  });

  test("never frees a cluster that holds anything of the filesystem's own", () => {
    const fs = openWritableFilesystem(new MemoryDevice(image("bigalloc")));
    const last = (fs.superblock.clusterBlocks - 1) as FsBlock;
    const free = (): void => fs.transact(CREDITS, (tx) => freeBlocks(fs, tx, last, 1, false));
    expect(free).toThrow(corruption("block-system"));
  });
});

/** The first block of a directory. */
function iomapOf(fs: Filesystem, number: InodeNumber): FsBlock {
  const { iBlock } = fs.inode(number);
  return new DataView(iBlock.buffer, iBlock.byteOffset).getUint32(EXTENT_START, true) as FsBlock;
}

describe("references that are not counted", () => {
  test("keep an xattr block, by xattr-references", () => {
    const fs = openWritableFilesystem(new MemoryDevice(image("no-checksums")));
    const inode = createFile(fs, ROOT_INODE, bytesOf("a"), owned(0o100644));
    setXattr(fs, inode.number, bytesOf("user.long"), new Uint8Array(500).fill(1), { flags: 0 });
    const block = fs.blocks.get(inode.xattrBlock);
    fs.transact(CREDITS, (tx) => {
      tx.modify(block).view.setUint32(XattrBlockHeader.refcount, 0, true);
    });
    const remove = (): void => removeXattr(fs, inode.number, bytesOf("user.long"));
    expect(remove).toThrow(corruption("xattr-references"));
    expect(inode.xattrBlock).toBe(block.number);
  });

  test("keep an inode that holds a value, by xattr-references", () => {
    const patient = new Patient("ea-inode");
    const fs = patient.openWritable();
    const { number } = createFile(fs, ROOT_INODE, bytesOf("a"), owned(0o100644));
    setXattr(fs, number, bytesOf("user.big"), new Uint8Array(5000).fill(1), { flags: 0 });
    const holder = [...fs.inodes.changed].find((each) => each.sizeBytes === 5000);
    fs.transact(CREDITS, (tx) => {
      const { raw } = tx.edit(holder as NonNullable<typeof holder>);
      raw.setUint32(InodeLayout.version, 0, true);
    });
    const remove = (): void => removeXattr(fs, number, bytesOf("user.big"));
    expect(remove).toThrow(corruption("xattr-references"));
  });
});

describe("closeFilesystem", () => {
  test("leaves an orphan that cannot be freed to e2fsck, and keeps everything else", () => {
    const patient = new Patient("ext2-1k");
    patient.set32(patient.iBlock(FILE), tableOf(patient));
    const fs = patient.openWritable({ errors: "continue" });
    createFile(fs, ROOT_INODE, bytesOf("kept"), owned(0o100644));
    const folder = patient.number("/folder");
    for (const name of ["file", "hard-link"]) unlink(fs, folder, bytesOf(name));
    closeFilesystem(fs);
    const again = patient.open();
    expect(again.inode(lookup(again, ROOT_INODE, bytesOf("kept")) as InodeNumber).linkCount).toBe(
      1,
    );
    const state = patient.view.getUint16(SUPERBLOCK + SuperblockLayout.state, true);
    expect(state & 2, "EXT4_ERROR_FS").toBe(2);
  });
});

describe("copyFileRange", () => {
  test("ends where no call of the kernel would go on", () => {
    const fs = openWritableFilesystem(new MemoryDevice(image("no-checksums")));
    const [from, to] = ["a", "b"].map(
      (name) => createFile(fs, ROOT_INODE, bytesOf(name), owned(0o100644)).number,
    ) as [InodeNumber, InodeNumber];
    setSize(fs, from, 2 ** 32);
    expect(copyFileRange(fs, from, 0, to, 0, 2 ** 32)).toBe(0x7fff_f000);
  });
});
