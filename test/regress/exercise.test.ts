/**
 * A real mount at work: one file changed in all ways, a tree worked on by four processes, and fio
 * with verification; then the contents once more from a new mount, and e2fsck. `SEED=n` in front
 * replays, `EXERCISE_SECONDS=n` makes each longer.
 */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { flagsOf, formatted, lossesOfRemount } from "../support/exercised-image.ts";
import { exerciseSeconds, fsx, Stress } from "../support/exercises.ts";
import { ourMount } from "../support/mounts.ts";
import { seedOfRun } from "../support/random.ts";
import { run, skipBecause, whyNoE2fsprogs, whyNoFuse } from "../support/run.ts";
import { Scope, withScope } from "../support/scope.ts";

const FSX_SECONDS = 6;
const STRESS_SECONDS = 10;
/** One file of each process only grows. */
const STRESS_MIB = 256;
const STRESS_MIB_PER_SECOND = 4;
const FIO_SIZE = "24M";

const skip = skipBecause("exercise", whyNoE2fsprogs(), whyNoFuse());

describe.skipIf(skip)("a mount at work", () => {
  test.each(["4 KiB blocks", "1 KiB blocks and inline data", "bigalloc", "block maps"] as const)(
    "keeps one file right through all calls with %s",
    (kind) => {
      const seed = seedOfRun();
      withScope((scope) => {
        const image = formatted(scope, "64M", kind);
        const mount = ourMount(scope, image, { write: true });
        const seconds = exerciseSeconds(FSX_SECONDS);
        const calls = fsx(join(mount.path, "file"), { seed, seconds }, flagsOf(kind));
        expect(calls, `SEED=${seed}`).toBeGreaterThan(100 * seconds);
        expect(lossesOfRemount(scope, image, mount), `SEED=${seed}`).toBe("");
      });
    },
  );

  test.each(["4 KiB blocks", "1 KiB blocks and inline data"] as const)(
    "keeps a tree right under four processes with %s",
    async (kind) => {
      const seed = seedOfRun();
      const scope = new Scope();
      try {
        const seconds = exerciseSeconds(STRESS_SECONDS);
        const size = `${STRESS_MIB + STRESS_MIB_PER_SECOND * seconds}M`;
        const image = formatted(scope, size, kind);
        const stress = new Stress(scope);
        const mount = ourMount(scope, image, { write: true });
        await stress.run(mount.path, { seed, seconds });
        expect(stress.verify(mount.path), `SEED=${seed}`).toBe("");
        expect(lossesOfRemount(scope, image, mount), `SEED=${seed}`).toBe("");
        const again = ourMount(scope, image);
        expect(stress.verify(again.path), `SEED=${seed}, mounted again`).toBe("");
      } finally {
        scope.close();
      }
    },
  );

  test.each([
    ["buffered", ["--ioengine=psync", "--rw=randrw", "--bs=1k-64k", "--bs_unaligned"]],
    [
      "direct",
      ["--ioengine=libaio", "--iodepth=16", "--direct=1", "--rw=randwrite", "--bs=4k-64k"],
    ],
    ["mapped", ["--ioengine=mmap", "--rw=randwrite", "--bs=4k"]],
    ["synced", ["--ioengine=psync", "--rw=write", "--bs=16k", "--fdatasync=8"]],
  ])("passes fio's verification with %s I/O", (name, args) => {
    withScope((scope) => {
      const image = formatted(scope, "128M", "4 KiB blocks");
      const mount = ourMount(scope, image, { write: true });
      const common = [
        "--thread",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        `--size=${FIO_SIZE}`,
      ];
      const job = [`--name=${name}`, `--directory=${mount.path}`, "--minimal", "--numjobs=2"];
      run("fio", [...job, ...common, "--end_fsync=1", ...args]);
      expect(lossesOfRemount(scope, image, mount)).toBe("");
    });
  });
});
