/**
 * Plays the kernel for the protocol layer: builds requests field by field, serves them through a
 * session over a channel and a filesystem made of plain objects, and hands back the reply bytes.
 */
import type { InodeNumber } from "../../src/base/numbers.ts";
import type { Inode } from "../../src/ext4/index.ts";
import {
  type Channel,
  CLOSED,
  MAPPING_STRIDE,
  NO_REPLY,
  SERVE_BY_SHIM,
  TIMED_OUT,
  WRITTEN_STRIDE,
  type WriteAccess,
} from "../../src/fuse/channel.ts";
import type { ServedFilesystem } from "../../src/fuse/served.ts";
import type { ServedChanges } from "../../src/fuse/served-changes.ts";
import { Session, type SessionOptions } from "../../src/fuse/session.ts";

/** The bytes of one field. */
export type Bytes = readonly number[];

/** A little-endian field; a negative value becomes its two's complement. */
function little(value: number | bigint, width: number): Bytes {
  const bits = BigInt.asUintN(width * 8, BigInt(value));
  return Array.from({ length: width }, (_, index) => Number((bits >> BigInt(index * 8)) & 0xffn));
}

export const u16 = (value: number): Bytes => little(value, 2);
export const u32 = (value: number): Bytes => little(value, 4);
export const u64 = (value: number | bigint): Bytes => little(value, 8);
export const zeros = (count: number): Bytes => new Array<number>(count).fill(0);
export const text = (ascii: string): Bytes => [...ascii].map((letter) => letter.charCodeAt(0));
/** A name and its NUL. */
export const name = (ascii: string): Bytes => [...text(ascii), 0];
export const ascii = (bytes: Uint8Array): string => String.fromCharCode(...bytes);

export const UNIQUE = 0x1122_3344_5566_7788n;
/** What the kernel is told when something may be kept without a limit. */
export const UNLIMITED = 2 ** 30;

/** A request: fuse_in_header, then `body`. */
export function request(opcode: number, node: number | bigint, ...body: Bytes[]): Uint8Array {
  return requestBy(1000, opcode, node, ...body);
}

/** The same in the name of user `uid`, and the group of the same number. */
export function requestBy(
  uid: number,
  opcode: number,
  node: number | bigint,
  ...body: Bytes[]
): Uint8Array {
  const rest = body.flat();
  return Uint8Array.from([
    ...u32(40 + rest.length), // len
    ...u32(opcode),
    ...u64(UNIQUE),
    ...u64(node),
    ...u32(uid), // uid
    ...u32(uid), // gid
    ...u32(4242), // pid
    ...u16(0), // total_extlen
    ...u16(0), // padding
    ...rest,
  ]);
}

/** A reply: fuse_out_header, then `body`. */
export function reply(error: number, ...body: Bytes[]): Uint8Array {
  const rest = body.flat();
  return Uint8Array.from([
    ...u32(16 + rest.length), // len
    ...u32(error),
    ...u64(UNIQUE),
    ...rest,
  ]);
}

/** What became of one request. */
export type Answer = Uint8Array | "no reply" | "by the shim";

export interface MapCall {
  readonly node: number;
  readonly sizeBytes: number;
  readonly access: WriteAccess;
  /** File offset, device offset, length, type, flags. */
  readonly mappings: readonly (readonly number[])[];
}

/** Hands out the requests it was given, one at a time, and closes. */
export class FakeChannel implements Channel {
  readonly request: Uint8Array;
  readonly reply: Uint8Array;
  readonly mappings: Float64Array;
  readonly written = new Float64Array(1 + 8 * WRITTEN_STRIDE);
  readonly answers: Answer[] = [];
  readonly maps: MapCall[] = [];
  readonly timeouts: number[] = [];
  /** Nodes whose attributes the kernel was told to ask for again. */
  readonly forgotten: number[] = [];
  readonly forgottenContents: number[] = [];
  readonly unmapped: number[] = [];
  /** Nodes that the shim was told the kernel has forgotten. */
  readonly forgottenByKernel: number[] = [];
  /** What the kernel was told without having asked. */
  readonly notifications: { readonly code: number; readonly payload: Uint8Array }[] = [];
  notifyResult = 0;
  dataLoads = 0;
  storeResult = 0;
  readonly #written: (readonly number[])[] = [];
  readonly #script: (Uint8Array | "timeout")[];
  #inHand = false;

