/**
 * Every operation, by opcode. One that is not here is answered with ENOSYS, which for the optional
 * ones (POLL, SYNCFS, …) makes the kernel do without and not ask again.
 */
import { Access, Getattr, Readlink, Statx } from "./attributes.ts";
import { Destroy, Init, Interrupt } from "./connection.ts";
import { Bmap, Flush, Fsync, Lseek, Open, Read, Release } from "./data.ts";
import { Fsyncdir, Opendir, Readdir, Readdirplus, Releasedir } from "./directories.ts";
import { Statfs } from "./filesystem.ts";
import { Ioctl } from "./ioctl.ts";
import { MODIFYING_OPERATIONS } from "./modifying.ts";
import { BatchForget, Forget, Lookup } from "./names.ts";
import type { Operation } from "./operation.ts";
import { Getxattr, Listxattr } from "./xattrs.ts";

// biome-ignore format: a table
const ALL: readonly Operation[] = [
  Init, Destroy, Interrupt, Lookup, Forget, BatchForget, Getattr, Statx, Readlink, Access, Opendir,
  Readdir, Readdirplus, Releasedir, Fsyncdir, Open, Read, Release, Flush, Fsync, Lseek, Bmap,
  Getxattr, Listxattr, Statfs, Ioctl, ...MODIFYING_OPERATIONS,
];

/** Indexed by opcode. */
export const OPERATIONS: readonly (Operation | undefined)[] = ALL.reduce<(Operation | undefined)[]>(
  (table, operation) => {
    table[operation.opcode] = operation;
    return table;
  },
  [],
);
