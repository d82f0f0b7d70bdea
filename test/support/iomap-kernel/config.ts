/**
 * IOMAP_CONFIG: sent once, right after the answer to INIT, and all that the answer decides.
 *
 *     in   flags 0 u64, maxbytes 8, cache_maxbytes 16 u32, padding to 64
 *     out  flags 0, s_id 8, s_uuid 40, s_uuid_len 56 u8, s_pad 57, s_blocksize 60, s_max_links 64,
 *          s_time_gran 68, s_time_min 72, s_time_max 80, s_maxbytes 88, cache_maxbytes 96; 104 bytes
 */
import { CONFIG_FLAGS_ALL, ConfigFlag, Errno, MAX_BYTES, Opcode } from "./abi.ts";
import type { Connection } from "./connection.ts";
import { type Generation, isErrno } from "./mapping.ts";
import type { SystemError, Violations } from "./rules.ts";
import { Body, Fields } from "./wire.ts";

const REPLY_BYTES = 104;
const CACHE_BYTES_DEFAULT = 256 * 1024;
const CACHE_BYTES_MIN = 256;
const CACHE_BYTES_MAX = 2 << 20;
const PAGE_BYTES = 4096;
const NANOSECONDS = 1_000_000_000;

/** What a mount is like. */
export interface Superblock {
  readonly blockSize: number;
  readonly maxBytes: bigint;
  readonly maxLinks: number;
  readonly uuid: Uint8Array;
  readonly timeGranularityNs: number;
  /** In seconds; undefined without a limit. */
  readonly timeMin: bigint | undefined;
  readonly timeMax: bigint | undefined;
  /** Of the index of one fork of one inode. */
  readonly mappingIndexBytesMax: number;
}

const DEFAULTS: Superblock = {
  blockSize: PAGE_BYTES,
  maxBytes: MAX_BYTES,
  maxLinks: 0,
  uuid: new Uint8Array(0),
  timeGranularityNs: 1,
  timeMin: undefined,
  timeMax: undefined,
  mappingIndexBytesMax: CACHE_BYTES_DEFAULT,
};

export function configure(
  connection: Connection,
  violations: Violations,
  generation: Generation,
): Superblock {
  if (!connection.hasIomap) return DEFAULTS;
  const body = new Body().u64(CONFIG_FLAGS_ALL).u64(MAX_BYTES).u32(CACHE_BYTES_DEFAULT).zeros(44);
  try {
    const reply = connection.ask(Opcode.IOMAP_CONFIG, 0, body, { max: REPLY_BYTES });
    return parse(reply.bytes, violations, generation);
  } catch (error) {
    if (isErrno(error, Errno.ENOSYS)) return DEFAULTS;
    connection.isFailed = true;
    const isOurs = violations.list.length > 0;
    if (!isOurs) violations.note("config-error", String(error), (error as SystemError).errno);
    throw error;
  }
}

function parse(bytes: Uint8Array, violations: Violations, generation: Generation): Superblock {
  const fields = new Fields(bytes, REPLY_BYTES);
  const flags = fields.u64(0);
  const refuse = (rule: "config-flags" | "config-pad" | "config-uuid", found: unknown): never =>
    violations.fail(rule, String(found), Errno.EINVAL);
  if ((flags & ~BigInt(CONFIG_FLAGS_ALL)) !== 0n) refuse("config-flags", flags);
  if ((fields.u32(56) & 0xffff_ff00) !== 0) refuse("config-pad", fields.u32(56));
  if (fields.u8(56) > 16) refuse("config-uuid", fields.u8(56));
  const has = (flag: number): boolean => (Number(flags) & flag) !== 0;
  const superblock: Superblock = {
    blockSize: has(ConfigFlag.BLOCKSIZE) ? fields.u32(60) : DEFAULTS.blockSize,
    maxBytes: has(ConfigFlag.MAXBYTES) ? fields.s64(88) : DEFAULTS.maxBytes,
    maxLinks: has(ConfigFlag.MAX_LINKS) ? fields.u32(64) : 0,
    uuid: has(ConfigFlag.UUID) ? fields.bytes.slice(40, 40 + fields.u8(56)) : DEFAULTS.uuid,
    timeGranularityNs: has(ConfigFlag.TIME) ? fields.u32(68) : 1,
    timeMin: has(ConfigFlag.TIME) ? fields.s64(72) : undefined,
    timeMax: has(ConfigFlag.TIME) ? fields.s64(80) : undefined,
    mappingIndexBytesMax: has(ConfigFlag.CACHE_MAXBYTES)
      ? cacheLimit(fields.u32(96))
      : CACHE_BYTES_DEFAULT,
  };
  checkValues(superblock, violations, generation);
  return superblock;
}

/** v7 takes what it is given here; it is noted all the same. */
function checkValues(
  { blockSize, maxBytes, timeGranularityNs }: Superblock,
  violations: Violations,
  generation: Generation,
): void {
  const wrong = (rule: "config-blocksize" | "config-maxbytes" | "config-time", found: unknown) => {
    if (generation === "post") violations.fail(rule, String(found), Errno.EINVAL);
    violations.note(rule, String(found));
  };
  const isPower = (blockSize & (blockSize - 1)) === 0;
  if (!isPower || blockSize < 512 || blockSize > 65536) wrong("config-blocksize", blockSize);
  if (timeGranularityNs < 1 || timeGranularityNs > NANOSECONDS)
    wrong("config-time", timeGranularityNs);
  if (maxBytes < 0n) wrong("config-maxbytes", maxBytes);
}

const cacheLimit = (bytes: number): number =>
  bytes === 0 ? CACHE_BYTES_DEFAULT : Math.min(Math.max(bytes, CACHE_BYTES_MIN), CACHE_BYTES_MAX);
