/**
 * Directory entries: records one after another that fill a block exactly.
 *
 *     entry   | inode 4 | rec_len 2 | name_len 1 | file_type 1 | name ... | [hash 4 | minor hash 4] |
 *     block   | entry | entry | ... | entry, up to the end or the tail | tail 12 |
 *
 * An entry whose inode is 0 is free room. The tail (with metadata_csum) is shaped like a free entry
 * of file type 0xde and holds the checksum of the block. Without the FILETYPE feature `name_len` is
 * 16 bits wide (`ext4_dir_entry`). The hash lies behind the name, padded to 4, only where names are
 * both encrypted and compared without regard to case, and not in "." and "..".
 *
 * `checkDirents` looks at a block once; from then on the accessors trust it. What changes entries
 * keeps it so: the records always fill their block, and free room is zeroed.
 *
 * @see ext4/directory.rst, "Linear (Classic) Directories"; fs/ext4/ext4.h, struct ext4_dir_entry_hash
 */
import { layout, le16, le32, setLe16, setLe32, setU8, u8 } from "../../base/layout.ts";
import type { InodeNumber } from "../../base/numbers.ts";
import { CorruptionError, type Place } from "../errors.ts";

// biome-ignore format: a table
export const Dirent = layout("ext4_dir_entry_2", 8, {
  inode:   [0x0, "le32"],  recLen:   [0x4, "le16"],
  nameLen: [0x6, "u8"],    fileType: [0x7, "u8"],
});

/** The head of an entry without the FILETYPE feature. */
// biome-ignore format: a table
export const OldDirent = layout("ext4_dir_entry", 8, {
  inode: [0x0, "le32"],  recLen: [0x4, "le16"],  nameLen: [0x6, "le16"],
});

// biome-ignore format: a table
export const DirentTail = layout("ext4_dir_entry_tail", 12, {
  reservedZero1: [0x0, "le32"],  recLen:     [0x4, "le16"],
  reservedZero2: [0x6, "u8"],    reservedFt: [0x7, "u8"],
  checksum:      [0x8, "le32"],
});

// biome-ignore format: a table
export const DirentHash = layout("ext4_dir_entry_hash", 8, {
  hash: [0x0, "le32"],  minorHash: [0x4, "le32"],
});

/** Bytes in front of the name. */
export const DIRENT_HEAD_SIZE = 8;
/** The longest name. */
export const NAME_MAX = 255;
export const TAIL_SIZE = 12;
const TAIL_FILE_TYPE = 0xde;
const HASH_SIZE = 8;
const DOT = 0x2e;
const SLASH = 0x2f;
/** The smallest block size whose length does not fit `rec_len`. */
const BLOCK_SIZE_WIDE = 0x1_0000;
const REC_LEN_MAX = 0xffff;

/** `file_type` → the DT_* number of dirent.h. @see include/linux/fs_types.h */
const DT_BY_FILE_TYPE = Uint8Array.of(0, 8, 4, 2, 6, 1, 12, 10);
/** Where the type bits of a mode, which are the DT_* number, begin. */
export const MODE_TYPE_SHIFT = 12;
const MODE_TYPE_MASK = 0xf;

/** How the entries of one directory are stored. */
export interface DirentFormat {
  readonly blockSize: number;
  /** Entries say what they name: the FILETYPE feature. */
  readonly hasFileType: boolean;
  /** Entries carry their hash behind the name. */
  readonly hasHash: boolean;
  /** Names are ciphertext: any bytes. */
  readonly isEncrypted: boolean;
  readonly inodeCount: number;
}

