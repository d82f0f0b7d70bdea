/**
 * A filesystem as POSIX describes it, in memory, with Linux's answers: what the library is compared
 * with. It knows nothing of blocks, so it never runs out of space.
 *
 * Every call is made by root with umask 0, and answers as the system call would, kernel included.
 *
 * @see fs/namei.c for the order in which calls refuse; ext4 where it adds reasons of its own
 */
import { type Operation, type Outcome, PATH_MAX, pattern } from "./operation.ts";
import { type NodeType, type Tree, type TreeNode, typeOfMode } from "./tree.ts";

const NAME_MAX = 255;
const SETUID = 0o4000;
const SETGID = 0o2000;
const PERMISSIONS = 0o7777;
/** What mkdir(2) takes of a mode. */
const MKDIR_PERMISSIONS = 0o1777;
export interface ModelOptions {
  readonly blockSize: number;
  /** What collapse and insert must be aligned to; the block size unless the image is bigalloc. */
  readonly clusterSize?: number;
  /** New files have extents; without, nothing can be preallocated. */
  readonly hasExtents?: boolean;
  /** Collapse and insert get as far as the filesystem; the kernel's FUSE does not let them. */
  readonly hasRangeMoves?: boolean;
}

interface Node {
  readonly id: number;
  readonly type: NodeType;
  mode: number;
  uid: number;
  gid: number;
  links: number;
  /** Replaced, never changed: snapshots share it. */
  content: Uint8Array;
  readonly entries: Map<string, Node>;
  parent: Node | undefined;
  readonly target: string | undefined;
  readonly device: string | undefined;
  readonly xattrs: Map<string, Uint8Array>;
  /** A file that may still get its first name. */
  isTemporary: boolean;
}

/**
 * What of an inode a call has changed: `data` is what fdatasync has to keep; an `overwrite` may have
 * changed bytes in place and nothing else.
 */
export type Touch = "metadata" | "data" | "overwrite";

class Refusal extends Error {}

function refuse(errno: string): never {
  throw new Refusal(errno);
}

/** A name in a directory, whether it is there or not. */
interface Name {
  readonly parent: Node;
  readonly name: string;
}

interface Place extends Name {
  readonly node: Node | undefined;
}

export class PosixModel {
  readonly #options: Required<ModelOptions>;
  readonly #open = new Map<string, Node>();
  readonly #root: Node;
  #lastId = 0;
  #touched = new Map<number, Touch>();

  constructor(options: ModelOptions) {
    const { blockSize } = options;
    this.#options = { clusterSize: blockSize, hasExtents: true, hasRangeMoves: true, ...options };
    this.#root = this.#newNode("directory", 0o755);
    this.#root.links = 2;
    this.#root.parent = this.#root;
  }

