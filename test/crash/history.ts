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
 * transactions (write, truncate, fallocate, copy) may be found half done in that file.
 */

import type { PosixModel, Touch } from "../support/posix/model.ts";
import { describe, type Operation } from "../support/posix/operation.ts";
import { differences, type Tree, type TreeNode } from "../support/posix/tree.ts";
import type { Progress } from "./crash-states.ts";
import { SECTOR_SIZE } from "./disk.ts";

/** One operation and the tree after it. */
interface Step {
  readonly operation: Operation | undefined;
  readonly tree: Tree;
  readonly byId: ReadonlyMap<number, TreeNode>;
  readonly touched: ReadonlyMap<number, Touch>;
  /** No recovered tree may be older than this step, once the operation has returned. */
  readonly floor: number;
}

const MOVES = new Set(["collapse", "insert"]);

export class History {
  readonly #steps: Step[] = [];
  readonly #blockSize: number;

  /** @param start the model before the first operation. */
  constructor(start: PosixModel, blockSize: number) {
    this.#blockSize = blockSize;
    const tree = start.tree();
    this.#steps.push({
      operation: undefined,
      tree,
      byId: byId(tree),
      touched: new Map(),
      floor: 0,
    });
  }

  /** Notes that `model` has just carried `operation` out. */
  add(operation: Operation, model: PosixModel): void {
    const tree = model.tree();
    const { touched } = model;
    this.#steps.push({
      operation,
      tree,
      byId: byId(tree),
      touched,
      floor: this.#floor(operation, model),
    });
  }

  get operations(): string[] {
    return this.#steps.flatMap(({ operation }) => (operation ? [describe(operation)] : []));
  }

  #floor(operation: Operation, model: PosixModel): number {
    const before = (this.#steps.at(-1) as Step).floor;
    const here = this.#steps.length;
    if (operation.kind === "sync") return here;
    if (operation.kind !== "fsync" && operation.kind !== "fdatasync") return before;
    const id = model.idOf(operation.path);
    const isKept = (touch: Touch | undefined): boolean =>
      operation.kind === "fsync" ? touch !== undefined : touch === "data";
    const last = this.#steps.findLastIndex(
      ({ touched }) => id !== undefined && isKept(touched.get(id)),
    );
    return Math.max(before, last);
  }

  /** What is wrong with a tree that was recovered after a cut at `progress`; empty when nothing is. */
  judge(found: Tree, { begun, returned }: Progress): string[] {
    const oldest = (this.#steps[returned] as Step).floor;
    let best: string[] | undefined;
    for (let step = begun; step >= oldest; step--) {
      const complaints = this.#compare(found, step, begun);
      if (complaints.length === 0) return [];
      if (best === undefined || complaints.length < best.length)
        best = [
          `closest to the tree after operation ${step} of ${oldest}..${begun}:`,
          ...complaints,
        ];
    }
    return best as string[];
  }

  #compare(found: Tree, step: number, newest: number): string[] {
    const { tree } = this.#steps[step] as Step;
    return differences(found, tree, (actual, expected) =>
      this.#judgeContent(actual.content as Uint8Array, expected, step, newest),
    );
  }

  #judgeContent(
    found: Uint8Array,
    expected: TreeNode,
    step: number,
    newest: number,
  ): string | undefined {
    const wanted = expected.content as Uint8Array;
    if (found.length === wanted.length && Buffer.compare(found, wanted) === 0) return undefined;
    const versions: Uint8Array[] = [];
    for (let at = step; at <= newest; at++) {
      const content = this.#steps[at]?.byId.get(expected.id)?.content;
      if (content !== undefined && content !== versions.at(-1)) versions.push(content);
    }
    const next = this.#steps[step + 1];
    const isHalfDone = step < newest && next?.touched.get(expected.id) === "data";
    const sizes = [wanted.length, ...(isHalfDone ? [versions[1]?.length ?? wanted.length] : [])];
    if (found.length < Math.min(...sizes) || found.length > Math.max(...sizes))
      return `size is ${found.length}, not ${sizes.join("…")}`;
    const wrong = this.#foreignByte(found, versions, wanted.length);
    if (wrong < 0) return undefined;
    if (this.#hasMoves(expected.id, step, newest) && isOfSectors(found, versions)) return undefined;
    return `byte ${wrong} is ${found[wrong]}, which it never was since operation ${step}`;
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

const byId = (tree: Tree): Map<number, TreeNode> =>
  new Map([...tree.values()].map((node) => [node.id, node]));

/** Whether every sector of `found` is zero or stands somewhere in one of `versions`. */
function isOfSectors(found: Uint8Array, versions: readonly Uint8Array[]): boolean {
  const known = new Set<string>();
  const sectors = function* (bytes: Uint8Array): Generator<string> {
    for (let at = 0; at < bytes.length; at += SECTOR_SIZE) {
      const sector = new Uint8Array(SECTOR_SIZE);
      sector.set(bytes.subarray(at, at + SECTOR_SIZE));
      yield Buffer.from(sector).toString("latin1");
    }
  };
  known.add("\0".repeat(SECTOR_SIZE));
  for (const version of versions) for (const sector of sectors(version)) known.add(sector);
  return [...sectors(found)].every((sector) => known.has(sector));
}
