/**
 * Carries operations out on the ext4 library, and does what the kernel and the FUSE layer do around
 * it: walks paths, keeps count of open files, and lets go of inodes that nobody uses any more.
 */
import { Errno, errnoName } from "../../../src/base/errno.ts";
import type { InodeNumber } from "../../../src/base/numbers.ts";
import {
  copyFileRange,
  createFile,
  createTemporary,
  type Filesystem,
  FileType,
  FsError,
  fallocate,
  getXattr,
  type Inode,
  link,
  listXattrs,
  lookup,
  makeDirectory,
  makeSymlink,
  type NewInode,
  parentOf,
  ROOT_INODE,
  readFile,
  readLink,
  release,
  removeDirectory,
  removeXattr,
  rename,
  setAttributes,
  setXattr,
  syncFile,
  syncFilesystem,
  unlink,
  writeFile,
} from "../../../src/ext4/index.ts";
import { bytesOf, entriesOf, latin1 } from "../library-view.ts";
import { type FallocateHow, type Operation, type Outcome, PATH_MAX, pattern } from "./operation.ts";
import { type Tree, type TreeNode, typeOfMode } from "./tree.ts";

/** `FALLOC_FL_*`. @see include/uapi/linux/falloc.h */
// biome-ignore format: a table
const FALLOCATE_MODES: Readonly<Record<FallocateHow, number>> = {
  allocate: 0, keepSize: 0x1, punch: 0x2 | 0x1, collapse: 0x8, zero: 0x10 | 0x1, zeroExtend: 0x10,
  insert: 0x20,
};
const XATTR_FLAGS = { any: 0, create: 1, replace: 2 } as const;

const refusal = (errno: Errno): FsError => new FsError(errno, "refused as the kernel would");

export class LibraryDriver {
  readonly fs: Filesystem;
  readonly #open = new Map<string, InodeNumber>();
  /** Temporary files that never had a name. */
  readonly #linkable = new Set<InodeNumber>();

  constructor(fs: Filesystem) {
    this.fs = fs;
  }