  /** Carries out `operation`, or refuses and changes nothing. */
  apply(operation: Operation): Outcome {
    this.#touched = new Map();
    try {
      return String(this.#carryOut(operation) ?? "ok");
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return error.message;
    }
  }

  /** The inodes that the last operation changed. */
  get touched(): ReadonlyMap<number, Touch> {
    return this.#touched;
  }

  /** The inode that `path` or `#n` names, if any. */
  idOf(path: string): number | undefined {
    try {
      return this.#get(path).id;
    } catch {
      return undefined;
    }
  }

  /** The names of open files. */
  get openFiles(): string[] {
    return [...this.#open.keys()];
  }

  /** All files are closed, as by an unmount. */
  closeAll(): void {
    this.#open.clear();
  }

  /** The contents of all files by inode, those included that are open and have no name any more. */
  contents(): Map<number, Uint8Array> {
    const contents = new Map<number, Uint8Array>();
    const visit = (node: Node): void => {
      if (node.type === "file") contents.set(node.id, node.content);
      for (const child of node.entries.values()) visit(child);
    };
    visit(this.#root);
    for (const node of this.#open.values()) visit(node);
    return contents;
  }

  tree(): Tree {
    const tree = new Map<string, TreeNode>();
    const visit = (path: string, node: Node): void => {
      tree.set(path === "" ? "/" : path, view(node));
      for (const [name, child] of node.entries) visit(`${path}/${name}`, child);
    };
    visit("", this.#root);
    return tree;
  }

  /** @returns a count of bytes, or nothing. */
  #carryOut(operation: Operation): unknown {
    switch (operation.kind) {
      case "create":
        return this.#add(operation.path, "file", operation.mode);
      case "mkdir":
        return this.#add(operation.path, "directory", operation.mode & MKDIR_PERMISSIONS);
      case "mknod": {
        const type = typeOfMode(operation.mode);
        const isDevice = type === "block" || type === "character";
        const device = isDevice ? `${operation.major}:${operation.minor}` : undefined;
        return this.#add(operation.path, type, operation.mode & PERMISSIONS, { device });
      }
      case "symlink":
        if (operation.target === "") refuse("ENOENT");
        if (operation.target.length >= PATH_MAX) refuse("ENAMETOOLONG");
        return this.#add(operation.path, "symlink", 0o777, { target: operation.target });
      case "link":
        return this.#link(operation.from, operation.to);
      case "unlink":
        return this.#unlink(operation.path);
      case "rmdir":
        return this.#removeDirectory(operation.path);
      case "rename":
        return this.#rename(operation.from, operation.to, operation.how);
      case "tmpfile": {
        const directory = this.#directory(operation.directory);
        const node = this.#newNode("file", 0o600);
        this.#inherit(directory, node);
        node.links = 0;
        node.isTemporary = true;
        this.#open.set(operation.as, node);
        this.#touch(node, "data");
        return;
      }
      case "open":
        this.#open.set(operation.as, this.#file(operation.path));
        return;
      case "close":
        this.#open.delete(operation.path);
        return;
      case "write":
        return this.#write(operation.path, operation.offset, operation.length, operation.tag);
      case "truncate":
        return this.#truncate(operation.path, operation.size);
      case "fallocate":
        return this.#fallocate(operation);
      case "copy":
        return this.#copy(operation);
      case "chmod": {
        const node = this.#get(operation.path);
        if (node.type === "symlink") refuse("EOPNOTSUPP");
        node.mode = operation.mode;
        return this.#touch(node, "metadata");
      }
      case "chown": {
        const node = this.#get(operation.path);
        node.uid = operation.uid;
        node.gid = operation.gid;
        if (node.type !== "directory") node.mode = withoutSetid(node.mode);
        return this.#touch(node, "metadata");
      }
      case "setxattr": {
        const node = this.#get(operation.path);
        const { name, how, length, tag } = operation;
        if (name.startsWith("user.") && node.type !== "file" && node.type !== "directory")
          refuse("EPERM");
        if (how === "create" && node.xattrs.has(name)) refuse("EEXIST");
        if (how === "replace" && !node.xattrs.has(name)) refuse("ENODATA");
        node.xattrs.set(name, pattern(tag, 0, length));
        return this.#touch(node, "metadata");
      }
      case "removexattr": {
        const node = this.#get(operation.path);
        if (operation.name.startsWith("user.") && node.type !== "file" && node.type !== "directory")
          refuse("EPERM");
        if (!node.xattrs.delete(operation.name)) refuse("ENODATA");
        return this.#touch(node, "metadata");
      }
      case "fsync":
      case "fdatasync":
        this.#get(operation.path);
        return;
      case "sync":
        return;
    }
  }

  #newNode(
    type: NodeType,
    mode: number,
    more: { target?: string; device?: string | undefined } = {},
  ): Node {
    return {
      id: ++this.#lastId,
      type,
      mode,
      uid: 0,
      gid: 0,
      links: 1,
      content: new Uint8Array(0),
      entries: new Map(),
      parent: undefined,
      target: more.target,
      device: more.device,
      xattrs: new Map(),
      isTemporary: false,
    };
  }

  #touch(node: Node, how: Touch): void {
    if (how !== "metadata" || !this.#touched.has(node.id)) this.#touched.set(node.id, how);
  }

  /** The directory that `path` ends in, and its last name. */
  #parentOf(path: string): Name {
    const names = path.split("/").slice(1);
    const name = names.pop() as string;
    let parent = this.#root;
    for (const each of names) {
      if (parent.type !== "directory") refuse("ENOTDIR");
      if (each.length > NAME_MAX) refuse("ENAMETOOLONG");
      parent = parent.entries.get(each) ?? refuse("ENOENT");
    }
    if (parent.type !== "directory") refuse("ENOTDIR");
    return { parent, name };
  }

  #lookUp({ parent, name }: Name): Place {
    if (name.length > NAME_MAX) refuse("ENAMETOOLONG");
    return { parent, name, node: parent.entries.get(name) };
  }

  #place(path: string): Place {
    return this.#lookUp(this.#parentOf(path));
  }

