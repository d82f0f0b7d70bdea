/**
 * A kernel with the fuse + iomap series, as far as a server can tell: the face that tests use. It
 * speaks the protocol through a `Transport`, caches inodes, names, pages and mappings, does the I/O on
 * file data itself, and checks all that the server says.
 *
 *     const kernel = new IomapKernel({ transport, device, random });
 *     kernel.mount();
 *     const file = kernel.open(kernel.create(kernel.root, "a", { mode: 0o100644 }));
 *     file.write(0, bytes);
 *     kernel.fsync(file.inode);
 *     file.close();
 *     kernel.unmount();
 *     expect(kernel.violations).toEqual([]);
 *
 * Calls throw `SystemError` as system calls fail. Names and paths have one character per byte.
 */
import { Errno } from "./abi.ts";
import * as attributes from "./attributes.ts";
import { doSomething, dropDentries } from "./background.ts";
import { writeMapped } from "./buffered.ts";
import type { Message } from "./connection.ts";
import type { FaultHook } from "./devices.ts";
import { OpenFile } from "./files.ts";
import * as filesystem from "./filesystem.ts";
import { fsync } from "./fsync.ts";
import type { Inode } from "./inode.ts";
import type { Mapping } from "./mapping.ts";
import { Mount, type MountOptions } from "./mount.ts";
import * as names from "./names.ts";
import { dropPages } from "./pages.ts";
import * as queries from "./queries.ts";
import * as ranges from "./ranges.ts";
import type { Violation } from "./rules.ts";
import type { Fields } from "./wire.ts";
import { syncInode, writeBack } from "./writeback.ts";
import * as xattrs from "./xattrs.ts";

/** What the server's end of the connection can ask of the kernel without a message (ioctls). */
export interface KernelHost {
  /** FUSE_DEV_IOC_BACKING_OPEN of the device. @returns an id, or a negative errno. */
  registerDevice(): number;
  /** FUSE_DEV_IOC_IOMAP_SET_BLOCKSIZE. @returns zero or a negative errno. */
  setBlockSize(deviceId: number, bytes: number): number;
  readonly atomicWriteBytes?: { readonly min: number; readonly max: number };
  readonly deviceOffsetBytes: number;
}

export class IomapKernel {
  /** The caches and the connection, for tests that look into them. */
  readonly state: Mount;

  constructor(options: MountOptions) {
    this.state = new Mount(options);
    this.state.background = () => doSomething(this.state);
  }

  /** Rules that the server has broken, in order. */
  get violations(): readonly Violation[] {
    return this.state.violations.list;
  }
  /** Requests sent, by name. */
  get counts(): ReadonlyMap<string, number> {
    return this.state.connection.counts;
  }
  get root(): Inode {
    return this.state.root;
  }

  /** For `SessionOptions.iomap`. @param atomicWriteBytes what the device writes untorn. */
  host(atomicWriteBytes?: { min: number; max: number }): KernelHost {
    const { connection, devices, violations } = this.state;
    return {
      registerDevice: () => {
        if (connection.hasIomap) return devices.register();
        violations.note("device-no-iomap", "", Errno.EPERM);
        return -Errno.EPERM;
      },
      setBlockSize: (id, bytes) => {
        if (!connection.hasIomap) return -Errno.EOPNOTSUPP;
        if (!devices.has(id)) {
          violations.note("device-unknown", `id ${id}`, Errno.ENOENT);
          return -Errno.ENOENT;
        }
        const isPower = (bytes & (bytes - 1)) === 0 && bytes >= 512;
        if (!isPower) violations.note("device-blocksize", String(bytes), Errno.EINVAL);
        else devices.blockSizes.push(bytes);
        return isPower ? 0 : -Errno.EINVAL;
      },
      ...(atomicWriteBytes !== undefined && { atomicWriteBytes }),
      deviceOffsetBytes: devices.offsetBytes,
    };
  }

  mount(): void {
    this.state.connect();
    this.state.getattr(this.root);
  }
  unmount(): void {
    filesystem.unmount(this.state);
  }

  /** Sends any request at all, checked by nobody. @returns the errno (negative or zero) and the body. */
  send(opcode: number, node: number, body: Uint8Array): { error: number; body: Uint8Array } {
    return this.state.connection.send(opcode, node, body);
  }
  /** Has `watch` see every request. */
  onRequest(watch: (message: Message) => void): void {
    this.state.connection.onRequest = watch;
  }
  /** Has the kernel's I/O go through `hook`, which may throw. */
  onDeviceIo(hook: FaultHook | undefined): void {
    this.state.devices.fault = hook;
  }
  /** Whose system calls these are; root's at first. */
  actAs(uid: number, gid: number): void {
    this.state.connection.caller = { uid, gid };
  }

