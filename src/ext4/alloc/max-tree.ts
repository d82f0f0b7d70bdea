/**
 * Numbers by index, with a quick answer to "the next index whose number is at least so large": a
 * full binary tree over them in which every node holds the larger of its two children.
 *
 *     1: max of all
 *     2: max of the lower half      3: max of the upper half
 *     …                             leaves + i: number i
 */
export class MaxTree {
  readonly #leaves: number;
  readonly #count: number;
  readonly #nodes: Uint32Array;

  constructor(count: number, numberAt: (index: number) => number) {
    this.#count = count;
    this.#leaves = 2 ** Math.ceil(Math.log2(Math.max(1, count)));
    this.#nodes = new Uint32Array(2 * this.#leaves);
    for (let index = 0; index < count; index++) this.#nodes[this.#leaves + index] = numberAt(index);
    for (let node = this.#leaves - 1; node > 0; node--) this.#nodes[node] = this.#larger(node);
  }

  get max(): number {
    return this.#nodes[1] as number;
  }

  get(index: number): number {
    return this.#nodes[this.#leaves + index] as number;
  }

  set(index: number, value: number): void {
    let node = this.#leaves + index;
    if (this.#nodes[node] === value) return;
    this.#nodes[node] = value;
    for (node >>>= 1; node > 0; node >>>= 1) {
      const larger = this.#larger(node);
      if (this.#nodes[node] === larger) return;
      this.#nodes[node] = larger;
    }
  }

  /** The first index from `from` on, and then from 0 on, whose number is `atLeast` or more; or -1. */
  find(from: number, atLeast: number): number {
    if (this.max < atLeast) return -1;
    const behind = from < this.#count ? this.#findBehind(from, atLeast) : -1;
    return behind >= 0 ? behind : this.#findBelow(1, atLeast);
  }

  #findBehind(from: number, atLeast: number): number {
    let node = this.#leaves + from;
    if ((this.#nodes[node] as number) >= atLeast) return from;
    // Up as long as there is nothing to the right, then down into the first subtree that has one.
    for (; node > 1; node >>>= 1) {
      const isLeft = (node & 1) === 0;
      if (isLeft && (this.#nodes[node + 1] as number) >= atLeast) {
        return this.#findBelow(node + 1, atLeast);
      }
    }
    return -1;
  }

  #findBelow(top: number, atLeast: number): number {
    let node = top;
    while (node < this.#leaves) {
      node *= 2;
      if ((this.#nodes[node] as number) < atLeast) node++;
    }
    return node - this.#leaves;
  }

  #larger(node: number): number {
    return Math.max(this.#nodes[2 * node] as number, this.#nodes[2 * node + 1] as number);
  }
}
