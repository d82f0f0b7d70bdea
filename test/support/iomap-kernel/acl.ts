/**
 * ACLs, which the kernel handles by itself in exclusive directories: what children inherit, and which
 * of them are nothing but permission bits.
 *
 *     xattr   version 0 u32 (2), then entries of 8 bytes: tag 0 u16, permissions 2 u16, id 4 u32
 */
export const ACCESS_ACL = "system.posix_acl_access";
export const DEFAULT_ACL = "system.posix_acl_default";

const Tag = { USER_OBJ: 1, USER: 2, GROUP_OBJ: 4, GROUP: 8, MASK: 0x10, OTHER: 0x20 } as const;
const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;

interface Entry {
  readonly tag: number;
  readonly permissions: number;
  readonly id: number;
}

function parse(value: Uint8Array): Entry[] {
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  const entries: Entry[] = [];
  for (let at = HEADER_BYTES; at + ENTRY_BYTES <= value.length; at += ENTRY_BYTES) {
    const tag = view.getUint16(at, true);
    const permissions = view.getUint16(at + 2, true);
    entries.push({ tag, permissions, id: view.getUint32(at + 4, true) });
  }
  return entries;
}

function serialize(entries: readonly Entry[]): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + entries.length * ENTRY_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 2, true);
  for (const [index, { tag, permissions, id }] of entries.entries()) {
    const at = HEADER_BYTES + index * ENTRY_BYTES;
    view.setUint16(at, tag, true);
    view.setUint16(at + 2, permissions, true);
    view.setUint32(at + 4, id, true);
  }
  return bytes;
}

const has = (entries: readonly Entry[], tag: number): boolean =>
  entries.some((entry) => entry.tag === tag);

const isExtended = (entries: readonly Entry[]): boolean =>
  has(entries, Tag.USER) || has(entries, Tag.GROUP) || has(entries, Tag.MASK);

/** Where in a mode the permissions of an entry stand, if they do. */
function shiftOf(entries: readonly Entry[], tag: number): number | undefined {
  if (tag === Tag.USER_OBJ) return 6;
  if (tag === Tag.OTHER) return 0;
  const group = has(entries, Tag.MASK) ? Tag.MASK : Tag.GROUP_OBJ;
  return tag === group ? 3 : undefined;
}

/** The permission bits that an access ACL gives, and whether it says anything else. */
export function modeOfAcl(value: Uint8Array): { bits: number; isExtended: boolean } {
  const entries = parse(value);
  let bits = 0;
  for (const { tag, permissions } of entries) {
    const shift = shiftOf(entries, tag);
    if (shift !== undefined) bits |= (permissions & 7) << shift;
  }
  return { bits, isExtended: isExtended(entries) };
}

/** What a child made with `mode` in a directory of default ACL `value` gets. */
export function inherit(
  value: Uint8Array,
  mode: number,
): { mode: number; access: Uint8Array | undefined } {
  const entries = parse(value);
  let result = mode;
  const masked = entries.map((entry) => {
    const shift = shiftOf(entries, entry.tag);
    if (shift === undefined) return entry;
    const permissions = entry.permissions & (mode >> shift) & 7;
    result = (result & ~(7 << shift)) | (permissions << shift);
    return { ...entry, permissions };
  });
  return { mode: result, access: isExtended(entries) ? serialize(masked) : undefined };
}
