/** What the superblock says after damage was met, as e2fsprogs reads it. */
import { describe, expect, test } from "vitest";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  CorruptionError,
  closeFilesystem,
  openWritableFilesystem,
  reportCorruption,
} from "../../src/ext4/index.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { askDebugfs, freshImage } from "../support/writable-image.ts";

const damage = new CorruptionError("extent-magic", { inode: 12, block: 345 }, "0x0");
const checksumDamage = new CorruptionError("inode-checksum", { inode: 13 }, "0x0");

const JOURNAL = ["-J", "size=4"];

/** What debugfs shows of the superblock, by label. */
function fieldsOf(image: Uint8Array): Record<string, string> {
  const lines = askDebugfs(image, "stats -h").split("\n");
  return Object.fromEntries(lines.map((line) => line.split(/: +/, 2)));
}

const skip = skipBecause("error policy", whyNoE2fsprogs());

describe.skipIf(skip)("reportCorruption", () => {
  test("keeps the first and the last error, and goes on with errors=continue", () => {
    const image = freshImage("16M", JOURNAL);
    const warnings: string[] = [];
    const open = () =>
      openWritableFilesystem(new MemoryDevice(image), {
        errors: "continue",
        now: () => ({ seconds: 0x1_0000_0010, nanoseconds: 0 }),
        onWarning: (message) => warnings.push(message),
      });
    const fs = open();
    expect(warnings).toEqual([]);
    reportCorruption(fs, damage);
    reportCorruption(fs, damage);
    reportCorruption(fs, checksumDamage);
    closeFilesystem(fs);
    expect(fieldsOf(image)).toMatchObject({
      "Filesystem state": "clean with errors",
      "FS Error count": "3",
      "First error function": "extent-magic",
      "First error inode #": "12",
      "First error block #": "345",
      "First error err": "EFSCORRUPTED",
      "Last error function": "inode-checksum",
      "Last error inode #": "13",
      "Last error err": "EFSBADCRC",
    });
    open();
    expect(warnings).toEqual(["the filesystem has errors: e2fsck should be run"]);
  });

  test("ends all writing with errors=remount-ro, and the record is on the device at once", () => {
    const image = freshImage("16M", [...JOURNAL, "-e", "remount-ro"]);
    const fs = openWritableFilesystem(new MemoryDevice(image));
    reportCorruption(fs, damage);
    expect(fieldsOf(image)).toMatchObject({
      "FS Error count": "1",
      "First error function": "extent-magic",
      "Last error function": "extent-magic",
    });
    expect(() => fs.transact(1, () => {})).toThrow("read-only");
    reportCorruption(fs, damage);
    closeFilesystem(fs);
    expect(fieldsOf(image)).toMatchObject({ "FS Error count": "1" });
  });

  test("has a record that the replay of an older superblock does not undo", () => {
    const image = freshImage("16M", [...JOURNAL, "-e", "remount-ro"]);
    const fs = openWritableFilesystem(new MemoryDevice(image));
    fs.transact(1, (tx) => fs.writer.superblock.setVolumeName(tx, new Uint8Array([0x61])));
    fs.writer.transactions.commit();
    reportCorruption(fs, damage);
    closeFilesystem(openWritableFilesystem(new MemoryDevice(image)));
    expect(fieldsOf(image)).toMatchObject({
      "Filesystem volume name": "a",
      "Filesystem state": "clean with errors",
      "FS Error count": "1",
      "First error inode #": "12",
    });
  });

  test("asks for the end of the program with errors=panic", () => {
    const image = freshImage("16M", [...JOURNAL, "-e", "panic"]);
    const panics: CorruptionError[] = [];
    const fs = openWritableFilesystem(new MemoryDevice(image), {
      onPanic: (error) => panics.push(error),
    });
    reportCorruption(fs, damage);
    expect(panics).toEqual([damage]);
    expect(fieldsOf(image)).toMatchObject({ "FS Error count": "1" });
  });
});
