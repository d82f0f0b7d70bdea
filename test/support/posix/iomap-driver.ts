/**
 * Carries operations out through a kernel that moves file contents by itself, with our server behind
 * it. Every choice that a program or the kernel has is made at random: whether data goes through the
 * page cache, past it or through a mapping, how long files stay open, which names are forgotten.
 */
import { Errno, errnoName } from "../../../src/base/errno.ts";
import type { OpenFile } from "../iomap-kernel/files.ts";
import type { Inode } from "../iomap-kernel/inode.ts";
import type { IomapKernel } from "../iomap-kernel/kernel.ts";
import { RenameFlag } from "../iomap-kernel/names.ts";
import { SystemError } from "../iomap-kernel/rules.ts";
import type { Random } from "../random.ts";
import { type FallocateHow, type Operation, type Outcome, PATH_MAX, pattern } from "./operation.ts";
import { type Tree, type TreeNode, typeOfMode } from "./tree.ts";

/** `FALLOC_FL_*`. @see include/uapi/linux/falloc.h */
// biome-ignore format: a table
const FALLOCATE_MODES: Readonly<Record<FallocateHow, number>> = {
  allocate: 0, keepSize: 0x1, punch: 0x2 | 0x1, collapse: 0x8, zero: 0x10 | 0x1, zeroExtend: 0x10,
  insert: 0x20,
};
const XATTR_FLAGS = { any: 0, create: 1, replace: 2 } as const;
const RENAME_FLAGS = {
  ...{ replace: 0, noReplace: RenameFlag.NOREPLACE, exchange: RenameFlag.EXCHANGE },
  whiteout: RenameFlag.WHITEOUT,
} as const;
const REGULAR = 0o100000;
const SECTOR_BYTES = 512;
/** Files that somebody else has open, so that closing does not write everything back at once. */
const HELD_MAX = 6;

export interface IomapDriverOptions {
  readonly random: Random;
  /** After one operation in so many, names and clean pages are forgotten; 0 for never. Default 20. */
  readonly forgetEvery?: number;
}

export class IomapDriver {
  readonly kernel: IomapKernel;
  readonly #random: Random;
  readonly #forgetEvery: number;
  readonly #open = new Map<string, OpenFile>();
  readonly #held: OpenFile[] = [];
  /** Temporary files that never had a name. */
  readonly #linkable = new Set<Inode>();

  constructor(kernel: IomapKernel, { random, forgetEvery = 20 }: IomapDriverOptions) {
    this.kernel = kernel;
    this.#random = random;
    this.#forgetEvery = forgetEvery;
  }

