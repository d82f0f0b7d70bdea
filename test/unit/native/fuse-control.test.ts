/** What a kernel without iomap says to questions about it, and descriptors that are no connection. */
import { closeSync, openSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { Errno } from "../../../src/base/errno.ts";
import { BACKING_FILE, BACKING_IOMAP_DEVICE, loadAddon } from "../../../src/native/binding.ts";

const addon = loadAddon();
const NO_DESCRIPTOR = 9999;

/** Calls `body` with a descriptor that no ioctl of FUSE means anything to. */
function withNull<T>(body: (fd: number) => T): T {
  const fd = openSync("/dev/null", "r");
  try {
    return body(fd);
  } finally {
    closeSync(fd);
  }
}

describe("iomapSupport()", () => {
  test("is a mask of what there is, whatever machine this is", () => {
    expect([0, 3]).toContain(addon.iomapSupport(-1));
  });

  test("is 0 for what is no connection", () => {
    expect(withNull((fd) => addon.iomapSupport(fd))).toBe(0);
    expect(addon.iomapSupport(NO_DESCRIPTOR)).toBe(0);
  });
});

test("the other calls give the errno of what is no connection", () => {
  const calls: readonly ((fd: number) => number)[] = [
    (fd) => addon.addIomap(fd),
    (fd) => addon.openBacking(fd, 0, BACKING_FILE, 0),
    (fd) => addon.openBacking(fd, 0, BACKING_IOMAP_DEVICE, 0),
    (fd) => addon.closeBacking(fd, 1),
    (fd) => addon.setBackingBlockSize(fd, 1, 4096),
  ];
  for (const call of calls) {
    expect(withNull(call)).toBe(-Errno.ENOTTY);
    expect(call(NO_DESCRIPTOR)).toBe(-Errno.EBADF);
  }
});

test("openBacking() refuses a mask that is none", () => {
  for (const mask of [-1, 2 ** 54, Number.NaN])
    expect(addon.openBacking(NO_DESCRIPTOR, 0, BACKING_FILE, mask)).toBe(-Errno.EINVAL);
});
