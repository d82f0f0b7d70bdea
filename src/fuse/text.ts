/** Bytes for people: names and targets in trace lines and messages. */

const BACKSLASH = 0x5c;
const QUOTE = 0x22;
const PRINTABLE_MIN = 0x20;
const PRINTABLE_MAX = 0x7e;

/** `bytes` in double quotes, whatever is not printable ASCII as `\xNN`. */
export function quoted(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    const plain =
      byte >= PRINTABLE_MIN && byte <= PRINTABLE_MAX && byte !== QUOTE && byte !== BACKSLASH;
    text += plain ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`;
  }
  return `"${text}"`;
}