  constructor(script: readonly (Uint8Array | "timeout")[], mappingsMax = 256) {
    // Views into the middle of larger buffers, as the shim may give them.
    this.request = new Uint8Array(16384).subarray(24, 12288);
    this.reply = new Uint8Array(16384).fill(0xee).subarray(40, 40 + 8192);
    this.mappings = new Float64Array(mappingsMax * MAPPING_STRIDE);
    this.#script = [...script];
  }

  next(replyLength: number, timeoutMs: number): number {
    if (this.#inHand) this.answers.push(this.#answer(replyLength));
    this.#inHand = false;
    this.timeouts.push(timeoutMs);
    const step = this.#script.shift();
    if (step === undefined) return CLOSED;
    if (step === "timeout") return TIMED_OUT;
    // Bytes of older requests lie behind the new one.
    this.request.fill(0x7a);
    this.request.set(step);
    this.#inHand = true;
    return step.length;
  }

  #answer(replyLength: number): Answer {
    if (replyLength === NO_REPLY) return "no reply";
    if (replyLength === SERVE_BY_SHIM) return "by the shim";
    return this.reply.slice(0, replyLength);
  }

  map(node: number, sizeBytes: number, count: number, access: WriteAccess): void {
    const mappings = Array.from({ length: count }, (_, index) => [
      ...this.mappings.subarray(index * MAPPING_STRIDE, (index + 1) * MAPPING_STRIDE),
    ]);
    this.maps.push({ node, sizeBytes, access, mappings });
  }

  loadData(): void {
    this.dataLoads += 1;
  }

  storeMapped(): number {
    this.maps.push({ node: 0, sizeBytes: 0, access: 0, mappings: [] });
    return this.storeResult;
  }

  forgetAttributes(node: number): void {
    this.forgotten.push(node);
  }

  invalidate(node: number): void {
    this.unmapped.push(node);
  }

  forgetContents(node: number): void {
    this.forgottenContents.push(node);
  }

  noteForgotten(node: number): void {
    this.forgottenByKernel.push(node);
  }

  notify(code: number, payload: Uint8Array): number {
    this.notifications.push({ code, payload: payload.slice() });
    return this.notifyResult;
  }

  /** The shim wrote to `nodes` by itself. */
  write(
    ...nodes: readonly (readonly [node: number, seconds: number, nanoseconds: number])[]
  ): void {
    this.#written.push(...nodes);
    this.written[0] = this.#written.length;
  }

  takeWritten(): number {
    const taken = this.#written.splice(0, 8);
    for (const [index, numbers] of taken.entries()) {
      this.written.set(numbers, 1 + index * WRITTEN_STRIDE);
    }
    this.written[0] = this.#written.length;
    return taken.length;
  }
}

const inodeDefaults = {
  number: 12 as InodeNumber,
  generation: 0x0a0b_0c0d,
  mode: 0o100644,
  isDirectory: false,
  uid: 1001,
  gid: 1002,
  linkCount: 1,
  sizeBytes: 5000,
  blocksForStat: 16,
  flags: 0,
  projectId: 0,
  rdevMajor: 0,
  rdevMinor: 0,
  accessedAt: { seconds: 1_700_000_001, nanoseconds: 11 },
  modifiedAt: { seconds: 1_700_000_002, nanoseconds: 22 },
  changedAt: { seconds: 1_700_000_003, nanoseconds: 33 },
  createdAt: { seconds: 1_700_000_004, nanoseconds: 44 } as Inode["createdAt"],
};

/** An inode as far as the protocol layer looks at it. */
export function inode(
  fields: Partial<Omit<typeof inodeDefaults, "number">> & { number?: number } = {},
): Inode {
  return { ...inodeDefaults, ...fields } as unknown as Inode;
}

function notExpected(): never {
  throw new Error("the test did not expect this question");
}

