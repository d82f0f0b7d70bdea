/**
 * The maps of files in many pieces: trees that grow deep and shrink again, operations that need many
 * transactions, full filesystems, and operations that fail half way. Judged by e2fsck.
 */
import { describe, expect, test } from "vitest";
import type { FileBlock } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  closeFilesystem,
  FallocateMode,
  type Filesystem,
  FsError,
  fallocate,
  InodeFlags,
  IomapType,
  iomapForRead,
  iomapForWrite,
  newIomap,
  openWritableFilesystem,
  setSize,
  writeFile,
} from "../../src/ext4/index.ts";
import { Budget } from "../../src/ext4/map/budget.ts";
import { allocateRun, freeRuns, MAP_CREDITS } from "../../src/ext4/map/change.ts";
import { contentsOf, expectSame, fileNumber, imageWithFiles } from "../support/files-on-image.ts";
import { type Random, randomFrom, seedOfRun } from "../support/random.ts";
import { RecordingDevice } from "../support/recording-device.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { askDebugfs, complaintsAbout } from "../support/writable-image.ts";

const BLOCK = 1024;
const seed = seedOfRun();
const { KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE } = FallocateMode;
const FILE = fileNumber(0);
const OTHER = fileNumber(1);

const KINDS = [
  { name: "extents", args: ["-b", "1024"] },
  { name: "extents and a small journal", args: ["-b", "1024", "-J", "size=1"] },
  { name: "extents, without checksums", args: ["-b", "1024", "-O", "^metadata_csum,^64bit"] },
  { name: "clusters", args: ["-b", "1024", "-C", "4096", "-O", "bigalloc"] },
  { name: "block maps", args: ["-b", "1024", "-O", "^extent,^64bit"] },
] as const;

function errnoOf(action: () => unknown): number {
  try {
    action();
    return 0;
  } catch (error) {
    if (error instanceof FsError) return error.errno;
    throw error;
  }
}

function shuffled(count: number, random: Random): number[] {
  const numbers = Array.from({ length: count }, (_, index) => index);
  for (let at = count - 1; at > 0; at--) {
    const other = random.below(at + 1);
    [numbers[at], numbers[other]] = [numbers[other] as number, numbers[at] as number];
  }
  return numbers;
}

/** Writes every other block of the first `2 * count` ones, in any order: `count` pieces. */
function writePieces(fs: Filesystem, count: number, random: Random): Uint8Array {
  const inode = fs.inode(FILE);
  const model = new Uint8Array((2 * count - 1) * BLOCK);
  for (const piece of shuffled(count, random)) {
    const bytes = new Uint8Array(BLOCK).fill(1 + (piece % 255));
    writeFile(fs, inode, 2 * piece * BLOCK, bytes);
    model.set(bytes, 2 * piece * BLOCK);
  }
  return model;
}

/** The image as each flush has left it, and once more at the end. */
function* statesAtFlushes(
  before: Uint8Array,
  { log }: RecordingDevice,
): Generator<{ bytes: Uint8Array }> {
  const bytes = before.slice();
  for (const event of log) {
    if (event.kind === "write") bytes.set(event.bytes, event.offset);
    if (event.kind === "flush") yield { bytes: bytes.slice() };
  }
  yield { bytes };
}

/** How many clusters are free, those that wait for a commit included. */
function freeAfterCommit(fs: Filesystem): number {
  fs.writer.transactions.commit();
  return fs.groups.countFree().clusters;
}

const skip = skipBecause("maps of files", whyNoE2fsprogs());

