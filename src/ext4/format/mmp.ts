/**
 * The multiple mount protection block: who has the filesystem mounted for writing.
 *
 * @see ext4/mmp.rst
 */
import { bytesAt, layout, le32, widthOf } from "../../base/layout.ts";
import { CorruptionError, type Place } from "../errors.ts";
import type { Checksums } from "./checksum.ts";

// biome-ignore format: a table
export const MmpLayout = layout("mmp_struct", 1024, {
  magic:    [0x0, "le32"],    sequence: [0x4, "le32"],    time:     [0x8, "le64"],
  nodename: [0x10, 64],       bdevname: [0x50, 32],       checksum: [0x3fc, "le32"],
});

const MMP_MAGIC = 0x004d4d50;
/** The filesystem was unmounted cleanly. */
const MMP_SEQ_CLEAN = 0xff4d4d50;

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
  const M = MmpLayout;
  const magic = le32(view, 0, M.magic);
  if (magic !== MMP_MAGIC) throw new CorruptionError("mmp-magic", place, `0x${magic.toString(16)}`);
  if (checksums.enabled) {
    const stored = le32(view, 0, M.checksum);
    const found = checksums.over(
      checksums.seed,
      new Uint8Array(view.buffer, view.byteOffset, M.checksum),
    );
    if (stored !== found) {
      throw new CorruptionError("mmp-checksum", place, `stored ${stored}, computed ${found}`);
    }
  }
  if (le32(view, 0, M.sequence) === MMP_SEQ_CLEAN) return undefined;
  const name = bytesAt(view, 0, M.nodename, widthOf(M, "nodename"));
  const end = name.indexOf(0);
  return name.slice(0, end < 0 ? name.length : end);
}