/** A filesystem that knows what it is given, and fails loudly at every other question. */
export function filesystem(answers: Partial<ServedFilesystem> = {}): ServedFilesystem {
  return {
    blockSize: 4096,
    volumeName: Uint8Array.from(text("label")),
    uuid: Uint8Array.from({ length: 16 }, (_, index) => 0xa0 + index),
    asksAtOpen: false,
    hasInode: () => true,
    inode: notExpected,
    lookup: notExpected,
    parentOf: notExpected,
    readDirectory: notExpected,
    sizeForStat: (of) => of.sizeBytes,
    readLink: notExpected,
    getXattr: notExpected,
    listXattrs: notExpected,
    totals: notExpected,
    iomapForRead: notExpected,
    iomapForKernel: notExpected,
    fitsInline: () => false,
    limits: {
      maxFileBytes: 0xffff_ffff * 4096,
      times: { granularityNs: 1, min: -(2 ** 31), max: 2 ** 34 - 2 ** 31 - 1 },
    },
    readFile: notExpected,
    seekData: notExpected,
    seekHole: notExpected,
    changes: undefined,
    ...answers,
  };
}

/** What any request may do besides. */
const HARMLESS: ReadonlySet<string> = new Set(["actAs", "noteAccess", "storeTimes"]);

/** Changes of which only those given are expected. */
function changes(answers: Partial<ServedChanges> = {}): ServedChanges {
  return new Proxy(answers as ServedChanges, {
    get: (_, name) => {
      if (name in answers) return answers[name as keyof ServedChanges];
      return HARMLESS.has(String(name)) ? () => undefined : notExpected;
    },
  });
}

/** A filesystem that may be changed, by way of `answers`. */
export function writable(
  answers: Partial<ServedChanges> = {},
  reading: Partial<ServedFilesystem> = {},
): ServedFilesystem {
  return filesystem({ getXattr: () => undefined, ...reading, changes: changes(answers) });
}

export interface Exchange {
  readonly answers: readonly Answer[];
  readonly channel: FakeChannel;
  readonly log: readonly string[];
}

/** Serves `requests` over `fs`, one after the other. */
export function exchange(
  requests: readonly Uint8Array[],
  fs: ServedFilesystem,
  options: Partial<SessionOptions> = {},
  channel = new FakeChannel(requests),
): Exchange {
  const log: string[] = [];
  new Session(channel, fs, { log: (line) => log.push(line), ...options }).serve();
  return { answers: channel.answers, channel, log };
}

/** Serves one request. */
export function answerTo(
  one: Uint8Array,
  fs: ServedFilesystem = filesystem(),
  options: Partial<SessionOptions> = {},
): Answer | undefined {
  return exchange([one], fs, options).answers[0];
}

/** The attributes of `inode()`, as fuse_attr. */
export function attr(
  fields: {
    ino?: number;
    size?: number;
    mode?: number;
    uid?: number;
    gid?: number;
    rdev?: number;
  } = {},
): Bytes {
  return [
    ...u64(fields.ino ?? 12),
    ...u64(fields.size ?? 5000),
    ...u64(16), // blocks, of 512 bytes
    ...u64(1_700_000_001), // atime
    ...u64(1_700_000_002), // mtime
    ...u64(1_700_000_003), // ctime
    ...u32(11), // atimensec
    ...u32(22), // mtimensec
    ...u32(33), // ctimensec
    ...u32(fields.mode ?? 0o100644),
    ...u32(1), // nlink
    ...u32(fields.uid ?? 1001),
    ...u32(fields.gid ?? 1002),
    ...u32(fields.rdev ?? 0),
    ...u32(4096), // blksize
    ...u32(0), // flags
  ];
}

/** fuse_entry_out of `inode()`. */
export function entry(node = 12, attributes = attr(), generation = 0x0a0b_0c0d): Bytes {
  return [
    ...u64(node),
    ...u64(generation),
    ...u64(UNLIMITED), // entry_valid
    ...u64(UNLIMITED), // attr_valid
    ...u32(0), // entry_valid_nsec
    ...u32(0), // attr_valid_nsec
    ...attributes,
  ];
}

/** A whole INIT request; `flags` is what the kernel offers. */
export function initRequest(flags: number, minor = 45, major = 7): Uint8Array {
  return request(
    26,
    0,
    u32(major),
    u32(minor),
    u32(0x2_0000), // max_readahead
    u32(flags),
    u32(0x1ff), // flags2
    zeros(44), // unused
  );
}
