/**
 * What a workload has promised by the moment of a power cut, and whether a recovered tree keeps it.
 *
 * Metadata: the tree is the one after some operation, none missing before it and none of a later one
 * there. That operation is not older than the last change of anything that was synced, and not newer
 * than the last that had begun.
 *
 * File data: written in place, so bytes of later operations may be there already; zeros where a
 * later operation cuts the file within the same block or has not filled it yet. Nothing else: every
 * byte comes from the history of its own file. Calls that change a file's mapping in several
 * transactions (write, truncate, fallocate, copy) may be found half done in that file. Where collapse or
 * insert moves bytes, those written after it may be there and the move not: then it is sectors that have
 * to come from the history, wherever they stood.
 *
 * Where a kernel keeps the bytes that were written until it likes to store them, all that is promised of
 * the contents of a file is what was synced: sizes and bytes may be those of any moment since, and zeros
 * where the file had nothing at one of them.
 */

import type { PosixModel, Touch } from "../support/posix/model.ts";
import { describe, type Operation } from "../support/posix/operation.ts";
import { differences, type Tree, type TreeNode } from "../support/posix/tree.ts";
import { SECTOR_SIZE } from "../support/recording-device.ts";
import type { Progress } from "./crash-states.ts";

/** One operation and the tree after it. */
interface Step {
  readonly operation: Operation | undefined;
  readonly tree: Tree;
  /** By inode; of files that are open without a name as well: they may get their name back. */
  readonly contents: ReadonlyMap<number, Uint8Array>;
  readonly touched: ReadonlyMap<number, Touch>;
  /** No recovered tree may be older than this step, once the operation has returned. */
  readonly floor: number;
  /** By inode: no contents may be older than this step, once the operation has returned. */
  readonly dataFloors: ReadonlyMap<number, number>;
  /** The same for all contents. */
  readonly syncFloor: number;
}

type Floors = Pick<Step, "floor" | "dataFloors" | "syncFloor">;

const MOVES = new Set(["collapse", "insert"]);

export class History {
  readonly #steps: Step[] = [];
  readonly #blockSize: number;
  readonly #isDelayed: boolean;

