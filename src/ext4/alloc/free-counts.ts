/** What the superblock says about free space: brought up to date when the filesystem is closed. */
import { setLe32 } from "../../base/layout.ts";
import type { Filesystem } from "../filesystem.ts";
import { Incompat } from "../format/features.ts";
import { SuperblockLayout } from "../format/superblock.ts";
import type { Tx } from "../journal/transaction.ts";

/** Writes the counts of free blocks and inodes into the superblock. */
export function storeCounts(fs: Filesystem, tx: Tx): void {
  const { clusters, inodes } = fs.groups.countFree();
  const blocks = clusters * fs.superblock.clusterBlocks;
  fs.writer.superblock.edit(tx, (view) => {
    const S = SuperblockLayout;
    setLe32(view, 0, S.freeBlocksCountLo, blocks % 0x1_0000_0000);
    if (fs.superblock.hasIncompat(Incompat["64BIT"])) {
      setLe32(view, 0, S.freeBlocksCountHi, Math.floor(blocks / 0x1_0000_0000));
    }
    setLe32(view, 0, S.freeInodesCount, inodes);
  });
}
