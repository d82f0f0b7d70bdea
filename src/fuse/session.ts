/**
 * One connection with the kernel, from INIT to the unmount: takes a request from the channel, lets
 * its operation answer, gives the reply to the channel. Everything happens on one thread, one
 * request at a time, and nothing is awaited.
 *
 * This is also the one place where an exception becomes an errno, and where it is decided what
 * deserves a line in the log:
 *
 *     CorruptionError     its errno (EUCLEAN)     once for each rule and place
 *     FsError             its errno               only EIO: a device failed
 *     anything else       EIO                     always, with the stack: it is our bug
 */
import { Errno, errnoName } from "../base/errno.ts";
import { CorruptionError, FsError, newIomap } from "../ext4/index.ts";
import { KERNEL_VERSION, OutHeader, opcodeName } from "./abi.ts";
import { type AttributeOptions, AttributeWriter } from "./attributes.ts";
import { type Channel, CLOSED, NO_REPLY, SERVE_BY_SHIM, TIMED_OUT } from "./channel.ts";
import { CorruptionLog } from "./corruption-log.ts";
import {
  type Connection,
  type NegotiationOptions,
  negotiate,
  ProtocolVersionError,
} from "./negotiation.ts";
import { OPERATIONS } from "./operations/index.ts";
import type { Context } from "./operations/operation.ts";
import { Reply } from "./reply.ts";
import { Request } from "./request.ts";
import type { ServedFilesystem } from "./served.ts";
import { TimerList } from "./timers.ts";

export interface SessionOptions extends AttributeOptions, NegotiationOptions {
  /** Takes a line about something that went wrong. */
  readonly log: (line: string) => void;
  /** Takes a line about every request that arrives here. */
  readonly trace?: (line: string) => void;
  /** Called once the kernel has the answer to INIT: the mount is live. */
  readonly onReady?: (connection: Connection) => void;
  /** The clock of `every`, in milliseconds; one that never jumps if there is one. */
  readonly now?: () => number;
}

/** Serves one filesystem through one channel. */
export class Session {
  readonly #channel: Channel;
  readonly #request: Request;
  readonly #reply: Reply;
  readonly #context: Context & { connection: Connection | undefined };
  readonly #options: SessionOptions;
  readonly #corruption: CorruptionLog;
  readonly #timers: TimerList;
  #announced = false;
  #failure: ProtocolVersionError | undefined;

  constructor(channel: Channel, fs: ServedFilesystem, options: SessionOptions) {
    this.#channel = channel;
    this.#options = options;
    this.#request = new Request(channel.request);
    this.#reply = new Reply(channel.reply, fs, new AttributeWriter(fs, options));
    this.#corruption = new CorruptionLog(options.log);
    this.#timers = new TimerList(options.now ?? Date.now);
    const context: Context & { connection: Connection | undefined } = {
      fs,
      channel,
      iomap: newIomap(),
      connection: undefined,
      connect: (offer) => {
        if (offer.major > KERNEL_VERSION) return undefined;
        context.connection = negotiate(offer, options);
        return context.connection;
      },
    };
    this.#context = context;
  }

  /**
   * Calls `callback` every `periodMs`, between two requests.
   *
   * @returns a function that stops it.
   */
  every(periodMs: number, callback: () => void): () => void {
    return this.#timers.every(periodMs, callback);
  }

  /**
   * Serves until the channel closes.
   *
   * @throws ProtocolVersionError when the kernel is too old; it has been told so.
   */
  serve(): void {
    let length = this.#channel.next(NO_REPLY, this.#timers.run());
    while (length !== CLOSED) {
      const replyLength = length === TIMED_OUT ? NO_REPLY : this.#answer(length);
      if (this.#failure !== undefined) {
        this.#channel.next(replyLength, 0);
        throw this.#failure;
      }
      const { connection } = this.#context;
      if (connection !== undefined && !this.#announced) {
        this.#announced = true;
        length = this.#channel.next(replyLength, 0);
        this.#options.onReady?.(connection);
      } else {
        length = this.#channel.next(replyLength, this.#timers.run());
      }
    }
  }

  /** Answers the request of `length` bytes. @returns what `Channel.next` takes. */
  #answer(length: number): number {
    if (!this.#request.open(length)) {
      this.#options.log(`a request of ${length} bytes has no header; dropped`);
      return NO_REPLY;
    }
    this.#reply.open(this.#request);
    const { trace } = this.#options;
    if (trace === undefined) return this.#serveOne();

    const line = this.#describeRequest();
    const replyLength = this.#serveOne();
    trace(`${line} -> ${this.#describeResult(replyLength)}`);
    return replyLength;
  }

  #serveOne(): number {
    const operation = OPERATIONS[this.#request.opcode];
    if (operation === undefined) return this.#reply.error(Errno.ENOSYS);
    try {
      this.#request.verifyLength();
      return operation.serve(this.#context, this.#request, this.#reply);
    } catch (error) {
      if (error instanceof ProtocolVersionError) this.#failure = error;
      return this.#reply.error(this.#errnoOf(error));
    }
  }

  #errnoOf(error: unknown): Errno {
    const { opcode, node } = this.#request;
    const where = `${opcodeName(opcode)} node ${node}`;
    if (error instanceof CorruptionError) {
      this.#corruption.report(where, error);
      return error.errno;
    }
    if (error instanceof FsError) {
      if (error.errno === Errno.EIO) {
        this.#options.log(`${where}: ${error.message}${causeOf(error)}`);
      }
      return error.errno;
    }
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#options.log(`${where}: unexpected error: ${what}`);
    return Errno.EIO;
  }

  #describeRequest(): string {
    const { opcode, node, unique } = this.#request;
    const line = `${unique} ${opcodeName(opcode)} node ${node}`;
    const describe = OPERATIONS[opcode]?.describe;
    if (describe === undefined) return line;
    try {
      return `${line} ${describe(this.#request)}`;
    } catch {
      return `${line} malformed`;
    } finally {
      this.#request.rewind();
    }
  }

  #describeResult(replyLength: number): string {
    if (replyLength === NO_REPLY) return "no reply";
    if (replyLength === SERVE_BY_SHIM) return "by the shim";
    const error = this.#reply.view.getInt32(OutHeader.error, true);
    return error === 0 ? `ok, ${replyLength} bytes` : errnoName(-error);
  }
}

function causeOf(error: FsError): string {
  return error.cause instanceof Error ? ` (${error.cause.message})` : "";
}