  /** All files are closed. */
  closeAll(): void {
    for (const file of [...this.#open.values(), ...this.#held]) file.close();
    this.#open.clear();
    this.#held.length = 0;
    this.#linkable.clear();
  }

  apply(operation: Operation): Outcome {
    try {
      return String(this.#carryOut(operation) ?? "ok");
    } catch (error) {
      if (!(error instanceof SystemError) || isFailure(error)) throw error;
      return errnoName(error.errno);
    } finally {
      this.#relax();
    }
  }

  /** Between two system calls. */
  #relax(): void {
    if (this.#held.length > 0 && this.#chance(4)) this.#closeHeld();
    if (this.#forgetEvery > 0 && this.#chance(this.#forgetEvery)) this.kernel.dropCaches(2);
  }

  #closeHeld(): void {
    const index = this.#random.below(this.#held.length);
    for (const file of this.#held.splice(index, 1)) file.close();
  }

  #carryOut(operation: Operation): number | undefined {
    const { kernel } = this;
    switch (operation.kind) {
      case "create": {
        const mode = REGULAR | operation.mode;
        const inode = kernel.create(...this.#place(operation.path), { mode });
        this.#use(inode, () => undefined);
        return;
      }
      case "mkdir":
        kernel.mkdir(...this.#place(operation.path), { mode: operation.mode & 0o1777 });
        return;
      case "mknod": {
        const { mode, major, minor } = operation;
        const rdev = (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12);
        kernel.mknod(...this.#place(operation.path), { mode, rdev });
        return;
      }
      case "symlink":
        if (operation.target === "") refuse(Errno.ENOENT);
        if (operation.target.length >= PATH_MAX) refuse(Errno.ENAMETOOLONG);
        kernel.symlink(...this.#place(operation.path), operation.target);
        return;
      case "link": {
        const inode = this.#inode(operation.from);
        kernel.link(inode, ...this.#place(operation.to), this.#linkable.has(inode));
        this.#linkable.delete(inode);
        return;
      }
      case "unlink":
        kernel.unlink(...this.#place(operation.path));
        return;
      case "rmdir":
        kernel.rmdir(...this.#place(operation.path));
        return;
      case "rename": {
        const [from, to] = [this.#place(operation.from), this.#place(operation.to)];
        kernel.rename(...from, ...to, RENAME_FLAGS[operation.how]);
        return;
      }
      case "tmpfile": {
        const inode = kernel.temporary(this.#inode(operation.directory), { mode: REGULAR | 0o600 });
        this.#open.set(operation.as, kernel.open(inode));
        this.#linkable.add(inode);
        return;
      }
      case "open": {
        const file = kernel.open(this.#file(operation.path));
        this.#open.get(operation.as)?.close();
        this.#open.set(operation.as, file);
        return;
      }
      case "close": {
        const file = this.#open.get(operation.path) ?? refuse(Errno.EBADF);
        this.#open.delete(operation.path);
        file.close();
        return;
      }
      case "write": {
        const { path, offset, length, tag } = operation;
        return this.#use(this.#file(path), (file) =>
          this.#write(file, offset, pattern(tag, offset, length)),
        );
      }
      case "truncate":
        kernel.truncate(this.#file(operation.path), operation.size, this.#chance(2));
        return;
      case "fallocate": {
        const { path, how, offset, length } = operation;
        const mode = FALLOCATE_MODES[how];
        this.#use(this.#file(path), ({ inode }) => kernel.fallocate(inode, mode, offset, length));
        return;
      }
      case "copy":
        return this.#copy(operation);
      case "chmod":
        kernel.chmod(this.#inode(operation.path), operation.mode);
        return;
      case "chown":
        kernel.chown(this.#inode(operation.path), operation.uid, operation.gid);
        return;
      case "setxattr": {
        const { path, name, how, length, tag } = operation;
        kernel.setXattr(this.#inode(path), name, pattern(tag, 0, length), XATTR_FLAGS[how]);
        return;
      }
      case "removexattr":
        kernel.removeXattr(this.#inode(operation.path), operation.name);
        return;
      case "fsync":
      case "fdatasync":
        kernel.fsync(this.#inode(operation.path), operation.kind === "fdatasync");
        return;
      case "sync":
        kernel.sync();
        return;
    }
  }

  #write(file: OpenFile, offset: number, bytes: Uint8Array): number {
    const { inode } = file;
    if (bytes.length === 0) return 0;
    const isWithin = offset + bytes.length <= inode.size;
    if (inode.isIomap && isWithin && this.#chance(4)) {
      this.kernel.writeMapped(inode, offset, bytes);
      return bytes.length;
    }
    const isAligned = offset % SECTOR_BYTES === 0 && bytes.length % SECTOR_BYTES === 0;
    const direct = isAligned && this.#chance(3) ? {} : undefined;
    let done = 0;
    while (done < bytes.length) {
      const written = file.write(offset + done, bytes.subarray(done), direct);
      if (written === 0) break;
      done += written;
    }
    return done;
  }

  #copy(operation: Extract<Operation, { kind: "copy" }>): number {
    const { kernel } = this;
    const [from, to] = [this.#file(operation.from), this.#file(operation.to)];
    const { fromOffset, toOffset } = operation;
    // A file that grows because it is copied to does not give any more.
    const length = Math.max(0, Math.min(operation.length, from.size - fromOffset));
    let done = 0;
    while (done < length) {
      const rest = length - done;
      const copied = kernel.copyRange(from, fromOffset + done, to, toOffset + done, rest);
      if (copied === 0) break;
      done += copied;
    }
    return done;
  }

  /** Opens `inode` for `action`; somebody else keeps it open for some time, perhaps. */
  #use<T>(inode: Inode, action: (file: OpenFile) => T): T {
    const file = this.kernel.open(inode);
    try {
      return action(file);
    } finally {
      if (this.#chance(3)) file.close();
      else this.#held.push(file);
      if (this.#held.length > HELD_MAX) this.#closeHeld();
    }
  }

  /** The directory that `path` ends in, and its last name. */
  #place(path: string): [parent: Inode, name: string] {
    const at = path.lastIndexOf("/");
    const parent = this.kernel.walk(path.slice(0, at));
    return parent.isDirectory ? [parent, path.slice(at + 1)] : refuse(Errno.ENOTDIR);
  }

  #inode(path: string): Inode {
    if (path.startsWith("#")) return (this.#open.get(path) ?? refuse(Errno.EBADF)).inode;
    return this.kernel.walk(path);
  }

  /** A file that open(2) would open for writing. */
  #file(path: string): Inode {
    const inode = this.#inode(path);
    if (inode.isDirectory) refuse(Errno.EISDIR);
    return inode.isRegular ? inode : refuse(Errno.EINVAL);
  }

  #chance(oneIn: number): boolean {
    return this.#random.below(oneIn) === 0;
  }
}

/** What no program should ever see. */
const isFailure = ({ errno }: SystemError): boolean =>
  errno === Errno.EIO || errno === Errno.EUCLEAN || errno === Errno.EINTR;

function refuse(errno: number): never {
  throw new SystemError(errno, "refused as the kernel would");
}

/** mke2fs makes it; nothing else has a name in a fresh filesystem. */
const LOST_AND_FOUND = "lost+found";

/** All of the tree as programs see it, but for the directory lost+found. */
export function iomapTree(kernel: IomapKernel, random: Random): Tree {
  const tree = new Map<string, TreeNode>();
  const visit = (path: string, inode: Inode): void => {
    tree.set(path === "" ? "/" : path, view(kernel, random, inode));
    if (!inode.isDirectory) return;
    for (const name of kernel.list(inode, random.below(2) === 0)) {
      if (path === "" && name === LOST_AND_FOUND) continue;
      const child = kernel.lookup(inode, name);
      if (child === undefined) throw new Error(`${path}/${name} is listed, and not found`);
      visit(`${path}/${name}`, child);
    }
  };
  visit("", kernel.root);
  return tree;
}

function view(kernel: IomapKernel, random: Random, inode: Inode): TreeNode {
  kernel.stat(inode);
  const type = typeOfMode(inode.mode);
  const isRoot = inode === kernel.root;
  return {
    id: inode.node,
    type,
    mode: inode.mode & 0o7777,
    uid: inode.uid,
    gid: inode.gid,
    // The root of a fresh filesystem has the folder lost+found.
    linkCount: isRoot ? inode.nlink - 1 : inode.nlink,
    xattrs: kernel
      .listXattrs(inode)
      .map((name) => {
        const value = kernel.getXattr(inode, name) as Uint8Array;
        return `${name}=${Buffer.from(value).toString("hex")}`;
      })
      .sort(),
    ...(type === "file" && { content: contentOf(kernel, random, inode) }),
    ...(type === "symlink" && { target: kernel.readLink(inode) }),
    ...((type === "block" || type === "character") && { device: deviceOf(inode.rdev) }),
  };
}

/** Read in pieces, each through the page cache or past it. */
function contentOf(kernel: IomapKernel, random: Random, inode: Inode): Uint8Array {
  const file = kernel.open(inode);
  const content = new Uint8Array(inode.size);
  for (let at = 0; at < content.length; ) {
    const length = SECTOR_BYTES * (1 + random.below(128));
    const bytes = file.read(at, length, random.below(2) === 0 ? {} : undefined);
    if (bytes.length === 0) throw new Error(`no bytes at ${at} of ${content.length}`);
    content.set(bytes, at);
    at += bytes.length;
  }
  file.close();
  return content;
}

function deviceOf(rdev: number): string {
  const major = (rdev >>> 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  return `${major}:${minor}`;
}
