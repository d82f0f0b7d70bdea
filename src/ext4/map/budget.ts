/**
 * Bounds what one handle changes: operations on many blocks (truncating a large file) take as many
 * handles as they need, each within the credits that it asked the journal for.
 */
import type { Filesystem } from "../filesystem.ts";

/** Blocks that may change before a handle stops at the next opportunity. */
const STEP_BLOCKS = 96;
/**
 * What a handle with a budget asks for. The last piece may go over the budget: by its groups (an
 * extent spans at most 5 of them), by six nodes that become empty, by what quotas need, and the inode.
 */
export const STEP_CREDITS = STEP_BLOCKS + 64;
/** A bitmap and the descriptors of its group. */
const GROUP_BLOCKS = 2;

export class Budget {
  readonly #blocksPerGroup: number;
  #left = STEP_BLOCKS;

  constructor(fs: Filesystem) {
    this.#blocksPerGroup = fs.superblock.blocksPerGroup;
  }

  get isUsedUp(): boolean {
    return this.#left <= 0;
  }

  /** @param blocks that were changed. */
  charge(blocks: number): void {
    this.#left -= blocks;
  }

  /** `count` blocks in one piece were freed and an entry of the map changed. */
  chargePiece(count: number): void {
    this.charge(1 + GROUP_BLOCKS * Math.ceil(count / this.#blocksPerGroup));
  }
}
