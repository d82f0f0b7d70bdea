/**
 * A mounted filesystem as the kernel keeps it: the connection, the registered devices, the inode and
 * dentry caches. What is done with files is in the modules beside this one, as functions of a mount.
 *
 * Everything runs on one thread. That the kernel does much at the same time is played by `background`,
 * which is called before each request that a system call sends.
 */
import type { WritableDevice } from "../../../src/base/block-device.ts";
import type { Random } from "../random.ts";
import { AttrFlag, Errno, FileType, Opcode, ROOT_NODE } from "./abi.ts";
import { configure, type Superblock } from "./config.ts";
import { Connection, type Size } from "./connection.ts";
import { Devices } from "./devices.ts";
import { type Attributes, Inode, readAttributes } from "./inode.ts";
import type { Ioend } from "./ioend.ts";
import { type Generation, isErrno } from "./mapping.ts";
import { receiverOf } from "./notifications.ts";
import { SystemError, Violations } from "./rules.ts";
import type { Transport } from "./transport.ts";
import { Body, type Fields } from "./wire.ts";

export interface MountOptions {
  readonly transport: Transport;
  /** The filesystem's device: where the kernel reads and writes file data. */
  readonly device: WritableDevice;
  readonly random: Random;
  /** How far behind the start of the disk the filesystem begins. Default 0. */
  readonly deviceOffsetBytes?: number;
  readonly readOnly?: boolean;
  /** Default "v7". */
  readonly generation?: Generation;
  /** Before one request in so many, something else is done first; 0 (the default) for never. */
  readonly backgroundEvery?: number;
  /** Dirty pages go to the device from the front, in runs as long as there are; at random otherwise. */
  readonly writesBackInOrder?: boolean;
  /** What the index of a fork of the mapping cache may take, in place of what CONFIG says. */
  readonly mappingIndexBytesMax?: number;
  /** Nanoseconds since 1970. */
  readonly now?: () => bigint;
}

const ENTRY_BYTES = 128;
const ATTR_OUT_BYTES = 104;
/** Flags that chattr(1) changes, and those that must stay for as long as an inode is cached. */
const FIXED_FLAGS = AttrFlag.EXCLUSIVE | AttrFlag.IOMAP | AttrFlag.ATOMIC;

const ROOT_ATTRIBUTES: Attributes = {
  ...{ ino: BigInt(ROOT_NODE), size: 0, blocks: 0, atime: 0n, mtime: 0n, ctime: 0n },
  ...{ mode: FileType.DIRECTORY | 0o755, nlink: 1, uid: 0, gid: 0, rdev: 0, blksize: 0, flags: 0 },
};

export class Mount {
  readonly options: MountOptions;
  readonly generation: Generation;
  readonly random: Random;
  readonly violations = new Violations();
  readonly connection: Connection;
  readonly devices: Devices;
  readonly inodes = new Map<number, Inode>();
  /** Writes that are done or under way, whose completion was not handled yet. */
  readonly ioends: Ioend[] = [];
  /** Answers to IOEND that no system call has seen. */
  readonly ioendRefusals: SystemError[] = [];
  /** FORGETs and RELEASEs that nobody waits for. */
  readonly queue: (() => void)[] = [];
  /** What the kernel finds to do meanwhile. */
  background: () => void = () => undefined;
  #isBusy = false;
  #superblock: Superblock | undefined;
  #root: Inode | undefined;

  constructor(options: MountOptions) {
    this.options = options;
    this.generation = options.generation ?? "v7";
    this.random = options.random;
    const { transport, device, deviceOffsetBytes = 0, readOnly = false } = options;
    this.connection = new Connection(transport, this.violations);
    this.devices = new Devices({ device, deviceOffsetBytes, readOnly }, this.violations);
    transport.attach(receiverOf(this));
  }

