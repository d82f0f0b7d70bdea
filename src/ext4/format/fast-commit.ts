/**
 * Fast commits: a log of small changes behind the journal's log proper. Little-endian, unlike the
 * journal around it.
 *
 *     block   | HEAD | INODE | CREAT | ADD_RANGE | INODE | TAIL .................. |
 *     block   | UNLINK | LINK | ... | INODE | PAD ................................ |
 *     block   | INODE | TAIL ..................................................... |
 *
 *     tag     | type 2 | length 2 | value, length bytes |
 *
 * Everything from one TAIL to the next is one fast commit: it counts as a whole or not at all. The
 * rest of the block behind a TAIL belongs to it, so each fast commit starts with a block.
 *
 * @see ext4/journal.rst, "Fast Commits"; fs/ext4/fast_commit.h
 */
import { layout, le16, sizeOf } from "../../base/layout.ts";
import { CLASSIC_INODE_SIZE } from "./inode.ts";

// biome-ignore format: a table
export const FcTagLength = layout("ext4_fc_tl", 4, { tag: [0x0, "le16"], len: [0x2, "le16"] });
// biome-ignore format: a table
export const FcHead = layout("ext4_fc_head", 8, { features: [0x0, "le32"], tid: [0x4, "le32"] });
/** `ex` is an `ext4_extent`. */
export const FcAddRange = layout("ext4_fc_add_range", 16, { ino: [0x0, "le32"], ex: [0x4, 12] });
// biome-ignore format: a table
export const FcDelRange = layout("ext4_fc_del_range", 12, {
  ino: [0x0, "le32"],  lblk: [0x4, "le32"],  len: [0x8, "le32"],
});
/** The name follows. */
// biome-ignore format: a table
export const FcDentryInfo = layout("ext4_fc_dentry_info", 8, {
  parentIno: [0x0, "le32"],  ino: [0x4, "le32"],
});
/** The inode as it is stored follows: 128 bytes and the extra fields, or all of it. */
export const FcInode = layout("ext4_fc_inode", 4, { ino: [0x0, "le32"] });
// biome-ignore format: a table
export const FcTail = layout("ext4_fc_tail", 8, { tid: [0x0, "le32"], crc: [0x4, "le32"] });

// biome-ignore format: a table
export const FcTagType = {
  ADD_RANGE: 1, DEL_RANGE: 2, CREAT: 3, LINK: 4, UNLINK: 5, INODE: 6, PAD: 7, TAIL: 8, HEAD: 9,
} as const;

export const FC_TAG_SIZE = sizeOf(FcTagLength);
const NAME_LENGTH_MAX = 255;

/** One tag in a block of the fast commit area. */
export interface FastCommitTag {
  /** One of `FcTagType`. */
  readonly type: number;
  /** The value, in place. */
  readonly value: DataView;
  /** Where the tag begins in the block, and where the next one does. */
  readonly at: number;
  readonly end: number;
}

/**
 * The tag at `at`, or undefined when there is none: nothing valid was ever written there.
 *
 * @param inodeSize the filesystem's.
 * @see fs/ext4/fast_commit.c, ext4_fc_value_len_isvalid
 */
export function fastCommitTag(
  block: Uint8Array,
  at: number,
  inodeSize: number,
): FastCommitTag | undefined {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const type = le16(view, at, FcTagLength.tag);
  const length = le16(view, at, FcTagLength.len);
  const start = at + FC_TAG_SIZE;
  if (length > block.length - start || !isValidLength(type, length, inodeSize)) return undefined;
  const value = new DataView(block.buffer, block.byteOffset + start, length);
  return { type, value, at, end: start + length };
}

function isValidLength(type: number, length: number, inodeSize: number): boolean {
  switch (type) {
    case FcTagType.ADD_RANGE:
      return length === sizeOf(FcAddRange);
    case FcTagType.DEL_RANGE:
      return length === sizeOf(FcDelRange);
    case FcTagType.CREAT:
    case FcTagType.LINK:
    case FcTagType.UNLINK: {
      const nameLength = length - sizeOf(FcDentryInfo);
      return nameLength >= 1 && nameLength <= NAME_LENGTH_MAX;
    }
    case FcTagType.INODE: {
      const rawLength = length - sizeOf(FcInode);
      return rawLength >= CLASSIC_INODE_SIZE && rawLength <= inodeSize;
    }
    case FcTagType.PAD:
      return true;
    case FcTagType.TAIL:
      return length >= sizeOf(FcTail);
    case FcTagType.HEAD:
      return length === sizeOf(FcHead);
    default:
      return false;
  }
}
