/** Quota files that break a rule of their format are refused: when opening, or when that is met. */
import { expect, test } from "vitest";
import { MemoryDevice } from "../../../../src/device/memory-device.ts";
import {
  QUOTA_BLOCK_SIZE,
  QUOTA_ROOT,
  QuotaBlockHeader,
  QuotaEntry,
  QuotaHeader,
  quotaEntryAt,
  quotaPointerAt,
} from "../../../../src/ext4/format/quota.ts";
import {
  type Filesystem,
  openFilesystem,
  openWritableFilesystem,
  ROOT_INODE,
  setAttributes,
} from "../../../../src/ext4/index.ts";
import { iomapForRead, newIomap } from "../../../../src/ext4/map/iomap.ts";
import { image } from "../../../support/images.ts";

/** The quota file for users. @see ext4/special_inodes.rst */
const USER_QUOTA_INODE = 3;
const NEW_USER = 99;

/** An image whose quota file can be changed before it is opened. */
class Patient {
  readonly #bytes = image("quota-project");
  readonly #sound = openFilesystem(new MemoryDevice(image("quota-project")));

  /** The word at byte `at` of block `block` of the quota file. */
  word(block: number, at: number): number {
    return this.#view.getUint32(this.#place(block, at), true);
  }
  setWord(block: number, at: number, value: number): void {
    this.#view.setUint32(this.#place(block, at), value, true);
  }
  open(): Filesystem {
    return openWritableFilesystem(new MemoryDevice(this.#bytes));
  }

  get #view(): DataView {
    return new DataView(this.#bytes.buffer);
  }
  #place(block: number, at: number): number {
    const inode = this.#sound.internalInode(USER_QUOTA_INODE);
    const offset = block * QUOTA_BLOCK_SIZE + at;
    return iomapForRead(this.#sound, inode, offset, 4, newIomap()).addr;
  }
}

/** Follows the pointers for user 0 to the block with its entry. */
function blockOfRoot(patient: Patient): number {
  let block = QUOTA_ROOT;
  for (let level = 0; level < 4; level++) block = patient.word(block, quotaPointerAt(0, level));
  return block;
}

function changeOwner(fs: Filesystem, uid: number): void {
  setAttributes(fs, ROOT_INODE, { uid });
}

test("an image with sound quota files opens and changes", () => {
  const fs = new Patient().open();
  changeOwner(fs, NEW_USER);
  changeOwner(fs, 0);
});

test.each([
  ["another magic number", QuotaHeader.magic],
  ["another version", QuotaHeader.version],
])("a quota file with %s is refused when opening", (_, at) => {
  const patient = new Patient();
  patient.setWord(0, at, 7);
  expect(() => patient.open()).toThrow(expect.objectContaining({ rule: "quota" }));
});

test.each<readonly [string, (patient: Patient) => void]>([
  [
    "a pointer past the end of the file",
    (p) => p.setWord(QUOTA_ROOT, quotaPointerAt(0, 0), 1_000_000),
  ],
  [
    "a pointer to a block without the entry",
    (p) => p.setWord(blockOfRoot(p), quotaEntryAt(0) + QuotaEntry.id, 12345),
  ],
  [
    "more space in use than can be",
    (p) => p.setWord(blockOfRoot(p), quotaEntryAt(0) + QuotaEntry.space + 4, 0xffff_ffff),
  ],
  [
    "a full block on the list of those with room",
    (p) => {
      const block = blockOfRoot(p);
      p.setWord(0, QuotaHeader.freeEntry, block);
      p.setWord(block, QuotaBlockHeader.entries, 1);
      for (let index = 0; index < 14; index++) p.setWord(block, quotaEntryAt(index) + 4, 1);
    },
  ],
  ["a list that leads nowhere", (p) => p.setWord(0, QuotaHeader.freeEntry, 2_000_000)],
])("an operation refuses a quota file with %s, and changes nothing", (_, damage) => {
  const patient = new Patient();
  damage(patient);
  const fs = patient.open();
  expect(() => changeOwner(fs, NEW_USER)).toThrow(expect.objectContaining({ rule: "quota" }));
  expect(fs.inode(ROOT_INODE).uid).toBe(0);
});
