/**
 * The kernel's end of a FUSE connection, without a kernel: requests are written into one end of a
 * socket pair, whose other end is the channel's `/dev/fuse`. A socket keeps no boundaries, so there
 * is one request or reply under way at a time.
 *
 * @see include/uapi/linux/fuse.h, struct fuse_in_header, fuse_read_in, fuse_write_in, fuse_out_header
 */
import { writeSync } from "node:fs";
import type { Socket } from "node:net";
import { descriptorOf, readNow, socketPair } from "../../support/socket-pair.ts";

export const LOOKUP = 1;
export const FORGET = 2;
export const READ = 15;
export const WRITE = 16;
export const BATCH_FORGET = 42;

const IN_HEADER_BYTES = 40;
const OUT_HEADER_BYTES = 16;
const REPLY_WITHIN_MS = 3000;

export interface Reply {
  readonly unique: number;
  /** Zero or a negative errno. */
  readonly error: number;
  readonly data: Uint8Array;
}

export class FakeKernel {
  /** What the channel takes for `/dev/fuse`. */
  readonly fuseFd: number;
  readonly #ours: Socket;
  readonly #theirs: Socket;
  readonly #fd: number;
  #unique = 0;

  private constructor(ours: Socket, theirs: Socket) {
    this.#ours = ours;
    this.#theirs = theirs;
    this.#fd = descriptorOf(ours);
    this.fuseFd = descriptorOf(theirs);
  }

  static async open(): Promise<FakeKernel> {
    const { ours, theirs } = await socketPair();
    return new FakeKernel(ours, theirs);
  }

  /** Sends a request. @returns its unique number. */
  send(opcode: number, nodeId: number, body: Uint8Array = new Uint8Array(0)): number {
    this.#put(this.unsent(opcode, nodeId, body).request);
    return this.#unique;
  }

  /** A request, and where somebody else may write it to. */
  unsent(
    opcode: number,
    nodeId: number,
    body: Uint8Array = new Uint8Array(0),
  ): { fd: number; request: Uint8Array } {
    this.#unique += 2;
    const request = new Uint8Array(IN_HEADER_BYTES + body.length);
    const view = new DataView(request.buffer);
    view.setUint32(0, request.length, true);
    view.setUint32(4, opcode, true);
    view.setBigUint64(8, BigInt(this.#unique), true);
    view.setBigUint64(16, BigInt(nodeId), true);
    request.set(body, IN_HEADER_BYTES);
    return { fd: this.#fd, request };
  }

  /** @param flags `read_flags`. */
  sendRead(nodeId: number, offset: number, size: number, flags = 0): number {
    const body = new DataView(new ArrayBuffer(40));
    body.setBigUint64(8, BigInt(offset), true);
    body.setUint32(16, size, true);
    body.setUint32(20, flags, true);
    return this.send(READ, nodeId, new Uint8Array(body.buffer));
  }

  /** @param flags `write_flags`. */
  sendWrite(nodeId: number, offset: number, data: Uint8Array, flags = 0): number {
    const body = new Uint8Array(40 + data.length);
    const view = new DataView(body.buffer);
    view.setBigUint64(8, BigInt(offset), true);
    view.setUint32(16, data.length, true);
    view.setUint32(20, flags, true);
    body.set(data, 40);
    return this.send(WRITE, nodeId, body);
  }

  /** Takes the next reply, which may be under way from another thread. */
  receive(): Reply {
    const header = new DataView(this.#take(OUT_HEADER_BYTES).buffer);
    return {
      error: header.getInt32(4, true),
      unique: Number(header.getBigUint64(8, true)),
      data: this.#take(header.getUint32(0, true) - OUT_HEADER_BYTES),
    };
  }

  /** What `umount` does to a connection. */
  hangUp(): void {
    this.#ours.destroy();
  }

  close(): void {
    this.#ours.destroy();
    this.#theirs.destroy();
  }

  /** Only as much as the other end has room for: it takes a request as one. */
  #put(request: Uint8Array): void {
    if (writeSync(this.#fd, request) < request.length) throw new Error("the socket is full");
  }

  #take(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const lastMoment = Date.now() + REPLY_WITHIN_MS;
    for (let done = 0; done < length; ) {
      const got = readNow(this.#fd, bytes.subarray(done));
      if (got === 0 && Date.now() > lastMoment) throw new Error("no reply came");
      if (got === 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
      done += got;
    }
    return bytes;
  }
}
