/**
 * The blocks of a journal (jbd2). Everything in them is big-endian, unlike the rest of ext4.
 *
 *     index 0      | superblock |                   what the log looks like and where it starts
 *     first ..     | descriptor | data | data | ... | revoke | commit | descriptor | ...
 *     .. logEnd    the log goes on at `first`; behind it the area of fast commits, if there is one
 *
 *     descriptor   | header 12 | tag (UUID) | tag | ... | last tag |        | tail 4 |
 *     revoke       | header 12 | count 4 | block number | block number ...  | tail 4 |
 *     commit       | header 12 | checksum type, size | checksum 32 | time 12 |
 *
 * Each tag tells where one of the data blocks behind the descriptor belongs. Tags come in four
 * sizes, and the tails exist with checksums v2 and v3 only.
 *
 * @see ext4/journal.rst; include/linux/jbd2.h
 */
import { be16, be32, bytesAt, layout, setBe32, sizeOf, u8 } from "../../base/layout.ts";
import { join32 } from "../../base/numbers.ts";
import { CorruptionError, UnsupportedError } from "../errors.ts";
import type { Checksums } from "./checksum.ts";

// biome-ignore format: a table
export const JournalHeader = layout("journal_header_s", 12, {
  magic: [0x0, "be32"],  blocktype: [0x4, "be32"],  sequence: [0x8, "be32"],
});

// biome-ignore format: a table
export const JournalSuperblockLayout = layout("journal_superblock_s", 1024, {
  magic:           [0x0, "be32"],   blocktype:       [0x4, "be32"],
  headerSequence:  [0x8, "be32"],   blocksize:       [0xc, "be32"],
  maxlen:          [0x10, "be32"],  first:           [0x14, "be32"],
  sequence:        [0x18, "be32"],  start:           [0x1c, "be32"],
  errno:           [0x20, "be32"],  featureCompat:   [0x24, "be32"],
  featureIncompat: [0x28, "be32"],  featureRoCompat: [0x2c, "be32"],
  uuid:            [0x30, 16],      nrUsers:         [0x40, "be32"],
  dynsuper:        [0x44, "be32"],  maxTransaction:  [0x48, "be32"],
  maxTransData:    [0x4c, "be32"],  checksumType:    [0x50, "u8"],
  numFcBlks:       [0x54, "be32"],  head:            [0x58, "be32"],
  checksum:        [0xfc, "be32"],  users:           [0x100, 768],
});

/** A tag without checksums or with v2. Without 64-bit block numbers it ends before `blocknrHigh`. */
// biome-ignore format: a table
export const BlockTag = layout("journal_block_tag_s", 12, {
  blocknr:  [0x0, "be32"],
  checksum: [0x4, "be16"],
  flags:    [0x6, "be16"],
  blocknrHigh: [0x8, "be32"],
});

/** A tag with checksums v3: always of this size. Its block number lies as in the other tags. */
// biome-ignore format: a table
export const BlockTag3 = layout("journal_block_tag3_s", 16, {
  blocknr:     [0x0, "be32"],
  flags:       [0x4, "be32"],
  blocknrHigh: [0x8, "be32"],
  checksum:    [0xc, "be32"],
});

/** The last bytes of a descriptor or revoke block. */
export const BlockTail = layout("jbd2_journal_block_tail", 4, { checksum: [0x0, "be32"] });

// biome-ignore format: a table
export const RevokeHeader = layout("jbd2_journal_revoke_header_s", 16, {
  header: [0x0, 12],
  count:  [0xc, "be32"],
});

// biome-ignore format: a table
export const CommitHeader = layout("commit_header", 64, {
  header:     [0x0, 12],
  chksumType: [0xc, "u8"],     chksumSize: [0xd, "u8"],
  chksum:     [0x10, "be32"],  chksumRest: [0x14, 28],
  commitSecHi: [0x30, "be32"], commitSecLo: [0x34, "be32"],
  commitNsec: [0x38, "be32"],
});

