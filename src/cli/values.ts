/**
 * The values of options: text in, number out, or a `UsageError` that names the option, what it got
 * and what it takes.
 */
import { UsageError } from "./usage-error.ts";

const MULTIPLIERS: Readonly<Record<string, number>> = {
  "": 1,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  t: 2 ** 40,
};

function refuse(option: string, value: string, takes: string): never {
  throw new UsageError(`${option}=${value}: takes ${takes}`);
}

/** A number of bytes: decimal, or hexadecimal after `0x`; `K`, `M`, `G` and `T` are powers of 1024. */
export function parseBytes(option: string, value: string): number {
  const match = /^(0x[0-9a-f]+|\d+)([kmgt]?)$/i.exec(value);
  const bytes = Number(match?.[1]) * (MULTIPLIERS[match?.[2]?.toLowerCase() ?? ""] ?? Number.NaN);
  if (!Number.isSafeInteger(bytes)) refuse(option, value, "bytes, or a number with K, M, G or T");
  return bytes;
}

/** A whole number from `min` to `max`. */
export function parseWhole(option: string, value: string, min: number, max: number): number {
  const parsed = /^-?\d+$/.test(value) ? Number(value) : Number.NaN;
  if (!(parsed >= min && parsed <= max)) refuse(option, value, `a number from ${min} to ${max}`);
  return parsed;
}

/** Seconds, with a fraction if need be. */
export function parseSeconds(option: string, value: string): number {
  const seconds = /^(\d+\.?\d*|\.\d+)$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isFinite(seconds)) refuse(option, value, "seconds");
  return seconds;
}

/** Permission bits in octal. */
export function parseMask(option: string, value: string): number {
  if (!/^[0-7]{1,4}$/.test(value)) refuse(option, value, "permission bits in octal, as 022");
  return Number.parseInt(value, 8) & 0o777;
}

/** One of a few words. */
export function parseWord<T extends string>(option: string, value: string, words: readonly T[]): T {
  return words.find((word) => word === value) ?? refuse(option, value, words.join(", "));
}

/** Text that has to be there. */
export function parseText(option: string, value: string): string {
  if (value === "") refuse(option, value, "a value that is not empty");
  return value;
}
