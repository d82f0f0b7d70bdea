/**
 * The multiple mount protection block: who has the filesystem mounted for writing, and a sequence
 * number that a live user keeps changing.
 *
 * @see ext4/mmp.rst
 */
import {
  bytesAt,
  layout,
  le16,
  le32,
  setLe16,
  setLe32,
  setLe64,
  widthOf,
} from "../../base/layout.ts";
import { CorruptionError, type Place } from "../errors.ts";
import type { Checksums } from "./checksum.ts";

// biome-ignore format: a table
export const MmpLayout = layout("mmp_struct", 1024, {
  magic:    [0x0, "le32"],    sequence: [0x4, "le32"],    time:     [0x8, "le64"],
  nodename: [0x10, 64],       bdevname: [0x50, 32],       checkInterval: [0x70, "le16"],
  checksum: [0x3fc, "le32"],
});

const MMP_MAGIC = 0x004d4d50;
/** The filesystem was unmounted cleanly. */
export const MMP_SEQ_CLEAN = 0xff4d4d50;
/** e2fsck is at work. */
export const MMP_SEQ_FSCK = 0xe24d4d50;
/** The greatest that a user may take. */
export const MMP_SEQ_MAX = 0xe24d4d4f;

/** @throws CorruptionError `mmp-magic` or `mmp-checksum`. */
export function verifyMmp(view: DataView, checksums: Checksums, place: Place): void {
  const M = MmpLayout;
  const magic = le32(view, 0, M.magic);
  if (magic !== MMP_MAGIC) throw new CorruptionError("mmp-magic", place, `0x${magic.toString(16)}`);
  if (!checksums.enabled) return;
  const stored = le32(view, 0, M.checksum);
  const found = checksumOf(view, checksums);
  if (stored === found) return;
  throw new CorruptionError("mmp-checksum", place, `stored ${stored}, computed ${found}`);
}

/**
 * Who uses the filesystem now or did when it last stopped, by host name; undefined when nobody.
 *
 * @throws CorruptionError `mmp-magic` or `mmp-checksum`.
 */
export function mmpUser(
  view: DataView,
  checksums: Checksums,
  place: Place,
): Uint8Array | undefined {
  verifyMmp(view, checksums, place);
  return mmpSequence(view) === MMP_SEQ_CLEAN ? undefined : mmpHost(view);
}

export function mmpSequence(view: DataView): number {
  return le32(view, 0, MmpLayout.sequence);
}

/** The name of the host that wrote the block last. */
export function mmpHost(view: DataView): Uint8Array {
  const name = bytesAt(view, 0, MmpLayout.nodename, widthOf(MmpLayout, "nodename"));
  const end = name.indexOf(0);
  return name.slice(0, end < 0 ? name.length : end);
}

/** After how many seconds without a change the user that wrote it can be taken for dead. */
export function mmpCheckIntervalSeconds(view: DataView): number {
  return le16(view, 0, MmpLayout.checkInterval);
}

export interface MmpState {
  readonly sequence: number;
  readonly timeSeconds: number;
  readonly checkIntervalSeconds: number;
  readonly hostName: Uint8Array;
  readonly deviceName: Uint8Array;
}

/** Stores `state` in the block, checksum and all. Names are cut to the room that there is. */
export function storeMmp(view: DataView, checksums: Checksums, state: MmpState): void {
  const M = MmpLayout;
  setLe32(view, 0, M.sequence, state.sequence);
  setLe64(view, 0, M.time, state.timeSeconds);
  setLe16(view, 0, M.checkInterval, state.checkIntervalSeconds);
  for (const [field, name] of [
    ["nodename", state.hostName],
    ["bdevname", state.deviceName],
  ] as const) {
    const room = bytesAt(view, 0, M[field], widthOf(M, field));
    room.fill(0);
    room.set(name.subarray(0, room.length));
  }
  if (checksums.enabled) setLe32(view, 0, M.checksum, checksumOf(view, checksums));
}

function checksumOf(view: DataView, checksums: Checksums): number {
  const covered = new Uint8Array(view.buffer, view.byteOffset, MmpLayout.checksum);
  return checksums.over(checksums.seed, covered);
}
