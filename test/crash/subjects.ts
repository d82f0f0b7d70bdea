/** Who carries a workload out on a recording device: the library, or a kernel with our server behind it. */
import type { WritableDevice } from "../../src/base/block-device.ts";
import {
  closeFilesystem,
  type Filesystem,
  openWritableFilesystem,
  type Timestamp,
} from "../../src/ext4/index.ts";
import { ServedKernel } from "../support/iomap-kernel/served.ts";
import { IomapDriver } from "../support/posix/iomap-driver.ts";
import { LibraryDriver } from "../support/posix/library.ts";
import type { Operation, Outcome } from "../support/posix/operation.ts";
import { randomFrom } from "../support/random.ts";

const CACHE_SIZE_BYTES = 1 << 20;

export interface Subject {
  apply(operation: Operation): Outcome;
  /** Unmounts. */
  close(): void;
}

export interface SubjectKind {
  /** Bytes that were written may stay in memory until somebody syncs them. */
  readonly isDelayed: boolean;
  /** Mounts what is on `device`. */
  open(device: WritableDevice, seed: number): Subject;
}

/** In the past, or e2fsck would object. */
function clock(): () => Timestamp {
  let seconds = 1_700_000_000;
  return () => ({ seconds: seconds++, nanoseconds: 0 });
}

export function openImage(device: WritableDevice, seed: number): Filesystem {
  const random = randomFrom(seed);
  return openWritableFilesystem(device, {
    cacheSizeBytes: CACHE_SIZE_BYTES,
    random: () => random.below(1 << 30) / (1 << 30),
    now: clock(),
  });
}

/** What is called is done at once. */
export const LIBRARY: SubjectKind = {
  isDelayed: false,
  open(device, seed) {
    const fs = openImage(device, seed);
    const driver = new LibraryDriver(fs);
    return {
      apply: (operation) => driver.apply(operation),
      close: () => closeFilesystem(fs),
    };
  },
};

/** Contents are the kernel's, which writes them when it likes. */
export const IOMAP: SubjectKind = {
  isDelayed: true,
  open(device, seed) {
    const options = { usesCache: seed % 2 === 0, backgroundEvery: 3, now: clock() };
    const served = new ServedKernel(device, { seed, cacheSizeBytes: CACHE_SIZE_BYTES, ...options });
    const driver = new IomapDriver(served.kernel, { random: randomFrom(seed) });
    return {
      apply: (operation) => driver.apply(operation),
      close() {
        driver.closeAll();
        served.unmount();
        const rules = served.kernel.violations.map(({ rule, detail }) => `${rule}: ${detail}`);
        const complaints = [...rules, ...served.log];
        if (complaints.length > 0) throw new Error(complaints.join("\n"));
      },
    };
  },
};