export const JOURNAL_MAGIC = 0xc03b3998;

/** `h_blocktype`. */
// biome-ignore format: a table
export const JournalBlockType = {
  DESCRIPTOR: 1, COMMIT: 2, SUPERBLOCK_V1: 3, SUPERBLOCK_V2: 4, REVOKE: 5,
} as const;

/** `t_flags`. */
// biome-ignore format: a table
export const TagFlags = { ESCAPE: 1, SAME_UUID: 2, DELETED: 4, LAST_TAG: 8 } as const;

export const JournalCompat = { CHECKSUM: 0x1 } as const;
// biome-ignore format: a table
export const JournalIncompat = {
  REVOKE: 0x1, "64BIT": 0x2, ASYNC_COMMIT: 0x4, CSUM_V2: 0x8, CSUM_V3: 0x10, FAST_COMMIT: 0x20,
} as const;

/** All of the above. */
const INCOMPAT_SUPPORTED = 0x3f;
/** `s_checksum_type` and `h_chksum_type`. */
export const ChecksumType = { CRC32: 1, CRC32C: 4 } as const;
export const CRC32_SIZE = 4;
/** What checksums v1 start from. */
export const CRC32_START = 0xffff_ffff;
export const UUID_SIZE = 16;
/** A v2 tag is followed by two bytes that nobody uses. @see fs/jbd2/journal.c, journal_tag_bytes */
const CSUM_V2_TAG_EXTRA = 2;
/** @see include/linux/jbd2.h, JBD2_MIN_JOURNAL_BLOCKS */
const LOG_BLOCKS_MIN = 1024;
/** @see include/linux/jbd2.h, JBD2_DEFAULT_FAST_COMMIT_BLOCKS */
const FAST_COMMIT_BLOCKS_DEFAULT = 256;

/** What the superblock of a journal says, checked. Places in the journal are block indexes. */
export class JournalSuperblock {
  /** The first block of the log, and the one behind its last. */
  readonly logFirst: number;
  readonly logEnd: number;
  /** Where the oldest transaction starts; 0 when the journal is empty. */
  readonly start: number;
  /** The sequence number of the oldest transaction. */
  readonly sequence: number;
  /** Not 0 after the kernel gave up on a journal: its error number. */
  readonly errorNumber: number;
  /** Blocks for fast commits: from `fastCommitFirst` up to, not including, `fastCommitEnd`. */
  readonly fastCommitFirst: number;
  readonly fastCommitEnd: number;
  readonly userCount: number;
  readonly is64Bit: boolean;
  readonly asyncCommit: boolean;
  /** 0: none; 1: over each transaction; 2 and 3: in every block and tag. */
  readonly checksumVersion: 0 | 1 | 2 | 3;
  /** Bytes of a tag, without a UUID that may follow. */
  readonly tagSize: number;
  /** Bytes at the end of descriptor and revoke blocks that belong to a checksum. */
  readonly tailSize: number;
  readonly uuid: Uint8Array;
  readonly #seed: number;
  readonly #checksums: Checksums;

