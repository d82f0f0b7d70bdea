/**
 * A bounded cache by number that evicts by second chance: a hit only sets a mark, and the hand that
 * looks for room goes round, takes marks away, and stops where there is none.
 *
 * It keeps its values in a ring beside the index, since a Map used as a queue slows down as its
 * deleted front grows.
 */
export class ClockRing<Value> {
  readonly #capacity: number;
  readonly #slots = new Map<number, number>();
  readonly #numbers: number[] = [];
  readonly #values: Value[] = [];
  readonly #marks: Uint8Array;
  #hand = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#marks = new Uint8Array(capacity);
  }

  get(number: number): Value | undefined {
    const slot = this.#slots.get(number);
    if (slot === undefined) return undefined;
    this.#marks[slot] = 1;
    return this.#values[slot];
  }

  /** Takes in a value under a number that the cache does not have. */
  add(number: number, value: Value): void {
    let slot = this.#values.length;
    if (slot >= this.#capacity) {
      slot = this.#makeRoom();
      this.#slots.delete(this.#numbers[slot] as number);
    }
    this.#numbers[slot] = number;
    this.#values[slot] = value;
    this.#slots.set(number, slot);
  }

  #makeRoom(): number {
    const marks = this.#marks;
    let hand = this.#hand;
    while (marks[hand] !== 0) {
      marks[hand] = 0;
      hand = hand + 1 === this.#capacity ? 0 : hand + 1;
    }
    this.#hand = hand + 1 === this.#capacity ? 0 : hand + 1;
    return hand;
  }
}
