/** Finding our mounts among those of the machine. */
import { expect, test } from "vitest";
import { deviceName, mountpointsOf } from "../../../src/server/mount-table.ts";

const MOUNTINFO = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
61 22 0:57 / /mnt/first ro,nosuid,nodev,relatime - fuse.ext4 disk.img ro,user_id=0,group_id=0
62 22 0:57 / /mnt/a\\040blank\\134and\\011tab ro,relatime - fuse.ext4 disk.img ro
63 22 0:570 / /mnt/other ro,relatime - fuse.ext4 other.img ro
`;

test.each([
  [57, "0:57"],
  [0xfd02, "253:2"],
  // minor 256 and up: its high bits are above the major's
  [0x10_0000 | (7 << 8) | 3, "7:259"],
])("deviceName(%d) is %s", (dev, name) => {
  expect(deviceName(dev)).toBe(name);
});

test("mountpointsOf() finds every mount of a device, the newest first, and undoes the escapes", () => {
  expect(mountpointsOf(57, MOUNTINFO)).toEqual(["/mnt/a blank\\and\ttab", "/mnt/first"]);
});

test("mountpointsOf() finds nothing for a device that is not mounted", () => {
  expect(mountpointsOf(58, MOUNTINFO)).toEqual([]);
});