  /**
   * @param view the journal's first block.
   * @param blockSize the filesystem's.
   * @param blockCount blocks there are for the journal.
   * @throws UnsupportedError naming the journal features that we do not have.
   * @throws CorruptionError `journal-superblock` or `journal-checksum`.
   */
  constructor(view: DataView, blockSize: number, blockCount: number, checksums: Checksums) {
    const S = JournalSuperblockLayout;
    const refuse = (what: string): never => {
      throw new CorruptionError("journal-superblock", {}, what);
    };
    const type = be32(view, 0, S.blocktype);
    if (be32(view, 0, S.magic) !== JOURNAL_MAGIC) refuse("not a journal");
    if (be32(view, 0, S.blocksize) !== blockSize) {
      refuse(`blocks of ${be32(view, 0, S.blocksize)} bytes, not ${blockSize}`);
    }
    const { SUPERBLOCK_V1, SUPERBLOCK_V2 } = JournalBlockType;
    if (type !== SUPERBLOCK_V1 && type !== SUPERBLOCK_V2) refuse(`block type ${type}`);
    const end = be32(view, 0, S.maxlen);
    if (end > blockCount) refuse(`${end} blocks, room for ${blockCount}`);

    const hasFeatures = type === SUPERBLOCK_V2;
    const incompat = hasFeatures ? be32(view, 0, S.featureIncompat) : 0;
    const compat = hasFeatures ? be32(view, 0, S.featureCompat) : 0;
    refuseUnsupported(incompat, hasFeatures ? be32(view, 0, S.featureRoCompat) : 0);
    this.is64Bit = (incompat & JournalIncompat["64BIT"]) !== 0;
    this.asyncCommit = (incompat & JournalIncompat.ASYNC_COMMIT) !== 0;
    const versions = checksumVersions(compat, incompat);
    if (versions.length > 1) refuse(`checksums of versions ${versions.join(" and ")} at once`);
    this.checksumVersion = versions[0] ?? 0;
    this.tagSize = tagSize(this.checksumVersion, this.is64Bit);
    this.tailSize = this.checksumVersion >= 2 ? sizeOf(BlockTail) : 0;
    this.#checksums = checksums;
    this.uuid = bytesAt(view, 0, S.uuid, UUID_SIZE).slice();
    this.#seed = checksums.over(0xffff_ffff, this.uuid);
    if (this.checksumVersion >= 2) this.#verifySuperblock(view);

    let fastCommitBlocks = 0;
    if ((incompat & JournalIncompat.FAST_COMMIT) !== 0) {
      fastCommitBlocks = be32(view, 0, S.numFcBlks) || FAST_COMMIT_BLOCKS_DEFAULT;
    }
    if (hasFeatures && end < LOG_BLOCKS_MIN + fastCommitBlocks) {
      refuse(`only ${end} blocks, ${fastCommitBlocks} of them for fast commits`);
    }
    this.logFirst = be32(view, 0, S.first);
    this.logEnd = end - fastCommitBlocks;
    this.start = be32(view, 0, S.start);
    if (this.logFirst === 0 || this.logFirst >= this.logEnd) {
      refuse(`the log begins at ${this.logFirst} and ends at ${this.logEnd}`);
    }
    if (this.start !== 0 && (this.start < this.logFirst || this.start >= this.logEnd)) {
      refuse(`the first transaction is at ${this.start}`);
    }
    this.fastCommitFirst = this.logEnd + 1;
    this.fastCommitEnd = Math.max(end, this.fastCommitFirst);
    this.sequence = be32(view, 0, S.sequence);
    this.errorNumber = be32(view, 0, S.errno) | 0;
    this.userCount = hasFeatures ? be32(view, 0, S.nrUsers) : 1;
  }

  /** Whether a descriptor or revoke block has the checksum that it says it has, if any. */
  isTailValid(view: DataView): boolean {
    return this.tailSize === 0 || this.#isValid(view, view.byteLength - this.tailSize);
  }

