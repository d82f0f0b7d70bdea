/** The lock file: exclusive while held, gone afterwards. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { takeLockFile } from "../../../src/server/lock-file.ts";
import { MountFailure } from "../../../src/server/mount-failure.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "lock-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

test("takeLockFile() makes a file that only its owner can read, and releases it", () => {
  const path = join(folder, "lock");
  const release = takeLockFile(path);
  expect(statSync(path).mode & 0o777).toBe(0o400);
  expect(readFileSync(path, "utf8")).toBe(`${process.pid}\n`);
  release();
  expect(existsSync(path)).toBe(false);
  expect(release).not.toThrow();
});

test("takeLockFile() refuses a path that exists, and leaves it alone", () => {
  const path = join(folder, "lock");
  const release = takeLockFile(path);
  expect(() => takeLockFile(path)).toThrow(MountFailure);
  expect(() => takeLockFile(path)).toThrow(`lock file ${path} exists`);
  expect(existsSync(path)).toBe(true);
  release();
});

test("takeLockFile() says why a file cannot be made", () => {
  expect(() => takeLockFile(join(folder, "missing", "lock"))).toThrow("cannot be made: ENOENT");
});
