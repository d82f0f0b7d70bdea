/**
 * A FUSE server that shows one file, whose data the kernel reads from and writes to another file by itself
 * (FUSE_PASSTHROUGH). It has a request loop of its own that never blocks: whoever uses the mount is another
 * process, which is awaited between requests.
 *
 * @see fuse_kernel.h 7.45, struct fuse_init_out, fuse_entry_out, fuse_attr_out, fuse_open_out
 */
import type { ChildProcess } from "node:child_process";
import { closeSync, fstatSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { Errno } from "../../src/base/errno.ts";
import { TIMED_OUT } from "../../src/fuse/channel.ts";
import { BACKING_FILE, loadAddon, type NativeChannel } from "../../src/native/binding.ts";
import type { Scope } from "./scope.ts";

/** What the file is called. */
export const FILE_NAME = "file";

const ROOT = 1;
const FILE = 2;
const IN_HEADER_BYTES = 40;
const OUT_HEADER_BYTES = 16;
const BODY_BYTES_MAX = 1 << 20;
const ENOSYS = 38;
const MINOR = 40; // the first that has FUSE_PASSTHROUGH
const FLAG_INIT_EXT = 2 ** 30;
const FLAG2_PASSTHROUGH = 1 << 5;
const FOPEN_PASSTHROUGH = 1 << 7;
const POLL_MS = 1;
const Opcode = { LOOKUP: 1, FORGET: 2, GETATTR: 3, OPEN: 14, RELEASE: 18, INIT: 26 } as const;

/** A reply: a body of so many bytes, or a negative errno; undefined where none is due. */
type Result = { readonly bodyBytes: number } | number | undefined;

export class MirrorServer {
  readonly addon = loadAddon();
  readonly path: string;
  readonly fuseFd: number;
  /** What the kernel offers in INIT, once it has. */
  offersPassthrough: boolean | undefined;
  /** Backing files that are registered at the moment. */
  readonly backingIds: number[] = [];
  /** What happens just before INIT is answered. */
  onInit = (): void => {};
  readonly channel: NativeChannel;
  readonly #backingFd: number;
  readonly #negotiates: boolean;
  #opens = 0;
  #replyBytes = 0;

  /** @param negotiates tell the kernel that it may serve files by itself. */
  constructor(scope: Scope, backing: string, negotiates = true) {
    this.#negotiates = negotiates;
    this.path = join(scope.temporaryFolder(), "mirror");
    mkdirSync(this.path);
    this.#backingFd = openSync(backing, "r+");
    scope.add(() => closeSync(this.#backingFd));
    const { fd, message } = this.addon.mount({
      mountpoint: this.path,
      fsname: "mirror",
      subtype: "mirror",
      deviceBlockBytes: 0,
      readOnly: false,
      allowOther: false,
      defaultPermissions: false,
      maxReadBytes: 0,
      flags: [],
      autoUnmount: false,
    });
    if (fd < 0) throw new Error(message);
    this.fuseFd = fd;
    scope.add(() => this.addon.closeDescriptor(fd));
    scope.add(() => this.addon.unmount(this.path, ""));
    this.channel = new this.addon.Channel({
      fuseFd: fd,
      deviceFd: this.#backingFd,
      deviceDirect: false,
      deviceOffsetBytes: 0,
      blockBytes: 4096,
      bodyBytesMax: BODY_BYTES_MAX,
      ioThreads: 1,
      traceTransfers: true,
    });
    scope.add(() => this.channel.close());
  }

  /** Requests with this opcode so far. */
  requestsOf(opcode: number): number {
    return this.channel.requestCounts[opcode] ?? 0;
  }

  /** Serves until `user` has ended. @returns its exit code and what it printed. */
  async serve(user: ChildProcess): Promise<{ code: number | null; printed: string }> {
    let printed = "";
    let hasEnded = false;
    for (const stream of [user.stdout, user.stderr])
      stream?.on("data", (text: Buffer) => {
        printed += text.toString("utf8");
      });
    user.on("close", () => {
      hasEnded = true;
    });
    while (!hasEnded) await this.#turn();
    await this.serveRest();
    return { code: user.exitCode, printed };
  }

  /** Serves what the kernel sends by itself: INIT, and RELEASE some time after close(2). */
  async serveRest(): Promise<void> {
    while (this.offersPassthrough === undefined || this.#opens > 0) await this.#turn();
    await this.#turn();
  }

  /** Answers the request that is there, or waits for a moment. */
  async #turn(): Promise<void> {
    const length = this.channel.next(this.#replyBytes, 0);
    this.#replyBytes = 0;
    if (length > 0) this.#replyBytes = this.#answer();
    if (length === TIMED_OUT) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (length === 0) throw new Error("the connection is closed");
  }

  /** @returns the length of the reply to the request in hand. */
  #answer(): number {
    const { request, reply } = this.channel;
    const asked = new DataView(request.buffer, request.byteOffset);
    const answer = new DataView(reply.buffer, reply.byteOffset);
    const body = new DataView(reply.buffer, reply.byteOffset + OUT_HEADER_BYTES);
    reply.fill(0, 0, 256);
    const result = this.#serve(asked, body);
    if (result === undefined) return 0;
    const bodyBytes = typeof result === "number" ? 0 : result.bodyBytes;
    answer.setUint32(0, OUT_HEADER_BYTES + bodyBytes, true);
    answer.setInt32(4, typeof result === "number" ? result : 0, true);
    answer.setBigUint64(8, asked.getBigUint64(8, true), true);
    return OUT_HEADER_BYTES + bodyBytes;
  }

  #serve(asked: DataView, body: DataView): Result {
    const node = Number(asked.getBigUint64(16, true));
    switch (asked.getUint32(4, true)) {
      case Opcode.INIT:
        return this.#init(asked, body);
      case Opcode.LOOKUP:
        if (nameIn(asked) !== FILE_NAME) return -Errno.ENOENT;
        body.setBigUint64(0, BigInt(FILE), true);
        this.#putAttributes(new DataView(body.buffer, body.byteOffset + 40), FILE);
        return { bodyBytes: 128 };
      case Opcode.GETATTR:
        this.#putAttributes(new DataView(body.buffer, body.byteOffset + 16), node);
        return { bodyBytes: 104 };
      case Opcode.OPEN:
        return this.#open(body);
      case Opcode.RELEASE:
        return this.#release();
      case Opcode.FORGET:
        return undefined;
      default:
        return -ENOSYS;
    }
  }

  #init(asked: DataView, body: DataView): Result {
    this.onInit();
    this.offersPassthrough =
      (asked.getUint32(IN_HEADER_BYTES + 16, true) & FLAG2_PASSTHROUGH) !== 0;
    body.setUint32(0, 7, true);
    body.setUint32(4, MINOR, true);
    body.setUint32(12, FLAG_INIT_EXT, true);
    body.setUint32(20, BODY_BYTES_MAX, true); // max_write
    if (this.#negotiates) body.setUint32(32, FLAG2_PASSTHROUGH, true);
    body.setUint32(36, 1, true); // max_stack_depth
    return { bodyBytes: 64 };
  }

  /** All who have the file open at a time share a backing file. */
  #open(body: DataView): Result {
    if (this.backingIds.length === 0) {
      const id = this.addon.openBacking(this.fuseFd, this.#backingFd, BACKING_FILE, 0);
      if (id < 0) return id;
      this.backingIds.push(id);
    }
    this.#opens += 1;
    body.setUint32(8, FOPEN_PASSTHROUGH, true);
    body.setInt32(12, this.backingIds[0] ?? 0, true);
    return { bodyBytes: 16 };
  }

  #release(): Result {
    this.#opens -= 1;
    if (this.#opens > 0) return 0;
    return this.addon.closeBacking(this.fuseFd, this.backingIds.pop() ?? 0);
  }

  #putAttributes(attributes: DataView, node: number): void {
    const { size, blocks } = fstatSync(this.#backingFd);
    attributes.setBigUint64(0, BigInt(node), true);
    attributes.setBigUint64(8, BigInt(node === ROOT ? 0 : size), true);
    attributes.setBigUint64(16, BigInt(blocks), true);
    attributes.setUint32(60, node === ROOT ? 0o040755 : 0o100644, true);
    attributes.setUint32(64, 1, true);
    attributes.setUint32(80, 4096, true);
  }
}

function nameIn(asked: DataView): string {
  const length = asked.getUint32(0, true) - IN_HEADER_BYTES - 1;
  const name = new Uint8Array(asked.buffer, asked.byteOffset + IN_HEADER_BYTES, length);
  return Buffer.from(name).toString("utf8");
}
