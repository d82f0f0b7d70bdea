/**
 * The first pass of recovery: finds where the log ends, and decides what a checksum that does not
 * match means. The rules are the kernel's (fs/jbd2/recovery.c, do_one_pass with PASS_SCAN):
 *
 *  - The last transaction may be torn. Without its commit block it never happened.
 *  - A commit block with a wrong checksum is damage, for it is written after all else is on disk.
 *    With async commit it need not be: then the transaction is taken for torn, unless (checksums
 *    v1) one more commit block follows.
 *  - A wrong checksum in a descriptor or revoke block is damage if a commit block of the same
 *    transaction follows; but when that block is older than the one before it, both are left
 *    over from an earlier use of the same blocks, and the log has ended.
 */
import { be32, u8 } from "../../base/layout.ts";
import { join32 } from "../../base/numbers.ts";
import { CorruptionError } from "../errors.ts";
import {
  ChecksumType,
  CommitHeader,
  CRC32_SIZE,
  CRC32_START,
  crc32Be,
  JournalBlockType,
  type JournalSuperblock,
  nextSequence,
} from "../format/jbd2.ts";
import { LogWalk } from "./log.ts";
import type { JournalSource } from "./source.ts";

/**
 * Answers the sequence number of the first transaction that must not be replayed: all before it,
 * from the superblock's on, are complete.
 *
 * @throws CorruptionError `journal-checksum` when a complete transaction is damaged.
 */
export function findLogEnd(source: JournalSource, superblock: JournalSuperblock): number {
  const walk = new LogWalk(source, superblock);
  let sequence = superblock.sequence;
  let end: number | undefined;
  let crc = CRC32_START;
  let isSuspect = false;
  let lastCommitSeconds = 0;
  for (;;) {
    const record = walk.record(sequence);
    if (record === undefined) return end ?? sequence;
    const { type, view } = record;
    if (type === JournalBlockType.DESCRIPTOR) {
      if (!superblock.isTailValid(view)) isSuspect = true;
      const isSummed = superblock.checksumVersion === 1 && !isSuspect && end === undefined;
      if (isSummed) crc = crc32Be(crc, new Uint8Array(view.buffer));
      for (const _tag of superblock.tags(view)) {
        const index = walk.take();
        if (isSummed) crc = crc32Be(crc, source.readBlock(index));
      }
    } else if (type === JournalBlockType.REVOKE) {
      if (!superblock.isTailValid(view)) isSuspect = true;
    } else if (type === JournalBlockType.COMMIT) {
      const seconds = commitSeconds(view);
      if (isSuspect) {
        if (seconds >= lastCommitSeconds) throw damaged(sequence);
        return end ?? sequence;
      }
      if (superblock.checksumVersion === 1 && end !== undefined) throw damaged(end);
      const isValid =
        superblock.checksumVersion === 1
          ? isTransactionValid(view, crc)
          : superblock.isCommitValid(view);
      if (!isValid) {
        if (seconds < lastCommitSeconds) return end ?? sequence;
        if (!superblock.asyncCommit) throw damaged(sequence);
        end = sequence;
      }
      crc = CRC32_START;
      lastCommitSeconds = seconds;
      sequence = nextSequence(sequence);
    } else {
      return end ?? sequence;
    }
  }
}

function damaged(sequence: number): CorruptionError {
  return new CorruptionError("journal-checksum", {}, `transaction ${sequence} is damaged`);
}

function commitSeconds(view: DataView): number {
  return join32(be32(view, 0, CommitHeader.commitSecHi), be32(view, 0, CommitHeader.commitSecLo));
}

/** Checksums v1: the commit block has the crc32 of the transaction's blocks, or none at all. */
function isTransactionValid(view: DataView, crc: number): boolean {
  const type = u8(view, 0, CommitHeader.chksumType);
  const size = u8(view, 0, CommitHeader.chksumSize);
  const stored = be32(view, 0, CommitHeader.chksum);
  if (type === 0 && size === 0) return stored === 0;
  return type === ChecksumType.CRC32 && size === CRC32_SIZE && stored === crc;
}
