/** Mappings that a kernel which moves file contents by itself is to keep, so that it need not ask. */
import { FsError, type Inode, IomapType } from "../../ext4/index.ts";
import { MappingFlag } from "../iomap-abi.ts";
import type { IomapState } from "../iomap-state.ts";
import { nodeOf } from "../nodes.ts";
import type { Context } from "./operation.ts";

/** So many are sent at a time, at the most. */
const KEPT_MAX = 32;

/** Flags that say what a crash now would do to a mapping of `inode`. */
export function durabilityFlags({ fs }: Context, inode: Inode): number {
  return fs.changes?.isUncommitted(inode) === true ? MappingFlag.DIRTY : 0;
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
  const flags = durabilityFlags(context, inode);
  try {
    for (let at = from, count = 0; count < KEPT_MAX && (at < end || goesOn); count++) {
      fs.iomapForKernel(inode, at, Math.max(1, end - at), iomap);
      const { type } = iomap;
      if (type === IomapType.INLINE || (type === IomapType.HOLE && at >= end)) return;
      if (!state.keepMapping(nodeOf(inode.number), inode.number, { ...iomap, flags })) return;
      at = iomap.offset + iomap.length;
    }
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
  }
}
