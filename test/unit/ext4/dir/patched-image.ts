/** A golden image that a test changes in memory: where its directories lie, and checksums renewed. */
import { sizeOf } from "../../../../src/base/layout.ts";
import type { FileBlock, InodeNumber } from "../../../../src/base/numbers.ts";
import { MemoryDevice } from "../../../../src/device/memory-device.ts";
import { crc32cScript } from "../../../../src/ext4/format/checksum.ts";
import {
  HtreeTail,
  htreeTailAt,
  htreeUsedEnd,
  ROOT_ENTRIES_AT,
} from "../../../../src/ext4/format/htree.ts";
import { InodeLayout } from "../../../../src/ext4/format/inode.ts";
import { SUPERBLOCK_OFFSET, SuperblockLayout } from "../../../../src/ext4/format/superblock.ts";
import {
  type DirectorySink,
  type Filesystem,
  openFilesystem,
  readDirectory,
} from "../../../../src/ext4/index.ts";
import { readFileBlock } from "../../../../src/ext4/map/iomap.ts";
import { expectation, image } from "../../../support/images.ts";

export class PatchedImage {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #name: string;
  readonly #sound: Filesystem;

  constructor(name: string) {
    this.bytes = image(name);
    this.view = new DataView(this.bytes.buffer);
    this.#name = name;
    this.#sound = openFilesystem(new MemoryDevice(image(name)));
  }

  /** Opens the image as it is now. */
  open(): Filesystem {
    return openFilesystem(new MemoryDevice(this.bytes));
  }

  get blockSize(): number {
    return this.#sound.superblock.blockSize;
  }
  number(path: string): InodeNumber {
    return expectation(this.#name).paths[path] as InodeNumber;
  }
  /** Byte offset of the inode of `path`. */
  inode(path: string): number {
    const { block, at } = this.#sound.groups.locateInode(this.number(path));
    return block * this.blockSize + at;
  }
  iBlock(path: string): number {
    return this.inode(path) + InodeLayout.block;
  }
  /** Byte offset of block `index` of the directory `path`. */
  block(path: string, index: number): number {
    const inode = this.#sound.inode(this.number(path));
    const block = readFileBlock(this.#sound, inode, index as FileBlock);
    if (block === undefined) throw new Error(`${path} has a hole at block ${index}`);
    return block.number * this.blockSize;
  }

  set8(at: number, value: number): void {
    this.view.setUint8(at, value);
  }
  set16(at: number, value: number): void {
    this.view.setUint16(at, value, true);
  }
  set32(at: number, value: number): void {
    this.view.setUint32(at, value, true);
  }

  sealSuperblock(): void {
    const at = SUPERBLOCK_OFFSET;
    const covered = this.bytes.subarray(at, at + SuperblockLayout.checksum);
    this.set32(at + SuperblockLayout.checksum, crc32cScript(0xffff_ffff, covered));
  }
  /** Renews the checksum of the root of the index of `path`. */
  sealRoot(path: string): void {
    const at = this.block(path, 0);
    const view = new DataView(this.bytes.buffer, at, this.blockSize);
    const tail = at + htreeTailAt(view, ROOT_ENTRIES_AT);
    const zeroed = new Uint8Array(sizeOf(HtreeTail));
    zeroed.set(this.bytes.subarray(tail, tail + HtreeTail.checksum));
    const used = this.bytes.subarray(at, at + htreeUsedEnd(view, ROOT_ENTRIES_AT));
    this.set32(tail + HtreeTail.checksum, this.#checksum(path, [used, zeroed]));
  }
  /** Renews the checksum of the inode of `path`. */
  sealInode(path: string): void {
    const at = this.inode(path);
    this.set16(at + InodeLayout.checksumLo, 0);
    this.set16(at + InodeLayout.checksumHi, 0);
    const whole = this.bytes.subarray(at, at + this.#sound.superblock.inodeSize);
    const checksum = this.#checksum(path, [whole]);
    this.set16(at + InodeLayout.checksumLo, checksum & 0xffff);
    this.set16(at + InodeLayout.checksumHi, checksum >>> 16);
  }

  #checksum(path: string, parts: readonly Uint8Array[]): number {
    const { checksums } = this.#sound;
    const { checksumSeed } = this.#sound.inode(this.number(path));
    return parts.reduce((seed, part) => checksums.over(seed, part), checksumSeed);
  }
}

export interface Listed {
  /** One character per byte. */
  readonly name: string;
  readonly inode: InodeNumber;
  readonly type: number;
  readonly hi: number;
  readonly lo: number;
}

export const bytesOf = (name: string): Uint8Array =>
  Uint8Array.from(name, (character) => character.charCodeAt(0));

/** Lists a directory from a position on; every call takes `room` entries and the next one goes on. */
export function list(
  fs: Filesystem,
  directory: InodeNumber,
  room = Number.POSITIVE_INFINITY,
  from = { hi: 0, lo: 0 },
): Listed[] {
  const listed: Listed[] = [];
  let before = -1;
  while (listed.length > before) {
    before = listed.length;
    const { hi, lo } = listed[before - 1] ?? from;
    const sink: DirectorySink = (name, inode, type, nextHi, nextLo) => {
      if (listed.length >= before + room) return false;
      const text = String.fromCharCode(...name);
      listed.push({ name: text, inode, type, hi: nextHi, lo: nextLo });
      return true;
    };
    readDirectory(fs, directory, hi, lo, sink);
  }
  return listed;
}

export const namesOf = (listed: readonly Listed[]): string[] => listed.map(({ name }) => name);
