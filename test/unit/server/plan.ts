/** A mount with all options at their defaults, for tests of what becomes of one. */
import type { MountPlan } from "../../../src/server/plan.ts";

/** Its mountpoint is no path, so that nothing can reach for the machine's mounts. */
export const PLAN: MountPlan = {
  device: "disk.img",
  mountpoint: "/dev/fd/9",
  trace: false,
  image: {
    offsetBytes: 0,
    noRecovery: false,
    finishes: false,
    superblockKiB: undefined,
    journalPath: undefined,
    cacheSizeBytes: 1024,
    direct: false,
    writing: undefined,
  },
  mount: {
    fsname: "disk.img",
    subtype: "ext4",
    asDevice: true,
    allowOther: false,
    defaultPermissions: true,
    autoUnmount: false,
    maxReadBytes: 0,
    flags: [],
  },
  presentation: { minixdf: false, asksAtOpen: false },
  session: { synchronous: "none" },
  iomap: "default",
  iomapCache: true,
  notices: [],
};
