/**
 * The bytes that a disk holds, with a hash that is kept up to date sector by sector: two states with
 * equal bytes have equal hashes, however they came about.
 */
import { SECTOR_SIZE } from "../support/recording-device.ts";

/** A part of a write that reached the medium. */
export interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export class Disk {
  readonly bytes: Uint8Array;
  readonly #words: Uint32Array;
  #hashLo = 0;
  #hashHi = 0;

  /** @param bytes become the disk's own; whole sectors, aligned to 4. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  }

  /** Relative to the state that the disk was made with. */
  get hash(): string {
    return `${this.#hashLo >>> 0}.${this.#hashHi >>> 0}`;
  }

  /** Stores `piece`. @returns a piece that takes it back. */
  write(piece: Piece): Piece {
    const { offset, bytes } = piece;
    const before = this.bytes.slice(offset, offset + bytes.length);
    this.#toggle(offset, bytes.length);
    this.bytes.set(bytes, offset);
    this.#toggle(offset, bytes.length);
    return { offset, bytes: before };
  }

  /** Takes the sectors of a range out of the hash, or puts them in. */
  #toggle(offset: number, length: number): void {
    const last = Math.floor((offset + length - 1) / SECTOR_SIZE);
    for (let sector = Math.floor(offset / SECTOR_SIZE); sector <= last; sector++)
      this.#toggleSector(sector);
  }

  #toggleSector(sector: number): void {
    const words = this.#words;
    const start = (sector * SECTOR_SIZE) / 4;
    let lo = Math.imul(sector + 1, 0x9e3779b1);
    let hi = Math.imul(sector + 1, 0x85ebca6b);
    for (let index = start; index < start + SECTOR_SIZE / 4; index++) {
      const word = words[index] as number;
      lo = Math.imul(lo ^ word, 0xcc9e2d51);
      lo ^= lo >>> 15;
      hi = Math.imul(hi ^ (word >>> 7) ^ (word << 25), 0x1b873593);
      hi ^= hi >>> 13;
    }
    this.#hashLo ^= lo;
    this.#hashHi ^= hi;
  }
}