  #get(path: string): Node {
    if (path === "/") return this.#root;
    if (path.startsWith("#")) return this.#open.get(path) ?? refuse("EBADF");
    return this.#place(path).node ?? refuse("ENOENT");
  }

  #directory(path: string): Node {
    const node = this.#get(path);
    return node.type === "directory" ? node : refuse("ENOTDIR");
  }

  #file(path: string): Node {
    const node = this.#get(path);
    if (node.type === "directory") refuse("EISDIR");
    return node.type === "file" ? node : refuse("EINVAL");
  }

  #inherit(parent: Node, node: Node): void {
    if ((parent.mode & SETGID) === 0) return;
    node.gid = parent.gid;
    if (node.type === "directory") node.mode |= SETGID;
  }

  #add(
    path: string,
    type: NodeType,
    mode: number,
    more: { target?: string; device?: string | undefined } = {},
  ): void {
    const { parent, name, node } = this.#place(path);
    if (node !== undefined) refuse("EEXIST");
    if ((more.target?.length ?? 0) >= this.#options.blockSize) refuse("ENAMETOOLONG");
    const added = this.#newNode(type, mode, more);
    this.#inherit(parent, added);
    if (type === "directory") added.links = 2;
    this.#enter(parent, name, added);
    this.#touch(added, "data");
  }

  #enter(parent: Node, name: string, node: Node): void {
    parent.entries.set(name, node);
    this.#touch(parent, "data");
    if (node.type !== "directory") return;
    if (node.parent !== parent) parent.links += 1;
    node.parent = parent;
  }

  #leave(parent: Node, name: string): void {
    const node = parent.entries.get(name) as Node;
    parent.entries.delete(name);
    this.#touch(parent, "data");
    if (node.type !== "directory") return;
    parent.links -= 1;
    node.parent = undefined;
  }

  #link(from: string, to: string): void {
    const node = this.#get(from);
    const { parent, name, node: existing } = this.#place(to);
    if (existing !== undefined) refuse("EEXIST");
    if (node.type === "directory") refuse("EPERM");
    if (node.links === 0 && !node.isTemporary) refuse("ENOENT");
    node.links += 1;
    node.isTemporary = false;
    this.#enter(parent, name, node);
    this.#touch(node, "metadata");
  }

  #unlink(path: string): void {
    const { parent, name, node } = this.#place(path);
    if (node === undefined) refuse("ENOENT");
    if (node.type === "directory") refuse("EISDIR");
    this.#leave(parent, name);
    node.links -= 1;
    this.#touch(node, "metadata");
  }

  #removeDirectory(path: string): void {
    const { parent, name, node } = this.#place(path);
    if (node === undefined) refuse("ENOENT");
    if (node.type !== "directory") refuse("ENOTDIR");
    if (node.entries.size > 0) refuse("ENOTEMPTY");
    this.#leave(parent, name);
    this.#touch(node, "metadata");
  }

  #rename(from: string, to: string, how: string): void {
    const names = [this.#parentOf(from), this.#parentOf(to)] as const;
    const old = this.#lookUp(names[0]);
    const { node } = old;
    if (node === undefined) refuse("ENOENT");
    const target = this.#lookUp(names[1]);
    const existing = target.node;
    if (how === "noReplace" && existing !== undefined) refuse("EEXIST");
    if (how === "exchange" && existing === undefined) refuse("ENOENT");
    if (isWithin(target.parent, node)) refuse("EINVAL");
    if (existing !== undefined && isWithin(old.parent, existing))
      refuse(how === "exchange" ? "EINVAL" : "ENOTEMPTY");
    if (existing === node) return;
    if (existing !== undefined && how !== "exchange") {
      if (node.type === "directory" && existing.type !== "directory") refuse("ENOTDIR");
      if (node.type !== "directory" && existing.type === "directory") refuse("EISDIR");
      if (existing.entries.size > 0) refuse("ENOTEMPTY");
    }

    this.#leave(old.parent, old.name);
    if (existing !== undefined) {
      this.#leave(target.parent, target.name);
      if (how !== "exchange" && existing.type !== "directory") existing.links -= 1;
      this.#touch(existing, "metadata");
    }
    this.#enter(target.parent, target.name, node);
    this.#touch(node, "metadata");
    if (how === "exchange") this.#enter(old.parent, old.name, existing as Node);
    if (how === "whiteout") {
      const whiteout = this.#newNode("character", 0, { device: "0:0" });
      this.#inherit(old.parent, whiteout);
      this.#enter(old.parent, old.name, whiteout);
      this.#touch(whiteout, "data");
    }
  }

  #write(path: string, offset: number, length: number, tag: number): number {
    const node = this.#file(path);
    if (length === 0) return 0;
    this.#put(node, offset, pattern(tag, offset, length));
    return length;
  }

  #put(node: Node, offset: number, bytes: Uint8Array): void {
    const end = offset + bytes.length;
    this.#touch(node, end <= node.content.length ? "overwrite" : "data");
    node.content = resized(node.content, Math.max(node.content.length, end));
    node.content.set(bytes, offset);
  }

  #truncate(path: string, size: number): void {
    const node = this.#file(path);
    node.content = resized(node.content, size);
    this.#touch(node, "data");
  }

  #fallocate({ path, how, offset, length }: Extract<Operation, { kind: "fallocate" }>): void {
    const { clusterSize, hasExtents, hasRangeMoves } = this.#options;
    const node = this.#file(path);
    if (length <= 0) refuse("EINVAL");
    const moves = how === "collapse" || how === "insert";
    if (moves && !hasRangeMoves) refuse("EOPNOTSUPP");
    if (!hasExtents && how !== "punch") refuse("EOPNOTSUPP");
    const end = offset + length;
    const { content } = node;
    if (moves) {
      if (offset % clusterSize !== 0 || length % clusterSize !== 0) refuse("EINVAL");
      if (how === "collapse" ? end >= content.length : offset >= content.length) refuse("EINVAL");
    }
    this.#touch(node, "data");
    if (how === "collapse") {
      node.content = new Uint8Array(content.length - length);
      node.content.set(content.subarray(0, offset));
      node.content.set(content.subarray(end), offset);
    } else if (how === "insert") {
      node.content = new Uint8Array(content.length + length);
      node.content.set(content.subarray(0, offset));
      node.content.set(content.subarray(offset), end);
    } else {
      const extends_ = how === "allocate" || how === "zeroExtend";
      node.content = resized(content, extends_ ? Math.max(content.length, end) : content.length);
      if (how !== "allocate" && how !== "keepSize") node.content.fill(0, offset, end);
    }
  }

  #copy(operation: Extract<Operation, { kind: "copy" }>): number {
    const from = this.#file(operation.from);
    const to = this.#file(operation.to);
    const { fromOffset, toOffset } = operation;
    const length = Math.max(0, Math.min(operation.length, from.content.length - fromOffset));
    if (from === to && fromOffset < toOffset + length && toOffset < fromOffset + length)
      refuse("EINVAL");
    if (length === 0) return 0;
    this.#put(to, toOffset, from.content.slice(fromOffset, fromOffset + length));
    return length;
  }
}

/** What a change of owner leaves of a mode: without the group's x, setgid means something else. */
function withoutSetid(mode: number): number {
  return mode & ((mode & 0o010) === 0 ? ~SETUID : ~(SETUID | SETGID));
}

/** Whether `node` is `ancestor` or lies below it. */
function isWithin(node: Node, ancestor: Node): boolean {
  for (let each = node; ; each = each.parent as Node) {
    if (each === ancestor) return true;
    if (each.parent === each || each.parent === undefined) return false;
  }
}

/** A copy of `content` of another size, filled up with zeros. */
function resized(content: Uint8Array, size: number): Uint8Array {
  const copy = new Uint8Array(size);
  copy.set(content.length > size ? content.subarray(0, size) : content);
  return copy;
}

function view(node: Node): TreeNode {
  return {
    id: node.id,
    type: node.type,
    mode: node.mode,
    uid: node.uid,
    gid: node.gid,
    linkCount: node.links,
    xattrs: [...node.xattrs]
      .map(([name, value]) => `${name}=${Buffer.from(value).toString("hex")}`)
      .sort(),
    ...(node.type === "file" && { content: node.content }),
    ...(node.target !== undefined && { target: node.target }),
    ...(node.device !== undefined && { device: node.device }),
  };
}
