/**
 * Mappings as they stand on the wire, and the table of checks that each has to pass.
 *
 *     fuse_iomap_io, 32 bytes:  offset 0, length 8, addr 16, type 24 (u16), flags 26 (u16), dev 28
 */
import { Errno, MapType, NULL_ADDR, NULL_DEV, SERVER_FLAGS } from "./abi.ts";
import { type Rule, SystemError, type Violations } from "./rules.ts";
import type { Body, Fields } from "./wire.ts";

/** As it was sent: nothing is known of it yet. */
export interface RawMapping {
  readonly offset: bigint;
  readonly length: bigint;
  readonly addr: bigint;
  readonly type: number;
  readonly flags: number;
  readonly dev: number;
}

/** Checked. `addr` is -1 where there is none; the length is cut to what a number holds. */
export interface Mapping {
  readonly offset: number;
  readonly length: number;
  readonly addr: number;
  readonly type: number;
  readonly flags: number;
  readonly dev: number;
}

export const endOf = ({ offset, length }: Mapping): number => offset + length;
export const covers = (mapping: Mapping, pos: number): boolean =>
  mapping.offset <= pos && pos < endOf(mapping);
/** Whether data has a place on a device. */
export const isPlaced = ({ type }: { type: number }): boolean =>
  type === MapType.MAPPED || type === MapType.UNWRITTEN;

export function readMapping(fields: Fields, at: number): RawMapping {
  return {
    offset: fields.u64(at),
    length: fields.u64(at + 8),
    addr: fields.u64(at + 16),
    type: fields.u16(at + 24),
    flags: fields.u16(at + 26),
    dev: fields.u32(at + 28),
  };
}

export function writeMapping(body: Body, mapping: Mapping): Body {
  return body
    .u64(mapping.offset)
    .u64(mapping.length)
    .u64(mapping.addr < 0 ? NULL_ADDR : mapping.addr)
    .u16(mapping.type)
    .u16(mapping.flags)
    .u32(mapping.dev);
}

export function checkedMapping(raw: RawMapping): Mapping {
  const offset = Number(raw.offset);
  return {
    offset,
    length: Math.min(Number(raw.length), Number.MAX_SAFE_INTEGER - offset),
    addr: raw.addr === NULL_ADDR ? -1 : Number(raw.addr),
    type: raw.type,
    flags: raw.flags,
    dev: raw.dev,
  };
}

/** The part of `mapping` from `start` to `end`. */
export function trimmed(mapping: Mapping, start: number, end: number): Mapping {
  const from = Math.max(mapping.offset, start);
  const to = Math.min(endOf(mapping), end);
  const addr = mapping.addr < 0 ? -1 : mapping.addr + (from - mapping.offset);
  return { ...mapping, offset: from, length: to - from, addr };
}

export type Slot = "read" | "write";
/** The series as posted in February 2026, or as it was some months later. */
export type Generation = "v7" | "post";

export interface SlotContext {
  readonly generation: Generation;
  readonly blockSize: number;
  readonly maxBytes: bigint;
  /** Something was upserted for the inode once. */
  readonly hasCache: boolean;
  readonly where: string;
}

/** What is wrong with `mapping` in `slot`, by the order of the table; nothing when it is legal. */
function brokenRule(mapping: RawMapping, slot: Slot, context: SlotContext): Rule | undefined {
  const { offset, length, addr, type, flags, dev } = mapping;
  const isPost = context.generation === "post";
  const isBare = flags === 0 && dev === NULL_DEV && addr === NULL_ADDR;
  const isKnown = type <= MapType.INLINE || (type >= MapType.NOCACHE && type <= 255);
  if (!isKnown) return "mapping-type";
  if (type === MapType.RETRY_CACHE && !context.hasCache) return "retry-uncached";
  const isPseudo = type === MapType.RETRY_CACHE || type === MapType.NOCACHE;
  if (isPseudo && !isPost) return undefined;
  if ((flags & ~SERVER_FLAGS) !== 0) return "mapping-flags";
  if (length === 0n) return "mapping-empty";
  const block = BigInt(context.blockSize);
  if (offset % block !== 0n || length % block !== 0n) return "mapping-alignment";
  if (offset + length > 0xffff_ffff_ffff_ffffn) return "mapping-overflow";
  if (offset >= context.maxBytes) return "mapping-maxbytes";
  if (isPlaced(mapping) && (dev === NULL_DEV || addr === NULL_ADDR)) return "mapping-nowhere";
  const isUnplaced = type <= MapType.INLINE && !isPlaced(mapping);
  if (isUnplaced && (dev !== NULL_DEV || addr !== NULL_ADDR)) return "mapping-somewhere";
  if (type === MapType.PURE_OVERWRITE && slot === "read") return "overwrite-slot";
  if (isPost && type === MapType.PURE_OVERWRITE && !isBare) return "overwrite-fields";
  if (isPost && isPseudo && !isBare) return "pseudo-fields";
  if (addr !== NULL_ADDR && addr + length > 0xffff_ffff_ffff_ffffn) return "address-overflow";
  return undefined;
}

/** @throws SystemError EUCLEAN when the mapping breaks a rule of section 8.2. */
export function checkSlot(
  violations: Violations,
  mapping: RawMapping,
  slot: Slot,
  context: SlotContext,
): void {
  const rule = brokenRule(mapping, slot, context);
  if (rule === undefined) return;
  const detail = `${slot} slot ${describeMapping(mapping)} of ${context.where}`;
  violations.fail(rule, detail, Errno.EUCLEAN);
}

export function describeMapping({ offset, length, addr, type, flags, dev }: RawMapping): string {
  const where = addr === NULL_ADDR ? "nowhere" : addr;
  return `{[${offset}, +${length}) at ${where} type ${type} flags ${flags} dev ${dev}}`;
}

export const isErrno = (error: unknown, ...errnos: readonly number[]): boolean =>
  error instanceof SystemError && errnos.includes(error.errno);
