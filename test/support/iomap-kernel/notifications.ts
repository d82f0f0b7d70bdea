/**
 * What the server says of its own accord: mappings to keep, mappings to drop, ranges of the device to
 * drop. Each has the answer that write(2) on /dev/fuse would have.
 *
 *     DEV_INVAL        24: dev 0 u32, reserved 4 u32, offset 8, length 16
 *     UPSERT_MAPPINGS  80: nodeid 0, attr_ino 8, read mapping 16, write mapping 48
 *     INVAL_MAPPINGS   48: nodeid 0, attr_ino 8, read range 16, write range 32
 */
import { Errno, MapType, Notification } from "./abi.ts";
import type { Inode } from "./inode.ts";
import {
  checkedMapping,
  checkSlot,
  isPlaced,
  type RawMapping,
  readMapping,
  type Slot,
} from "./mapping.ts";
import type { Mount } from "./mount.ts";
import { SystemError } from "./rules.ts";
import type { Receiver } from "./transport.ts";
import { Fields } from "./wire.ts";

const DEV_INVAL_BYTES = 24;
const UPSERT_BYTES = 80;
const INVAL_BYTES = 48;
const TO_EOF = 0xffff_ffff_ffff_ffffn;
const SLOTS: readonly Slot[] = ["read", "write"];

export function receiverOf(mount: Mount): Receiver {
  return {
    notification(code, payload) {
      try {
        takeNotification(mount, code, payload);
        return 0;
      } catch (error) {
        if (error instanceof SystemError) return -error.errno;
        throw error;
      }
    },
    shimAsked(what, node) {
      if (mount.inodes.get(node)?.isIomap !== true) return;
      const rules = { map: "shim-mapping", store: "shim-mapping", reply: "shim-reply" } as const;
      const rule = what === "contents" ? "shim-contents" : rules[what];
      mount.violations.note(rule, `node ${node}`);
    },
    attributesInvalid(node) {
      const inode = mount.inodes.get(node);
      if (inode === undefined) return;
      inode.attributesAreValid = false;
      inode.acls.clear();
    },
  };
}

function takeNotification(mount: Mount, code: number, payload: Uint8Array): void {
  const fields = new Fields(payload, UPSERT_BYTES);
  const verifySize = (bytes: number): void => {
    if (payload.length === bytes) return;
    mount.violations.fail("notify-size", `${code}: ${payload.length} bytes`, Errno.EINVAL);
  };
  switch (code) {
    case Notification.UPSERT_MAPPINGS:
      verifySize(UPSERT_BYTES);
      upsert(mount, fields);
      break;
    case Notification.INVAL_MAPPINGS:
      verifySize(INVAL_BYTES);
      invalidate(mount, fields);
      break;
    case Notification.DEV_INVAL:
      verifySize(DEV_INVAL_BYTES);
      invalidateDevice(mount, fields);
      break;
    default:
      mount.violations.fail("notify-code", String(code), Errno.EINVAL);
  }
}

/** The inode that a notification names. */
function inodeOf(mount: Mount, fields: Fields): Inode {
  const { violations, connection } = mount;
  if (!connection.hasIomap) violations.fail("notify-no-iomap", "", Errno.EINVAL);
  const node = fields.number(0);
  const inode = mount.inodes.get(node);
  // No rule is broken: the kernel may just have forgotten the inode.
  if (inode === undefined) throw new SystemError(Errno.ESTALE, `node ${node}`);
  const ino = fields.u64(8);
  if (ino !== inode.attrIno)
    violations.fail("notify-ino", `node ${node}: ${ino}, not ${inode.attrIno}`, Errno.EINVAL);
  if (!inode.isIomap) {
    if (mount.isPost) violations.fail("notify-not-iomap", `node ${node}`, Errno.EINVAL);
    violations.note("notify-not-iomap", `node ${node}`);
  }
  return inode;
}

function upsert(mount: Mount, fields: Fields): void {
  const inode = inodeOf(mount, fields);
  const { mappingIndexBytesMax } = mount.superblock;
  const raw = { read: readMapping(fields, 16), write: readMapping(fields, 48) };
  for (const slot of SLOTS) checkUpsert(mount, inode, slot, raw[slot]);
  for (const slot of SLOTS) {
    if (raw[slot].type === MapType.NOCACHE) continue;
    inode.makeMappings().upsert(slot, checkedMapping(raw[slot]), mappingIndexBytesMax);
  }
}

function checkUpsert(mount: Mount, inode: Inode, slot: Slot, raw: RawMapping): void {
  const { violations, devices } = mount;
  const where = `an upsert for node ${inode.node}`;
  const context = {
    ...{ generation: mount.generation, blockSize: inode.blockSize, where },
    ...{ maxBytes: mount.superblock.maxBytes, hasCache: true },
  };
  checkSlot(violations, raw, slot, context);
  if (raw.type === MapType.RETRY_CACHE) violations.fail("upsert-retry", where);
  if (!isPlaced(raw)) return;
  if (!devices.has(raw.dev)) violations.fail("upsert-device", `${where}: dev ${raw.dev}`);
  if (raw.addr + raw.length > BigInt(devices.sizeBytes))
    violations.fail("upsert-device-end", `${where}: ${raw.addr} + ${raw.length}`);
}

function invalidate(mount: Mount, fields: Fields): void {
  const inode = inodeOf(mount, fields);
  const ranges = { read: fields.from(16), write: fields.from(32) };
  for (const slot of SLOTS) checkRange(mount, inode, ranges[slot].u64(0), ranges[slot].u64(8));
  for (const slot of SLOTS) {
    const length = ranges[slot].u64(8);
    const offset = ranges[slot].number(0);
    const end = length === TO_EOF ? Number.POSITIVE_INFINITY : offset + Number(length);
    if (length > 0n) inode.mappings?.invalidate(slot, offset, end);
  }
}

function checkRange(mount: Mount, inode: Inode, offset: bigint, length: bigint): void {
  if (length === 0n) return;
  const block = BigInt(inode.blockSize);
  const toEnd = length === TO_EOF;
  const detail = `node ${inode.node}: [${offset}, +${length})`;
  const isAligned = offset % block === 0n && (toEnd || length % block === 0n);
  if (!isAligned || offset >= mount.superblock.maxBytes)
    mount.violations.fail("inval-range", detail);
  if (toEnd || offset + length <= TO_EOF) return;
  if (mount.isPost) mount.violations.fail("inval-overflow", detail);
  mount.violations.note("inval-overflow", detail);
}

function invalidateDevice(mount: Mount, fields: Fields): void {
  const { violations, devices, connection } = mount;
  const dev = fields.u32(0);
  const [offset, length] = [fields.u64(8), fields.u64(16)];
  if (dev === 0) violations.fail("dev-inval-null", "", Errno.EINVAL);
  if (!connection.hasIomap) violations.fail("notify-no-iomap", "", Errno.EINVAL);
  if (!devices.has(dev)) violations.fail("dev-inval-device", `dev ${dev}`, Errno.ENODEV);
  if (fields.u32(4) !== 0) violations.fail("dev-inval-reserved", "", Errno.EINVAL);
  const isBeyond = offset >= BigInt(devices.sizeBytes) || offset + length > TO_EOF;
  if (isBeyond) violations.fail("dev-inval-range", `[${offset}, +${length})`, Errno.EINVAL);
}
