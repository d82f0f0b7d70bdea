/**
 * A session in a worker thread over the native channel, with a socket pair in place of `/dev/fuse`. A
 * socket keeps no boundaries, so one request is under way at a time; and it cannot say what the kernel
 * thinks of a notification, so that to the server all are fine.
 */
import { writeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { descriptorOf, readNow, type SocketPair, socketPair } from "../socket-pair.ts";
import { Opcode, OUT_HEADER_BYTES } from "./abi.ts";
import type { KernelHost } from "./kernel.ts";
import { Call, Mailbox } from "./mailbox.ts";
import type { WorkerInput } from "./session-worker.ts";
import type { Receiver, Transport } from "./transport.ts";
import { Fields } from "./wire.ts";

const REPLY_WITHIN_MS = 10_000;
/** What `fuse_out_header.error` says of FUSE_NOTIFY_INVAL_INODE. */
const INVAL_INODE = 2;

const SCRIPT = new URL("./session-worker.ts", import.meta.url).href;
/** A thread does not inherit what makes this one understand TypeScript. */
const START = `import("tsx/esm/api").then(({ register }) => (register(), import("${SCRIPT}")));`;

export class WorkerTransport implements Transport {
  readonly #sockets: SocketPair;
  readonly #fd: number;
  readonly #mailbox: Mailbox;
  readonly #worker: Worker;
  /** What the server has logged; complete once it is closed. */
  readonly log: string[] = [];
  #receiver: Receiver | undefined;
  #host: KernelHost | undefined;
  readonly #exit: Promise<unknown>;

  private constructor(sockets: SocketPair, input: Omit<WorkerInput, "fuseFd" | "mailbox">) {
    this.#sockets = sockets;
    this.#fd = descriptorOf(sockets.ours);
    this.#mailbox = new Mailbox();
    const fuseFd = descriptorOf(sockets.theirs);
    const workerData: WorkerInput = { ...input, fuseFd, mailbox: this.#mailbox.shared };
    this.#worker = new Worker(START, { eval: true, workerData });
    this.#worker.on("message", (line: string) => this.log.push(line));
    this.#worker.on("error", (error) => this.log.push(String(error)));
    this.#exit = new Promise((resolve) => this.#worker.once("exit", resolve));
  }

  /** @param path of the image, which the kernel does its own I/O on as well. */
  static async open(path: string, usesCache: boolean, seed: number): Promise<WorkerTransport> {
    return new WorkerTransport(await socketPair(), { path, usesCache, seed });
  }

  /** @param host answers what the server asks without a message. */
  serve(host: KernelHost): void {
    this.#host = host;
  }

  attach(receiver: Receiver): void {
    this.#receiver = receiver;
  }

  exchange(request: Uint8Array): Uint8Array | undefined {
    const { taken } = this.#mailbox;
    if (writeSync(this.#fd, request) < request.length) throw new Error("the socket is full");
    if (new Fields(request.subarray(0, 8)).u32(4) === Opcode.FORGET) {
      this.#waitFor(() => this.#mailbox.taken > taken);
      return undefined;
    }
    for (;;) {
      const message = this.#take();
      const fields = new Fields(message);
      if (fields.u64(8) !== 0n) return message;
      this.#notified(fields.s32(4), message.subarray(OUT_HEADER_BYTES));
    }
  }

  #notified(code: number, payload: Uint8Array): void {
    if (code === INVAL_INODE) this.#receiver?.attributesInvalid(new Fields(payload).number(0));
    else this.#receiver?.notification(code, payload);
  }

  #take(): Uint8Array {
    const header = this.#read(OUT_HEADER_BYTES);
    const length = new Fields(header).u32(0);
    const message = new Uint8Array(length);
    message.set(header);
    message.set(this.#read(length - OUT_HEADER_BYTES), OUT_HEADER_BYTES);
    return message;
  }

  #read(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    let done = 0;
    this.#waitFor(() => {
      if (done < length) done += readNow(this.#fd, bytes.subarray(done));
      return done === length;
    });
    return bytes;
  }

  #waitFor(isDone: () => boolean): void {
    const lastMoment = Date.now() + REPLY_WITHIN_MS;
    while (!isDone()) {
      this.#mailbox.answer((call, device, bytes) => {
        const host = this.#host as KernelHost;
        return call === Call.REGISTER ? host.registerDevice() : host.setBlockSize(device, bytes);
      });
      if (Date.now() > lastMoment) throw new Error("no reply came");
      Atomics.wait(PAUSE, 0, 0, 1);
    }
  }

  /** Hangs up, and waits for the thread. */
  async close(): Promise<void> {
    this.#sockets.ours.destroy();
    await this.#exit;
    this.#sockets.theirs.destroy();
  }
}

const PAUSE = new Int32Array(new SharedArrayBuffer(4));
