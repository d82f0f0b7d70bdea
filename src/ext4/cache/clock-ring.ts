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
  readonly #values: (Value | undefined)[] = [];
  readonly #marks: Uint8Array;
  /** Slots that `delete` has emptied. */
  readonly #empty: number[] = [];
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
    const slot = this.#empty.pop() ?? this.#nextSlot();
    this.#numbers[slot] = number;
    this.#values[slot] = value;
    this.#slots.set(number, slot);
  }

  /** Forgets what it has under `number`, if anything. */
  delete(number: number): void {
    const slot = this.#slots.get(number);
    if (slot === undefined) return;
    this.#slots.delete(number);
    this.#values[slot] = undefined;
    this.#marks[slot] = 0;
    this.#empty.push(slot);
  }

  /** A slot at the end, or one whose value has to go. There is no empty one. */
  #nextSlot(): number {
    if (this.#values.length < this.#capacity) return this.#values.length;
    const slot = this.#makeRoom();
    this.#slots.delete(this.#numbers[slot] as number);
    return slot;
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