/** Bytes that hold entries, checked: all of them, up to `end`. */
export interface Dirents {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

export function direntInode(view: DataView, at: number): InodeNumber {
  return le32(view, at, Dirent.inode) as InodeNumber;
}

/** Bytes from this entry to the next. Blocks of 64 KiB store their own size as 65535 or 0. */
export function direntLength(view: DataView, at: number, blockSize: number): number {
  const stored = le16(view, at, Dirent.recLen);
  if (blockSize < BLOCK_SIZE_WIDE) return stored;
  return stored === REC_LEN_MAX || stored === 0 ? blockSize : stored;
}

/** Bytes of the name; of the 16 bits without FILETYPE the upper 8 were checked to be 0. */
export function direntNameLength(view: DataView, at: number): number {
  return u8(view, at, Dirent.nameLen);
}

/** The DT_* number, 0 when the entry does not say. */
export function direntType(view: DataView, at: number, format: DirentFormat): number {
  if (!format.hasFileType) return 0;
  return DT_BY_FILE_TYPE[u8(view, at, Dirent.fileType)] ?? 0;
}

/** Where ".." lies in a block that begins with "." and "..". */
export const DOTDOT_AT = 12;

/** Whether the `length` bytes of name at `from` are "." or "..". */
export function isDotOrDotDot(bytes: Uint8Array, from: number, length: number): boolean {
  if (bytes[from] !== DOT) return false;
  return length === 1 || (length === 2 && bytes[from + 1] === DOT);
}

/** Whether the first two entries are "." and "..", the first without room behind its name. */
export function beginsWithDots({ bytes, view }: Dirents, blockSize: number): boolean {
  const isNamed = (at: number, length: number): boolean =>
    direntNameLength(view, at) === length && isDotOrDotDot(bytes, at + DIRENT_HEAD_SIZE, length);
  return isNamed(0, 1) && direntLength(view, 0, blockSize) === DOTDOT_AT && isNamed(DOTDOT_AT, 2);
}

/** Where the stored hash of the entry at `at` lies; only where `format.hasHash`. */
export function direntHashAt(view: DataView, at: number): number {
  return at + ((DIRENT_HEAD_SIZE + direntNameLength(view, at) + 3) & ~3);
}

/** Bytes that an entry with a name of `length` bytes needs, without a hash. */
export function direntSize(length: number): number {
  return (DIRENT_HEAD_SIZE + length + 3) & ~3;
}

/** Bytes that an entry with such a name needs. */
function neededLength(bytes: Uint8Array, at: number, length: number, format: DirentFormat): number {
  const named = direntSize(length);
  const name = at + DIRENT_HEAD_SIZE;
  return format.hasHash && !isDotOrDotDot(bytes, name, length) ? named + HASH_SIZE : named;
}

/**
 * Checks the entries from `from` to `end`, which they have to fill exactly.
 *
 * @throws CorruptionError `dirent-length`, `dirent-name` or `dirent-inode`.
 */
export function checkDirents(
  { bytes, view }: Dirents,
  from: number,
  end: number,
  format: DirentFormat,
  place: Place,
): void {
  let at = from;
  while (at < end) {
    const length = end - at < DIRENT_HEAD_SIZE ? 0 : direntLength(view, at, format.blockSize);
    if (length < DIRENT_HEAD_SIZE || (length & 3) !== 0 || at + length > end) {
      throw new CorruptionError(
        "dirent-length",
        { ...place, offset: at },
        `${length} bytes of the ${end - at} that are left`,
      );
    }
    if (direntInode(view, at) !== 0) checkUsed(bytes, view, at, length, format, place);
    at += length;
  }
}

function checkUsed(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  length: number,
  format: DirentFormat,
  place: Place,
): void {
  const inode = direntInode(view, at);
  if (inode > format.inodeCount) {
    throw new CorruptionError("dirent-inode", { ...place, offset: at }, `inode ${inode}`);
  }
  const nameLength = format.hasFileType
    ? u8(view, at, Dirent.nameLen)
    : le16(view, at, OldDirent.nameLen);
  if (
    nameLength === 0 ||
    nameLength > NAME_MAX ||
    neededLength(bytes, at, nameLength, format) > length
  ) {
    throw new CorruptionError(
      "dirent-name",
      { ...place, offset: at },
      `${nameLength} bytes in an entry of ${length}`,
    );
  }
  if (format.isEncrypted) return;
  const name = at + DIRENT_HEAD_SIZE;
  for (let index = name; index < name + nameLength; index++) {
    const byte = bytes[index];
    if (byte !== 0 && byte !== SLASH) continue;
    throw new CorruptionError("dirent-name", { ...place, offset: index }, `byte ${byte}`);
  }
}

/**
 * The checksum that the tail of a directory block stores, or -1 when the block has no tail.
 *
 * @param end where the tail begins.
 */
export function storedDirentChecksum(view: DataView, end: number): number {
  const isTail =
    le32(view, end, DirentTail.reservedZero1) === 0 &&
    le16(view, end, DirentTail.recLen) === TAIL_SIZE &&
    u8(view, end, DirentTail.reservedZero2) === 0 &&
    u8(view, end, DirentTail.reservedFt) === TAIL_FILE_TYPE;
  return isTail ? le32(view, end, DirentTail.checksum) : -1;
}

/** Bytes of the record at `at` that are in use: none of an entry whose inode is 0. */
export function direntUsed({ bytes, view }: Dirents, at: number, format: DirentFormat): number {
  if (direntInode(view, at) === 0) return 0;
  return neededLength(bytes, at, direntNameLength(view, at), format);
}

/** The first record from `from` to `end` with `needed` bytes that are not in use, or -1. */
export function findRoom(
  dirents: Dirents,
  from: number,
  end: number,
  format: DirentFormat,
  needed: number,
): number {
  const { view } = dirents;
  const { blockSize } = format;
  let length: number;
  for (let at = from; at < end; at += length) {
    length = direntLength(view, at, blockSize);
    // Most records are too short for a second entry whatever their name is.
    if (length >= needed && length - direntUsed(dirents, at, format) >= needed) return at;
  }
  return -1;
}

/** What an entry says besides its name. */
export interface DirentTarget {
  readonly inode: InodeNumber;
  /** The mode of that inode, of which the type is stored. */
  readonly mode: number;
}

/**
 * Stores an entry without a hash in the unused bytes of the record at `at`, which `findRoom` found
 * to suffice.
 *
 * @returns where it lies.
 */
export function insertDirent(
  dirents: Dirents,
  at: number,
  format: DirentFormat,
  name: Uint8Array,
  target: DirentTarget,
): number {
  const { bytes, view } = dirents;
  const { blockSize } = format;
  const used = direntUsed(dirents, at, format);
  const length = direntLength(view, at, blockSize);
  const to = at + used;
  if (used > 0) setDirentLength(view, at, used, blockSize);
  bytes.fill(0, to, to + direntSize(name.length));
  setDirentLength(view, to, length - used, blockSize);
  setU8(view, to, Dirent.nameLen, name.length);
  bytes.set(name, to + DIRENT_HEAD_SIZE);
  setDirentTarget(view, to, format, target);
  return to;
}

/** Lets the entry at `at` name another inode. */
export function setDirentTarget(
  view: DataView,
  at: number,
  format: DirentFormat,
  { inode, mode }: DirentTarget,
): void {
  setLe32(view, at, Dirent.inode, inode);
  const type = (mode >>> MODE_TYPE_SHIFT) & MODE_TYPE_MASK;
  if (format.hasFileType) setU8(view, at, Dirent.fileType, DT_BY_FILE_TYPE.indexOf(type));
}

/**
 * Takes the entry at `at` out: the record before it takes its bytes, or, if it is the first one from
 * `from` on, it stays as free room.
 *
 * @returns bytes that are free in one piece now.
 */
export function eraseDirent(
  dirents: Dirents,
  from: number,
  at: number,
  format: DirentFormat,
): number {
  const { bytes, view } = dirents;
  const { blockSize } = format;
  const length = direntLength(view, at, blockSize);
  bytes.fill(0, at, at + length);
  if (at === from) {
    setDirentLength(view, at, length, blockSize);
    return length;
  }
  let previous = from;
  let previousLength = direntLength(view, previous, blockSize);
  while (previous + previousLength < at) {
    previous += previousLength;
    previousLength = direntLength(view, previous, blockSize);
  }
  setDirentLength(view, previous, previousLength + length, blockSize);
  return previousLength + length - direntUsed(dirents, previous, format);
}

/** Lets the record at `at` be `length` bytes long. */
export function setDirentLength(
  view: DataView,
  at: number,
  length: number,
  blockSize: number,
): void {
  const isWide = length === blockSize && blockSize === BLOCK_SIZE_WIDE;
  setLe16(view, at, Dirent.recLen, isWide ? REC_LEN_MAX : length);
}

/** Turns the bytes from `from` to `end` into one record of free room. */
export function clearDirents(
  { bytes, view }: Dirents,
  from: number,
  end: number,
  blockSize: number,
): void {
  bytes.fill(0, from, end);
  setDirentLength(view, from, end - from, blockSize);
}

/** Makes "." and ".." the only entries of a block; the second reaches to `end`. */
export function setDots(
  { bytes, view }: Dirents,
  end: number,
  format: DirentFormat,
  self: DirentTarget,
  parent: InodeNumber,
): void {
  bytes.fill(0, 0, end);
  setDirentLength(view, 0, DOTDOT_AT, format.blockSize);
  setU8(view, 0, Dirent.nameLen, 1);
  bytes[DIRENT_HEAD_SIZE] = DOT;
  setDirentTarget(view, 0, format, self);
  const name = DOTDOT_AT + DIRENT_HEAD_SIZE;
  setDirentLength(view, DOTDOT_AT, end - DOTDOT_AT, format.blockSize);
  setU8(view, DOTDOT_AT, Dirent.nameLen, 2);
  bytes.fill(DOT, name, name + 2);
  setDirentTarget(view, DOTDOT_AT, format, { inode: parent, mode: self.mode });
}

/** Writes the tail that begins at `end`, with its checksum. */
export function setDirentTail(view: DataView, end: number, checksum: number): void {
  setLe32(view, end, DirentTail.reservedZero1, 0);
  setLe16(view, end, DirentTail.recLen, TAIL_SIZE);
  setU8(view, end, DirentTail.reservedZero2, 0);
  setU8(view, end, DirentTail.reservedFt, TAIL_FILE_TYPE);
  setLe32(view, end, DirentTail.checksum, checksum);
}
