/** Damaged records of orphans: each ends a mount, or is reported and passed over. */
import { describe, expect, test } from "vitest";
import { MemoryDevice } from "../../../src/device/memory-device.ts";
import { SUPERBLOCK_OFFSET, SuperblockLayout } from "../../../src/ext4/format/superblock.ts";
import {
  type CorruptionError,
  type CorruptionRule,
  closeFilesystem,
  iomapForRead,
  newIomap,
  openFilesystem,
  openWritableFilesystem,
} from "../../../src/ext4/index.ts";
import { PatchedImage } from "./dir/patched-image.ts";

/** The golden image with an orphan file, and where that lies. */
class OrphanImage extends PatchedImage {
  readonly fileNumber: number;
  readonly fileAt: number;

  constructor() {
    super("orphan-file");
    const fs = openFilesystem(new MemoryDevice(this.bytes.slice()));
    this.fileNumber = fs.superblock.orphanFileInode;
    this.fileAt = iomapForRead(fs, fs.internalInode(this.fileNumber), 0, 1, newIomap()).addr;
  }
  setSuperblock(field: "lastOrphan" | "orphanFileInum", value: number): void {
    this.set32(SUPERBLOCK_OFFSET + SuperblockLayout[field], value);
    this.sealSuperblock();
  }
}

describe("openWritableFilesystem", () => {
  // biome-ignore format: a table
  test.each<[CorruptionRule, (image: OrphanImage) => void]>([
    ["orphan-magic", (image) => image.set8(image.fileAt + image.blockSize - 8, 0)],
    ["orphan-checksum", (image) => image.set8(image.fileAt, 13)],
    ["orphan-file", (image) => image.setSuperblock("orphanFileInum", 2)],
  ])("refuses an orphan file with a wrong %s", (rule, damage) => {
    const image = new OrphanImage();
    damage(image);
    const open = () => openWritableFilesystem(new MemoryDevice(image.bytes));
    expect(open).toThrow(expect.objectContaining({ rule }));
  });

  test.each([1, 8, 0xffff_ffff, 60])("passes over a list that begins with inode %i", (first) => {
    const image = new OrphanImage();
    image.setSuperblock("lastOrphan", first);
    const damage: CorruptionError[] = [];
    const fs = openWritableFilesystem(new MemoryDevice(image.bytes), {
      errors: "continue",
      onDamage: (error) => damage.push(error),
    });
    expect(damage).toMatchObject([{ rule: "orphan-inode", place: { inode: first } }]);
    closeFilesystem(fs);
    const at = SUPERBLOCK_OFFSET + SuperblockLayout.lastOrphan;
    expect(image.view.getUint32(at, true)).toBe(0);
  });

  test("mounts what it may not write to any more when the list is damaged", () => {
    const image = new OrphanImage();
    image.setSuperblock("lastOrphan", 8);
    const fs = openWritableFilesystem(new MemoryDevice(image.bytes), { errors: "remount-ro" });
    expect(() => fs.transact(1, () => {})).toThrow("read-only");
    closeFilesystem(fs);
  });
});
