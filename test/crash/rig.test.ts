/**
 * The explorer's parts themselves: which states it makes of a log, and what it objects to. Without
 * this, a run without violations would prove nothing.
 */
import { describe, expect, test } from "vitest";
import type { WritableDevice } from "../../src/base/block-device.ts";
import { PosixModel } from "../support/posix/model.ts";
import { type Operation, pattern } from "../support/posix/operation.ts";
import type { Tree } from "../support/posix/tree.ts";
import { randomFrom } from "../support/random.ts";
import { DISCARDED, RecordingDevice, SECTOR_SIZE } from "../support/recording-device.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { Scope } from "../support/scope.ts";
import { CRASH_CONFIGURATIONS, type CrashConfiguration } from "./configurations.ts";
import { crashStates } from "./crash-states.ts";
import { Disk } from "./disk.ts";
import { Explorer, type ExplorerOptions } from "./explorer.ts";
import { History } from "./history.ts";
import { OverlayDevice } from "./overlay-device.ts";
import { IOMAP } from "./subjects.ts";
import { singles } from "./workloads.ts";

const SECTORS = 16;
const filled = (byte: number, sectors = 1): Uint8Array =>
  new Uint8Array(sectors * SECTOR_SIZE).fill(byte);

/** What each sector of `disk` is filled with; a sector that is mixed has -1. */
function sectorsOf({ bytes }: Disk): number[] {
  return Array.from({ length: SECTORS }, (_, sector) => {
    const part = bytes.subarray(sector * SECTOR_SIZE, (sector + 1) * SECTOR_SIZE);
    return part.every((byte) => byte === part[0]) ? (part[0] as number) : -1;
  });
}

/** Two epochs and the start of a third. */
function recorded(): RecordingDevice {
  const device = new RecordingDevice(filled(0, SECTORS));
  device.mark("begin");
  device.write(0, filled(1, 4));
  device.write(2 * SECTOR_SIZE, filled(2, 4));
  device.flush();
  device.mark("end");
  device.mark("begin");
  device.write(0, filled(3, 1));
  device.zero(5 * SECTOR_SIZE, SECTOR_SIZE);
  device.discard(8 * SECTOR_SIZE, 2 * SECTOR_SIZE);
  device.flush();
  device.write(12 * SECTOR_SIZE, filled(4, 4));
  device.mark("end");
  return device;
}

describe("crashStates()", () => {
  const states = (seed: number) => {
    const disk = new Disk(filled(0, SECTORS));
    const options = { random: randomFrom(seed), otherCasesMax: 40 };
    return [...crashStates(disk, recorded().log, options)].map((state) => state);
  };
  const seen = (seed: number) => {
    const disk = new Disk(filled(0, SECTORS));
    const options = { random: randomFrom(seed), otherCasesMax: 40 };
    const found: { name: string; returned: number; sectors: number[]; hash: string }[] = [];
    for (const { name, returned } of crashStates(disk, recorded().log, options))
      found.push({ name, returned, sectors: sectorsOf(disk), hash: disk.hash });
    return found;
  };

  test("begins with the disk as it was and ends with all that was written", () => {
    const found = seen(1);
    expect(found[0]?.sectors).toEqual(new Array(SECTORS).fill(0));
    expect(found.at(-1)?.sectors.slice(0, 6)).toEqual([3, 1, 2, 2, 2, 0]);
    expect(found.at(-1)?.sectors.slice(8, 10)).toEqual([DISCARDED, DISCARDED]);
    expect(found.at(-1)?.sectors.slice(12)).toEqual([4, 4, 4, 4]);
  });

  test("keeps what was flushed, whatever it does with later writes", () => {
    for (const { name, returned, sectors } of seen(2)) {
      if (returned < 1) continue;
      expect(sectors[1], name).toBe(1);
      expect([2, 0], name).toContain(sectors[5]);
      expect([1, 3], name).toContain(sectors[0]);
    }
  });

  test("drops, reorders and tears the writes of an epoch", () => {
    const inFirst = seen(3).filter(({ returned }) => returned === 0);
    const tried = new Set(inFirst.map(({ sectors }) => sectors.join()));
    const later = [0, 0, 2, 2, 2, 2, ...new Array(10).fill(0)];
    expect(tried).toContain(later.join());
    expect(tried.size).toBeGreaterThan(8);
  });

  test("says how many operations had returned: a state just after a return promises the most", () => {
    const found = seen(4);
    expect(found.map(({ returned }) => returned)).toEqual(
      found.map(({ returned }) => returned).toSorted(),
    );
    expect(found.at(-1)?.returned).toBe(2);
    expect(found.find(({ returned }) => returned === 1)?.sectors[5]).toBe(2);
  });

  test("repeats itself for the same seed only, and hashes equal bytes equally", () => {
    expect(states(5)).toEqual(states(5));
    expect(states(5)).not.toEqual(states(6));
    const byHash = new Map<string, string>();
    const found = [...seen(5), ...seen(6)];
    for (const { hash, sectors } of found.filter(({ sectors }) => !sectors.includes(-1))) {
      expect(byHash.get(hash) ?? sectors.join()).toBe(sectors.join());
      byHash.set(hash, sectors.join());
    }
    expect(new Set(byHash.values()).size).toBe(byHash.size);
  });
});

