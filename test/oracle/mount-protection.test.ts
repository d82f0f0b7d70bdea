/** Multiple mount protection, with two of us at one device and e2fsck at the end. */
import { describe, expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  closeFilesystem,
  mmpIntervalSeconds,
  mmpRefresh,
  openWritableFilesystem,
} from "../../src/ext4/index.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { askDebugfs, complaintsAbout, freshImage } from "../support/writable-image.ts";

const ARGS = ["-O", "mmp", "-E", "mmp_update_interval=3"];

/** A field of the MMP block as debugfs shows it. */
function mmpField(image: Uint8Array, name: string): string | undefined {
  return new RegExp(`${name}: +(.*)`).exec(askDebugfs(image, "dump_mmp"))?.[1];
}

function sequenceOf(image: Uint8Array): number {
  return Number.parseInt(mmpField(image, "sequence") as string, 16);
}

const skip = skipBecause("multiple mount protection", whyNoE2fsprogs());

describe.skipIf(skip)("MountProtection", () => {
  test("shows who uses the filesystem, moves on with each refresh, and leaves it clean", () => {
    const image = freshImage("8M", ARGS);
    const fs = openWritableFilesystem(new MemoryDevice(image), {
      hostName: "here",
      deviceName: "disk",
      random: () => 0.5,
    });
    expect(mmpIntervalSeconds(fs)).toBe(3);
    const first = sequenceOf(image);
    mmpRefresh(fs);
    expect(mmpField(image, "node_name")).toBe("here");
    expect(mmpField(image, "device_name")).toBe("disk");
    expect(mmpField(image, "check_interval")).toBe("6");
    expect(sequenceOf(image)).toBe(first + 1);
    closeFilesystem(fs);
    expect(mmpField(image, "sequence")).toBe("ff4d4d50");
    expect(complaintsAbout(image)).toBe("");
  });

  test("refuses a filesystem that another host refreshes while it waits", () => {
    const image = freshImage("8M", ARGS);
    const theirs = openWritableFilesystem(new MemoryDevice(image), { hostName: "there" });
    mmpRefresh(theirs);
    const waits: number[] = [];
    const open = () =>
      openWritableFilesystem(new MemoryDevice(image), {
        sleep: (ms) => {
          waits.push(ms);
          mmpRefresh(theirs);
        },
      });
    expect(open).toThrow(expect.objectContaining({ errno: Errno.EBUSY }));
    expect(open).toThrow("there");
    expect(waits).toEqual([13_000, 13_000]);
    closeFilesystem(theirs);
  });

  test("takes over from a host that is dead, after two waits", () => {
    const image = freshImage("8M", ARGS);
    openWritableFilesystem(new MemoryDevice(image), { hostName: "there" });
    expect(() => openWritableFilesystem(new MemoryDevice(image))).toThrow("may be mounted");
    const waits: number[] = [];
    const fs = openWritableFilesystem(new MemoryDevice(image), {
      sleep: (ms) => waits.push(ms),
    });
    expect(waits).toEqual([13_000, 13_000]);
    closeFilesystem(fs);
    expect(complaintsAbout(image)).toBe("");
  });

  test("ends all writing when another host has taken the filesystem", () => {
    const image = freshImage("8M", ARGS);
    const ours = openWritableFilesystem(new MemoryDevice(image));
    const theirs = openWritableFilesystem(new MemoryDevice(image), {
      hostName: "there",
      sleep: () => {},
    });
    const before = image.slice();
    mmpRefresh(ours);
    expect(() => ours.transact(1, () => {})).toThrow("read-only");
    expect(Buffer.compare(image, before)).toBe(0);
    mmpRefresh(theirs);
    closeFilesystem(theirs);
  });
});
