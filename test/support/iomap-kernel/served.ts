/** A kernel, and our server behind it: an ext4 image mounted without a mount. */
import type { WritableDevice } from "../../../src/base/block-device.ts";
import {
  closeFilesystem,
  type Filesystem,
  openWritableFilesystem,
  type Timestamp,
} from "../../../src/ext4/index.ts";
import { serveExt4 } from "../../../src/fuse/served.ts";
import { Session } from "../../../src/fuse/session.ts";
import { randomFrom } from "../random.ts";
import { InProcessTransport } from "./in-process.ts";
import { IomapKernel } from "./kernel.ts";
import type { Generation } from "./mapping.ts";

export interface ServedOptions {
  readonly seed: number;
  readonly generation?: Generation;
  /** Before one request in so many, the kernel does something of its own; 0 for never. Default 3. */
  readonly backgroundEvery?: number;
  readonly writesBackInOrder?: boolean;
  /** Whether the server puts mappings into the kernel. Default true. */
  readonly usesCache?: boolean;
  readonly cacheSizeBytes?: number;
  readonly deviceOffsetBytes?: number;
  readonly mappingIndexBytesMax?: number;
  readonly atomicWriteBytes?: { readonly min: number; readonly max: number };
  readonly now?: () => Timestamp;
  /** Takes a line about every request. */
  readonly trace?: (line: string) => void;
}

export class ServedKernel {
  readonly kernel: IomapKernel;
  readonly fs: Filesystem;
  readonly session: Session;
  /** What the server has logged. */
  readonly log: string[] = [];

  /** Mounts what is on `device`. */
  constructor(device: WritableDevice, options: ServedOptions) {
    const { seed, generation = "v7", backgroundEvery = 3, usesCache = true } = options;
    const { cacheSizeBytes = 1 << 20, deviceOffsetBytes = 0, writesBackInOrder = false } = options;
    const { now, trace, mappingIndexBytesMax } = options;
    const allocation = randomFrom(seed);
    let session: Session | undefined;
    this.fs = openWritableFilesystem(device, {
      cacheSizeBytes,
      random: () => allocation.below(1 << 30) / (1 << 30),
      invalidateMappings: (inode, from, end) => session?.invalidateMappings(inode, from, end),
      onFreed: (start, count) => {
        const { blockSize } = this.fs.superblock;
        session?.noteFreed(start * blockSize, count * blockSize);
      },
      ...(now !== undefined && { now }),
    });
    const transport = new InProcessTransport();
    this.kernel = new IomapKernel({
      ...{ transport, device, generation, backgroundEvery, deviceOffsetBytes, writesBackInOrder },
      random: randomFrom(seed + 1),
      ...(mappingIndexBytesMax !== undefined && { mappingIndexBytesMax }),
      ...(now !== undefined && { now: () => nanosecondsOf(now()) }),
    });
    const presentation = { minixdf: false, asksAtOpen: false };
    session = new Session(transport, serveExt4(this.fs, presentation), {
      log: (line) => this.log.push(line),
      ...(trace !== undefined && { trace }),
      onDestroy: () => this.#finish(),
      iomap: {
        ...this.kernel.host(options.atomicWriteBytes),
        ...{ required: true, usesCache, contents: device },
        ...{ directMemoryBytes: 4, directOffsetBytes: 512 },
        onAgreed: () => undefined,
      },
    });
    this.session = session;
    transport.serve(session);
    this.kernel.mount();
  }

  #finish(): void {
    this.session.finish();
    closeFilesystem(this.fs);
  }

  /** Unmounts; all files are closed. */
  unmount(): void {
    this.kernel.unmount();
  }
}

const nanosecondsOf = ({ seconds, nanoseconds }: Timestamp): bigint =>
  BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
