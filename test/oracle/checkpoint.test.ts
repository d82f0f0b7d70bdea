/** The journal after EXT4_IOC_CHECKPOINT, by debugfs and e2fsck. */
import { describe, expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  checkpointJournal,
  closeFilesystem,
  createFile,
  type Filesystem,
  openFilesystem,
  openWritableFilesystem,
  ROOT_INODE,
  syncFilesystem,
  unlink,
} from "../../src/ext4/index.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { askDebugfs, complaintsAbout, freshImage } from "../support/writable-image.ts";

const BLOCK_SIZE = 4096;
const NAME = new TextEncoder().encode("name-of-a-secret");

function makeAndRemove(fs: Filesystem): void {
  createFile(fs, ROOT_INODE, NAME, { mode: 0o100644, uid: 0, gid: 0, umask: 0 });
  syncFilesystem(fs);
  unlink(fs, ROOT_INODE, NAME);
}

/** How much of the log is not zero: of its blocks but the first, which is its superblock. */
function contentsOfLog(image: Uint8Array): number {
  const blocks =
    askDebugfs(image, "blocks <8>")
      .replace(/^debugfs:.*/gm, "")
      .match(/\d+/g) ?? [];
  const isUsed = (block: string): boolean =>
    image.subarray(Number(block) * BLOCK_SIZE, (Number(block) + 1) * BLOCK_SIZE).some(Boolean);
  return blocks.slice(1).filter(isUsed).length;
}

describe.skipIf(skipBecause("checkpoint", whyNoE2fsprogs()))("a checkpoint of the journal", () => {
  test("leaves what it held, unless that is to be erased", () => {
    const image = freshImage("16M", ["-t", "ext4", "-b", "4096", "-J", "size=4"]);
    const fs = openWritableFilesystem(new MemoryDevice(image));
    makeAndRemove(fs);
    checkpointJournal(fs);
    expect(Buffer.from(image).includes(Buffer.from(NAME))).toBe(true);
    expect(contentsOfLog(image)).toBeGreaterThan(0);
    checkpointJournal(fs, "zero");
    expect(contentsOfLog(image)).toBe(0);
    expect(Buffer.from(image).includes(Buffer.from(NAME))).toBe(false);

    makeAndRemove(fs);
    expect(contentsOfLog(image)).toBeGreaterThan(0);
    closeFilesystem(fs);
    expect(complaintsAbout(image)).toBe("");
  });

  test("is all that a crash needs", () => {
    const image = freshImage("16M", ["-t", "ext4", "-b", "4096", "-J", "size=4"]);
    const fs = openWritableFilesystem(new MemoryDevice(image));
    createFile(fs, ROOT_INODE, NAME, { mode: 0o100644, uid: 0, gid: 0, umask: 0 });
    checkpointJournal(fs, "zero");
    const crashed = image.slice();
    expect(askDebugfs(crashed, "stat name-of-a-secret")).toContain("Type: regular");
    closeFilesystem(openWritableFilesystem(new MemoryDevice(crashed)));
    expect(complaintsAbout(crashed)).toBe("");
  });

  test("is refused where there is none to write to", () => {
    const image = freshImage("16M", ["-t", "ext4", "-O", "^has_journal"]);
    const refusal = (errno: Errno) => expect.objectContaining({ errno });
    const fs = openWritableFilesystem(new MemoryDevice(image), { onWarning: () => {} });
    expect(() => checkpointJournal(fs)).toThrow(refusal(Errno.ENODEV));
    closeFilesystem(fs);
    const readOnly = openFilesystem(new MemoryDevice(image));
    expect(() => checkpointJournal(readOnly)).toThrow(refusal(Errno.EROFS));
  });
});