  /**
   * Whether a commit block has the checksum that it says it has, if it has its own. The kernel
   * accepts one over the header and zeros, too: another writer left old bytes behind the header.
   */
  isCommitValid(view: DataView): boolean {
    if (this.checksumVersion < 2 || this.#isValid(view, CommitHeader.chksum)) return true;
    const header = new Uint8Array(view.byteLength);
    header.set(new Uint8Array(view.buffer, view.byteOffset, sizeOf(CommitHeader)));
    return this.#isValid(new DataView(header.buffer), CommitHeader.chksum);
  }

  /** Whether `data` is the block that the tag was made for, as far as the tag can tell. */
  isDataValid(tag: Tag, sequence: number, data: Uint8Array): boolean {
    if (this.checksumVersion < 2) return true;
    return tag.checksum === this.dataChecksum(this.dataSeed(sequence), data);
  }

  /** What the checksums of data blocks start from in transaction `sequence`. */
  dataSeed(sequence: number): number {
    word.setUint32(0, sequence, false);
    return this.#checksums.over(this.#seed, wordBytes);
  }

  /** The checksum of a data block as its tag holds it. @param seed from `dataSeed`. */
  dataChecksum(seed: number, data: Uint8Array): number {
    if (this.checksumVersion < 2) return 0;
    const crc = this.#checksums.over(seed, data);
    return this.checksumVersion === 3 ? crc : crc & 0xffff;
  }

  /** Makes the checksum of a descriptor or revoke block right, if it has one. */
  sealTail(view: DataView): void {
    if (this.tailSize > 0) this.#seal(view, view.byteLength - this.tailSize);
  }

  /** Makes the checksum of a commit block right, if it has its own. */
  sealCommit(view: DataView): void {
    if (this.checksumVersion >= 2) this.#seal(view, CommitHeader.chksum);
  }

  /** The tags of a descriptor block, in the order of the data blocks behind it. */
  tags(view: DataView): Tag[] {
    const tags: Tag[] = [];
    const end = view.byteLength - this.tailSize;
    let at = sizeOf(JournalHeader);
    while (at + this.tagSize <= end) {
      const tag = this.#tag(view, at);
      tags.push(tag);
      if ((tag.flags & TagFlags.LAST_TAG) !== 0) break;
      at += this.tagSize + ((tag.flags & TagFlags.SAME_UUID) === 0 ? UUID_SIZE : 0);
    }
    return tags;
  }

  /**
   * Calls `revoke` with each block number of a revoke block.
   *
   * @throws CorruptionError `journal-block` when it claims to hold more than fits.
   */
  eachRevoked(view: DataView, revoke: (block: number) => void): void {
    const used = be32(view, 0, RevokeHeader.count);
    if (used > view.byteLength - this.tailSize) {
      throw new CorruptionError("journal-block", {}, `a revoke block of ${used} bytes`);
    }
    const step = this.is64Bit ? 8 : 4;
    for (let at = sizeOf(RevokeHeader); at + step <= used; at += step) {
      const first = view.getUint32(at, false);
      revoke(this.is64Bit ? join32(first, view.getUint32(at + 4, false)) : first);
    }
  }

  /** The high half of a block number is garbage in a v3 tag without 64-bit block numbers. */
  #tag(view: DataView, at: number): Tag {
    const isV3 = this.checksumVersion === 3;
    const high = this.is64Bit ? be32(view, at, BlockTag.blocknrHigh) : 0;
    return {
      block: join32(high, be32(view, at, BlockTag.blocknr)),
      flags: isV3 ? be32(view, at, BlockTag3.flags) : be16(view, at, BlockTag.flags),
      checksum: isV3 ? be32(view, at, BlockTag3.checksum) : be16(view, at, BlockTag.checksum),
    };
  }

  #verifySuperblock(view: DataView): void {
    const S = JournalSuperblockLayout;
    const type = u8(view, 0, S.checksumType);
    if (type !== ChecksumType.CRC32C) {
      throw new CorruptionError("journal-superblock", {}, `checksum type ${type}`);
    }
    const found = superblockChecksum(view, this.#checksums);
    const stored = be32(view, 0, S.checksum);
    if (found === stored) return;
    const what = `superblock: stored ${stored}, computed ${found}`;
    throw new CorruptionError("journal-checksum", {}, what);
  }

  #isValid(view: DataView, at: number): boolean {
    return this.#checksum(view, at, this.#seed) === view.getUint32(at, false);
  }

  #seal(view: DataView, at: number): void {
    view.setUint32(at, this.#checksum(view, at, this.#seed), false);
  }

  #checksum(view: DataView, at: number, seed: number): number {
    return checksumOf(view, at, seed, this.#checksums);
  }
}

