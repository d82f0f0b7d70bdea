/**
 * The server dies in the middle of the work of four processes. The next mount recovers without
 * e2fsck, what was synced is there, and the filesystem is sound. `SEED=n` in front replays the work,
 * not the moments; `ROUNDS=n` kills more often.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { e2fsck, mke2fs } from "../support/e2fsprogs.ts";
import { rounds, Stress } from "../support/exercises.ts";
import { ForegroundServer } from "../support/foreground-server.ts";
import { randomFrom, seedOfRun } from "../support/random.ts";
import { run, skipBecause, whyNoE2fsprogs, whyNoFuse } from "../support/run.ts";
import { Scope } from "../support/scope.ts";

/** EXT4_IOC_SHUTDOWN, for the folder that it is given. */
const SHUTDOWN =
  "import fcntl, os, sys; fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, bytes(4))";

const ROUNDS = 3;
const LIFE_MS_MIN = 300;
const LIFE_MS_SPREAD = 2500;
/** With commit=1, on a busy machine. */
const COMMITTED_AFTER_MS = 2500;

describe.skipIf(skipBecause("kill", whyNoE2fsprogs(), whyNoFuse()))("kill -9", () => {
  test.each([
    ["4 KiB blocks", ["-b", "4096"]],
    ["1 KiB blocks and an orphan file", ["-b", "1024", "-O", "orphan_file,inline_data"]],
  ])("loses nothing that was synced with %s", async (_, args) => {
    const seed = seedOfRun();
    const random = randomFrom(seed);
    const scope = new Scope();
    try {
      const image = join(scope.temporaryFolder(), "image");
      mke2fs(image, "256M", ["-t", "ext4", ...args]);
      const stress = new Stress(scope);
      const roundCount = rounds(ROUNDS);
      for (let round = 0; round < roundCount; round++) {
        const where = `SEED=${seed}, round ${round}`;
        const server = await ForegroundServer.start(scope, image, ["rw"]);
        const working = stress.run(server.path, { seed: seed + round, seconds: 60 });
        await sleep(LIFE_MS_MIN + random.below(LIFE_MS_SPREAD));
        await server.kill();
        await working;

        const next = await ForegroundServer.start(scope, image, ["rw"]);
        expect(stress.verify(next.path), where).toBe("");
        expect(await next.stop(), where).toBe(0);
        expect(e2fsck(image), where).toBe("");
      }
    } finally {
      scope.close();
    }
  });

  test("is not needed after a shutdown, which is no failure either", async () => {
    const scope = new Scope();
    try {
      const image = join(scope.temporaryFolder(), "image");
      mke2fs(image, "64M", ["-t", "ext4"]);
      const server = await ForegroundServer.start(scope, image, ["rw"]);
      writeFileSync(join(server.path, "before"), "contents");
      run("python3", ["-c", SHUTDOWN, server.path]);
      expect(() => writeFileSync(join(server.path, "after"), "")).toThrow("EIO");
      expect(await server.stop()).toBe(0);
      const next = await ForegroundServer.start(scope, image, ["rw"]);
      expect(readFileSync(join(next.path, "before"), "utf8")).toBe("contents");
      expect(await next.stop()).toBe(0);
      expect(e2fsck(image)).toBe("");
    } finally {
      scope.close();
    }
  });

  test("loses nothing that is older than commit= seconds, synced or not", async () => {
    const scope = new Scope();
    try {
      const image = join(scope.temporaryFolder(), "image");
      mke2fs(image, "64M", ["-t", "ext4"]);
      const server = await ForegroundServer.start(scope, image, ["rw", "commit=1"]);
      const contents = "unsynced".repeat(10_000);
      mkdirSync(join(server.path, "folder"));
      writeFileSync(join(server.path, "folder/file"), contents);
      await sleep(COMMITTED_AFTER_MS);
      await server.kill();
      const next = await ForegroundServer.start(scope, image, ["ro"]);
      expect(readFileSync(join(next.path, "folder/file"), "utf8")).toBe(contents);
    } finally {
      scope.close();
    }
  });
});
