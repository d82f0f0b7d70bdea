/**
 * System calls as plain data: what the model, the library and the crash explorer all carry out.
 *
 * Paths are absolute, with one character per byte, and symlinks in them are not followed. Where a
 * call takes an open file, `#n` stands for the one that `open` or `tmpfile` has named so. Bytes that
 * are written are not stored in the operation: `pattern` makes them from its `tag`.
 */

/** What `fallocate` does; all but `allocate`, `zeroExtend` and the range moves keep the size. */
/** Linux takes no longer string from a program for a path or a target, its NUL included. */
export const PATH_MAX = 4096;

export type FallocateHow =
  | "allocate"
  | "keepSize"
  | "punch"
  | "zero"
  | "zeroExtend"
  | "collapse"
  | "insert";

export type Operation =
  | { readonly kind: "create" | "mkdir"; readonly path: string; readonly mode: number }
  | {
      readonly kind: "mknod";
      readonly path: string;
      /** With the type: a FIFO, a socket or a device. */
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    }
  | { readonly kind: "symlink"; readonly path: string; readonly target: string }
  | { readonly kind: "link"; readonly from: string; readonly to: string }
  | { readonly kind: "unlink" | "rmdir"; readonly path: string }
  | {
      readonly kind: "rename";
      readonly from: string;
      readonly to: string;
      readonly how: "replace" | "noReplace" | "exchange" | "whiteout";
    }
  | { readonly kind: "tmpfile"; readonly directory: string; readonly as: string }
  | { readonly kind: "open"; readonly path: string; readonly as: string }
  | { readonly kind: "close"; readonly path: string }
  | {
      readonly kind: "write";
      readonly path: string;
      readonly offset: number;
      readonly length: number;
      readonly tag: number;
    }
  | { readonly kind: "truncate"; readonly path: string; readonly size: number }
  | {
      readonly kind: "fallocate";
      readonly path: string;
      readonly how: FallocateHow;
      readonly offset: number;
      readonly length: number;
    }
  | {
      readonly kind: "copy";
      readonly from: string;
      readonly fromOffset: number;
      readonly to: string;
      readonly toOffset: number;
      readonly length: number;
    }
  | { readonly kind: "chmod"; readonly path: string; readonly mode: number }
  | { readonly kind: "chown"; readonly path: string; readonly uid: number; readonly gid: number }
  | {
      readonly kind: "setxattr";
      readonly path: string;
      readonly name: string;
      readonly length: number;
      readonly tag: number;
      readonly how: "any" | "create" | "replace";
    }
  | { readonly kind: "removexattr"; readonly path: string; readonly name: string }
  | { readonly kind: "fsync" | "fdatasync"; readonly path: string }
  | { readonly kind: "sync" };

/** What a call answers: `ok`, a count of bytes in decimal, or the name of an errno. */
export type Outcome = string;

/** One line that shows all of an operation, for reports. */
export function describe(operation: Operation): string {
  const { kind, ...rest } = operation;
  const words = Object.entries(rest).map(([name, value]) => `${name}=${shown(value)}`);
  return [kind, ...words].join(" ");
}

const shown = (value: unknown): string => {
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 40)}…(${text.length - 2})` : text;
};

/**
 * The bytes that a write with `tag` puts at `offset` of a file: never zero, and different for
 * another tag or another place with high probability, so that a foreign byte gives itself away.
 */
export function pattern(tag: number, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let index = 0; index < length; index++) {
    const at = offset + index;
    const mixed = Math.imul(Math.imul(tag + 1, 0x9e3779b1) ^ (at >>> 2), 0x85ebca6b);
    bytes[index] = 1 + (((mixed >>> 11) + at) % 255);
  }
  return bytes;
}
