/** A session over the native channel, on a thread of its own: the server's end of `WorkerTransport`. */
import { closeSync, openSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { FileDevice } from "../../../src/device/file-device.ts";
import { closeFilesystem, openWritableFilesystem } from "../../../src/ext4/index.ts";
import type { Channel } from "../../../src/fuse/channel.ts";
import { serveExt4 } from "../../../src/fuse/served.ts";
import { Session } from "../../../src/fuse/session.ts";
import { loadAddon } from "../../../src/native/binding.ts";
import { randomFrom } from "../random.ts";
import { Call, Mailbox } from "./mailbox.ts";

export interface WorkerInput {
  readonly fuseFd: number;
  /** The image. */
  readonly path: string;
  readonly mailbox: SharedArrayBuffer;
  readonly usesCache: boolean;
  /** Of the numbers that the allocators draw. */
  readonly seed: number;
}

const { fuseFd, path, mailbox: shared, usesCache, seed } = workerData as WorkerInput;
const mailbox = new Mailbox(shared);
const addon = loadAddon();
const deviceFd = openSync(path, "r+");
const device = new FileDevice(addon, deviceFd, 0, path);
const log = (line: string): void => parentPort?.postMessage(line);

const random = randomFrom(seed);
/** The machine's would make a run depend on when it is made. */
let seconds = 1_700_000_000;
let session: Session | undefined;
const fs = openWritableFilesystem(device, {
  cacheSizeBytes: 1 << 20,
  random: () => random.below(1 << 30) / (1 << 30),
  now: () => ({ seconds: seconds++, nanoseconds: 0 }),
  invalidateMappings: (inode, from, end) => session?.invalidateMappings(inode, from, end),
});
const native = new addon.Channel({
  ...{ fuseFd, deviceFd, deviceDirect: false, deviceOffsetBytes: 0, ioThreads: 1 },
  ...{ blockBytes: fs.superblock.blockSize, bodyBytesMax: 1 << 20, traceTransfers: false },
});

/** Counts the requests that come out of the native channel. */
const channel: Channel = new Proxy(native, {
  get(target, name) {
    const value = target[name as keyof typeof target] as unknown;
    if (typeof value !== "function") return value;
    if (name !== "next") return value.bind(target);
    return (replyLength: number, timeoutMs: number): number => {
      const length = target.next(replyLength, timeoutMs);
      if (length > 0) mailbox.noteTaken();
      return length;
    };
  },
});

session = new Session(channel, serveExt4(fs, { minixdf: false, asksAtOpen: false }), {
  log,
  onDestroy: () => {
    session?.finish();
    closeFilesystem(fs);
  },
  iomap: {
    ...{ required: true, usesCache, contents: device, deviceOffsetBytes: 0 },
    ...{ directMemoryBytes: 4, directOffsetBytes: 512 },
    onAgreed: () => undefined,
    registerDevice: () => mailbox.ask(Call.REGISTER),
    setBlockSize: (id, bytes) => mailbox.ask(Call.SET_BLOCK_SIZE, id, bytes),
  },
});
session.serve();
native.close();
closeSync(deviceFd);
