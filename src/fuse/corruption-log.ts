/**
 * Says once, and only once, that something on the image is corrupt. A broken directory is met by
 * every `find`; the line about it is worth reading the first time. What was said is remembered up
 * to a bound, because an image made to be corrupt everywhere must not fill the memory or the log.
 */
import type { CorruptionError } from "../ext4/index.ts";

const REMEMBERED_MAX = 1000;

/** Logs corruption, one line for each rule and place. */
export class CorruptionLog {
  readonly #log: (line: string) => void;
  readonly #said = new Set<string>();

  constructor(log: (line: string) => void) {
    this.#log = log;
  }

  /** @param where what was being done. */
  report(where: string, error: CorruptionError): void {
    const key = `${error.rule} ${JSON.stringify(error.place)}`;
    if (this.#said.size >= REMEMBERED_MAX || this.#said.has(key)) return;
    this.#said.add(key);
    this.#log(`${where}: ${error.message}`);
    if (this.#said.size === REMEMBERED_MAX) {
      this.#log(`${REMEMBERED_MAX} places are corrupt; further ones are not logged`);
    }
  }
}
