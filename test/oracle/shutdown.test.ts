/** What is left of a filesystem after a shutdown of each kind, by debugfs and e2fsck. */
import { describe, expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  closeFilesystem,
  type Filesystem,
  openWritableFilesystem,
  ROOT_INODE,
  ShutdownMode,
  shutdown,
  syncFile,
  syncFilesystem,
} from "../../src/ext4/index.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { askDebugfs, complaintsAbout, freshImage } from "../support/writable-image.ts";

/** Changes something in a new filesystem and shuts it down. @returns the image, and what is open. */
function shutDown(mode: number): [Uint8Array, Filesystem] {
  const image = freshImage("16M", ["-t", "ext4", "-J", "size=4"]);
  const fs = openWritableFilesystem(new MemoryDevice(image));
  const label = new TextEncoder().encode("changed");
  fs.transact(1, (tx) => fs.writer.superblock.setVolumeName(tx, label));
  shutdown(fs, mode);
  return [image, fs];
}

const volumeName = (image: Uint8Array): string | undefined =>
  /volume name: +(.*)/.exec(askDebugfs(image, "stats -h"))?.[1];
const needsRecovery = (image: Uint8Array): boolean =>
  askDebugfs(image, "stats -h").includes("needs_recovery");

const skip = skipBecause("shutdown", whyNoE2fsprogs());

describe.skipIf(skip)("shutdown", () => {
  test.each(Object.values(ShutdownMode))("mode %i refuses later changes with EIO", (mode) => {
    const [image, fs] = shutDown(mode);
    const before = image.slice();
    expect(fs.writer.transactions.isShutDown).toBe(true);
    const refused = expect.objectContaining({ errno: Errno.EIO });
    expect(() => fs.transact(1, () => {})).toThrow(refused);
    expect(() => fs.writer.transactions.commit()).toThrow(refused);
    expect(() => syncFilesystem(fs)).toThrow(refused);
    expect(() => syncFile(fs, ROOT_INODE, true)).toThrow(refused);
    shutdown(fs, ShutdownMode.DEFAULT);
    closeFilesystem(fs);
    expect(Buffer.compare(image, before)).toBe(0);
  });

  test("leaves a clean filesystem by default", () => {
    const [image] = shutDown(ShutdownMode.DEFAULT);
    expect(volumeName(image)).toBe("changed");
    expect(needsRecovery(image)).toBe(false);
    expect(complaintsAbout(image)).toBe("");
  });

  test("leaves finished operations to the journal, or drops them", () => {
    const [logged] = shutDown(ShutdownMode.LOGFLUSH);
    const [dropped] = shutDown(ShutdownMode.NOLOGFLUSH);
    expect([needsRecovery(logged), needsRecovery(dropped)]).toEqual([true, true]);
    for (const image of [logged, dropped]) {
      closeFilesystem(openWritableFilesystem(new MemoryDevice(image)));
      expect(complaintsAbout(image)).toBe("");
    }
    expect(volumeName(logged)).toBe("changed");
    expect(volumeName(dropped)).toBe("<none>");
  });
});