  /**
   * @param start the model before the first operation.
   * @param isDelayed contents that were not synced may be older than the tree.
   */
  constructor(start: PosixModel, blockSize: number, isDelayed = false) {
    this.#blockSize = blockSize;
    this.#isDelayed = isDelayed;
    const tree = start.tree();
    this.#steps.push({
      operation: undefined,
      tree,
      contents: start.contents(),
      touched: new Map(),
      floor: 0,
      dataFloors: new Map(),
      syncFloor: 0,
    });
  }

  /** Notes that `model` has just carried `operation` out. */
  add(operation: Operation, model: PosixModel): void {
    const tree = model.tree();
    const { touched } = model;
    const floors = this.#floors(operation, model);
    this.#steps.push({ operation, tree, contents: model.contents(), touched, ...floors });
  }

  /** The operations that a cut at `progress` leaves open, and the one before, by number. */
  around({ begun, returned }: Progress): string[] {
    const from = Math.max(1, (this.#steps[returned] as Step).floor);
    return this.#steps.slice(from, begun + 1).flatMap(({ operation }, index) => {
      return operation === undefined ? [] : [`${from + index} ${describe(operation)}`];
    });
  }

  #floors(operation: Operation, model: PosixModel): Floors {
    const { floor, dataFloors, syncFloor } = this.#steps.at(-1) as Step;
    const before = { floor, dataFloors, syncFloor };
    const here = this.#steps.length;
    const { kind } = operation;
    if (kind === "sync") return { ...before, floor: here, syncFloor: here };
    if (kind !== "fsync" && kind !== "fdatasync") return before;
    const id = model.idOf(operation.path);
    if (id === undefined) return before;
    // An overwrite in place changes nothing in the journal that fdatasync would have to wait for.
    const kept: readonly unknown[] =
      kind === "fsync" ? ["metadata", "data", "overwrite"] : ["data"];
    const last = this.#steps.findLastIndex(({ touched }) => kept.includes(touched.get(id)));
    return {
      floor: Math.max(floor, last),
      dataFloors: new Map(dataFloors).set(id, here),
      syncFloor,
    };
  }

  /** What is wrong with a tree that was recovered after a cut at `progress`; empty when nothing is. */
  judge(found: Tree, { begun, returned }: Progress): string[] {
    const { floor, dataFloors, syncFloor } = this.#steps[returned] as Step;
    let best: string[] | undefined;
    for (let step = begun; step >= floor; step--) {
      const { tree } = this.#steps[step] as Step;
      const complaints = differences(found, tree, (actual, expected) => {
        const synced = dataFloors.get(expected.id) ?? 0;
        const content = actual.content as Uint8Array;
        if (this.#isDelayed)
          return this.#judgeDelayed(content, expected.id, Math.max(synced, syncFloor), begun);
        return this.#judgeContent(content, expected, step, Math.max(step, synced), begun);
      });
      if (complaints.length === 0) return [];
      if (best === undefined || complaints.length < best.length)
        best = [
          `closest to the tree after operation ${step} of ${floor}..${begun}:`,
          ...complaints,
        ];
    }
    return best as string[];
  }

  /** @param oldest the contents after this step and those up to `newest` may be there. */
  #judgeContent(
    found: Uint8Array,
    expected: TreeNode,
    step: number,
    oldest: number,
    newest: number,
  ): string | undefined {
    const { id } = expected;
    const wanted = expected.content as Uint8Array;
    const versions: Uint8Array[] = [];
    for (let at = oldest; at <= newest; at++) {
      const content = this.#steps[at]?.contents.get(id);
      if (content !== undefined && content !== versions.at(-1)) versions.push(content);
    }
    const next = step < newest ? this.#steps[step + 1] : undefined;
    const isHalfDone = next?.touched.get(id) === "data";
    const nextSize = isHalfDone ? next?.contents.get(id)?.length : undefined;
    const sizes = [wanted.length, nextSize ?? wanted.length];
    if (found.length < Math.min(...sizes) || found.length > Math.max(...sizes))
      return `size is ${found.length}, not ${sizes.join("…")}`;
    if (versions.some((version) => Buffer.compare(version, found) === 0)) return undefined;
    const wrong = this.#foreignByte(found, versions, wanted.length);
    if (wrong < 0) return undefined;
    if (this.#hasMoves(id, step, newest) && isOfSectors(found, versions)) return undefined;
    return `byte ${wrong} is ${found[wrong]}, which it never was since operation ${oldest}`;
  }

  /** @param oldest what was there after this step has been synced. */
  #judgeDelayed(found: Uint8Array, id: number, oldest: number, newest: number): string | undefined {
    const versions: Uint8Array[] = [];
    for (let at = oldest; at <= newest; at++) {
      // What was not there yet is as good as empty.
      const content = this.#steps[at]?.contents.get(id) ?? new Uint8Array(0);
      if (content !== versions.at(-1)) versions.push(content);
    }
    const sizes = versions.map(({ length }) => length);
    const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
    if (found.length < least || found.length > most)
      return `size is ${found.length}, not ${least}…${most} as since operation ${oldest}`;
    const wrong = found.findIndex(
      (byte, at) => !versions.some((version) => (version[at] ?? 0) === byte),
    );
    if (wrong < 0) return undefined;
    return `byte ${wrong} is ${found[wrong]}, which it never was since operation ${oldest}`;
  }

  /** The first byte that no version has in its place, or -1. */
  #foreignByte(found: Uint8Array, versions: readonly Uint8Array[], size: number): number {
    return found.findIndex((byte, at) => {
      if (versions.some((version) => version[at] === byte)) return false;
      if (byte !== 0) return true;
      return at < size && !versions.some((version) => this.#mayBeCut(version, at));
    });
  }

  /** Whether `at` lies behind the end of `version`, in its last block. */
  #mayBeCut({ length }: Uint8Array, at: number): boolean {
    return at >= length && at < Math.ceil(length / this.#blockSize) * this.#blockSize;
  }

  /** Whether an operation after `step` may have moved the contents of the file about. */
  #hasMoves(id: number, step: number, newest: number): boolean {
    return this.#steps
      .slice(step + 1, newest + 1)
      .some(
        ({ operation, touched }) =>
          touched.has(id) && operation?.kind === "fallocate" && MOVES.has(operation.how),
      );
  }
}

/** Whether every sector of `found` is zero, or stands somewhere in one of `versions`, or in two. */
function isOfSectors(found: Uint8Array, versions: readonly Uint8Array[]): boolean {
  const known = new Set(["\0".repeat(SECTOR_SIZE), ...versions.flatMap(sectorsOf)]);
  return sectorsOf(found).every((sector, index) => {
    const length = found.length - index * SECTOR_SIZE;
    if (length >= SECTOR_SIZE) return known.has(sector) || isMixed(sector, [...known]);
    // The last one may be more of a sector elsewhere.
    const start = sector.slice(0, length);
    return [...known].some((each) => each.startsWith(start));
  });
}

/**
 * Whether each byte of `sector` stands in its place in one of two of the `known` ones: what was written
 * to a sector that has moved leaves the rest of it, which was cut off meanwhile, as it was.
 */
function isMixed(sector: string, known: readonly string[]): boolean {
  return known.some((first) => {
    const others: number[] = [];
    for (let at = 0; at < SECTOR_SIZE; at++) if (first[at] !== sector[at]) others.push(at);
    return known.some((second) => others.every((at) => second[at] === sector[at]));
  });
}

/** Of the last one, what is missing is zeros. */
function sectorsOf(bytes: Uint8Array): string[] {
  return Array.from({ length: Math.ceil(bytes.length / SECTOR_SIZE) }, (_, index) => {
    const sector = new Uint8Array(SECTOR_SIZE);
    sector.set(bytes.subarray(index * SECTOR_SIZE, (index + 1) * SECTOR_SIZE));
    return Buffer.from(sector).toString("latin1");
  });
}
