/**
 * Requests and their replies: builds headers, checks those that come back, counts, and remembers what
 * the server does not implement. From INIT to DESTROY.
 */
import {
  Errno,
  IN_HEADER_BYTES,
  INIT2_IOMAP,
  InitFlag,
  MINOR_IOMAP,
  OFFERED_FLAGS,
  OFFERED_FLAGS2,
  Opcode,
  OUT_HEADER_BYTES,
  opcodeName,
} from "./abi.ts";
import { SystemError, type Violations } from "./rules.ts";
import type { Transport } from "./transport.ts";
import { Body, Fields } from "./wire.ts";

const INIT_REPLY_BYTES = 64;
const MAX_READAHEAD = 0x2_0000;
const ERRNO_MAX = 511;
const PID = 4242;

/** What a reply's body must be: so many bytes, or at most so many. */
export type Size = number | { readonly max: number };

/** A request as tests see it go by. */
export interface Message {
  readonly opcode: number;
  readonly node: number;
  readonly body: Uint8Array;
}

export interface Caller {
  readonly uid: number;
  readonly gid: number;
}

export class Connection {
  readonly #transport: Transport;
  readonly #violations: Violations;
  readonly #counts = new Map<string, number>();
  readonly #unimplemented = new Set<number>();
  #unique = 0n;
  #flags = 0;
  minor = 0;
  /** INIT has been answered, with iomap. */
  hasIomap = false;
  isFailed = false;
  caller: Caller = { uid: 0, gid: 0 };
  /** Sees every request just before it is sent. */
  onRequest: ((message: Message) => void) | undefined;

  constructor(transport: Transport, violations: Violations) {
    this.#transport = transport;
    this.#violations = violations;
  }

  /** How many requests of each kind were sent, by name. */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }

  count(opcode: Opcode): number {
    return this.#counts.get(opcodeName(opcode)) ?? 0;
  }

  resetCounts(): void {
    this.#counts.clear();
  }

  has(flag: number): boolean {
    return (this.#flags & flag) !== 0;
  }

  /** Whether the server has answered ENOSYS to it before. */
  lacks(opcode: Opcode): boolean {
    return this.#unimplemented.has(opcode);
  }

  noteLack(opcode: Opcode): void {
    this.#unimplemented.add(opcode);
  }

  /** Offers all that a kernel with the series offers, and takes what comes back. */
  initialize(): void {
    const body = new Body().u32(7).u32(MINOR_IOMAP).u32(MAX_READAHEAD);
    body.u32(OFFERED_FLAGS).u32(OFFERED_FLAGS2).zeros(44);
    const reply = this.ask(Opcode.INIT, 0, body, { max: INIT_REPLY_BYTES });
    const fields = new Fields(reply.bytes, INIT_REPLY_BYTES);
    this.minor = fields.u32(4);
    this.#flags = fields.u32(12) & OFFERED_FLAGS;
    const flags2 = this.has(InitFlag.INIT_EXT) ? fields.u32(32) & OFFERED_FLAGS2 : 0;
    this.hasIomap = (flags2 & INIT2_IOMAP) !== 0;
  }

  /** Iomap inodes exist only then. */
  get makesIomapInodes(): boolean {
    return this.hasIomap && this.minor >= MINOR_IOMAP;
  }

  /** Sends a request that gets no reply. */
  tell(opcode: Opcode, node: number, body: Body): void {
    this.#transport.exchange(this.#request(opcode, node, body.bytes));
  }

  /**
   * @returns the body of the reply.
   * @throws SystemError with the server's errno, or EIO when the reply is not one.
   */
  ask(opcode: Opcode, node: number, body: Body = new Body(), size: Size = 0): Fields {
    if (this.isFailed) throw new SystemError(Errno.EIO, "the connection has failed");
    const { error, body: reply } = this.send(opcode, node, body.bytes);
    if (error < 0) {
      if (reply.length > 0)
        this.#wrong("reply-size", opcode, node, `${reply.length} with an error`);
      throw new SystemError(-error, `${opcodeName(opcode)} node ${node}`);
    }
    const fits = typeof size === "number" ? reply.length === size : reply.length <= size.max;
    if (!fits) this.#wrong("reply-size", opcode, node, `${reply.length} bytes`);
    return new Fields(reply);
  }

  /** Sends whatever it is given, so that tests can lie to the server. */
  send(opcode: number, node: number, body: Uint8Array): { error: number; body: Uint8Array } {
    const request = this.#request(opcode, node, body);
    const unique = this.#unique;
    const reply = this.#transport.exchange(request);
    if (reply === undefined) this.#wrong("no-reply", opcode, node, "");
    const fields = new Fields(reply, OUT_HEADER_BYTES);
    const error = fields.s32(4);
    const isLegal = fields.u32(0) === reply.length && fields.u64(8) === unique;
    if (!isLegal || error > 0 || error < -ERRNO_MAX)
      this.#wrong("reply-header", opcode, node, `length ${fields.u32(0)}, error ${error}`);
    return { error, body: reply.slice(OUT_HEADER_BYTES) };
  }

  #wrong(
    rule: "reply-size" | "reply-header" | "no-reply",
    opcode: number,
    node: number,
    detail: string,
  ): never {
    return this.#violations.fail(rule, `${opcodeName(opcode)} node ${node}: ${detail}`, Errno.EIO);
  }

  #request(opcode: number, node: number, body: Uint8Array): Uint8Array {
    this.#unique += 2n;
    const name = opcodeName(opcode);
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
    this.onRequest?.({ opcode, node, body });
    const request = new Uint8Array(IN_HEADER_BYTES + body.length);
    const view = new DataView(request.buffer);
    view.setUint32(0, request.length, true);
    view.setUint32(4, opcode, true);
    view.setBigUint64(8, this.#unique, true);
    view.setBigUint64(16, BigInt(node), true);
    view.setUint32(24, this.caller.uid, true);
    view.setUint32(28, this.caller.gid, true);
    view.setUint32(32, PID, true);
    request.set(body, IN_HEADER_BYTES);
    return request;
  }
}