  /** Lets the kernel do `count` things of its own. */
  idle(count = 1): void {
    this.state.undisturbed(() => {
      for (let done = 0; done < count; done++) doSomething(this.state);
    });
  }
  /** Forgets one name in so many, and clean pages. */
  dropCaches(oneIn = 1): void {
    dropDentries(this.state, oneIn);
    for (const inode of this.state.inodes.values()) {
      for (const [block, page] of inode.pages)
        if (!page.isDirty && !page.isUnderWriteback) inode.pages.delete(block);
    }
  }

  walk = (path: string): Inode => names.walk(this.state, path);
  lookup = (parent: Inode, name: string): Inode | undefined => this.state.lookup(parent, name);
  list = (directory: Inode, plus?: boolean): string[] => names.list(this.state, directory, plus);
  readLink = (inode: Inode): string => names.readLink(this.state, inode);
  create = (parent: Inode, name: string, node: names.NewNode): Inode =>
    names.create(this.state, parent, name, node);
  mknod = (parent: Inode, name: string, node: names.NewNode): Inode =>
    names.mknod(this.state, parent, name, node);
  mkdir = (parent: Inode, name: string, node: names.NewNode): Inode =>
    names.mkdir(this.state, parent, name, node);
  symlink = (parent: Inode, name: string, target: string): Inode =>
    names.symlink(this.state, parent, name, target);
  temporary = (parent: Inode, node: names.NewNode): Inode =>
    names.temporary(this.state, parent, node);
  link = (inode: Inode, parent: Inode, name: string, isLinkable = false): void =>
    names.link(this.state, inode, parent, name, isLinkable);
  unlink = (parent: Inode, name: string): void => names.unlink(this.state, parent, name);
  rmdir = (parent: Inode, name: string): void => names.rmdir(this.state, parent, name);
  rename = (from: Inode, name: string, to: Inode, newName: string, flags = 0): void =>
    names.rename(this.state, from, name, to, newName, flags);

  open = (inode: Inode): OpenFile => new OpenFile(this.state, inode);
  fsync = (inode: Inode, dataOnly = false): void => fsync(this.state, inode, dataOnly);
  /** Changes bytes through a shared mapping. */
  writeMapped = (inode: Inode, pos: number, bytes: Uint8Array): void =>
    writeMapped(this.state, inode, pos, bytes);
  /** Starts and ends the writeback of a range. */
  writeBack = (inode: Inode, start?: number, end?: number): void =>
    writeBack(this.state, inode, start, end);
  /** Pages, then times. */
  syncInode = (inode: Inode): void => syncInode(this.state, inode);
  /** Loses pages, dirty ones too: for tests that want to see what is on the device. */
  losePages = (inode: Inode): void => dropPages(inode, 0);

  stat = (inode: Inode): Inode => attributes.stat(this.state, inode);
  statx = (inode: Inode): Uint8Array => attributes.statx(this.state, inode);
  getattr = (inode: Inode): void => this.state.getattr(inode);
  chmod = (inode: Inode, mode: number): void => attributes.chmod(this.state, inode, mode);
  chown = (inode: Inode, uid: number, gid: number): void =>
    attributes.chown(this.state, inode, uid, gid);
  utimes = (inode: Inode, atime: bigint, mtime: bigint): void =>
    attributes.utimes(this.state, inode, atime, mtime);
  truncate = (inode: Inode, size: number, isOpen = false): void =>
    attributes.truncate(this.state, inode, size, isOpen);
  fallocate = (inode: Inode, mode: number, offset: number, length: number): void =>
    ranges.fallocate(this.state, inode, mode, offset, length);
  copyRange = (
    from: Inode,
    fromOffset: number,
    to: Inode,
    toOffset: number,
    length: number,
  ): number => ranges.copyRange(this.state, from, fromOffset, to, toOffset, length);

  seek = (inode: Inode, what: "data" | "hole", offset: number): number =>
    queries.seek(this.state, inode, what, offset);
  fiemap = (inode: Inode, pos: number, length: number, flags?: number): Mapping[] =>
    queries.fiemap(this.state, inode, pos, length, flags);
  swapOn = (inode: Inode): Mapping[] => queries.swapOn(this.state, inode);
  swapOff = (inode: Inode): void => queries.swapOff(this.state, inode);

  getXattr = (inode: Inode, name: string): Uint8Array | undefined =>
    xattrs.getXattr(this.state, inode, name);
  listXattrs = (inode: Inode): string[] => xattrs.listXattrs(this.state, inode);
  setXattr = (inode: Inode, name: string, value: Uint8Array, flags = 0): void =>
    xattrs.setXattr(this.state, inode, name, value, flags);
  removeXattr = (inode: Inode, name: string): void => xattrs.removeXattr(this.state, inode, name);

  statfs = (): Fields => filesystem.statfs(this.state);
  sync = (): void => filesystem.syncAll(this.state);
  freeze = (): void => filesystem.freeze(this.state);
  thaw = (): void => filesystem.thaw(this.state);
  shutdown = (): void => filesystem.shutdown(this.state);
}
