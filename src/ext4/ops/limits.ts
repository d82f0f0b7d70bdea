/** What no file of a filesystem can exceed, for those that have to say so of all of them. */
import type { Filesystem } from "../filesystem.ts";
import { FILE_BLOCK_END } from "../format/extent.ts";
import { wantedExtraSize } from "../format/inode.ts";

export interface TimeRange {
  readonly granularityNs: number;
  /** The first and the last second that an inode can have, counted from 1970. */
  readonly min: number;
  readonly max: number;
}

export interface Limits {
  /** The most bytes of a file; one with a block map may have fewer. */
  readonly maxFileBytes: number;
  readonly times: TimeRange;
}

const SECOND_NS = 1_000_000_000;
const SECONDS_MIN = -(2 ** 31);
/** With 34 bits of seconds, which count from the first one; and with 32. */
const SECONDS_MAX = 2 ** 34 + SECONDS_MIN - 1;
const CLASSIC_SECONDS_MAX = 2 ** 31 - 1;

/** @see fs/ext4/super.c, ext4_max_size; fs/ext4/ext4.h, EXT4_EXTRA_TIMESTAMP_MAX */
export function limitsOf({ superblock }: Filesystem): Limits {
  const isFine = wantedExtraSize(superblock) > 0;
  return {
    maxFileBytes: FILE_BLOCK_END * superblock.blockSize,
    times: {
      granularityNs: isFine ? 1 : SECOND_NS,
      min: SECONDS_MIN,
      max: isFine ? SECONDS_MAX : CLASSIC_SECONDS_MAX,
    },
  };
}
