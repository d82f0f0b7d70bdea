/**
 * The timers of the request loop. It never returns to an event loop, so its only clock is the
 * timeout of the wait for the next request: the wait is as long as the nearest timer is away, and
 * what is due runs between two requests.
 */

interface Timer {
  readonly periodMs: number;
  readonly callback: () => void;
  dueMs: number;
}

/** A handful of periodic timers. */
export class TimerList {
  readonly #now: () => number;
  readonly #timers = new Set<Timer>();

  /** @param now a clock in milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /**
   * Calls `callback` every `periodMs` from now on. A period missed is not made up for.
   *
   * @returns a function that stops it.
   */
  every(periodMs: number, callback: () => void): () => void {
    const timer = { periodMs, callback, dueMs: this.#now() + periodMs };
    this.#timers.add(timer);
    return () => {
      this.#timers.delete(timer);
    };
  }

  /** Runs what is due. */
  run(): void {
    if (this.#timers.size === 0) return;
    const now = this.#now();
    for (const timer of this.#timers) {
      if (timer.dueMs > now) continue;
      timer.dueMs = now + timer.periodMs;
      timer.callback();
    }
  }

  /** Milliseconds until something is due, rounded up; -1 for never. */
  get waitMs(): number {
    if (this.#timers.size === 0) return -1;
    const now = this.#now();
    let wait = Number.POSITIVE_INFINITY;
    for (const { dueMs } of this.#timers) wait = Math.min(wait, Math.max(0, dueMs - now));
    return Math.ceil(wait);
  }
}