  get superblock(): Superblock {
    if (this.#superblock === undefined) throw new Error("not mounted");
    return this.#superblock;
  }

  get root(): Inode {
    if (this.#root === undefined) throw new Error("not mounted");
    return this.#root;
  }

  get isPost(): boolean {
    return this.generation === "post";
  }

  now(): bigint {
    return this.options.now?.() ?? 1_700_000_000_000_000_000n;
  }

  /** INIT, CONFIG, and the root. */
  connect(): void {
    this.connection.initialize();
    const { mappingIndexBytesMax } = this.options;
    this.#superblock = {
      ...configure(this.connection, this.violations, this.generation),
      ...(mappingIndexBytesMax !== undefined && { mappingIndexBytesMax }),
    };
    this.#root = new Inode(ROOT_NODE, 0n, ROOT_ATTRIBUTES, this.#inodeContext(true));
    this.#root.attributesAreValid = false;
    this.inodes.set(ROOT_NODE, this.#root);
  }

  /** Asks the server, after whatever happens to be done first. @throws SystemError */
  ask(opcode: Opcode, node: number, body: Body = new Body(), size: Size = 0): Fields {
    this.yield();
    return this.connection.ask(opcode, node, body, size);
  }

  /** The same for what a server may lack. @returns undefined when it answers ENOSYS, now or before. */
  askIfAble(opcode: Opcode, node: number, body?: Body, size?: Size): Fields | undefined {
    if (this.connection.lacks(opcode)) return undefined;
    try {
      return this.ask(opcode, node, body, size);
    } catch (error) {
      if (!isErrno(error, Errno.ENOSYS)) throw error;
      this.connection.noteLack(opcode);
      return undefined;
    }
  }

  /** A moment at which others may run. */
  yield(): void {
    const { backgroundEvery = 0 } = this.options;
    if (this.#isBusy || backgroundEvery === 0 || this.random.below(backgroundEvery) > 0) return;
    this.undisturbed(this.background);
  }

  /** Nothing else happens during `action`. */
  undisturbed<T>(action: () => T): T {
    const wasBusy = this.#isBusy;
    this.#isBusy = true;
    try {
      return action();
    } finally {
      this.#isBusy = wasBusy;
    }
  }

  /** Takes a `fuse_entry_out`. @returns the inode, or nothing for a negative entry. */
  takeEntry(fields: Fields, at = 0): Inode | undefined {
    const node = fields.number(at);
    if (node === 0) return undefined;
    const attributes = readAttributes(fields, at + 40);
    const where = `node ${node}, ino ${attributes.ino}`;
    if (node === ROOT_NODE) this.violations.fail("node-id", where, Errno.EIO);
    const type = attributes.mode & FileType.MASK;
    if (!TYPES.has(type)) this.violations.fail("attr-mode", `${where}: ${type}`, Errno.EIO);
    const generation = fields.u64(at + 8);
    let inode = this.inodes.get(node);
    if (inode === undefined || inode.generation !== generation) {
      inode = new Inode(node, generation, attributes, this.#inodeContext(false));
      this.inodes.set(node, inode);
      const isHalf = (attributes.flags & (AttrFlag.IOMAP | AttrFlag.EXCLUSIVE)) === AttrFlag.IOMAP;
      if (isHalf) this.violations.note("iomap-not-exclusive", where);
    } else this.refresh(inode, attributes, "refresh");
    inode.lookups += 1;
    return inode;
  }

  /** Takes the `fuse_attr_out` of a reply about `inode`. */
  takeAttributes(inode: Inode, fields: Fields, why: "refresh" | "setattr"): Attributes {
    const attributes = readAttributes(fields, 16);
    this.refresh(inode, attributes, why);
    return attributes;
  }

  /** Takes newer attributes of an inode that is cached. */
  refresh(inode: Inode, attributes: Attributes, why: "refresh" | "setattr"): void {
    const where = `node ${inode.node}, ino ${inode.attrIno}`;
    if ((attributes.mode & FileType.MASK) !== inode.type)
      this.violations.fail("attr-mode", `${where}: mode ${attributes.mode}`, Errno.EIO);
    if (inode.node !== ROOT_NODE) {
      if (attributes.ino !== inode.attrIno)
        this.violations.note("ino-change", `${where}: ${attributes.ino}`);
      const changed = (attributes.flags ^ inode.flags) & FIXED_FLAGS;
      if (changed !== 0) this.violations.note("flags-change", `${where}: ${attributes.flags}`);
    }
    inode.mode = attributes.mode;
    inode.nlink = attributes.nlink;
    inode.uid = attributes.uid;
    inode.gid = attributes.gid;
    inode.rdev = attributes.rdev;
    inode.blocks = attributes.blocks;
    inode.attributesAreValid = true;
    if (inode.isIomap) {
      // v7 stores what the server says, and then what it knows itself on top of it.
      const isLost = why === "refresh" && !this.isPost;
      inode.diskSize = isLost ? inode.size : attributes.size;
      return;
    }
    inode.size = attributes.size;
    inode.diskSize = attributes.size;
    inode.atime = attributes.atime;
    inode.mtime = attributes.mtime;
    inode.ctime = attributes.ctime;
  }

  /** Asks for attributes if those at hand may be old. */
  revalidate(inode: Inode): void {
    if (!inode.attributesAreValid) this.getattr(inode);
  }

  getattr(inode: Inode): void {
    const reply = this.ask(Opcode.GETATTR, inode.node, new Body().zeros(16), ATTR_OUT_BYTES);
    this.takeAttributes(inode, reply, "refresh");
  }

  /** The name `name` in `directory`, from the dentry cache or from the server. */
  lookup(directory: Inode, name: string): Inode | undefined {
    if (directory.entries.has(name)) return directory.entries.get(name);
    const found = this.#askForName(directory, name);
    this.enter(directory, name, found);
    return found;
  }

  #askForName(directory: Inode, name: string): Inode | undefined {
    const body = new Body().name(Buffer.from(name, "latin1"));
    try {
      return this.takeEntry(this.ask(Opcode.LOOKUP, directory.node, body, ENTRY_BYTES));
    } catch (error) {
      if (isErrno(error, Errno.ENOENT)) return undefined;
      throw error;
    }
  }

  /** Takes into the dentry cache that `name` is `inode`, or nothing. */
  enter(directory: Inode, name: string, inode: Inode | undefined): void {
    const before = directory.entries.get(name);
    directory.entries.set(name, inode);
    if (inode !== undefined) {
      inode.dentries += 1;
      if (inode.isDirectory) inode.parent = directory;
    }
    if (before !== undefined) {
      before.dentries -= 1;
      this.release(before);
    }
  }

  /** Drops a dentry, negative ones too. */
  drop(directory: Inode, name: string): void {
    const inode = directory.entries.get(name);
    directory.entries.delete(name);
    if (inode === undefined) return;
    inode.dentries -= 1;
    this.release(inode);
  }

  /** Lets go of an inode that nobody uses any more, and has the server told some time. */
  release(inode: Inode): void {
    if (inode.isEvicted || inode.dentries > 0 || inode.opens > 0 || inode.node === ROOT_NODE)
      return;
    for (const [name] of inode.entries) this.drop(inode, name);
    inode.isEvicted = true;
    // Pages under writeback are waited for; dirty ones of a file without a name are for nobody.
    for (const ioend of this.ioends.filter((each) => each.inode === inode)) ioend.complete();
    inode.pages.clear();
    inode.mappings = undefined;
    if (this.inodes.get(inode.node) === inode) this.inodes.delete(inode.node);
    const { node, lookups } = inode;
    this.queue.push(() => {
      this.connection.tell(Opcode.FORGET, node, new Body().u64(lookups));
    });
  }

  /** The server has refused to hear of written data: v7 does not tell anybody. */
  noteIoendRefusal(inode: Inode, error: unknown): void {
    if (!(error instanceof SystemError)) throw error;
    this.ioendRefusals.push(error);
    if (this.isPost) inode.writebackError = error.errno;
  }

  /** Sends what waits in the queue. */
  drainQueue(): void {
    for (let job = this.queue.shift(); job !== undefined; job = this.queue.shift()) job();
  }

  #inodeContext(isRoot: boolean) {
    const { blockSize } = this.superblock;
    return { blockSize, hasIomap: this.connection.makesIomapInodes, isRoot };
  }
}

const TYPES = new Set([1, 2, 4, 6, 8, 10, 12].map((type) => type << 12));

/** @throws SystemError always. */
export function refuse(errno: number, why = "refused by the kernel"): never {
  throw new SystemError(errno, why);
}
