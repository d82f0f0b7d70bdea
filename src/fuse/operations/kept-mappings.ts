/** Mappings that a kernel which moves file contents by itself is to keep, so that it need not ask. */
import { FsError, type Inode, IomapType } from "../../ext4/index.ts";
import { MappingFlag } from "../iomap-abi.ts";
import type { IomapState } from "../iomap-state.ts";
import { nodeOf } from "../nodes.ts";
import type { Context } from "./operation.ts";

/** So many are sent at a time, at the most. */
const KEPT_MAX = 32;

/**
 * Flags of the mapping of `inode` that `context.iomap` holds: DIRTY when bytes that are written there,
 * directly and at once to where they stay, need FSYNC all the same to survive a crash. So they do behind
 * the end of the file, even where nothing has changed yet.
 */
export function durabilityFlags({ fs, iomap }: Context, inode: Inode): number {
  const reachesBehind =
    iomap.type === IomapType.MAPPED && iomap.offset + iomap.length > inode.sizeBytes;
  return reachesBehind || fs.changes?.isUncommitted(inode) === true ? MappingFlag.DIRTY : 0;
}

/**
 * Has the kernel keep where the bytes of `inode` from `from` up to `end` lie, extent by extent. Changes
 * `context.iomap`. Whatever prevents it is met again when the kernel asks.
 *
 * @param goesOn and those behind them, up to the next hole.
 */
export function keepMappings(
  context: Context,
  state: IomapState,
  inode: Inode,
  from: number,
  end: number,
  goesOn = false,
): void {
  const { fs, iomap } = context;
  try {
    for (let at = from, count = 0; count < KEPT_MAX && (at < end || goesOn); count++) {
      fs.iomapForKernel(inode, at, Math.max(1, end - at), iomap);
      const { type } = iomap;
      if (type === IomapType.INLINE || (type === IomapType.HOLE && at >= end)) return;
      const flags = durabilityFlags(context, inode);
      if (!state.keepMapping(nodeOf(inode.number), inode.number, { ...iomap, flags })) return;
      at = iomap.offset + iomap.length;
    }
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
  }
}
