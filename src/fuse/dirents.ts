/**
 * Writes the records of a listing, READDIR's and READDIRPLUS', straight into the reply.
 *
 *     READDIR       | fuse_dirent 24 | name | pad |            to a multiple of 8
 *     READDIRPLUS   | fuse_entry_out 128 | fuse_dirent 24 | name | pad |
 *
 * A listing of a cold tree is one of the two big loads on a file server, and most of it happens
 * here: a record allocates nothing. Only whole records are written; `off` is the position behind
 * the record, from where the kernel goes on.
 */
import { setLe32, setLe64, sizeOf } from "../base/layout.ts";
import type { InodeNumber } from "../base/numbers.ts";
import { type DirectorySink, FsError, type Inode } from "../ext4/index.ts";
import { Dirent, Direntplus, EntryOut } from "./abi.ts";
import type { AttributeWriter } from "./attributes.ts";
import type { ServedFilesystem } from "./served.ts";

const DIRENT_SIZE = sizeOf(Dirent);
const DIRENTPLUS_SIZE = sizeOf(Direntplus);
const ENTRY_OUT_SIZE = sizeOf(EntryOut);
const DOT = 0x2e;
const MODE_TYPE_SHIFT = 12;

/** `length` rounded up to the alignment of records. */
function aligned(length: number): number {
  return (length + 7) & ~7;
}

function isDotOrDotDot(name: Uint8Array): boolean {
  return name[0] === DOT && (name.length === 1 || (name.length === 2 && name[1] === DOT));
}

/** A listing being written. One object serves the whole session, one listing at a time. */
export class DirentWriter {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #fs: ServedFilesystem;
  readonly #attributes: AttributeWriter;
  #start = 0;
  #at = 0;
  #limit = 0;
  #refused = false;

  /** @param bytes the buffer that replies are built in. */
  constructor(bytes: Uint8Array, fs: ServedFilesystem, attributes: AttributeWriter) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#fs = fs;
    this.#attributes = attributes;
  }

  /** Starts a listing from `start` to at most `limit` in the buffer. */
  open(start: number, limit: number): void {
    this.#start = start;
    this.#at = start;
    this.#limit = limit;
    this.#refused = false;
  }

  /** Where the last record ends. */
  get end(): number {
    return this.#at;
  }

  get isEmpty(): boolean {
    return this.#at === this.#start;
  }

  /** True when not even the first record had room: an empty reply would mean the end. */
  get isTooSmall(): boolean {
    return this.#refused && this.isEmpty;
  }

  /** Takes the entries of READDIR. */
  readonly plain: DirectorySink = (name, inode, type, nextHi, nextLo) => {
    const base = this.#claim(DIRENT_SIZE, name);
    if (base < 0) return false;
    this.#writeDirent(base, name, inode, type, nextHi, nextLo);
    return true;
  };

  /**
   * Takes the entries of READDIRPLUS. A name whose inode cannot be read is listed all the same,
   * with node id 0: the kernel then looks it up on its own, and that request gets the error. "." and
   * ".." have node id 0 as well, and add no lookup.
   */
  readonly plus: DirectorySink = (name, inode, type, nextHi, nextLo) => {
    const base = this.#claim(DIRENTPLUS_SIZE, name);
    if (base < 0) return false;
    const found = isDotOrDotDot(name) ? undefined : this.#findInode(inode);
    if (found === undefined) {
      this.#bytes.fill(0, base, base + ENTRY_OUT_SIZE);
    } else {
      this.#attributes.writeEntry(this.#view, base + Direntplus.entryOut, found);
    }
    const known = type === 0 && found !== undefined ? found.mode >> MODE_TYPE_SHIFT : type;
    this.#writeDirent(base + Direntplus.dirent, name, inode, known, nextHi, nextLo);
    return true;
  };

  #findInode(inode: InodeNumber): Inode | undefined {
    try {
      return this.#fs.inode(inode);
    } catch (error) {
      if (error instanceof FsError) return undefined;
      throw error;
    }
  }

  /** Takes the room of a record whose fixed part is `fixedSize` long. @returns its base, or -1. */
  #claim(fixedSize: number, name: Uint8Array): number {
    const base = this.#at;
    const end = base + aligned(fixedSize + name.length);
    if (end > this.#limit) {
      this.#refused = true;
      return -1;
    }
    this.#bytes.fill(0, base + fixedSize + name.length, end);
    this.#at = end;
    return base;
  }

  #writeDirent(
    base: number,
    name: Uint8Array,
    inode: number,
    type: number,
    nextHi: number,
    nextLo: number,
  ): void {
    setLe64(this.#view, base, Dirent.ino, inode);
    this.#view.setUint32(base + Dirent.off, nextLo, true);
    this.#view.setUint32(base + Dirent.off + 4, nextHi, true);
    setLe32(this.#view, base, Dirent.namelen, name.length);
    setLe32(this.#view, base, Dirent.type, type);
    this.#bytes.set(name, base + DIRENT_SIZE);
  }
}
