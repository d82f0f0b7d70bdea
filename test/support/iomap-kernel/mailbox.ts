/**
 * What a session in a worker thread asks of the kernel without a message (ioctls), and how far it has
 * come: a few numbers that both threads see.
 */
const State = { EMPTY: 0, ASKED: 1, ANSWERED: 2 } as const;
const Cell = { STATE: 0, CALL: 1, DEVICE: 2, BYTES: 3, RESULT: 4, TAKEN: 5 } as const;
const CELLS = 6;

export const Call = { REGISTER: 1, SET_BLOCK_SIZE: 2 } as const;
type Call = (typeof Call)[keyof typeof Call];

export class Mailbox {
  readonly shared: SharedArrayBuffer;
  readonly #cells: Int32Array;

  constructor(shared = new SharedArrayBuffer(CELLS * Int32Array.BYTES_PER_ELEMENT)) {
    this.shared = shared;
    this.#cells = new Int32Array(shared);
  }

  /** Asks, and waits for the answer. */
  ask(call: Call, device = 0, bytes = 0): number {
    const cells = this.#cells;
    cells[Cell.CALL] = call;
    cells[Cell.DEVICE] = device;
    cells[Cell.BYTES] = bytes;
    Atomics.store(cells, Cell.STATE, State.ASKED);
    Atomics.wait(cells, Cell.STATE, State.ASKED);
    Atomics.store(cells, Cell.STATE, State.EMPTY);
    return cells[Cell.RESULT] as number;
  }

  /** Answers what was asked, if anything was. */
  answer(how: (call: number, device: number, bytes: number) => number): void {
    const cells = this.#cells;
    if (Atomics.load(cells, Cell.STATE) !== State.ASKED) return;
    const [call, device, bytes] = [cells[Cell.CALL], cells[Cell.DEVICE], cells[Cell.BYTES]];
    cells[Cell.RESULT] = how(call as number, device as number, bytes as number);
    Atomics.store(cells, Cell.STATE, State.ANSWERED);
    Atomics.notify(cells, Cell.STATE);
  }

  /** One more request is in the session's hands. */
  noteTaken(): void {
    Atomics.add(this.#cells, Cell.TAKEN, 1);
  }

  get taken(): number {
    return Atomics.load(this.#cells, Cell.TAKEN);
  }
}
