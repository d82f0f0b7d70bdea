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
 *     anything else       EIO                     always, with the stack: it is our bug, and nothing
 *                                                 is changed any more
 */
import { Errno, errnoName } from "../base/errno.ts";
import type { InodeNumber } from "../base/numbers.ts";
import { CorruptionError, FsError, newIomap } from "../ext4/index.ts";
import { KERNEL_VERSION, OutHeader, opcodeName } from "./abi.ts";
import { type AttributeOptions, AttributeWriter } from "./attributes.ts";
import {
  type Channel,
  CLOSED,
  NO_REPLY,
  SERVE_BY_SHIM,
  TIMED_OUT,
  WRITTEN_STRIDE,
} from "./channel.ts";
import { CorruptionLog } from "./corruption-log.ts";
import type { IomapHost } from "./iomap-host.ts";
import { IomapState } from "./iomap-state.ts";
import { Lifetimes } from "./lifetimes.ts";
import { ListingCaches } from "./listing-caches.ts";
import {
  type Connection,
  NegotiationError,
  type NegotiationNeeds,
  type NegotiationOptions,
  negotiate,
  usesIomap,
} from "./negotiation.ts";
import { inodeOf, nodeOf } from "./nodes.ts";
import { operationOf } from "./operations/index.ts";
import type { Context, Operation } from "./operations/operation.ts";
import { Reply } from "./reply.ts";
import { type CallerOf, Request, SuspectRequest } from "./request.ts";
import type { ServedFilesystem } from "./served.ts";
import type { ServedChanges } from "./served-changes.ts";
import { TimerList } from "./timers.ts";

/** So many lines say what of a kernel's requests was not to be believed. */
const SUSPECT_LINES_MAX = 20;

export interface SessionOptions extends AttributeOptions, NegotiationOptions {
  /** Takes a line about something that went wrong. */
  readonly log: (line: string) => void;
  /** Takes a line about every request that arrives here. */
  readonly trace?: (line: string) => void;
  /** Called once the kernel has the answer to INIT: the mount is live. */
  readonly onReady?: (connection: Connection) => void;
  /** Called once the kernel has unmounted and waits: the last moment to write anything. */
  readonly onDestroy?: () => void;
  /** Which changes are durable before they are answered. WRITE is not among them: FSYNC follows. */
  readonly synchronous?: Synchronous;
  /** Finds out about callers that the kernel does not tell about. */
  readonly callerOf?: CallerOf;
  /** Given where a kernel that can may move file contents by itself. */
  readonly iomap?: IomapHost;
  /** The clock of `every`, in milliseconds; one that never jumps if there is one. */
  readonly now?: () => number;
}

/** None; those of names and directories; all. */
export type Synchronous = "none" | "names" | "all";

/** Serves one filesystem through one channel. */
export class Session {
  readonly #channel: Channel;
  readonly #changes: ServedChanges | undefined;
  readonly #lifetimes: Lifetimes | undefined;
  readonly #iomap: IomapState | undefined;
  readonly #request: Request;
  readonly #reply: Reply;
  readonly #context: Context & { connection: Connection | undefined };
  readonly #options: SessionOptions;
  readonly #corruption: CorruptionLog;
  readonly #timers: TimerList;
  #announced = false;
  #ended = false;
  #failure: NegotiationError | undefined;
  #suspectCount = 0;

