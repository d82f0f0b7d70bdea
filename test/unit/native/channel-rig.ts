/** Channels between a stand-in for the kernel and a device in a temporary file. */
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ChannelOptions, loadAddon, type NativeChannel } from "../../../src/native/binding.ts";
import { FakeKernel } from "./fake-kernel.ts";

export const BLOCK_BYTES = 4096;
export const BODY_BYTES_MAX = 256 * 1024;

export class ChannelRig {
  readonly kernel: FakeKernel;
  readonly devicePath: string;
  readonly deviceFd: number;
  readonly #folder: string;
  readonly #channels: NativeChannel[] = [];

  private constructor(kernel: FakeKernel, contents: Uint8Array) {
    this.kernel = kernel;
    this.#folder = mkdtempSync(join(tmpdir(), "fuse4fs-ts-channel-"));
    this.devicePath = join(this.#folder, "device");
    this.deviceFd = openSync(this.devicePath, "w+");
    writeSync(this.deviceFd, contents);
  }

  /** @param contents of the device. */
  static async open(contents: Uint8Array): Promise<ChannelRig> {
    return new ChannelRig(await FakeKernel.open(), contents);
  }

  openChannel(options: Partial<ChannelOptions> = {}): NativeChannel {
    const { Channel } = loadAddon();
    const channel = new Channel({
      fuseFd: this.kernel.fuseFd,
      deviceFd: this.deviceFd,
      deviceDirect: false,
      deviceOffsetBytes: 0,
      blockBytes: BLOCK_BYTES,
      bodyBytesMax: BODY_BYTES_MAX,
      ioThreads: 2,
      traceTransfers: false,
      ...options,
    });
    this.#channels.push(channel);
    return channel;
  }

  close(): void {
    for (const channel of this.#channels) channel.close();
    this.kernel.close();
    closeSync(this.deviceFd);
    rmSync(this.#folder, { recursive: true });
  }
}
