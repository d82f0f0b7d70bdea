/**
 * Files as a test expects them to be: bytes in memory, changed by the same operations as files on an
 * image. Operations are plain values, so that fast-check can make them, shrink and print them.
 */
import fc from "fast-check";
import type { InodeNumber } from "../../src/base/numbers.ts";
import {
  copyFileRange,
  FallocateMode,
  type Filesystem,
  FsError,
  fallocate,
  setSize,
  writeFile,
} from "../../src/ext4/index.ts";

/** One operation on file number `file` of some. Positions and lengths are in bytes. */
export type FileOperation =
  | { do: "write"; file: number; offset: number; length: number; fill: number }
  | { do: "setSize"; file: number; size: number }
  | { do: "fallocate"; file: number; mode: number; offset: number; length: number }
  | { do: "copy"; file: number; to: number; offset: number; toOffset: number; length: number };

const { ALLOCATE, KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE } = FallocateMode;
const MODES = [
  ALLOCATE,
  KEEP_SIZE,
  PUNCH_HOLE | KEEP_SIZE,
  ZERO_RANGE,
  ZERO_RANGE | KEEP_SIZE,
  COLLAPSE_RANGE,
  INSERT_RANGE,
];

export interface FileOperationBounds {
  readonly files: number;
  /** Operations begin below this many blocks, or whatever positions are in multiples of. */
  readonly blocks: number;
  readonly blockSize: number;
  /** What COLLAPSE_RANGE and INSERT_RANGE go by. */
  readonly clusterBytes: number;
}

/** Any operation within `bounds`. */
export function anyFileOperation(bounds: FileOperationBounds): fc.Arbitrary<FileOperation> {
  const { blockSize, clusterBytes } = bounds;
  const file = fc.nat({ max: bounds.files - 1 });
  const block = fc.oneof(fc.constant(0), fc.nat({ max: bounds.blocks - 1 }));
  const within = fc.oneof(fc.constant(0), fc.nat({ max: blockSize - 1 }));
  const offset = fc.tuple(block, within).map(([whole, part]) => whole * blockSize + part);
  const length = fc.oneof(
    fc.integer({ min: 1, max: 60 }),
    fc.integer({ min: 1, max: 3 * blockSize }),
    fc.integer({ min: 1, max: Math.ceil(bounds.blocks / 2) }).map((blocks) => blocks * blockSize),
  );
  const fill = fc.integer({ min: 1, max: 255 });
  const write = fc.record({ do: fc.constant("write" as const), file, offset, length, fill });
  const size = fc.record({ do: fc.constant("setSize" as const), file, size: offset });
  const mode = fc.constantFrom(...MODES);
  const allocation = fc
    .record({ do: fc.constant("fallocate" as const), file, mode, offset, length })
    .map((operation) => aligned(operation, clusterBytes));
  const copy = fc.record({
    do: fc.constant("copy" as const),
    file,
    to: file,
    offset,
    toOffset: offset,
    length,
  });
  return fc.oneof(
    { arbitrary: write, weight: 5 },
    { arbitrary: size, weight: 1 },
    { arbitrary: allocation, weight: 4 },
    { arbitrary: copy, weight: 1 },
  );
}

type Allocation = Extract<FileOperation, { do: "fallocate" }>;

/** Moving ranges are in clusters, mostly: an operation that is refused shows little. */
function aligned(operation: Allocation, clusterBytes: number): Allocation {
  if (operation.mode !== COLLAPSE_RANGE && operation.mode !== INSERT_RANGE) return operation;
  const offset = Math.floor(operation.offset / clusterBytes) * clusterBytes;
  const length = Math.ceil(operation.length / clusterBytes) * clusterBytes;
  return { ...operation, offset, length };
}

/**
 * Performs `operation` on the files of an image.
 *
 * @returns what the model's function of the same name has to know: 0, a count, or -errno.
 */
export function performOnImage(
  fs: Filesystem,
  files: readonly InodeNumber[],
  operation: FileOperation,
): number {
  const number = files[operation.file] as InodeNumber;
  try {
    switch (operation.do) {
      case "write":
        return writeFile(
          fs,
          fs.inode(number),
          operation.offset,
          new Uint8Array(operation.length).fill(operation.fill),
        );
      case "setSize":
        setSize(fs, number, operation.size);
        return 0;
      case "fallocate":
        fallocate(fs, number, operation.mode, operation.offset, operation.length);
        return 0;
      case "copy":
        return copyFileRange(
          fs,
          number,
          operation.offset,
          files[operation.to] as InodeNumber,
          operation.toOffset,
          operation.length,
        );
    }
  } catch (error) {
    if (error instanceof FsError) return -error.errno;
    throw error;
  }
}

/** Performs `operation`, which returned `result` on the image, on the model. */
export function performOnModel(
  files: Uint8Array[],
  operation: FileOperation,
  result: number,
): void {
  if (result < 0) return;
  const bytes = files[operation.file] as Uint8Array;
  switch (operation.do) {
    case "write":
      files[operation.file] = written(
        bytes,
        operation.offset,
        new Uint8Array(result).fill(operation.fill),
      );
      return;
    case "setSize":
      files[operation.file] = resized(bytes, operation.size);
      return;
    case "fallocate":
      files[operation.file] = allocated(bytes, operation);
      return;
    case "copy": {
      const source = bytes.slice(operation.offset, operation.offset + result);
      const target = files[operation.to] as Uint8Array;
      files[operation.to] = written(target, operation.toOffset, source);
    }
  }
}

function allocated(bytes: Uint8Array, { mode, offset, length }: Allocation): Uint8Array {
  const end = offset + length;
  switch (mode) {
    case KEEP_SIZE:
      return bytes;
    case ALLOCATE:
      return resized(bytes, Math.max(bytes.length, end));
    case COLLAPSE_RANGE:
      return joined(bytes.subarray(0, offset), bytes.subarray(end));
    case INSERT_RANGE:
      return joined(bytes.subarray(0, offset), new Uint8Array(length), bytes.subarray(offset));
    default: {
      const size = mode === ZERO_RANGE ? Math.max(bytes.length, end) : bytes.length;
      return resized(bytes, size).fill(0, offset, end);
    }
  }
}

function written(bytes: Uint8Array, offset: number, part: Uint8Array): Uint8Array {
  if (part.length === 0) return bytes;
  const result = resized(bytes, Math.max(bytes.length, offset + part.length));
  result.set(part, offset);
  return result;
}

function resized(bytes: Uint8Array, size: number): Uint8Array {
  const result = new Uint8Array(size);
  result.set(bytes.subarray(0, size));
  return result;
}

function joined(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