describe.skipIf(skip)(`maps of files in pieces, SEED=${seed}`, () => {
  describe.each(KINDS)("with $name", ({ args }) => {
    const pristine = imageWithFiles(2, "32M", args);

    test("a file in 3,000 pieces is right, and gives all its blocks back", () => {
      const image = pristine.slice();
      const fs = openWritableFilesystem(new MemoryDevice(image));
      const before = freeAfterCommit(fs);
      const random = randomFrom(seed);
      const model = writePieces(fs, 3000, random);
      for (let round = 0; round < 300; round++) {
        const from = random.below(model.length);
        const length = 1 + random.below(20 * BLOCK);
        fallocate(fs, FILE, PUNCH_HOLE | KEEP_SIZE, from, length);
        model.fill(0, from, from + length);
      }
      expectSame(contentsOf(fs, FILE), model, "the file");
      closeFilesystem(fs);
      expect(complaintsAbout(image)).toBe("");

      const again = openWritableFilesystem(new MemoryDevice(image));
      setSize(again, FILE, 1000 * BLOCK + 17);
      expectSame(contentsOf(again, FILE), model.subarray(0, 1000 * BLOCK + 17), "what is left");
      setSize(again, FILE, 0);
      expect(again.inode(FILE).blocks512).toBe(0);
      expect(freeAfterCommit(again)).toBe(before);
      closeFilesystem(again);
      expect(complaintsAbout(image)).toBe("");
    });

    test("a file fills the filesystem as far as it may, again and again", () => {
      const image = pristine.slice();
      const fs = openWritableFilesystem(new MemoryDevice(image));
      const before = freeAfterCommit(fs);
      const piece = new Uint8Array(100 * BLOCK).fill(7);
      for (let round = 0; round < 3; round++) {
        const written = [FILE, OTHER].map((number, index) => {
          const inode = fs.inode(number);
          const step = index === 0 ? 2 * BLOCK : piece.length;
          let size = 0;
          while (index > 0 || size < 4000 * BLOCK) {
            const count = errnoOf(() => {
              size += writeFile(fs, inode, size, piece.subarray(0, step));
            });
            if (count !== 0) {
              expect(count).toBe(28); // ENOSPC
              break;
            }
            if (index === 0) fallocate(fs, number, PUNCH_HOLE | KEEP_SIZE, size - BLOCK, BLOCK);
          }
          return inode.sizeBytes;
        });
        // Of what is kept back, holes that were punched when all else was gone may have had some.
        const left = fs.groups.countFree().clusters;
        expect(left).toBeLessThanOrEqual(fs.superblock.keptBackClusters);
        expect(written[1]).toBeGreaterThan(BLOCK * 10_000);
        expect(contentsOf(fs, OTHER).every((byte) => byte === 7)).toBe(true);
        setSize(fs, OTHER, 0);
        setSize(fs, FILE, 0);
        expect(freeAfterCommit(fs)).toBe(before);
      }
      closeFilesystem(fs);
      expect(complaintsAbout(image)).toBe("");
    });

    test("an operation that fails half way leaves the map as it was", () => {
      const image = pristine.slice();
      const fs = openWritableFilesystem(new MemoryDevice(image));
      const random = randomFrom(seed);
      const model = writePieces(fs, 700, random);
      const inode = fs.inode(FILE);
      const before = freeAfterCommit(fs);
      for (let round = 0; round < 200; round++) {
        const fail = (): void =>
          fs.transact(5 * MAP_CREDITS, (tx) => {
            const from = random.below(1400) as FileBlock;
            freeRuns(fs, tx, inode, from, from + random.below(200), new Budget(fs));
            for (let each = 0; each < 20; each++) {
              const block = (1400 + 2 * random.below(100) + 300 * each) as FileBlock;
              allocateRun(fs, tx, inode, block, 1, false);
            }
            throw new FsError(28, "made up");
          });
        expect(errnoOf(fail)).toBe(28);
      }
      expectSame(contentsOf(fs, FILE), model, "the file");
      expect(freeAfterCommit(fs)).toBe(before);
      writeFile(fs, inode, BLOCK, new Uint8Array(BLOCK).fill(9));
      setSize(fs, FILE, 900 * BLOCK);
      closeFilesystem(fs);
      expect(complaintsAbout(image)).toBe("");
    });
  });

  describe("with extents", () => {
    const pristine = imageWithFiles(2, "32M", ["-b", "1024", "-J", "size=1"]);

    test("ranges go and come in a file in 3,000 pieces", () => {
      const image = pristine.slice();
      const fs = openWritableFilesystem(new MemoryDevice(image));
      const random = randomFrom(seed);
      let model = Buffer.from(writePieces(fs, 3000, random));
      for (let round = 0; round < 30; round++) {
        const from = random.below(model.length / BLOCK - 300) * BLOCK;
        const length = (1 + random.below(200)) * BLOCK;
        if (round % 2 === 0) {
          fallocate(fs, FILE, COLLAPSE_RANGE, from, length);
          model = Buffer.concat([model.subarray(0, from), model.subarray(from + length)]);
        } else {
          fallocate(fs, FILE, INSERT_RANGE, from, length);
          model = Buffer.concat([
            model.subarray(0, from),
            Buffer.alloc(length),
            model.subarray(from),
          ]);
        }
      }
      expectSame(contentsOf(fs, FILE), model, "the file");
      closeFilesystem(fs);
      expect(complaintsAbout(image)).toBe("");
    });

    test("a truncation that a power cut interrupts is finished by the next mount", () => {
      const image = pristine.slice();
      const prepared = openWritableFilesystem(new MemoryDevice(image));
      const model = writePieces(prepared, 3000, randomFrom(seed));
      closeFilesystem(prepared);

      const device = new RecordingDevice(image.slice());
      const fs = openWritableFilesystem(device);
      setSize(fs, FILE, 100 * BLOCK + 10);
      fs.writer.transactions.commit();
      const sizes = new Set<number>();
      for (const { bytes } of statesAtFlushes(image, device)) {
        const again = openWritableFilesystem(new MemoryDevice(bytes));
        const found = contentsOf(again, FILE);
        expectSame(found, model.subarray(0, found.length), "what is left");
        sizes.add(found.length);
        closeFilesystem(again);
        expect(complaintsAbout(bytes)).toBe("");
      }
      expect([...sizes]).toEqual([model.length, 100 * BLOCK + 10]);
    });

    test("what lay behind the end of a file that was made smaller is zeroed, but not too early", () => {
      const image = pristine.slice();
      const fs = openWritableFilesystem(new MemoryDevice(image));
      const inode = fs.inode(FILE);
      writeFile(fs, inode, 0, new Uint8Array(3 * BLOCK).fill(7));
      fs.writer.transactions.commit();
      const { addr } = iomapForRead(fs, inode, 0, BLOCK, newIomap());
      const behind = (from: number): boolean =>
        image.subarray(addr + from, addr + BLOCK).every((byte) => byte === 0);
      setSize(fs, FILE, 500);
      setSize(fs, FILE, 400);
      expect(image[addr + 400]).toBe(7);
      fs.writer.transactions.commit();
      expect(behind(400)).toBe(true);
      expect(image[addr + 399]).toBe(7);
      setSize(fs, FILE, 300);
      writeFile(fs, inode, 350, new Uint8Array(1).fill(9));
      expect(contentsOf(fs, FILE).subarray(299)).toEqual(
        Uint8Array.from([7, ...new Uint8Array(50), 9]),
      );
      setSize(fs, FILE, 100);
      closeFilesystem(fs);
      expect(behind(100)).toBe(true);
    });

    test("pieces join when what is between them is written", () => {
      const image = pristine.slice();
      const fs = openWritableFilesystem(new MemoryDevice(image));
      fallocate(fs, FILE, FallocateMode.ALLOCATE, 0, 2000 * BLOCK);
      const inode = fs.inode(FILE);
      for (const block of shuffled(2000, randomFrom(seed))) {
        writeFile(fs, inode, block * BLOCK, new Uint8Array(BLOCK).fill(5));
      }
      expect(contentsOf(fs, FILE).every((byte) => byte === 5)).toBe(true);
      closeFilesystem(fs);
      expect(complaintsAbout(image)).toBe("");
      expect(askDebugfs(image, "dump_extents f0").split("\n").length).toBeLessThan(100);
    });

    test("iomapForWrite says what is new, and never more than was asked for", () => {
      const fs = openWritableFilesystem(new MemoryDevice(pristine.slice()));
      const inode = fs.inode(FILE);
      const ask = (offset: number, length: number) =>
        iomapForWrite(fs, inode, offset, length, newIomap());
      const first = ask(100, 5000);
      expect(first).toMatchObject({
        type: IomapType.MAPPED,
        offset: 100,
        length: 5020,
        isNew: true,
      });
      expect(first.addr % BLOCK).toBe(100);
      expect(inode.sizeBytes).toBe(5100);
      expect(ask(0, 10)).toMatchObject({ addr: first.addr - 100, length: 5120, isNew: false });
      expect(inode.sizeBytes).toBe(5100);
      fallocate(fs, FILE, KEEP_SIZE, 5120, 10 * BLOCK);
      expect(ask(7168, 1)).toMatchObject({ length: BLOCK, isNew: true });
      expect(inode.sizeBytes).toBe(7169);
      const before = iomapForRead(fs, inode, 5120, BLOCK, newIomap());
      expect(before).toMatchObject({ type: IomapType.UNWRITTEN, length: 2 * BLOCK });
      closeFilesystem(fs);
    });

    test("mappings are given up before they change", () => {
      const told: [number, number, number][] = [];
      const invalidateMappings = (inode: number, from: number, end: number): void => {
        told.push([inode, from, end]);
      };
      const fs = openWritableFilesystem(new MemoryDevice(pristine.slice()), { invalidateMappings });
      writeFile(fs, fs.inode(FILE), 0, new Uint8Array(10 * BLOCK));
      told.length = 0;
      fallocate(fs, FILE, PUNCH_HOLE | KEEP_SIZE, 1000, 2000);
      setSize(fs, FILE, 5000);
      fallocate(fs, FILE, COLLAPSE_RANGE, BLOCK, BLOCK);
      expect(told).toEqual([
        [FILE, 1000, 3000],
        [FILE, 5000, Number.MAX_SAFE_INTEGER],
        [FILE, BLOCK, Number.MAX_SAFE_INTEGER],
      ]);
      closeFilesystem(fs);
    });

    test("fallocate refuses what the kernel refuses", () => {
      const fs = openWritableFilesystem(new MemoryDevice(pristine.slice()));
      writeFile(fs, fs.inode(FILE), 0, new Uint8Array(10 * BLOCK));
      const refused = (mode: number, offset: number, length: number): number =>
        errnoOf(() => fallocate(fs, FILE, mode, offset, length));
      expect(refused(PUNCH_HOLE, 0, BLOCK)).toBe(95); // EOPNOTSUPP
      expect(refused(ZERO_RANGE | PUNCH_HOLE | KEEP_SIZE, 0, BLOCK)).toBe(95);
      expect(refused(0, -1, BLOCK)).toBe(22); // EINVAL
      expect(refused(0, 0, 0)).toBe(22);
      expect(refused(COLLAPSE_RANGE, 1, BLOCK)).toBe(22);
      expect(refused(COLLAPSE_RANGE, 0, 10 * BLOCK)).toBe(22);
      expect(refused(INSERT_RANGE, 0, 100)).toBe(22);
      expect(refused(INSERT_RANGE, 10 * BLOCK, BLOCK)).toBe(22);
      expect(refused(0, 0xffff_ffff * BLOCK - 1, 2)).toBe(27); // EFBIG
      expect(refused(INSERT_RANGE, 0, (0xffff_ffff - 9) * BLOCK)).toBe(27);
      expect(refused(PUNCH_HOLE | KEEP_SIZE, 20 * BLOCK, BLOCK)).toBe(0);
      expect(errnoOf(() => setSize(fs, FILE, 0xffff_ffff * BLOCK + 1))).toBe(27);
      expect(
        errnoOf(() => writeFile(fs, fs.inode(FILE), 0xffff_ffff * BLOCK, new Uint8Array(1))),
      ).toBe(27);
      expect(errnoOf(() => setSize(fs, fileNumber(-10), 0))).toBe(21); // EISDIR
      closeFilesystem(fs);
    });

    test("fallocate that runs out of space keeps what it got", () => {
      const image = pristine.slice();
      const fs = openWritableFilesystem(new MemoryDevice(image));
      expect(errnoOf(() => fallocate(fs, FILE, 0, 0, 100_000 * BLOCK))).toBe(28); // ENOSPC
      expect(fs.inode(FILE).sizeBytes).toBeGreaterThan(20_000 * BLOCK);
      closeFilesystem(fs);
      expect(complaintsAbout(image)).toBe("");
    });
  });

  test.each([
    ["blocks", []],
    ["clusters", ["-C", "4096", "-O", "bigalloc"]],
  ])("a full filesystem of %s takes holes, and what was promised", (_, args) => {
    const image = imageWithFiles(3, "32M", ["-b", "1024", ...args]);
    const fs = openWritableFilesystem(new MemoryDevice(image));
    fs.writer.mayUseReserve = () => false;
    const bytes = new Uint8Array(4 * BLOCK).fill(9);
    writeFile(fs, fs.inode(FILE), 0, new Uint8Array(4000 * BLOCK).fill(7));
    fallocate(fs, OTHER, 0, 0, 4000 * BLOCK);
    const fill = (): void => fallocate(fs, fileNumber(2), 0, 0, 100_000 * BLOCK);
    for (let at = 0; at < 4000 * BLOCK; at += 8 * BLOCK) {
      expect(errnoOf(fill)).toBe(28); // ENOSPC
      expect(errnoOf(() => fallocate(fs, FILE, PUNCH_HOLE | KEEP_SIZE, at, 4 * BLOCK))).toBe(0);
      expect(errnoOf(fill)).toBe(28);
      expect(errnoOf(() => writeFile(fs, fs.inode(OTHER), at, bytes))).toBe(0);
    }
    closeFilesystem(fs);
    expect(complaintsAbout(image)).toBe("");
  });

  test("a block map takes no other fallocate than a punched hole", () => {
    const fs = openWritableFilesystem(
      new MemoryDevice(imageWithFiles(1, "16M", ["-O", "^extent,^64bit"])),
    );
    writeFile(fs, fs.inode(FILE), 0, new Uint8Array(100_000));
    for (const mode of [0, KEEP_SIZE, ZERO_RANGE, COLLAPSE_RANGE, INSERT_RANGE]) {
      expect(errnoOf(() => fallocate(fs, FILE, mode, 0, 4096))).toBe(95); // EOPNOTSUPP
    }
    expect(errnoOf(() => fallocate(fs, FILE, PUNCH_HOLE | KEEP_SIZE, 0, 4096))).toBe(0);
    closeFilesystem(fs);
  });

  test("a file starts inline only when it has no blocks, and no zeros meet inline contents", () => {
    const image = imageWithFiles(2, "16M", ["-b", "1024", "-O", "inline_data"]);
    const fs = openWritableFilesystem(new MemoryDevice(image));
    fallocate(fs, FILE, KEEP_SIZE, 20 * BLOCK, BLOCK);
    writeFile(fs, fs.inode(FILE), 0, Uint8Array.of(1, 2, 3));
    expect(fs.inode(FILE).hasFlag(InodeFlags.INLINE_DATA)).toBe(false);

    const inode = fs.inode(OTHER);
    writeFile(fs, inode, 0, new Uint8Array(2 * BLOCK).fill(5));
    fs.writer.transactions.commit();
    setSize(fs, OTHER, 10);
    setSize(fs, OTHER, 0);
    writeFile(fs, inode, 0, Uint8Array.of(...[99, 0, 0, 0]));
    expect(inode.hasFlag(InodeFlags.INLINE_DATA)).toBe(true);
    closeFilesystem(fs);
    expect(complaintsAbout(image)).toBe("");
  });

  test("the first file above 2 GiB brings the feature large_file", () => {
    const image = imageWithFiles(1, "16M", [
      "-b",
      "4096",
      "-O",
      "^large_file,^huge_file,^resize_inode",
    ]);
    const fs = openWritableFilesystem(new MemoryDevice(image));
    setSize(fs, FILE, 0x7fff_ffff);
    expect(askDebugfs(image, "stats -h")).not.toContain("large_file");
    writeFile(fs, fs.inode(FILE), 0x7fff_ffff, new Uint8Array(1));
    closeFilesystem(fs);
    expect(askDebugfs(image, "stats -h")).toContain("large_file");
    expect(complaintsAbout(image)).toBe("");
  });
});
