/**
 * Lines for people, on standard error. Written straight to the descriptor: the worker never returns
 * to an event loop that would flush a stream, and loading one costs the start of every mount.
 */
import { writeSync } from "node:fs";

const STANDARD_ERROR = 2;
const PROGRAM = "fuse4fs-ts";

/** Prints `fuse4fs-ts: TEXT` as one line, whatever `text` contains. */
export function say(text: string): void {
  print(`${PROGRAM}: ${oneLine(text)}\n`);
}

/** Prints `text` as it is. A terminal or pipe that has gone away is no reason to stop serving. */
export function print(text: string): void {
  try {
    writeSync(STANDARD_ERROR, text);
  } catch {
    // nobody is left to be told
  }
}

const BLANK = 0x20;
const DELETE = 0x7f;

/** `text` with its control characters, which may come from a file name, made visible. */
function oneLine(text: string): string {
  return [...text]
    .map((character) => {
      const code = character.codePointAt(0) ?? 0;
      const visible = code >= BLANK && code !== DELETE;
      return visible ? character : `\\x${code.toString(16).padStart(2, "0")}`;
    })
    .join("");
}
