/**
 * Where in a directory without an index there may be room, so that adding entries does not look
 * through all its blocks each time. For each length of an entry it is known up to which block there
 * is no room; the first block with room is then the same that a search from the start would find.
 */

/** Entries are multiples of this long. */
const UNIT = 4;
/** Longer than any entry: 8 bytes, and a name of 255. */
const UNITS_END = 67;

export class RoomHints {
  /** By length in units: blocks before this one have no room for it. They only grow. */
  #firstBlocks: Uint32Array | undefined;

  /** The block to start from in search of room for an entry of `length` bytes. */
  firstBlock(length: number): number {
    return this.#firstBlocks?.[length / UNIT] ?? 0;
  }

  /** No block before `block` has room for an entry of `length` bytes, nor for longer ones. */
  noteFull(block: number, length: number): void {
    this.#firstBlocks ??= new Uint32Array(UNITS_END);
    const known = this.#firstBlocks;
    for (
      let units = length / UNIT;
      units < UNITS_END && (known[units] as number) < block;
      units++
    ) {
      known[units] = block;
    }
  }

  /** There are `length` free bytes in one piece in `block`. */
  noteFree(block: number, length: number): void {
    const known = this.#firstBlocks;
    if (known === undefined) return;
    const longest = Math.min(length / UNIT, UNITS_END - 1);
    for (let units = longest; units >= 0 && (known[units] as number) > block; units--) {
      known[units] = block;
    }
  }

  forget(): void {
    this.#firstBlocks = undefined;
  }
}
