/**
 * Reads extended attributes: in the inode, in the xattr block, in inodes of their own.
 *
 * Outside, an attribute has the name that getxattr(2) knows (`user.mime_type`); inside, a number
 * for the prefix and the rest of the name. POSIX ACLs have a number of their own and no rest.
 *
 * @see ext4/attributes.rst; fs/ext4/xattr.c
 */
import { Errno } from "../../base/errno.ts";
import { le32 } from "../../base/layout.ts";
import type { FsBlock, InodeNumber } from "../../base/numbers.ts";
import { type Block, BlockKind } from "../cache/block-cache.ts";
import { CorruptionError, FsError } from "../errors.ts";
import type { Filesystem } from "../filesystem.ts";
import { aclToXattr } from "../format/acl.ts";
import { CLASSIC_INODE_SIZE, type Inode, InodeFlags, InodeLayout } from "../format/inode.ts";
import {
  parseXattrEntries,
  XATTR_IBODY_HEADER_SIZE,
  XATTR_MAGIC,
  XattrBlockHeader,
  type XattrEntry,
  XattrIndex,
} from "../format/xattr.ts";
import { readContents } from "../map/file.ts";

/** Longest name after its prefix. @see include/uapi/linux/limits.h, XATTR_NAME_MAX */
const NAME_MAX = 255;
const XATTR_BLOCK_HEADER_SIZE = 32;

interface Namespace {
  readonly index: number;
  readonly prefix: Uint8Array;
  /** True when the prefix is the whole name. */
  readonly exact: boolean;
}

/** The prefixes that a user sees; others (`system.data`, encryption contexts) stay inside. */
const NAMESPACES: readonly Namespace[] = [
  { index: XattrIndex.USER, prefix: ascii("user."), exact: false },
  { index: XattrIndex.POSIX_ACL_ACCESS, prefix: ascii("system.posix_acl_access"), exact: true },
  { index: XattrIndex.POSIX_ACL_DEFAULT, prefix: ascii("system.posix_acl_default"), exact: true },
  { index: XattrIndex.TRUSTED, prefix: ascii("trusted."), exact: false },
  { index: XattrIndex.SECURITY, prefix: ascii("security."), exact: false },
  { index: XattrIndex.HURD, prefix: ascii("gnu."), exact: false },
];

/**
 * The value of the attribute `name` of inode `number`, or undefined when it has none of that name.
 *
 * @param name with its prefix, as getxattr(2) takes it.
 * @throws FsError EOPNOTSUPP for a prefix that ext4 does not store, ERANGE for too long a name.
 */
export function getXattr(
  fs: Filesystem,
  number: InodeNumber,
  name: Uint8Array,
): Uint8Array | undefined {
  const namespace = NAMESPACES.find((each) => belongsTo(name, each));
  if (namespace === undefined) throw new FsError(Errno.EOPNOTSUPP, "no such xattr namespace");
  const rest = name.subarray(namespace.prefix.length);
  if (rest.length > NAME_MAX) throw new FsError(Errno.ERANGE, "xattr name too long");

  const inode = fs.inode(number);
  const entry = findEntry(fs, inode, namespace.index, rest);
  if (entry === undefined) return undefined;
  const value = entry.valueInode === 0 ? entry.value : readValueInode(fs, inode, entry);
  return namespace.exact ? aclToXattr(value, { inode: number }) : value;
}

/** The names of all attributes of inode `number`, each followed by a zero byte. */
export function listXattrs(fs: Filesystem, number: InodeNumber): Uint8Array {
  const inode = fs.inode(number);
  const names: Uint8Array[] = [];
  for (const entry of [...inodeXattrs(inode), ...blockXattrs(fs, inode)]) {
    const namespace = NAMESPACES.find(({ index }) => index === entry.nameIndex);
    if (namespace === undefined) continue;
    if (namespace.exact !== (entry.name.length === 0)) continue;
    names.push(namespace.prefix, entry.name, Uint8Array.of(0));
  }
  return concatenated(names);
}