  constructor(channel: Channel, fs: ServedFilesystem, options: SessionOptions) {
    this.#channel = channel;
    this.#options = options;
    this.#request = new Request(channel.request, fs, options.callerOf);
    const { changes } = fs;
    this.#changes = changes;
    if (changes !== undefined) {
      this.#lifetimes = new Lifetimes(
        (number) => this.#release(number),
        (node) => this.#noteForgotten(node),
      );
    }
    if (options.iomap !== undefined) {
      const isWritable = changes !== undefined;
      this.#iomap = new IomapState(options.iomap, channel, fs.blockSize, isWritable);
    }
    const attributes = new AttributeWriter(fs, options, this.#lifetimes, this.#iomap);
    this.#reply = new Reply(channel.reply, fs, attributes);
    this.#corruption = new CorruptionLog(options.log);
    this.#timers = new TimerList(options.now ?? Date.now);
    const context: Context & { connection: Connection | undefined } = {
      fs,
      channel,
      iomap: newIomap(),
      connection: undefined,
      lifetimes: this.#lifetimes,
      listings: new ListingCaches(),
      owner: options,
      iomapState: this.#iomap,
      log: options.log,
      connect: (offer) => {
        if (offer.major > KERNEL_VERSION) return undefined;
        const connection = negotiate(offer, { ...options, ...this.#needs() });
        if (usesIomap(connection)) options.iomap?.onAgreed();
        context.connection = connection;
        return connection;
      },
      end: () => {
        this.#ended = true;
        this.#try("unmount", () => options.onDestroy?.());
      },
    };
    this.#context = context;
  }

  #needs(): NegotiationNeeds {
    const { iomap } = this.#options;
    const wish = iomap?.required === true ? "require" : "use";
    return {
      writable: this.#changes !== undefined,
      iomap: iomap === undefined ? "forbid" : wish,
    };
  }

  /**
   * The file bytes from `from` up to `end` of `number` get another place, or none. On return neither
   * the shim nor the kernel goes by an older answer any more.
   */
  invalidateMappings(number: InodeNumber, from: number, end: number): void {
    const node = nodeOf(number);
    if (this.#iomap?.isActive === true) this.#iomap.forgetMappings(node, number, from, end);
    else this.#channel.invalidate(node, from, end);
  }

  /** Nothing needs the `length` bytes of the device from `offset` on any more. */
  noteFreed(offset: number, length: number): void {
    this.#iomap?.forgetDevice(offset, length);
  }

  /**
   * Calls `callback` every `periodMs`, between two requests. What it throws is logged.
   *
   * @returns a function that stops it.
   */
  every(periodMs: number, callback: () => void): () => void {
    return this.#timers.every(periodMs, () => {
      this.#noteWritten();
      this.#try("between requests", callback);
    });
  }

  /** Logs damage that the filesystem has found, and gone on without. */
  reportDamage(error: CorruptionError): void {
    this.#corruption.report("damage", error);
  }

  /**
   * Tells the filesystem what it has not been told yet, because nobody had to know: when the shim
   * wrote to which file, and that nobody uses any inode any more.
   */
  finish(): void {
    this.#noteWritten();
    this.#lifetimes?.releaseAll();
  }

  /**
   * Serves until the kernel has unmounted or the channel closes.
   *
   * @throws NegotiationError when the kernel is not what the mount needs; it has been told so.
   */
  serve(): void {
    let length = this.#channel.next(NO_REPLY, this.#timers.waitMs);
    while (length !== CLOSED) {
      // Only here: while the reply is built, the data of a WRITE may still be on its way to new blocks.
      this.#timers.run();
      const replyLength = length === TIMED_OUT ? NO_REPLY : this.#answer(length);
      if (this.#failure !== undefined || this.#ended) {
        this.#channel.next(replyLength, 0);
        if (this.#failure !== undefined) throw this.#failure;
        return;
      }
      const { connection } = this.#context;
      if (connection !== undefined && !this.#announced) {
        this.#announced = true;
        length = this.#channel.next(replyLength, 0);
        this.#options.onReady?.(connection);
      } else {
        length = this.#channel.next(replyLength, this.#timers.waitMs);
      }
    }
  }

  /** Whether the kernel has said that it has unmounted: nothing is asked any more. */
  get isEnded(): boolean {
    return this.#ended;
  }

  /** Answers the request of `length` bytes. @returns what `Channel.next` takes. */
  #answer(length: number): number {
    if (!this.#request.open(length)) {
      this.#options.log(`a request of ${length} bytes has no header; dropped`);
      return NO_REPLY;
    }
    this.#noteWritten();
    this.#reply.open(this.#request);
    const { trace } = this.#options;
    if (trace === undefined) return this.#serveOne();

    const line = this.#describeRequest();
    const replyLength = this.#serveOne();
    trace(`${line} -> ${this.#describeResult(replyLength)}`);
    return replyLength;
  }