/** Continues `seed` over all of `view`, with zeros for the checksum at `at`. */
function checksumOf(view: DataView, at: number, seed: number, checksums: Checksums): number {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const upTo = checksums.overZeros(checksums.over(seed, bytes, 0, at), 4);
  return checksums.over(upTo, bytes, at + 4);
}

function superblockChecksum(view: DataView, checksums: Checksums): number {
  const S = JournalSuperblockLayout;
  const superblock = new DataView(view.buffer, view.byteOffset, sizeOf(S));
  return checksumOf(superblock, S.checksum, 0xffff_ffff, checksums);
}

/** Makes the checksum of a journal's superblock right, if its features say that it has one. */
export function sealJournalSuperblock(view: DataView, checksums: Checksums): void {
  const S = JournalSuperblockLayout;
  const hasFeatures = be32(view, 0, S.blocktype) === JournalBlockType.SUPERBLOCK_V2;
  const summed = JournalIncompat.CSUM_V2 | JournalIncompat.CSUM_V3;
  if (!hasFeatures || (be32(view, 0, S.featureIncompat) & summed) === 0) return;
  setBe32(view, 0, S.checksum, superblockChecksum(view, checksums));
}

/** Where a data block of a transaction belongs. */
export interface Tag {
  /** A block of the filesystem; unchecked. */
  readonly block: number;
  readonly flags: number;
  readonly checksum: number;
}

const word = new DataView(new ArrayBuffer(4));
const wordBytes = new Uint8Array(word.buffer);

function checksumVersions(compat: number, incompat: number): (1 | 2 | 3)[] {
  const versions: (1 | 2 | 3)[] = [];
  if ((compat & JournalCompat.CHECKSUM) !== 0) versions.push(1);
  if ((incompat & JournalIncompat.CSUM_V2) !== 0) versions.push(2);
  if ((incompat & JournalIncompat.CSUM_V3) !== 0) versions.push(3);
  return versions;
}

function tagSize(checksumVersion: number, is64Bit: boolean): number {
  if (checksumVersion === 3) return sizeOf(BlockTag3);
  const size = is64Bit ? sizeOf(BlockTag) : BlockTag.blocknrHigh;
  return checksumVersion === 2 ? size + CSUM_V2_TAG_EXTRA : size;
}

function refuseUnsupported(incompat: number, roCompat: number): void {
  const names: string[] = [];
  for (let index = 0; index < 32; index++) {
    if (((incompat & ~INCOMPAT_SUPPORTED) >>> index) & 1) names.push(`journal FEATURE_I${index}`);
    if ((roCompat >>> index) & 1) names.push(`journal FEATURE_R${index}`);
  }
  if (names.length === 0) return;
  const what = `unsupported feature${names.length > 1 ? "s" : ""}: ${names.join(", ")}`;
  throw new UnsupportedError(names, `the journal cannot be replayed: ${what}`);
}

/** The polynomial of crc32, most significant bit first. @see lib/crc/crc32-main.c, crc32_be */
const CRC32_POLYNOMIAL = 0x04c11db7;
const CRC32_BE = makeTable();

function makeTable(): Uint32Array {
  const table = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte << 24;
    for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ CRC32_POLYNOMIAL : crc << 1;
    table[byte] = crc;
  }
  return table;
}

/** Continues the big-endian crc32 `seed` over `bytes`: what checksums v1 are made of. */
export function crc32Be(seed: number, bytes: Uint8Array): number {
  let crc = seed;
  for (const byte of bytes) crc = (crc << 8) ^ (CRC32_BE[((crc >>> 24) ^ byte) & 0xff] as number);
  return crc >>> 0;
}

/** Whether sequence number `a` comes before `b`: they are counted in 32 bits and start over. */
export function isBefore(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

/** The sequence number after `sequence`. */
export function nextSequence(sequence: number): number {
  return (sequence + 1) >>> 0;
}
