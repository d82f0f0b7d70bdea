/**
 * Fills the blocks of a journal that have a header: the other direction of `jbd2.ts`, which draws
 * them. Every function takes a block that is all zeros.
 *
 * @see fs/jbd2/commit.c, jbd2_journal_commit_transaction; fs/jbd2/revoke.c, write_one_revoke_record
 */
import { setBe16, setBe32, setU8, sizeOf } from "../../base/layout.ts";
import type { Timestamp } from "./inode.ts";
import {
  BlockTag,
  BlockTag3,
  ChecksumType,
  CommitHeader,
  CRC32_SIZE,
  JOURNAL_MAGIC,
  JournalBlockType,
  JournalHeader,
  type JournalSuperblock,
  RevokeHeader,
  type Tag,
  TagFlags,
  UUID_SIZE,
} from "./jbd2.ts";

const TWO_TO_32 = 0x1_0000_0000;

/** How many tags the kernel puts into a descriptor block: it leaves room for a second UUID. */
export function tagsPerDescriptor(superblock: JournalSuperblock, blockSize: number): number {
  const room = blockSize - sizeOf(JournalHeader) - superblock.tailSize - 2 * UUID_SIZE;
  return Math.floor(room / superblock.tagSize);
}

/** How many block numbers fit into a revoke block. */
export function revokesPerBlock(superblock: JournalSuperblock, blockSize: number): number {
  const room = blockSize - sizeOf(RevokeHeader) - superblock.tailSize;
  return Math.floor(room / numberSize(superblock));
}

const numberSize = ({ is64Bit }: JournalSuperblock): number => (is64Bit ? 8 : 4);

/** A descriptor block, to which `putTag` adds. @returns where its first tag goes. */
export function beginDescriptor(view: DataView, sequence: number): number {
  putHeader(view, JournalBlockType.DESCRIPTOR, sequence);
  return sizeOf(JournalHeader);
}

/**
 * Writes a tag, and the journal's UUID behind it if its flags say so.
 *
 * @returns where the next one goes.
 */
export function putTag(
  superblock: JournalSuperblock,
  view: DataView,
  at: number,
  { block, flags, checksum }: Tag,
): number {
  setBe32(view, at, BlockTag.blocknr, block % TWO_TO_32);
  if (superblock.checksumVersion === 3) {
    setBe32(view, at, BlockTag3.flags, flags);
    setBe32(view, at, BlockTag3.checksum, checksum);
  } else {
    setBe16(view, at, BlockTag.flags, flags);
    setBe16(view, at, BlockTag.checksum, checksum);
  }
  if (superblock.is64Bit) setBe32(view, at, BlockTag.blocknrHigh, Math.floor(block / TWO_TO_32));
  const end = at + superblock.tagSize;
  if ((flags & TagFlags.SAME_UUID) !== 0) return end;
  new Uint8Array(view.buffer, view.byteOffset + end, UUID_SIZE).set(superblock.uuid);
  return end + UUID_SIZE;
}

/** Fills a revoke block with `blocks`, which must fit. */
export function fillRevoke(
  superblock: JournalSuperblock,
  view: DataView,
  sequence: number,
  blocks: readonly number[],
): void {
  putHeader(view, JournalBlockType.REVOKE, sequence);
  let at = sizeOf(RevokeHeader);
  for (const block of blocks) {
    if (superblock.is64Bit) view.setUint32(at, Math.floor(block / TWO_TO_32), false);
    at += numberSize(superblock);
    view.setUint32(at - 4, block % TWO_TO_32, false);
  }
  setBe32(view, 0, RevokeHeader.count, at);
  superblock.sealTail(view);
}

/**
 * Fills a commit block.
 *
 * @param crc the crc32 of the transaction's blocks, which checksums v1 keep here.
 */
export function fillCommit(
  superblock: JournalSuperblock,
  view: DataView,
  sequence: number,
  time: Timestamp,
  crc: number,
): void {
  putHeader(view, JournalBlockType.COMMIT, sequence);
  setBe32(view, 0, CommitHeader.commitSecHi, Math.floor(time.seconds / TWO_TO_32) >>> 0);
  setBe32(view, 0, CommitHeader.commitSecLo, time.seconds >>> 0);
  setBe32(view, 0, CommitHeader.commitNsec, time.nanoseconds);
  if (superblock.checksumVersion === 1) {
    setU8(view, 0, CommitHeader.chksumType, ChecksumType.CRC32);
    setU8(view, 0, CommitHeader.chksumSize, CRC32_SIZE);
    setBe32(view, 0, CommitHeader.chksum, crc);
  }
  superblock.sealCommit(view);
}

function putHeader(view: DataView, type: number, sequence: number): void {
  setBe32(view, 0, JournalHeader.magic, JOURNAL_MAGIC);
  setBe32(view, 0, JournalHeader.blocktype, type);
  setBe32(view, 0, JournalHeader.sequence, sequence);
}
