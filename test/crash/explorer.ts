/**
 * Runs workloads on a recording device, cuts the power at every moment that `crashStates`
 * names, and lets each state be recovered and judged:
 *
 *     ours     opened and closed by the library; the tree must keep what `History` has promised
 *     again    for one state in so many: our recovery is cut as well, and has to come to the same
 *     e2fsck   our result is clean (-fn); on the raw state, -fy has nothing to repair but what a
 *              journal and orphans explain, and the tree that it leaves is the one that we found
 *     kernel   for a sample: mounted by the kernel's ext4, the tree is the same, and e2fsck is content
 *
 * States with equal bytes are recovered once; what each workload has promised is judged for each.
 */
import { closeSync, fstatSync, openSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { BlockDevice, WritableDevice } from "../../src/base/block-device.ts";
import { closeFilesystem, InodeFlags, openFilesystem } from "../../src/ext4/index.ts";
import { debugfs, e2fsck } from "../support/e2fsprogs.ts";
import { kernelMount } from "../support/mounts.ts";
import { libraryTree } from "../support/posix/library.ts";
import { PosixModel } from "../support/posix/model.ts";
import { describe, type Operation } from "../support/posix/operation.ts";
import { differences, type Tree } from "../support/posix/tree.ts";
import { type Random, randomFrom } from "../support/random.ts";
import { type DeviceEvent, RecordingDevice } from "../support/recording-device.ts";
import type { Scope } from "../support/scope.ts";
import { freshImage } from "../support/writable-image.ts";
import type { CrashConfiguration } from "./configurations.ts";
import { type CrashState, crashStates, type Progress, pieceOf } from "./crash-states.ts";
import { Disk, type Piece } from "./disk.ts";
import { E2fsckBatch, type Pages } from "./e2fsck-batch.ts";
import { History } from "./history.ts";
import { OverlayDevice, PAGE_SIZE } from "./overlay-device.ts";
import { LIBRARY, openImage, type SubjectKind } from "./subjects.ts";
import { baseTree, type Workload } from "./workloads.ts";

export interface ExplorerOptions {
  readonly scope: Scope;
  readonly configuration: CrashConfiguration;
  readonly seed: number;
  /** Cases per epoch besides the prefixes. */
  readonly otherCasesMax: number;
  /** One state in so many is judged by the kernel; 0 for none. */
  readonly kernelEvery: number;
  /** Who carries the workloads out; the library if absent. */
  readonly subject?: SubjectKind;
  /** Stands between the library and the disk; for tests of the explorer itself. */
  readonly disturb?: (device: WritableDevice) => WritableDevice;
}

/** How many states were judged, by whom, and what was wrong. */
export interface CrashReport {
  workloads: number;
  /** Moments that were looked at. */
  states: number;
  /** States with bytes of their own: each was recovered by us and by e2fsck. */
  distinct: number;
  /** States in which e2fsck has stopped at a torn commit block; only the tree is compared then. */
  tornCommits: number;
  /** Recoveries that were cut as well. */
  cutTwice: number;
  byKernel: number;
  readonly violations: string[];
}

const BATCH_SIZE = 48;
const CACHE_SIZE_BYTES = 1 << 20;
const CUT_AGAIN_EVERY = 8;
const VIOLATIONS_MAX = 20;
/** Of one violation. */
const LINES_MAX = 12;

/**
 * Of a commit block whose first sector is there and whose rest is not, e2fsck says that its checksum
 * is wrong, ends the replay before it, and trusts no list of orphans; the kernel and we look at the
 * first sector only.
 *
 * @see fs/jbd2/recovery.c, jbd2_commit_block_csum_verify_partial
 */
const TORN_COMMIT = /^Journal transaction \d+ was corrupt, replay was aborted\.$/m;

/**
 * What e2fsck prints when it has only done what every mount does. The free counts of the superblock
 * are only stored at an unmount, by the kernel as well: those of the groups are what counts.
 */
const EXPECTED_OF_E2FSCK = [
  /^e2fsck \d/,
  /^Pass \d/,
  /recovering journal$/,
  /^Clearing orphaned inode \d+ \(/,
  /^Truncating orphaned inode \d+ \(/,
  /^Setting free (blocks|inodes) count to /,
  /^Free (blocks|inodes) count wrong \(\d+, counted=\d+\)\.$/,
  /^Fix\? yes$/,
  // Set for as long as the filesystem is mounted.
  /^Feature orphan_present is set but orphan file is clean\.$/,
  // The orphans in it were freed a moment before.
  /^Orphan file \(inode \d+\) block \d+ is not clean\.$/,
  /^Clear\? yes$/,
  /FILE SYSTEM WAS MODIFIED/,
  /: \d+\/\d+ files \(.* blocks$/,
  /^status [01]$/,
  /^\s*$/,
];

export class Explorer {
  readonly report: CrashReport;
  readonly #options: ExplorerOptions;
  readonly #configuration: CrashConfiguration;
  readonly #random: Random;
  readonly #image: Uint8Array;
  readonly #folder: string;
  readonly #batch: E2fsckBatch;
  /** Recovered trees by the hash of the state. */
  readonly #recovered = new Map<string, Tree | undefined>();

  constructor(options: ExplorerOptions) {
    this.#options = options;
    this.#configuration = options.configuration;
    this.#random = randomFrom(options.seed);
    this.#image = populatedImage(options.configuration);
    this.#folder = options.scope.temporaryFolder();
    this.#batch = new E2fsckBatch(this.#folder, this.#image, BATCH_SIZE);
    this.report = {
      ...{ workloads: 0, states: 0, distinct: 0, tornCommits: 0, cutTwice: 0, byKernel: 0 },
      violations: [],
    };
  }

  get isFailing(): boolean {
    return this.report.violations.length >= VIOLATIONS_MAX;
  }

  /** Runs `workload`, and judges all states that a cut during it may leave. */
  async explore(workload: Workload): Promise<void> {
    this.report.workloads++;
    const recorder = new RecordingDevice(this.#image.slice());
    const model = baseModel(this.#configuration);
    const ran = this.#attempt(workload.name, () => this.#run(workload, recorder, model));
    if (ran === undefined) return;

    const disk = new Disk(this.#image.slice());
    for (const piece of piecesOf(recorder.log.slice(0, ran.start))) disk.write(piece);
    const log = recorder.log.slice(ran.start);
    const written = pagesOf(recorder);
    const { otherCasesMax } = this.#options;
    const states = crashStates(disk, log, { random: this.#random, otherCasesMax });
    for (const state of states) await this.#judge(state, disk, written, workload, ran.history);
  }

  /** Waits for e2fsck. */
  async finish(): Promise<void> {
    await this.#batch.finish();
  }

  /** @returns what the workload has promised, and where in the log it begins. */
  #run(
    workload: Workload,
    recorder: RecordingDevice,
    model: PosixModel,
  ): { history: History; start: number } {
    const { disturb, seed, subject = LIBRARY } = this.#options;
    const driver = subject.open(disturb?.(recorder) ?? recorder, seed);
    for (const operation of workload.before ?? []) {
      model.apply(operation);
      driver.apply(operation);
    }
    const start = workload.before === undefined ? 0 : recorder.log.length;
    const history = new History(model, this.#configuration.blockSize, subject.isDelayed);
    for (const operation of workload.operations) {
      recorder.mark("begin");
      const expected = model.apply(operation);
      history.add(operation, model);
      const outcome = driver.apply(operation);
      if (outcome !== expected)
        this.#blame(workload.name, [`${describe(operation)}: ${outcome}, not ${expected}`]);
      recorder.mark("end");
    }
    const end: Operation = { kind: "sync" };
    recorder.mark("begin");
    history.add(end, model);
    driver.close();
    recorder.mark("end");
    return { history, start };
  }

  async #judge(
    state: CrashState,
    disk: Disk,
    written: ReadonlySet<number>,
    workload: Workload,
    history: History,
  ): Promise<void> {
    this.report.states++;
    const { hash } = disk;
    const where = `${workload.name}, ${state.name}`;
    if (!this.#recovered.has(hash)) {
      this.report.distinct++;
      const promised = (tree: Tree) => history.judge(tree, state);
      this.#recovered.set(hash, await this.#recover(where, disk, written, promised));
    }
    const tree = this.#recovered.get(hash);
    if (tree !== undefined) this.#promised(where, tree, state, history);
  }

  #promised(where: string, tree: Tree, progress: Progress, history: History): void {
    const complaints = history.judge(tree, progress);
    if (complaints.length === 0) return;
    this.#blame(where, [
      ...complaints,
      `${progress.returned} operations had returned; ${history.around(progress).join("; ")}`,
    ]);
  }

  /** Recovers the state that `disk` holds. @returns its tree, or undefined when that failed. */
  async #recover(
    where: string,
    disk: Disk,
    written: ReadonlySet<number>,
    promised: (tree: Tree) => string[],
  ): Promise<Tree | undefined> {
    const raw = pagesAt(disk.bytes, written);
    const device = new OverlayDevice(disk.bytes);
    const tree = this.#attempt(where, () => recoveredTree(device));
    if (tree === undefined) return undefined;
    const known = this.report.distinct;
    if (known % CUT_AGAIN_EVERY === 0) this.#cutAgain(where, disk, device.writeCount, tree);

    await this.#batch.add({
      mode: "-fn",
      pages: [raw, device.pages],
      answer: (printed, status) => {
        if (status === 0) return;
        this.#blame(where, ["e2fsck -fn after our recovery:", ...complaints(printed)]);
      },
    });
    await this.#batch.add({
      mode: "-fy",
      pages: [raw],
      answer: (printed, _status, file) => {
        const isTorn = TORN_COMMIT.test(printed);
        const found = isTorn ? [] : withoutLeaked(complaints(printed), printed, file);
        if (found.length > 0) this.#blame(where, ["e2fsck -fy:", ...found]);
        const theirs = this.#attempt(where, () => treeOfFile(file));
        if (theirs === undefined) return;
        if (isTorn) this.report.tornCommits++;
        const others = isTorn
          ? withoutEnlarged(promised(theirs), printed)
          : differences(theirs, tree);
        if (others.length > 0) this.#blame(`${where}: after e2fsck -fy`, others);
      },
    });
    const { kernelEvery } = this.#options;
    if (kernelEvery > 0 && known % kernelEvery === 0) this.#askKernel(where, disk.bytes, tree);
    return tree;
  }

  /** Our recovery is cut at a random write, and has to succeed when it is tried again. */
  #cutAgain(where: string, disk: Disk, writeCount: number, tree: Tree): void {
    this.report.cutTwice++;
    const device = new OverlayDevice(disk.bytes);
    device.writesLeft = this.#random.below(writeCount + 1);
    const cut = `${where}, recovery cut after ${device.writesLeft} writes`;
    try {
      recoveredTree(device);
    } catch {
      // Whatever it makes of a device that fails.
    }
    device.writesLeft = Number.POSITIVE_INFINITY;
    const again = this.#attempt(cut, () => recoveredTree(device));
    if (again === undefined) return;
    const found = differences(again, tree);
    if (found.length > 0) this.#blame(cut, found);
  }

  #askKernel(where: string, bytes: Uint8Array, tree: Tree): void {
    this.report.byKernel++;
    const file = join(this.#folder, "kernel");
    writeFileSync(file, bytes);
    kernelMount(this.#options.scope, file, { write: true }).unmount();
    const found = e2fsck(file);
    if (found !== "") this.#blame(where, ["e2fsck -fn after the kernel's recovery:", found]);
    const theirs = this.#attempt(where, () => treeOfFile(file));
    if (theirs === undefined) return;
    const others = differences(theirs, tree);
    if (others.length > 0) this.#blame(`${where}: after the kernel`, others);
  }

  #attempt<T>(where: string, action: () => T): T | undefined {
    try {
      return action();
    } catch (error) {
      this.#blame(where, [String((error as Error).stack)]);
      return undefined;
    }
  }

  #blame(where: string, lines: readonly string[]): void {
    if (this.isFailing) return;
    const { configuration, seed } = this.#options;
    const first = `${configuration.name}, seed ${seed}: ${where}`;
    this.report.violations.push([first, ...lines.slice(0, LINES_MAX)].join("\n    "));
  }
}

