/**
 * Data that lies within an inode: fetched with READ and stored with WRITE, by node id and without a
 * handle.
 */
import { Errno } from "./abi.ts";
import type { Inode } from "./inode.ts";
import { endOf, isErrno, type Mapping } from "./mapping.ts";
import type { Mount } from "./mount.ts";
import { sendRead, sendWrite } from "./read-write.ts";
import { SystemError } from "./rules.ts";

const ENOMEM = 12;

/** The bytes of `mapping`. @param isForgotten v7 does not fetch what is overwritten "purely". */
export function fetchInline(
  mount: Mount,
  inode: Inode,
  mapping: Mapping,
  pos: number,
  count: number,
  isForgotten: boolean,
): Uint8Array {
  const { violations } = mount;
  const where = `node ${inode.node} at ${pos}`;
  if (mapping.offset !== 0) violations.note("inline-start", `${where}: from ${mapping.offset}`);
  if (mount.isPost && mapping.length > inode.blockSize) throw new SystemError(ENOMEM, where);
  const bytes = new Uint8Array(Math.min(mapping.length, inode.blockSize));
  if (isForgotten) {
    violations.note("inline-overwrite", where);
    return bytes;
  }
  const from = mount.isPost ? mapping.offset : pos;
  const room = endOf(mapping) - from;
  // v7 asks for all that the operation wants, into memory for what the mapping has.
  const got = read(mount, inode, from, mount.isPost ? room : count, where);
  if (got.length > room) violations.note("inline-overflow", `${where}: ${got.length} bytes`);
  bytes.set(got.subarray(0, room), from - mapping.offset);
  return bytes;
}

function read(mount: Mount, inode: Inode, pos: number, size: number, where: string): Uint8Array {
  try {
    const bytes = sendRead(mount, { node: inode.node, handle: 0n, pos }, size);
    if (bytes.length === 0) mount.violations.fail("inline-read", `${where}: no bytes`, Errno.EIO);
    return bytes;
  } catch (error) {
    if (!isErrno(error, Errno.ENOSYS)) throw error;
    return mount.violations.fail("inline-read", where, Errno.EIO);
  }
}

/** Stores `length` bytes from `pos` on of what an operation has made of inline data. */
export function storeInline(
  mount: Mount,
  inode: Inode,
  target: { readonly mapping: Mapping; readonly inline: Uint8Array | undefined },
  pos: number,
  length: number,
): void {
  const from = pos - target.mapping.offset;
  const bytes = target.inline?.subarray(from, from + length) ?? new Uint8Array(0);
  for (let done = 0; done < bytes.length; ) {
    const place = { node: inode.node, handle: 0n, pos: pos + done };
    const stored = sendWrite(mount, place, bytes.subarray(done));
    done += stored;
    const isRefused = stored === 0 || (!mount.isPost && done < bytes.length);
    if (isRefused || done > bytes.length)
      mount.violations.fail("inline-short-write", `node ${inode.node}: ${stored}`, Errno.EIO);
  }
  if (mount.isPost) inode.diskSize = Math.max(inode.diskSize, pos + length);
  inode.dropMappings(pos, pos + length);
}
