/**
 * What a session knows while the kernel moves file contents by itself (fuse+iomap): the device that was
 * registered, who has which file open, and of which files the kernel keeps mappings. It writes the
 * structs that the replies and the notifications of this mode share.
 *
 * The kernel keeps mappings as long as it likes. Whoever changes where bytes lie without having been
 * asked by the kernel to do so tells it (`forgetMappings`).
 */
import { type At, setLe16, setLe32, setLe64, sizeOf } from "../base/layout.ts";
import { FileType, type Inode, InodeFlags, type Iomap, IomapType } from "../ext4/index.ts";
import type { Channel } from "./channel.ts";
import {
  AttrFlag,
  FuseRange,
  IomapDevInvalOut,
  IomapInvalMappingsOut,
  IomapIo,
  IomapNotification,
  IomapUpsertMappingsOut,
  MappingType,
} from "./iomap-abi.ts";
import type { IomapHost } from "./iomap-host.ts";

/** A mapping as it goes over the wire: an answer of the filesystem, and flags. */
export interface Mapping extends Pick<Iomap, "offset" | "length" | "addr"> {
  readonly type: number;
  readonly flags: number;
}

/** Half of a 64-bit field that says that there is none. */
const ALL_ONES = 0xffff_ffff;
/** Flags that programs see, and the kernel enforces. */
const ENFORCED: readonly (readonly [inodeFlag: number, attrFlag: number])[] = [
  [InodeFlags.SYNC, AttrFlag.SYNC],
  [InodeFlags.IMMUTABLE, AttrFlag.IMMUTABLE],
  [InodeFlags.APPEND, AttrFlag.APPEND],
];

export class IomapState {
  readonly host: IomapHost;
  readonly #channel: Channel;
  readonly #blockSize: number;
  readonly #isWritable: boolean;
  /** 0 until a device is registered. */
  #device = 0;
  readonly #opens = new Map<number, number>();
  readonly #cached = new Set<number>();
  readonly #upsert = newMessage(IomapUpsertMappingsOut);
  readonly #inval = newMessage(IomapInvalMappingsOut);
  readonly #devInval = newMessage(IomapDevInvalOut);

  /** @param isWritable mappings can change: nobody has to remember who has some, otherwise. */
  constructor(host: IomapHost, channel: Channel, blockSize: number, isWritable: boolean) {
    this.host = host;
    this.#isWritable = isWritable;
    this.#channel = channel;
    this.#blockSize = blockSize;
  }

  /** The number of the registered device, or 0: then the kernel moves nothing by itself. */
  get device(): number {
    return this.#device;
  }

  get isActive(): boolean {
    return this.#device !== 0;
  }

  /** From now on inodes are given to the kernel as ones whose contents it moves. */
  activate(device: number): void {
    this.#device = device;
  }

  /** `fuse_attr.flags` of `inode`. */
  attrFlags(inode: Inode): number {
    if (!this.isActive) return 0;
    let flags: number = AttrFlag.EXCLUSIVE | AttrFlag.IOMAP;
    if (this.isAtomic(inode)) flags |= AttrFlag.ATOMIC;
    for (const [inodeFlag, attrFlag] of ENFORCED) {
      if ((inode.flags & inodeFlag) !== 0) flags |= attrFlag;
    }
    return flags;
  }

  /** Whether a block of `inode` can be written wholly or not at all. */
  isAtomic(inode: Inode): boolean {
    const { min, max } = this.host.atomicWriteBytes ?? { min: 0, max: 0 };
    const fits = min > 0 && min <= this.#blockSize && this.#blockSize <= max;
    const isRegular = (inode.mode & FileType.MASK) === FileType.REGULAR;
    return fits && isRegular && (inode.flags & InodeFlags.EXTENTS) !== 0;
  }

  noteOpened(node: number): void {
    this.#opens.set(node, (this.#opens.get(node) ?? 0) + 1);
  }

