/**
 * What is in use of one group, in memory: a bit for each cluster or inode, searched 32 at a time.
 *
 * It says "busy" of all that the bitmap on the device says is in use, and of more: what was freed
 * and is not committed yet, what is held for somebody, and what lies behind the end of the group.
 */

/** `-1` in a word: 32 bits that are busy. */
const ALL_BUSY = -1;

export class BusyMap {
  readonly length: number;
  readonly #words: Int32Array;
  /** No bit before this one is free. */
  #firstFree = 0;
  /** Where the run that `findRun` found starts, and its length. */
  foundAt = 0;
  foundCount = 0;

  /** @param bytes the stored bitmap, at least `length` bits of it. */
  constructor(bytes: Uint8Array, length: number) {
    this.length = length;
    this.#words = new Int32Array((length + 31) >>> 5);
    for (let index = 0; index < this.#words.length; index++) {
      const at = index << 2;
      this.#words[index] =
        (bytes[at] ?? 0) |
        ((bytes[at + 1] ?? 0) << 8) |
        ((bytes[at + 2] ?? 0) << 16) |
        ((bytes[at + 3] ?? 0) << 24);
    }
    const behind = this.#words.length * 32 - length;
    if (behind > 0) this.setBusy(length, behind);
  }

  get sizeBytes(): number {
    return this.#words.byteLength;
  }

  countFree(): number {
    let busy = 0;
    for (const word of this.#words) busy += countOnes(word);
    return this.#words.length * 32 - busy;
  }

  /** How many bits from `bit` on are free, up to `max`. */
  freeFrom(bit: number, max: number): number {
    return this.#nextBusy(bit, Math.min(bit + max, this.length)) - bit;
  }

  /** Whether all of the `count` bits from `bit` on are busy. */
  areBusy(bit: number, count: number): boolean {
    return this.#nextFree(bit) >= bit + count;
  }

  /**
   * Looks for `wanted` free bits in a row, from `from` on and then from the start, and puts into
   * `foundAt` and `foundCount` the first such run, or else the longest that there is.
   *
   * @returns whether it found as many as wanted.
   */
  findRun(from: number, wanted: number): boolean {
    this.foundCount = 0;
    const start = Math.max(from, this.#firstFree);
    if (this.#searchRun(start, this.length, wanted)) return true;
    return this.#searchRun(this.#firstFree, start, wanted);
  }

  /** The same among the runs that start from `from` up to, not including, `end`. */
  #searchRun(from: number, end: number, wanted: number): boolean {
    for (let at = this.#nextFree(from); at < end; ) {
      const stop = this.#nextBusy(at, Math.min(at + wanted, this.length));
      if (stop - at > this.foundCount) {
        this.foundAt = at;
        this.foundCount = stop - at;
        if (this.foundCount >= wanted) return true;
      }
      at = this.#nextFree(stop);
    }
    return false;
  }

  /** The first free bit from `from` on; `length` or more when there is none. */
  firstFree(from: number): number {
    return this.#nextFree(Math.max(from, this.#firstFree));
  }

  setBusy(bit: number, count: number): void {
    this.#apply(bit, count, true);
    if (bit <= this.#firstFree && this.#firstFree < bit + count) this.#firstFree = bit + count;
  }

  setFree(bit: number, count: number): void {
    this.#apply(bit, count, false);
    if (bit < this.#firstFree) this.#firstFree = bit;
  }

  #apply(bit: number, count: number, busy: boolean): void {
    const words = this.#words;
    const end = bit + count;
    for (let at = bit; at < end; ) {
      const index = at >>> 5;
      const next = Math.min(end, (index + 1) * 32);
      const mask = (ALL_BUSY << (at & 31)) & (ALL_BUSY >>> (31 - ((next - 1) & 31)));
      const word = words[index] as number;
      words[index] = busy ? word | mask : word & ~mask;
      at = next;
    }
  }

  #nextFree(from: number): number {
    const words = this.#words;
    let index = from >>> 5;
    if (index >= words.length) return this.length;
    let word = (words[index] as number) | ~(ALL_BUSY << (from & 31));
    while (word === ALL_BUSY) {
      if (++index >= words.length) return this.length;
      word = words[index] as number;
    }
    return index * 32 + lowestOne(~word);
  }

  #nextBusy(from: number, end: number): number {
    if (from >= end) return end;
    const words = this.#words;
    let index = from >>> 5;
    let word = (words[index] as number) & (ALL_BUSY << (from & 31));
    while (word === 0) {
      if (++index * 32 >= end) return end;
      word = words[index] as number;
    }
    return Math.min(end, index * 32 + lowestOne(word));
  }
}

function lowestOne(word: number): number {
  return 31 - Math.clz32(word & -word);
}

function countOnes(word: number): number {
  let pairs = word - ((word >>> 1) & 0x5555_5555);
  pairs = (pairs & 0x3333_3333) + ((pairs >>> 2) & 0x3333_3333);
  return Math.imul((pairs + (pairs >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}
