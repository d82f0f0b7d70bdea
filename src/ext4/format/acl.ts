/**
 * POSIX ACLs: ext4 stores a compact form, the kernel's xattr interface speaks a regular one.
 *
 *     stored   version 1:  le32 1, then  tag le16, perm le16 [, id le32 for a named user or group]
 *     xattr    version 2:  le32 2, then  tag le16, perm le16, id le32 (all ones where unnamed)
 *
 * @see fs/ext4/acl.h; include/uapi/linux/posix_acl_xattr.h
 */
import { CorruptionError, type Place } from "../errors.ts";

const STORED_VERSION = 1;
const XATTR_VERSION = 2;
const HEADER_SIZE = 4;
const SHORT_ENTRY_SIZE = 4;
const ENTRY_SIZE = 8;
const UNDEFINED_ID = 0xffff_ffff;
/** @see include/uapi/linux/posix_acl.h */
const Tag = { USER_OBJ: 1, USER: 2, GROUP_OBJ: 4, GROUP: 8, MASK: 0x10, OTHER: 0x20 } as const;

/** Turns a stored ACL into what `getxattr("system.posix_acl_…")` returns. */
export function aclToXattr(stored: Uint8Array, place: Place): Uint8Array {
  const view = new DataView(stored.buffer, stored.byteOffset, stored.byteLength);
  if (stored.length < HEADER_SIZE || view.getUint32(0, true) !== STORED_VERSION) {
    throw new CorruptionError("acl", place, "not a version 1 ACL");
  }
  const entries: { tag: number; perm: number; id: number }[] = [];
  let at = HEADER_SIZE;
  while (at < stored.length) {
    const left = stored.length - at;
    const tag = left >= SHORT_ENTRY_SIZE ? view.getUint16(at, true) : 0;
    const named = tag === Tag.USER || tag === Tag.GROUP;
    const size = named ? ENTRY_SIZE : SHORT_ENTRY_SIZE;
    if (left < size || !Object.values<number>(Tag).includes(tag)) {
      throw new CorruptionError("acl", { ...place, offset: at }, `tag ${tag}, ${left} bytes left`);
    }
    const id = named ? view.getUint32(at + 4, true) : UNDEFINED_ID;
    entries.push({ tag, perm: view.getUint16(at + 2, true), id });
    at += size;
  }
  const xattr = new Uint8Array(HEADER_SIZE + ENTRY_SIZE * entries.length);
  const out = new DataView(xattr.buffer);
  out.setUint32(0, XATTR_VERSION, true);
  entries.forEach(({ tag, perm, id }, index) => {
    const to = HEADER_SIZE + ENTRY_SIZE * index;
    out.setUint16(to, tag, true);
    out.setUint16(to + 2, perm, true);
    out.setUint32(to + 4, id, true);
  });
  return xattr;
}