describe("OverlayDevice", () => {
  test("shows what was written, and leaves the image as it is", () => {
    const image = filled(7, SECTORS);
    const device = new OverlayDevice(image);
    device.write(1000, filled(9, 8));
    const into = new Uint8Array(8192);
    device.read(0, into);
    expect([into[999], into[1000], into[5095], into[5096]]).toEqual([7, 9, 9, 7]);
    expect(image).toEqual(filled(7, SECTORS));
  });

  test("fails all writes after the last one that is left", () => {
    const device = new OverlayDevice(filled(0, SECTORS));
    device.writesLeft = 1;
    device.write(0, filled(1));
    expect(() => device.write(512, filled(2))).toThrow("off");
    const into = new Uint8Array(1024);
    device.read(0, into);
    expect([into[0], into[512]]).toEqual([1, 0]);
  });
});

describe("History.judge()", () => {
  const BLOCK = 1024;
  const LENGTH = 3000;
  const write = (offset: number, length: number, tag: number): Operation => ({
    ...{ kind: "write", path: "/a", offset, length, tag },
  });

  /** The trees after each of `operations`, and their history. */
  const lived = (...operations: Operation[]) => livedThrough(operations, false);

  function livedThrough(
    operations: readonly Operation[],
    isDelayed: boolean,
  ): { history: History; trees: Tree[] } {
    const model = new PosixModel({ blockSize: BLOCK });
    for (const path of ["/a", "/b"]) model.apply({ kind: "create", path, mode: 0o644 });
    model.apply(write(0, LENGTH, 1));
    const history = new History(model, BLOCK, isDelayed);
    const trees = [model.tree()];
    for (const operation of operations) {
      model.apply(operation);
      history.add(operation, model);
      trees.push(model.tree());
    }
    return { history, trees };
  }

  /** `tree` with other contents in "/a". */
  function withContent(tree: Tree, content: Uint8Array): Tree {
    const node = tree.get("/a");
    if (node === undefined) throw new Error("no /a");
    return new Map(tree).set("/a", { ...node, content });
  }

  const rename: Operation = { kind: "rename", from: "/a", to: "/c", how: "replace" };
  const removal: Operation = { kind: "unlink", path: "/b" };
  const fsync: Operation = { kind: "fsync", path: "/c" };

  test("takes any tree between the last sync and the last operation that had begun", () => {
    const { history, trees } = lived(rename, removal);
    for (const tree of trees) expect(history.judge(tree, { begun: 2, returned: 1 })).toEqual([]);
    expect(history.judge(trees[2] as Tree, { begun: 1, returned: 1 })).not.toEqual([]);
  });

  test("objects to the loss of what was synced, and to that only", () => {
    const { history, trees } = lived(rename, fsync, removal);
    const after = { begun: 3, returned: 3 };
    expect(history.judge(trees[0] as Tree, after).join()).toMatch(/"\/c" is missing/);
    expect(history.judge(trees[1] as Tree, after)).toEqual([]);
    expect(history.judge(trees[0] as Tree, { begun: 2, returned: 1 })).toEqual([]);
  });

  test("objects to half an operation", () => {
    const { history, trees } = lived(rename);
    const both = new Map([...(trees[0] as Tree), ...(trees[1] as Tree)]);
    expect(history.judge(both, { begun: 1, returned: 1 })).not.toEqual([]);
  });

  test("takes part of an overwrite, but no byte that was never there", () => {
    const { history, trees } = lived(write(100, 2000, 2));
    const content = pattern(1, 0, LENGTH);
    content.set(pattern(2, 500, 100), 500);
    const progress = { begun: 1, returned: 1 };
    expect(history.judge(withContent(trees[0] as Tree, content), progress)).toEqual([]);
    content[2500] = 0;
    expect(history.judge(withContent(trees[0] as Tree, content), progress)).not.toEqual([]);
    content.set(pattern(3, 2500, 10), 2500);
    expect(history.judge(withContent(trees[0] as Tree, content), progress)).not.toEqual([]);
  });

  test("takes what was written after a move that is not there, and no other bytes", () => {
    const fallocate = { kind: "fallocate", path: "/a", how: "collapse" } as const;
    const { history, trees } = lived(
      { kind: "truncate", path: "/a", size: 2100 },
      { ...fallocate, offset: 0, length: BLOCK },
      write(1024, 20, 2),
    );
    // The write is there, where its block was before the collapse; the truncation is not, either.
    const content = pattern(1, 0, LENGTH);
    content.set(pattern(2, 1024, 20), 2048);
    const progress = { begun: 3, returned: 3 };
    expect(history.judge(withContent(trees[0] as Tree, content), progress)).toEqual([]);
    content.set(pattern(3, 0, 10), 2080);
    expect(history.judge(withContent(trees[0] as Tree, content), progress)).not.toEqual([]);
  });

  test("takes an append that is half done, zeros where its data is missing included", () => {
    const { history, trees } = lived(write(LENGTH, 4000, 2));
    const content = new Uint8Array(LENGTH + 1500);
    content.set(pattern(1, 0, LENGTH));
    content.set(pattern(2, LENGTH, 72), LENGTH);
    const found = withContent(trees[0] as Tree, content);
    expect(history.judge(found, { begun: 1, returned: 0 })).toEqual([]);
    expect(history.judge(found, { begun: 0, returned: 0 })).not.toEqual([]);
  });

  test("takes zeros of a truncation within the last block only", () => {
    const { history, trees } = lived({ kind: "truncate", path: "/a", size: 1500 });
    const content = pattern(1, 0, LENGTH).fill(0, 1500, 2048);
    const progress = { begun: 1, returned: 1 };
    expect(history.judge(withContent(trees[0] as Tree, content), progress)).toEqual([]);
    content.fill(0, 2048, 2100);
    expect(history.judge(withContent(trees[0] as Tree, content), progress)).not.toEqual([]);
  });

  describe("of a kernel that writes when it likes", () => {
    const progress = { begun: 2, returned: 2 };
    const sync = { kind: "fsync", path: "/a" } as const;

    test("takes older bytes, and zeros where there was nothing, until they are synced", () => {
      const content = new Uint8Array(LENGTH + 1500);
      content.set(pattern(1, 0, LENGTH));
      for (const [last, isFine] of [[write(0, 500, 3), true] as const, [sync, false] as const]) {
        const { history, trees } = livedThrough([write(LENGTH, 4000, 2), last], true);
        const found = withContent(trees[2] as Tree, content);
        expect(history.judge(found, progress).length === 0).toBe(isFine);
      }
    });

    test("takes no bytes of nobody's, and no zeros over what was synced", () => {
      const { history, trees } = livedThrough([sync, write(0, 500, 3)], true);
      const content = pattern(1, 0, LENGTH);
      const judged = (): string[] =>
        history.judge(withContent(trees[0] as Tree, content), progress);
      expect(judged()).toEqual([]);
      content[100] = 0;
      expect(judged()).not.toEqual([]);
      content.set(pattern(3, 0, 500));
      expect(judged()).toEqual([]);
      content.set(pattern(9, 600, 10), 600);
      expect(judged()).not.toEqual([]);
    });
  });
});