  /** @returns whether nobody has the node open any more. */
  noteReleased(node: number): boolean {
    const left = (this.#opens.get(node) ?? 0) - 1;
    if (left > 0) this.#opens.set(node, left);
    else this.#opens.delete(node);
    return left <= 0;
  }

  noteForgotten(node: number): void {
    this.#opens.delete(node);
    this.#cached.delete(node);
  }

  /** Writes a `fuse_iomap_io`. Only what lies on the device has a place there. */
  writeMapping(view: DataView, at: number, mapping: Mapping): void {
    const { type, flags, offset, length, addr } = mapping;
    setLe64(view, at, IomapIo.offset, offset);
    setLe64(view, at, IomapIo.length, length);
    const isPlaced = type === IomapType.MAPPED || type === IomapType.UNWRITTEN;
    if (isPlaced) setLe64(view, at, IomapIo.addr, addr + this.host.deviceOffsetBytes);
    else setNothing(view, at, IomapIo.addr);
    setLe16(view, at, IomapIo.type, type);
    setLe16(view, at, IomapIo.flags, flags);
    setLe32(view, at, IomapIo.dev, isPlaced ? this.#device : 0);
  }

  /** Has the kernel keep `mapping` of a node, for reads and writes. @returns whether it does. */
  keepMapping(node: number, inode: number, mapping: Mapping): boolean {
    const { bytes, view } = this.#upsert;
    const U = IomapUpsertMappingsOut;
    setLe64(view, 0, U.nodeid, node);
    setLe64(view, 0, U.attrIno, inode);
    this.writeMapping(view, U.read, mapping);
    // Writes go where reads come from, as long as nothing else was ever said about them.
    this.writeMapping(view, U.write, { ...mapping, type: MappingType.NOCACHE, flags: 0 });
    const isKept = this.#channel.notify(IomapNotification.UPSERT_MAPPINGS, bytes) === 0;
    if (isKept && this.#isWritable) this.#cached.add(node);
    if (!isKept) this.forgetMappings(node, inode, mapping.offset, mapping.offset + mapping.length);
    return isKept;
  }

  /** Has the kernel forget where the bytes of a node from `from` up to `end` lie. */
  forgetMappings(node: number, inode: number, from: number, end: number): void {
    if (!this.#cached.has(node)) return;
    const { bytes, view } = this.#inval;
    const I = IomapInvalMappingsOut;
    setLe64(view, 0, I.nodeid, node);
    setLe64(view, 0, I.attrIno, inode);
    const start = from - (from % this.#blockSize);
    for (const range of [I.read, I.write]) {
      setLe64(view, range, FuseRange.offset, start);
      const blocks = Math.ceil((end - start) / this.#blockSize);
      if (end === Number.MAX_SAFE_INTEGER) setNothing(view, range, FuseRange.length);
      else setLe64(view, range, FuseRange.length, blocks * this.#blockSize);
    }
    this.#channel.notify(IomapNotification.INVAL_MAPPINGS, bytes);
  }

  /** Drops what the page cache of the device has of a range that has another use from now on. */
  forgetDevice(offset: number, length: number): void {
    if (!this.isActive) return;
    const { bytes, view } = this.#devInval;
    const D = IomapDevInvalOut;
    setLe32(view, 0, D.dev, this.#device);
    setLe64(view, D.range, FuseRange.offset, offset + this.host.deviceOffsetBytes);
    setLe64(view, D.range, FuseRange.length, length);
    this.#channel.notify(IomapNotification.DEV_INVAL, bytes);
  }
}

function newMessage(struct: object): { readonly bytes: Uint8Array; readonly view: DataView } {
  const bytes = new Uint8Array(sizeOf(struct));
  return { bytes, view: new DataView(bytes.buffer) };
}

/** Stores 2^64 - 1: no address, or no end. */
function setNothing(view: DataView, base: number, at: At<"le64">): void {
  view.setUint32(base + at, ALL_ONES, true);
  view.setUint32(base + at + 4, ALL_ONES, true);
}
