/**
 * Every operation, by opcode. One that is not here is answered with ENOSYS, which for the optional
 * ones (POLL, GETLK, …) makes the kernel do without and not ask again.
 */
import { Access, Getattr, Readlink, Setattr, Statx } from "./attributes.ts";
import { Destroy, Init, Interrupt } from "./connection.ts";
import { Create, Link, Mkdir, Mknod, Symlink, Tmpfile } from "./create.ts";
import { Bmap, Lseek, Open, Read, Release } from "./data.ts";
import { Opendir, Readdir, Readdirplus, Releasedir } from "./directories.ts";
import { FreezeFs, ShutdownFs, Statfs, UnfreezeFs } from "./filesystem.ts";
import { Ioctl } from "./ioctl.ts";
import { IomapBegin, IomapConfig, IomapEnd, IomapIoend } from "./iomap.ts";
import { BatchForget, Forget, Lookup } from "./names.ts";
import type { Operation } from "./operation.ts";
import { Rename, Rename2, Rmdir, Unlink } from "./remove.ts";
import { Flush, Fsync, Fsyncdir, Syncfs } from "./sync.ts";
import { CopyFileRange, CopyFileRange64, Fallocate, Write } from "./write.ts";
import { Getxattr, Listxattr, Removexattr, Setxattr } from "./xattrs.ts";

// biome-ignore format: a table
const ALL: readonly Operation[] = [
  Init, Destroy, Interrupt, Lookup, Forget, BatchForget, Getattr, Statx, Setattr, Readlink, Access,
  Opendir, Readdir, Readdirplus, Releasedir, Open, Read, Release, Lseek, Bmap, Write, Fallocate,
  CopyFileRange, CopyFileRange64, Flush, Fsync, Fsyncdir, Syncfs, Mknod, Mkdir, Symlink, Link, Create,
  Tmpfile, Unlink, Rmdir, Rename, Rename2, Getxattr, Listxattr, Setxattr, Removexattr, Statfs, Ioctl,
];

/** Those of a kernel with fuse+iomap. */
const EXPERIMENTAL: ReadonlyMap<number, Operation> = new Map(
  // biome-ignore format: a table
  [IomapConfig, IomapBegin, IomapEnd, IomapIoend, FreezeFs, UnfreezeFs, ShutdownFs].map(
    (operation) => [operation.opcode, operation],
  ),
);

/** Indexed by opcode. */
const RELEASED: readonly (Operation | undefined)[] = ALL.reduce<(Operation | undefined)[]>(
  (table, operation) => {
    table[operation.opcode] = operation;
    return table;
  },
  [],
);

/** Every operation. */
export function allOperations(): Iterable<Operation> {
  return [...ALL, ...EXPERIMENTAL.values()];
}

/** The operation of that opcode. */
export function operationOf(opcode: number): Operation | undefined {
  return opcode < RELEASED.length ? RELEASED[opcode] : EXPERIMENTAL.get(opcode);
}