describe.skipIf(skipBecause("rig", whyNoE2fsprogs()))("Explorer", () => {
  const [plain] = CRASH_CONFIGURATIONS as [CrashConfiguration];
  const workloads = singles(plain.blockSize).filter(({ name }) => name.endsWith(" sync"));
  const iomap = { subject: IOMAP, configuration: { ...plain, hasRangeMoves: false } };

  /** Violations that are found when something is wrong on purpose. */
  async function violationsWith(changes: Partial<ExplorerOptions>): Promise<string[]> {
    const scope = new Scope();
    try {
      const explorer = new Explorer({
        ...{ scope, configuration: plain, seed: 1, otherCasesMax: 12, kernelEvery: 0 },
        ...changes,
      });
      for (const workload of workloads.slice(0, 8)) await explorer.explore(workload);
      await explorer.finish();
      return explorer.report.violations;
    } finally {
      scope.close();
    }
  }

  test("finds nothing where nothing is wrong", async () => {
    expect(await violationsWith({})).toEqual([]);
  });

  test("finds what is lost on a disk that is not flushed", async () => {
    const disturb = (device: WritableDevice): WritableDevice => ({
      sizeBytes: device.sizeBytes,
      read: (offset, into) => device.read(offset, into),
      write: (offset, bytes) => device.write(offset, bytes),
      flush: () => {},
      discard: (offset, length) => device.discard(offset, length),
      zero: (offset, length) => device.zero(offset, length),
    });
    expect(await violationsWith({ disturb })).not.toEqual([]);
    expect(await violationsWith({ disturb, ...iomap })).not.toEqual([]);
  });

  test("finds nothing where nothing is wrong with a kernel that writes when it likes", async () => {
    expect(await violationsWith(iomap)).toEqual([]);
  });

  test("finds what is torn without a journal", async () => {
    const mke2fs = [...plain.mke2fs, "-O", "^has_journal"];
    expect(await violationsWith({ configuration: { ...plain, mke2fs } })).not.toEqual([]);
  });
});
