/**
 * Owns what a test leaves on the machine (temporary folders, loop devices, mounts, processes) and
 * takes it down in reverse order: when the test says so, or when the process ends before that.
 */
import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SHARED_MEMORY = "/dev/shm";
const ROOM_WANTED_BYTES = 4 * 2 ** 30;

/** Images are written and dropped by the gigabyte: in memory where there is room for that. */
function temporaryRoot(): string {
  const { TMPDIR } = process.env;
  if (TMPDIR !== undefined) return TMPDIR;
  try {
    const { bavail, bsize } = statfsSync(SHARED_MEMORY);
    return bavail * bsize >= ROOM_WANTED_BYTES ? SHARED_MEMORY : tmpdir();
  } catch {
    return tmpdir();
  }
}

export class Scope {
  readonly #undo: (() => void)[] = [];
  readonly #onExit = (): void => this.close();

  /** @param outer closes this scope at its own end; without one, the end of the process does. */
  constructor(outer?: Scope) {
    if (outer === undefined) process.on("exit", this.#onExit);
    else outer.add(this.#onExit);
  }

  /** Runs `undo` at the end, before what was added earlier. It must not be asynchronous. */
  add(undo: () => void): void {
    this.#undo.push(undo);
  }

  /** An empty folder that goes away with everything in it. */
  temporaryFolder(): string {
    const folder = mkdtempSync(join(temporaryRoot(), "fuse4fs-ts-"));
    this.add(() => rmSync(folder, { recursive: true, force: true }));
    return folder;
  }

  /** A scope that can be closed earlier, and is closed with this one otherwise. */
  child(): Scope {
    return new Scope(this);
  }

  /** Takes everything down. A step that fails does not stop the others; the first error is thrown. */
  close(): void {
    process.off("exit", this.#onExit);
    const errors: unknown[] = [];
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) {
      try {
        undo();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}

/** Calls `body` with a scope of its own and closes it, whatever happens. */
export function withScope<T>(body: (scope: Scope) => T): T {
  const scope = new Scope();
  try {
    return body(scope);
  } finally {
    scope.close();
  }
}