/**
 * With the rest of a torn journal e2fsck drops the orphans, too. It then lets a file with a block map
 * end behind its last block where it would have been cut: by what it says itself, and in zeros.
 */
function withoutEnlarged(found: readonly string[], printed: string): string[] {
  const enlarged = new Set(
    [...printed.matchAll(/i_size is \d+, should be (\d+)\./g)].map(([, size]) => size),
  );
  const left = found.filter((line) => !enlarged.has(/: size is (\d+), not/.exec(line)?.[1]));
  return left.some((line) => line.includes('": ')) ? left : [];
}

/** Inodes that have no map of blocks, as debugfs shows them; those with inline data have none either. */
const WITHOUT_MAP = /^Fast link dest:|Type: (?:character special|block special|FIFO|socket) /m;

/**
 * Of an orphan that nobody links to, and that has no map of blocks, e2fsck 1.47.0 does not free the block
 * of its xattrs, whoever wrote the image.
 */
function withoutLeaked(found: readonly string[], printed: string, file: string): readonly string[] {
  if (found.length === 0) return found;
  const leaked: string[] = [];
  for (const [, number] of printed.matchAll(/^Clearing orphaned inode (\d+) /gm)) {
    const shown = debugfs(file, [`stat <${number}>`]);
    const flags = Number(/ Flags: (0x[0-9a-f]+)/.exec(shown)?.[1]);
    if ((flags & InodeFlags.INLINE_DATA) !== 0 || WITHOUT_MAP.test(shown))
      leaked.push(`-${/File ACL: (\d+)/.exec(shown)?.[1]}`);
  }
  const isLeak = (line: string): boolean => {
    const [title = "", blocks = ""] = line.split(/: +/);
    return (
      title === "Block bitmap differences" &&
      blocks.split(" ").every((each) => leaked.includes(each))
    );
  };
  if (!found.some(isLeak)) return found;
  return found.filter(
    (line) => !isLeak(line) && !line.startsWith("Free blocks count wrong for group"),
  );
}