  #serveOne(): number {
    const operation = operationOf(this.#request.opcode);
    if (operation === undefined) return this.#reply.error(Errno.ENOSYS);
    try {
      this.#request.verifyLength();
      const replyLength = operation.serve(this.#context, this.#request, this.#reply);
      if (this.#isSynchronous(operation)) this.#changes?.commit();
      return replyLength;
    } catch (error) {
      if (error instanceof NegotiationError) this.#failure = error;
      return this.#reply.error(this.#errnoOf(error));
    }
  }

  #isSynchronous({ changes }: Operation): boolean {
    const { synchronous = "none" } = this.#options;
    return changes !== undefined && (synchronous === "all" || synchronous === changes);
  }

  /** Gives files that the shim wrote to their new times. A file may be gone by now. */
  #noteWritten(): void {
    const { written } = this.#channel;
    if (written[0] === 0) return;
    for (let count = this.#channel.takeWritten(); count > 0; count = this.#channel.takeWritten()) {
      for (let at = 1; at < 1 + count * WRITTEN_STRIDE; at += WRITTEN_STRIDE) {
        const [node = 0, seconds = 0, nanoseconds = 0] = written.subarray(at, at + WRITTEN_STRIDE);
        this.#try(`times of node ${node}`, () =>
          this.#changes?.noteWrite(inodeOf(node), { seconds, nanoseconds }),
        );
      }
    }
  }

  /** The kernel has given all of a node back: its pages are on the device, or were not worth that. */
  #noteForgotten(node: number): void {
    this.#channel.noteForgotten(node);
    this.#try(`times of node ${node}`, () => this.#changes?.storeTimes(inodeOf(node)));
    if (this.#iomap?.isActive !== true) return;
    this.#iomap.noteForgotten(node);
    this.#try(`end of node ${node}`, () => this.#changes?.finishKernelUse(inodeOf(node)));
  }

  /** Frees an inode that nobody uses any more. Who forgets it cannot be told that this failed. */
  #release(number: InodeNumber): void {
    this.#try(`release of inode ${number}`, () => this.#changes?.release(number));
  }

  /** Runs what no request waits for. */
  #try(where: string, action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#report(where, error);
    }
  }

  #errnoOf(error: unknown): Errno {
    const { opcode, node } = this.#request;
    return this.#report(`${opcodeName(opcode)} node ${node}`, error);
  }

  /** Logs `error` if it deserves that. @returns what a request that met it is answered. */
  #report(where: string, error: unknown): Errno {
    if (error instanceof CorruptionError) {
      this.#corruption.report(where, error);
      this.#changes?.reportCorruption(error);
      return error.errno;
    }
    if (error instanceof SuspectRequest && this.#suspectCount < SUSPECT_LINES_MAX) {
      this.#suspectCount += 1;
      this.#options.log(`${where}: refused: ${error.message}`);
    }
    if (error instanceof FsError) {
      if (error.errno === Errno.EIO) {
        this.#options.log(`${where}: ${error.message}${causeOf(error)}`);
      }
      return error.errno;
    }
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#options.log(`${where}: unexpected error: ${what}`);
    this.#changes?.abort(error);
    return Errno.EIO;
  }

  #describeRequest(): string {
    const { opcode, node, unique } = this.#request;
    const line = `${unique} ${opcodeName(opcode)} node ${node}`;
    const describe = operationOf(opcode)?.describe;
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