function findEntry(
  fs: Filesystem,
  inode: Inode,
  index: number,
  name: Uint8Array,
): XattrEntry | undefined {
  const matches = (entry: XattrEntry): boolean =>
    entry.nameIndex === index && equal(entry.name, name);
  return inodeXattrs(inode).find(matches) ?? blockXattrs(fs, inode).find(matches);
}

/** The attributes stored in the inode itself, behind its extra fields. */
export function inodeXattrs(inode: Inode): XattrEntry[] {
  const { raw } = inode;
  const at = CLASSIC_INODE_SIZE + inode.extraSize;
  const first = at + XATTR_IBODY_HEADER_SIZE;
  if (inode.extraSize === 0 || first > raw.byteLength) return [];
  if (raw.getUint32(at, true) !== XATTR_MAGIC) return [];
  const bytes = new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength);
  return parseXattrEntries(bytes, first, first, { inode: inode.number });
}

function blockXattrs(fs: Filesystem, inode: Inode): XattrEntry[] {
  if (inode.xattrBlock === 0) return [];
  const place = { inode: inode.number, block: inode.xattrBlock };
  const { firstDataBlock } = fs.superblock;
  if (inode.xattrBlock <= firstDataBlock) {
    throw new CorruptionError("block-range", place, "the xattr block lies before the data");
  }
  const block = fs.blocks.get(inode.xattrBlock as FsBlock);
  if (!block.isVerifiedAs(BlockKind.XATTR, 0)) {
    verifyBlock(fs, block, inode.number);
    block.markVerified(BlockKind.XATTR, 0);
  }
  return parseXattrEntries(block.bytes, XATTR_BLOCK_HEADER_SIZE, 0, place);
}

function verifyBlock(fs: Filesystem, block: Block, inode: number): void {
  const place = { inode, block: block.number };
  const magic = le32(block.view, 0, XattrBlockHeader.magic);
  const blocks = le32(block.view, 0, XattrBlockHeader.blocks);
  if (magic !== XATTR_MAGIC || blocks !== 1) {
    throw new CorruptionError("xattr-magic", place, `0x${magic.toString(16)}, ${blocks} blocks`);
  }
  if (!fs.checksums.enabled) return;
  const at = XattrBlockHeader.checksum;
  const stored = le32(block.view, 0, at);
  let found = fs.checksums.overLe64(fs.checksums.seed, block.number);
  found = fs.checksums.over(found, block.bytes.subarray(0, at));
  found = fs.checksums.overZeros(found, 4);
  found = fs.checksums.over(found, block.bytes.subarray(at + 4));
  if (found !== stored) {
    throw new CorruptionError("xattr-checksum", place, `stored ${stored}, computed ${found}`);
  }
}

/**
 * The value that has an inode of its own. Its crc32c is kept where other inodes have their atime.
 *
 * @see ext4/attributes.rst, "ea_inode"
 */
function readValueInode(fs: Filesystem, owner: Inode, entry: XattrEntry): Uint8Array {
  const holder = fs.internalInode(entry.valueInode);
  const place = { inode: holder.number };
  if (!holder.hasFlag(InodeFlags.EA_INODE) || holder.sizeBytes !== entry.valueSize) {
    throw new CorruptionError(
      "xattr-inode",
      place,
      `does not hold ${entry.valueSize} bytes of xattr`,
    );
  }
  const value = new Uint8Array(entry.valueSize);
  readContents(fs, holder, 0, value);
  // Lustre's own form names the owner instead, and has no hash.
  const mtime = le32(holder.raw, 0, InodeLayout.mtime);
  if (mtime === owner.number && holder.generation === owner.generation) return value;
  const stored = le32(holder.raw, 0, InodeLayout.atime);
  const found = fs.checksums.over(fs.checksums.seed, value);
  if (found !== stored) {
    throw new CorruptionError("xattr-inode", place, `hash stored ${stored}, computed ${found}`);
  }
  return value;
}

function belongsTo(name: Uint8Array, { prefix, exact }: Namespace): boolean {
  const fits = exact ? name.length === prefix.length : name.length > prefix.length;
  return fits && equal(name.subarray(0, prefix.length), prefix);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

function concatenated(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