  /** All files are closed. */
  closeAll(): void {
    const numbers = [...this.#open.values()];
    this.#open.clear();
    for (const number of new Set(numbers)) this.#letGo(this.fs.inode(number));
  }

  apply(operation: Operation): Outcome {
    try {
      return String(this.#carryOut(operation) ?? "ok");
    } catch (error) {
      if (!(error instanceof FsError) || error.errno === Errno.EUCLEAN || error.errno === Errno.EIO)
        throw error;
      return errnoName(error.errno);
    }
  }

  #carryOut(operation: Operation): number | undefined {
    const { fs } = this;
    switch (operation.kind) {
      case "create": {
        const [parent, name] = this.#place(operation.path);
        createFile(fs, parent, name, owned(FileType.REGULAR | operation.mode));
        return;
      }
      case "mkdir": {
        const [parent, name] = this.#place(operation.path);
        makeDirectory(fs, parent, name, owned(FileType.DIRECTORY | (operation.mode & 0o1777)));
        return;
      }
      case "mknod": {
        const [parent, name] = this.#place(operation.path);
        const { major, minor } = operation;
        createFile(fs, parent, name, { ...owned(operation.mode), device: { major, minor } });
        return;
      }
      case "symlink": {
        if (operation.target.length >= PATH_MAX) throw refusal(Errno.ENAMETOOLONG);
        const [parent, name] = this.#place(operation.path);
        const attributes = owned(FileType.SYMLINK | 0o777);
        makeSymlink(fs, parent, name, bytesOf(operation.target), attributes);
        return;
      }
      case "link": {
        const inode = fs.inode(this.#number(operation.from));
        const [parent, name] = this.#place(operation.to);
        const isGone = inode.linkCount === 0 && !this.#linkable.has(inode.number);
        if (isGone && lookup(fs, parent, name) === 0) throw refusal(Errno.ENOENT);
        link(fs, inode.number, parent, name);
        this.#linkable.delete(inode.number);
        return;
      }
      case "unlink":
        this.#letGo(unlink(fs, ...this.#place(operation.path)));
        return;
      case "rmdir":
        this.#letGo(removeDirectory(fs, ...this.#place(operation.path)));
        return;
      case "rename": {
        const { how } = operation;
        const [from, to] = [this.#place(operation.from), this.#place(operation.to)];
        this.#refuseRename(from, to, how);
        const replaced = rename(fs, ...from, ...to, {
          noReplace: how === "noReplace",
          exchange: how === "exchange",
          ...(how === "whiteout" && { whiteout: ROOT_USER }),
        });
        if (replaced !== undefined) this.#letGo(replaced);
        return;
      }
      case "tmpfile": {
        const directory = this.#number(operation.directory);
        const inode = createTemporary(fs, directory, owned(FileType.REGULAR | 0o600));
        this.#open.set(operation.as, inode.number);
        this.#linkable.add(inode.number);
        return;
      }
      case "open":
        this.#open.set(operation.as, this.#file(operation.path).number);
        return;
      case "close": {
        const number = this.#number(operation.path);
        this.#open.delete(operation.path);
        this.#letGo(fs.inode(number));
        return;
      }
      case "write": {
        const { offset, length, tag } = operation;
        const inode = this.#file(operation.path);
        return length === 0 ? 0 : writeFile(fs, inode, offset, pattern(tag, offset, length));
      }
      case "truncate":
        setAttributes(fs, this.#file(operation.path).number, { sizeBytes: operation.size });
        return;
      case "fallocate": {
        const { number } = this.#file(operation.path);
        fallocate(fs, number, FALLOCATE_MODES[operation.how], operation.offset, operation.length);
        return;
      }
      case "copy": {
        const from = this.#file(operation.from).number;
        const to = this.#file(operation.to).number;
        const { fromOffset, toOffset, length } = operation;
        return copyFileRange(fs, from, fromOffset, to, toOffset, length);
      }
      case "chmod": {
        const inode = fs.inode(this.#number(operation.path));
        if (inode.isSymlink) throw refusal(Errno.EOPNOTSUPP);
        setAttributes(fs, inode.number, { mode: operation.mode });
        return;
      }
      case "chown": {
        const { uid, gid } = operation;
        setAttributes(fs, this.#number(operation.path), { uid, gid });
        return;
      }
      case "setxattr": {
        const number = this.#number(operation.path);
        this.#verifyXattr(number, operation.name);
        const flags = XATTR_FLAGS[operation.how];
        const value = pattern(operation.tag, 0, operation.length);
        setXattr(fs, number, bytesOf(operation.name), value, { flags });
        return;
      }
      case "removexattr": {
        const number = this.#number(operation.path);
        this.#verifyXattr(number, operation.name);
        removeXattr(fs, number, bytesOf(operation.name));
        return;
      }
      case "fsync":
      case "fdatasync":
        syncFile(fs, this.#number(operation.path), operation.kind === "fdatasync");
        return;
      case "sync":
        syncFilesystem(fs);
        return;
    }
  }

  /** The directory that `path` ends in, and its last name. */
  #place(path: string): Place {
    const names = path.split("/").slice(1);
    const last = names.pop() as string;
    let parent: InodeNumber = ROOT_INODE;
    for (const name of names) {
      const found = lookup(this.fs, parent, bytesOf(name));
      if (found === 0) throw refusal(Errno.ENOENT);
      parent = found;
    }
    if (!this.fs.inode(parent).isDirectory) throw refusal(Errno.ENOTDIR);
    return [parent, bytesOf(last)];
  }

  #number(path: string): InodeNumber {
    if (path === "/") return ROOT_INODE;
    const open = this.#open.get(path);
    if (open !== undefined) return open;
    if (path.startsWith("#")) throw refusal(Errno.EBADF);
    const found = lookup(this.fs, ...this.#place(path));
    if (found === 0) throw refusal(Errno.ENOENT);
    return found;
  }

  /** A file that open(2) would open for writing. */
  #file(path: string): Inode {
    const inode = this.fs.inode(this.#number(path));
    if (inode.isDirectory) throw refusal(Errno.EISDIR);
    if (!inode.isRegular) throw refusal(Errno.EINVAL);
    return inode;
  }

  /** What the kernel refuses before it asks. @see fs/namei.c, do_renameat2 */
  #refuseRename(from: Place, to: Place, how: string): void {
    const moved = lookup(this.fs, ...from);
    if (moved === 0) throw refusal(Errno.ENOENT);
    const replaced = lookup(this.fs, ...to);
    if (how === "noReplace" && replaced !== 0) throw refusal(Errno.EEXIST);
    if (how === "exchange" && replaced === 0) throw refusal(Errno.ENOENT);
    if (this.#isWithin(to[0], moved)) throw refusal(Errno.EINVAL);
    if (replaced !== 0 && this.#isWithin(from[0], replaced))
      throw refusal(how === "exchange" ? Errno.EINVAL : Errno.ENOTEMPTY);
  }

  #isWithin(directory: InodeNumber, ancestor: InodeNumber): boolean {
    for (let each = directory; ; each = parentOf(this.fs, each)) {
      if (each === ancestor) return true;
      if (each === ROOT_INODE) return false;
    }
  }

  #verifyXattr(number: InodeNumber, name: string): void {
    const inode = this.fs.inode(number);
    if (name.startsWith("user.") && !inode.isRegular && !inode.isDirectory)
      throw refusal(Errno.EPERM);
  }

  /** What the kernel's FORGET brings: an inode without a name goes with its last opener. */
  #letGo(inode: Inode): void {
    if (inode.linkCount > 0) return;
    if ([...this.#open.values()].includes(inode.number)) return;
    this.#linkable.delete(inode.number);
    release(this.fs, inode.number);
  }
}

/** A directory, and a name in it. */
type Place = [parent: InodeNumber, name: Uint8Array];

const ROOT_USER = { uid: 0, gid: 0, umask: 0 };
const owned = (mode: number): NewInode => ({ mode, ...ROOT_USER });

/** mke2fs makes it; nothing else has a name in a fresh filesystem. */
const LOST_AND_FOUND = "lost+found";

/** All of the tree, but for the directory lost+found. */
export function libraryTree(fs: Filesystem): Tree {
  const tree = new Map<string, TreeNode>();
  const visit = (path: string, number: InodeNumber): void => {
    const inode = fs.inode(number);
    tree.set(path === "" ? "/" : path, view(fs, inode));
    if (!inode.isDirectory) return;
    for (const { name, inode: child } of entriesOf(fs, number)) {
      if (name === "." || name === ".." || (path === "" && name === LOST_AND_FOUND)) continue;
      visit(`${path}/${name}`, child);
    }
  };
  visit("", ROOT_INODE);
  return tree;
}

function view(fs: Filesystem, inode: Inode): TreeNode {
  const type = typeOfMode(inode.mode);
  return {
    id: inode.number,
    type,
    mode: inode.mode & 0o7777,
    uid: inode.uid,
    gid: inode.gid,
    // The root of a fresh filesystem has the folder lost+found.
    linkCount: inode.number === ROOT_INODE ? inode.linkCount - 1 : inode.linkCount,
    xattrs: xattrsOf(fs, inode),
    ...(type === "file" && { content: contentOf(fs, inode) }),
    ...(type === "symlink" && { target: latin1(readLink(fs, inode.number)) }),
    ...((type === "block" || type === "character") && {
      device: `${inode.rdevMajor}:${inode.rdevMinor}`,
    }),
  };
}

function xattrsOf(fs: Filesystem, { number }: Inode): string[] {
  const names = latin1(listXattrs(fs, number)).split("\0").slice(0, -1);
  return names
    .map((name) => {
      const value = getXattr(fs, number, bytesOf(name)) as Uint8Array;
      return `${name}=${Buffer.from(value).toString("hex")}`;
    })
    .sort();
}

function contentOf(fs: Filesystem, inode: Inode): Uint8Array {
  const content = new Uint8Array(inode.sizeBytes);
  readFile(fs, inode, 0, content);
  return content;
}
