/** What a mount makes of what the kernel and the addon say about iomap. */
import { describe, expect, test } from "vitest";
import { Errno } from "../../../src/base/errno.ts";
import {
  type Addon,
  type DeviceInfo,
  OPEN_DIRECT,
  OPEN_WRITE,
} from "../../../src/native/binding.ts";
import { attachImage, iomapDevice, iomapHost, isIomapOffered } from "../../../src/server/iomap.ts";
import { MountFailure } from "../../../src/server/mount-failure.ts";
import type { MountPlan } from "../../../src/server/plan.ts";
import { PLAN as DEFAULTS } from "./plan.ts";

const PLAN: MountPlan = { ...DEFAULTS, image: { ...DEFAULTS.image, offsetBytes: 4096 } };

const REQUIRING: MountPlan = { ...PLAN, iomap: "require" };
const DEVICE_FD = 5;
const FUSE_FD = 6;

describe("isIomapOffered()", () => {
  const kernel = (support: number) => ({ iomapSupport: () => support });

  test("asks nobody where it is forbidden", () => {
    const addon = {
      iomapSupport: () => {
        throw new Error("asked");
      },
    };
    expect(isIomapOffered(addon, { ...PLAN, iomap: "forbid" })).toBe(false);
  });

  test("is what the kernel says", () => {
    expect(isIomapOffered(kernel(3), PLAN)).toBe(true);
    expect(isIomapOffered(kernel(1), REQUIRING)).toBe(true);
    expect(isIomapOffered(kernel(0), PLAN)).toBe(false);
    expect(isIomapOffered(kernel(2), PLAN)).toBe(false);
  });

  test("refuses a mount that cannot be without", () => {
    expect(() => isIomapOffered(kernel(0), REQUIRING)).toThrow(MountFailure);
    expect(() => isIomapOffered(kernel(0), REQUIRING)).toThrow(/^needs iomap, [^\n]*RAWIO$/);
  });

  test("asks the connection that somebody else has mounted", () => {
    const asked: number[] = [];
    const addon = { iomapSupport: (fd: number) => asked.push(fd) };
    isIomapOffered(addon, { ...PLAN, mountpoint: "/dev/fd/9" });
    isIomapOffered(addon, { ...PLAN, mountpoint: "/dev/fd/9/x" });
    expect(asked).toEqual([9, -1]);
  });
});

describe("attachImage()", () => {
  const image = { fd: 4, write: true, blockBytes: 2048 };
  const failing = (errno: number) => ({ attachLoop: () => -errno });

  test("asks for a device that suits the mount", () => {
    const calls: unknown[] = [];
    const addon = {
      attachLoop: (...words: unknown[]) => {
        calls.push(words);
        return { fd: 7, path: "/dev/loop7" };
      },
    };
    expect(attachImage(addon, PLAN, image)).toBe(7);
    const direct = { ...PLAN, image: { ...PLAN.image, direct: true } };
    expect(attachImage(addon, direct, { ...image, write: false })).toBe(7);
    expect(calls).toEqual([
      [4, "disk.img", 4096, 1, 2048],
      [4, "disk.img", 4096, 2, 2048],
    ]);
  });

  test("goes without where it may", () => {
    expect(attachImage(failing(Errno.ENOENT), PLAN, image)).toBeUndefined();
    expect(() => attachImage(failing(Errno.ENOENT), REQUIRING, image)).toThrow(
      /^needs iomap, and cannot be attached to a loop device: no such file.* \(ENOENT\)$/,
    );
  });

  test("refuses to write to an image that is attached already, and reads it without", () => {
    const busy = failing(Errno.EBUSY);
    expect(() => attachImage(busy, PLAN, image)).toThrow(/^attached to a loop device already: /);
    expect(attachImage(busy, PLAN, { ...image, write: false })).toBeUndefined();
    expect(() => attachImage(busy, REQUIRING, { ...image, write: false })).toThrow(MountFailure);
  });
});

