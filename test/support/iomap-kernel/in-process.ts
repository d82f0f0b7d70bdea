/**
 * A `Channel` and the kernel's end of it in one: each exchange runs the session for one request, on
 * this thread.
 */
import {
  type Channel,
  CLOSED,
  MAPPING_STRIDE,
  NO_REPLY,
  SERVE_BY_SHIM,
  WRITTEN_STRIDE,
} from "../../../src/fuse/channel.ts";
import type { Session } from "../../../src/fuse/session.ts";
import { IN_HEADER_BYTES, Opcode } from "./abi.ts";
import type { Receiver, Transport } from "./transport.ts";

const MAPPINGS_MAX = 256;
const BUFFER_BYTES = 2 << 20;
const WRITE_STRUCT_BYTES = 40;
/** What the request buffer holds where nothing was put for this request. */
const RUBBISH = 0x7a;

export class InProcessTransport implements Transport, Channel {
  readonly request = new Uint8Array(BUFFER_BYTES);
  readonly reply = new Uint8Array(BUFFER_BYTES);
  readonly mappings = new Float64Array(MAPPINGS_MAX * MAPPING_STRIDE);
  readonly written = new Float64Array(1 + WRITTEN_STRIDE);
  #receiver: Receiver | undefined;
  #session: Session | undefined;
  #given: Uint8Array | undefined;
  #answer: Uint8Array | undefined;
  #node = 0;
  #inHand = false;

  /** @param session made with this object as its channel. */
  serve(session: Session): void {
    this.#session = session;
  }

  attach(receiver: Receiver): void {
    this.#receiver = receiver;
  }

  exchange(request: Uint8Array): Uint8Array | undefined {
    this.#given = request;
    this.#answer = undefined;
    this.#node = Number(new DataView(request.buffer, request.byteOffset).getBigUint64(16, true));
    this.#session?.serve();
    return this.#answer;
  }

  next(replyLength: number): number {
    if (this.#inHand) {
      this.#inHand = false;
      if (replyLength === SERVE_BY_SHIM) this.#receiver?.shimAsked("reply", this.#node);
      else if (replyLength !== NO_REPLY) this.#answer = this.reply.slice(0, replyLength);
      return CLOSED;
    }
    const given = this.#given;
    if (given === undefined) return CLOSED;
    const isWrite =
      new DataView(given.buffer, given.byteOffset).getUint32(4, true) === Opcode.WRITE;
    const present = isWrite ? IN_HEADER_BYTES + WRITE_STRUCT_BYTES : given.length;
    this.request.fill(RUBBISH, 0, given.length + IN_HEADER_BYTES);
    this.request.set(given.subarray(0, present));
    this.#inHand = true;
    return given.length;
  }

  loadData(): void {
    this.request.set(this.#given as Uint8Array);
  }

  notify(code: number, payload: Uint8Array): number {
    // A copy: the caller may use its buffer again.
    return this.#receiver?.notification(code, payload.slice()) ?? 0;
  }

  map(node: number): void {
    this.#receiver?.shimAsked("map", node);
  }

  storeMapped(): number {
    this.#receiver?.shimAsked("store", this.#node);
    return 0;
  }

  forgetAttributes(node: number): void {
    this.#receiver?.attributesInvalid(node);
  }

  forgetContents(node: number): void {
    this.#receiver?.shimAsked("contents", node);
    this.#receiver?.attributesInvalid(node);
  }

  /** The shim knows nothing here that could be dropped. */
  invalidate(): void {}
  noteForgotten(): void {}
  takeWritten(): number {
    return 0;
  }
}