const complaints = (printed: string): string[] =>
  printed.split("\n").filter((line) => !EXPECTED_OF_E2FSCK.some((regex) => regex.test(line)));

/** A filesystem of `configuration` that holds `baseTree`, unmounted. */
function populatedImage(configuration: CrashConfiguration): Uint8Array {
  const args = ["-t", "ext4", "-N", "256", ...configuration.mke2fs];
  const bytes = freshImage(configuration.size, args);
  const library = LIBRARY.open(new RecordingDevice(bytes), 1);
  for (const operation of baseTree(configuration.blockSize)) library.apply(operation);
  library.close();
  return bytes;
}

/** The model of what is on every image before a workload begins. */
export function baseModel(configuration: CrashConfiguration): PosixModel {
  const model = new PosixModel(configuration);
  for (const operation of baseTree(configuration.blockSize)) model.apply(operation);
  return model;
}

/** The tree after our recovery, read from the device when that is done. */
function recoveredTree(device: OverlayDevice): Tree {
  closeFilesystem(openImage(device, 2));
  return libraryTree(openFilesystem(device, { cacheSizeBytes: CACHE_SIZE_BYTES }));
}

function treeOfFile(file: string): Tree {
  const fd = openSync(file, "r");
  try {
    const device: BlockDevice = {
      sizeBytes: fstatSync(fd).size,
      read: (offset, into) => void readSync(fd, into, 0, into.length, offset),
    };
    return libraryTree(openFilesystem(device, { cacheSizeBytes: CACHE_SIZE_BYTES }));
  } finally {
    closeSync(fd);
  }
}

function piecesOf(log: readonly DeviceEvent[]): Piece[] {
  return log.flatMap((event) => pieceOf(event) ?? []);
}

function pagesOf(recorder: RecordingDevice): Set<number> {
  const pages = new Set<number>();
  for (const { offset, bytes } of piecesOf(recorder.log)) {
    const last = Math.floor((offset + bytes.length - 1) / PAGE_SIZE);
    for (let page = Math.floor(offset / PAGE_SIZE); page <= last; page++) pages.add(page);
  }
  return pages;
}

const pagesAt = (bytes: Uint8Array, pages: ReadonlySet<number>): Pages =>
  new Map(
    [...pages].map((page) => [page, bytes.subarray(page * PAGE_SIZE, (page + 1) * PAGE_SIZE)]),
  );