describe("iomapHost()", () => {
  const device = {
    ...{ fd: DEVICE_FD, deviceOffsetBytes: 0, contents: undefined },
    ...{ directMemoryBytes: 512, directOffsetBytes: 512 },
  };

  /** An addon that notes its calls, and answers them as told. */
  function addonOf(answers: Partial<Record<string, number>>) {
    const calls: (string | number)[][] = [];
    const call =
      (name: string) =>
      (...words: number[]): number => {
        calls.push([name, ...words]);
        return answers[name] ?? 0;
      };
    return {
      calls,
      avoidRecursion: call("avoidRecursion"),
      blockSize: call("blockSize"),
      openBacking: call("openBacking"),
      setBackingBlockSize: call("setBackingBlockSize"),
      setBlockSize: call("setBlockSize"),
    };
  }

  const hostOf = (addon: ReturnType<typeof addonOf>, plan = PLAN) =>
    iomapHost(addon, plan, device, FUSE_FD);

  test("registers the device, and keeps the kernel from waiting for us", () => {
    const addon = addonOf({ openBacking: 1, avoidRecursion: -Errno.EPERM });
    const host = hostOf(addon);
    expect(host.registerDevice()).toBe(1);
    host.onAgreed();
    expect(addon.calls).toEqual([
      ["openBacking", FUSE_FD, DEVICE_FD, 1, 0],
      ["avoidRecursion", FUSE_FD],
    ]);
    expect(hostOf(addonOf({ openBacking: -Errno.ENODEV })).registerDevice()).toBe(-Errno.ENODEV);
  });

  test.each([
    ["by the kernel in our name", {}, 0],
    ["by ourselves", { setBackingBlockSize: -Errno.EINVAL }, 0],
    [
      "not, where a smaller one is there",
      { setBackingBlockSize: -Errno.EINVAL, setBlockSize: -Errno.EBUSY, blockSize: 512 },
      0,
    ],
    [
      "not, where a larger one is there",
      { setBackingBlockSize: -Errno.EINVAL, setBlockSize: -Errno.EBUSY, blockSize: 4096 },
      -Errno.EBUSY,
    ],
    [
      "not, where nothing is known",
      { setBackingBlockSize: -Errno.EINVAL, setBlockSize: -Errno.EACCES, blockSize: -Errno.EACCES },
      -Errno.EACCES,
    ],
  ] as const)("sets the block size %s", (_, answers, result) => {
    expect(hostOf(addonOf(answers)).setBlockSize(1, 1024)).toBe(result);
  });

  test("says what the plan and the device say", () => {
    const { fd: _, ...known } = device;
    expect(hostOf(addonOf({}))).toMatchObject({ ...known, required: false, usesCache: true });
    const atomicWriteBytes = { min: 512, max: 65_536 };
    const plan = { ...REQUIRING, iomapCache: false };
    expect(iomapHost(addonOf({}), plan, { ...device, atomicWriteBytes }, FUSE_FD)).toMatchObject({
      atomicWriteBytes,
      required: true,
      usesCache: false,
    });
  });
});

describe("iomapDevice()", () => {
  const info: DeviceInfo = {
    sizeBytes: 1 << 20,
    isBlockDevice: true,
    alignmentBytes: 4096,
    directMemoryBytes: 4,
    directOffsetBytes: 512,
    atomicWriteMinBytes: 0,
    atomicWriteMaxBytes: 0,
  };
  const place = { fd: DEVICE_FD, offsetBytes: 4096, write: true };

  /** What becomes of the device that `answers` make of it. */
  function deviceOf(answers: Partial<Addon>, write = true, plan = PLAN) {
    const addon = {
      openDevice: () => 8,
      deviceInfo: () => info,
      closeDescriptor: () => {},
      flushDevice: () => 0,
      ...answers,
    } as unknown as Addon;
    return iomapDevice(addon, plan, { ...place, write }, []);
  }

  test("opens the device once more, past its page cache", () => {
    const opened: unknown[] = [];
    const openDevice = (...words: unknown[]): number => opened.push(words) + 7;
    expect(deviceOf({ openDevice })?.contents?.sizeBytes).toBe((1 << 20) - 4096);
    expect(deviceOf({ openDevice }, false)?.contents).toBeUndefined();
    const path = `/proc/self/fd/${DEVICE_FD}`;
    expect(opened).toEqual([
      [path, OPEN_WRITE | OPEN_DIRECT],
      [path, OPEN_DIRECT],
    ]);
  });

  test("knows what the device wants of direct I/O, or what would do for every device of its kind", () => {
    const told = { fd: DEVICE_FD, directMemoryBytes: 4, directOffsetBytes: 512 };
    expect(deviceOf({})).toMatchObject(told);
    const silent = { ...info, directMemoryBytes: 0, directOffsetBytes: 0 };
    const guessed = { directMemoryBytes: 4096, directOffsetBytes: 4096 };
    expect(deviceOf({ deviceInfo: () => silent })).toMatchObject(guessed);
  });

  test("knows what the device writes in one piece, if anything", () => {
    expect(deviceOf({})?.atomicWriteBytes).toBeUndefined();
    const atomic = { ...info, atomicWriteMinBytes: 512, atomicWriteMaxBytes: 65_536 };
    expect(deviceOf({ deviceInfo: () => atomic })?.atomicWriteBytes).toEqual({
      min: 512,
      max: 65_536,
    });
  });

  test("has written what is in the cache of the device", () => {
    const flushed: number[] = [];
    deviceOf({ flushDevice: (fd) => flushed.push(fd) });
    expect(flushed).toEqual([DEVICE_FD]);
  });

  test.each([
    ["opened past the cache of the device", { openDevice: () => -Errno.EACCES }],
    ["measured", { deviceInfo: () => -Errno.EACCES }],
    ["flushed", { flushDevice: () => -Errno.EACCES }],
  ])("goes without one that cannot be %s, where it may", (what, answers) => {
    expect(deviceOf(answers)).toBeUndefined();
    const message = new RegExp(`^needs iomap, but cannot be ${what}: .*EACCES`);
    expect(() => deviceOf(answers, true, REQUIRING)).toThrow(message);
  });
});
