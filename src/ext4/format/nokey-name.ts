/**
 * What the kernel shows in place of an encrypted name to those who lack the key: base64url (without
 * padding) of
 *
 *     | hash 4 | minor hash 4 | ciphertext, up to 149 bytes | SHA-256 of the rest 32, if there is any |
 *
 * The hash leads a lookup to the right block of an index; it is 0 where there is none.
 *
 * @see fs/crypto/fname.c, struct fscrypt_nokey_name; RFC 4648, section 5
 */
import { layout, le32, setLe32 } from "../../base/layout.ts";
import { sha256 } from "./sha256.ts";

// biome-ignore format: a table
export const NoKeyName = layout("fscrypt_nokey_name", 189, {
  dirhash0: [0x0, "le32"],  dirhash1: [0x4, "le32"],
  bytes:    [0x8, 149],     sha256:   [0x9d, 32],
});

const SIZE = 189;
const ENCODED_MAX = Math.ceil((SIZE * 4) / 3);
/** Shorter ciphertext cannot be. @see fs/crypto/fscrypt_private.h, FSCRYPT_FNAME_MIN_MSG_LEN */
export const NO_KEY_CIPHERTEXT_MIN = 16;

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const DIGITS = Uint8Array.from(ALPHABET, (character) => character.charCodeAt(0));
const NO_DIGIT = 0xff;
const VALUES = new Uint8Array(0x100).fill(NO_DIGIT);
DIGITS.forEach((digit, value) => {
  VALUES[digit] = value;
});

/** The name to show for `ciphertext`. */
export function noKeyName(ciphertext: Uint8Array, hash: number, minorHash: number): Uint8Array {
  const whole = NoKeyName.sha256 - NoKeyName.bytes;
  const isLong = ciphertext.length > whole;
  const raw = new Uint8Array(isLong ? SIZE : NoKeyName.bytes + ciphertext.length);
  const view = new DataView(raw.buffer);
  setLe32(view, 0, NoKeyName.dirhash0, hash);
  setLe32(view, 0, NoKeyName.dirhash1, minorHash);
  raw.set(isLong ? ciphertext.subarray(0, whole) : ciphertext, NoKeyName.bytes);
  if (isLong) raw.set(sha256(ciphertext.subarray(whole)), NoKeyName.sha256);
  return encode(raw);
}

/** What such a name says about the entry that it stands for. */
export interface ParsedNoKeyName {
  readonly hash: number;
  readonly minorHash: number;
  /** The whole ciphertext, when it is short enough. */
  readonly ciphertext: Uint8Array | undefined;
  /** Whether the `length` bytes of ciphertext at `from` are what a long name stands for. */
  matches(bytes: Uint8Array, from: number, length: number): boolean;
}

/** Takes a shown name apart; undefined when the kernel would not have shown it. */
export function parseNoKeyName(name: Uint8Array): ParsedNoKeyName | undefined {
  const raw = name.length <= ENCODED_MAX ? decode(name) : undefined;
  const isLong = raw?.length === SIZE;
  if (raw === undefined || raw.length <= NoKeyName.bytes) return undefined;
  if (raw.length > NoKeyName.sha256 && !isLong) return undefined;
  const view = new DataView(raw.buffer);
  const start = raw.subarray(NoKeyName.bytes, NoKeyName.sha256);
  const digest = raw.subarray(NoKeyName.sha256);
  return {
    hash: le32(view, 0, NoKeyName.dirhash0),
    minorHash: le32(view, 0, NoKeyName.dirhash1),
    ciphertext: isLong ? undefined : start,
    matches(bytes, from, length) {
      if (length <= start.length) return false;
      if (!start.every((byte, index) => byte === bytes[from + index])) return false;
      const rest = sha256(bytes.subarray(from + start.length, from + length));
      return rest.every((byte, index) => byte === digest[index]);
    },
  };
}

function encode(raw: Uint8Array): Uint8Array {
  const encoded = new Uint8Array(Math.ceil((raw.length * 4) / 3));
  let bits = 0;
  let held = 0;
  let to = 0;
  for (const byte of raw) {
    held = ((held << 8) | byte) & 0xffff;
    bits += 8;
    while (bits >= 6) {
      bits -= 6;
      encoded[to++] = DIGITS[(held >>> bits) & 0x3f] as number;
    }
  }
  if (bits > 0) encoded[to] = DIGITS[(held << (6 - bits)) & 0x3f] as number;
  return encoded;
}

/** The reverse; undefined for other characters, and for bits left over that are not 0. */
function decode(encoded: Uint8Array): Uint8Array | undefined {
  const raw = new Uint8Array(Math.floor((encoded.length * 3) / 4));
  let bits = 0;
  let held = 0;
  let to = 0;
  for (const digit of encoded) {
    const value = VALUES[digit] as number;
    if (value === NO_DIGIT) return undefined;
    held = ((held << 6) | value) & 0xffff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      raw[to++] = (held >>> bits) & 0xff;
    }
  }
  const isLeftOver = (held & ((1 << bits) - 1)) !== 0;
  return isLeftOver ? undefined : raw;
}
