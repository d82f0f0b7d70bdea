/** Golden images to be damaged with a steady hand: one field of one structure at a time. */
import type { InodeNumber } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import { crc32cScript } from "../../src/ext4/format/checksum.ts";
import { InodeLayout } from "../../src/ext4/format/inode.ts";
import {
  type Filesystem,
  iomapForRead,
  newIomap,
  openFilesystem,
  openWritableFilesystem,
  type WriteOptions,
} from "../../src/ext4/index.ts";
import { expectation, image } from "./images.ts";

/** A golden image under the knife: its bytes, and the filesystem that finds places in it. */
export class Patient {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #name: string;
  readonly #sound: Filesystem;

  constructor(name: string) {
    this.#name = name;
    this.bytes = image(name);
    this.view = new DataView(this.bytes.buffer);
    this.#sound = openFilesystem(new MemoryDevice(image(name)));
  }

  /** Opens the image as it is now. */
  open(): Filesystem {
    return openFilesystem(new MemoryDevice(this.bytes));
  }
  /** The same for writing. */
  openWritable(options: WriteOptions = {}): Filesystem {
    return openWritableFilesystem(new MemoryDevice(this.bytes), options);
  }
  number(path: string): InodeNumber {
    return expectation(this.#name).paths[path] as InodeNumber;
  }
  /** Byte offset of an inode on the device. */
  inode(path: string): number {
    return this.#inodeAt(this.number(path));
  }
  #inodeAt(number: InodeNumber): number {
    const { block, at } = this.#sound.groups.locateInode(number);
    return block * this.#sound.superblock.blockSize + at;
  }
  /** Byte offset of `i_block` of an inode on the device. */
  iBlock(path: string): number {
    return this.inode(path) + InodeLayout.block;
  }
  iBlockOf(number: InodeNumber): number {
    return this.#inodeAt(number) + InodeLayout.block;
  }
  /** Byte offset of the descriptor of group 0 on the device. */
  get descriptor(): number {
    const { blockSize, firstDataBlock } = this.#sound.superblock;
    return (firstDataBlock + 1) * blockSize;
  }
  get blockSize(): number {
    return this.#sound.superblock.blockSize;
  }
  /** Byte offset of the first block of a file on the device. */
  blockOf(path: string): number {
    return this.blockOfInode(this.number(path));
  }
  blockOfInode(number: InodeNumber): number {
    return iomapForRead(this.#sound, this.#sound.internalInode(number), 0, 1, newIomap()).addr;
  }
  xattrBlock(path: string): number {
    return this.#sound.inode(this.number(path)).xattrBlock * this.blockSize;
  }
  flip(at: number): void {
    this.view.setUint8(at, this.view.getUint8(at) ^ 0x10);
  }
  /** Makes the checksum of an inode right again after a change. */
  reseal(path: string): void {
    const { inodeSize } = this.#sound.superblock;
    const at = this.inode(path);
    this.set16(at + InodeLayout.checksumLo, 0);
    this.set16(at + InodeLayout.checksumHi, 0);
    const { checksumSeed } = this.#sound.inode(this.number(path));
    const crc = crc32cScript(checksumSeed, this.bytes.subarray(at, at + inodeSize));
    this.set16(at + InodeLayout.checksumLo, crc & 0xffff);
    this.set16(at + InodeLayout.checksumHi, crc >>> 16);
  }
  set16(at: number, value: number): void {
    this.view.setUint16(at, value, true);
  }
  set32(at: number, value: number): void {
    this.view.setUint32(at, value, true);
  }
}
