/** The README keeps its word: its example runs as printed, and the commands it names exist. */
import { execFileSync, spawnSync } from "node:child_process";
import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const readme = readFileSync(join(ROOT, "README.md"), "utf8");

const blocks = (language: string): string[] =>
  [...readme.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "gms"))].map(
    ([, code = ""]) => code,
  );

test("names scripts and programs that exist", () => {
  const commands = new Set(
    blocks("sh")
      .join("\n")
      .match(/^(scripts|bin)\/[\w-]+/gm),
  );
  expect(commands).toEqual(new Set(["scripts/quickstart", "scripts/test", "bin/fuse4fs-ts"]));
  for (const command of commands) accessSync(join(ROOT, command), constants.X_OK);
});

describe.skipIf(skipBecause("readme", whyNoE2fsprogs()))("the example", () => {
  // Inside the package, so that it finds `fuse4fs-ts/ext4` the way a dependent does.
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(ROOT, "dist/readme-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test("lists and reads an image", () => {
    const image = join(folder, "disk.img");
    const hello = join(folder, "hello.txt");
    writeFileSync(hello, "Hello from an image.\n");
    execFileSync("mke2fs", ["-q", "-t", "ext4", image, "2M"]);
    execFileSync("debugfs", ["-w", "-R", `write ${hello} hello.txt`, image], { stdio: "ignore" });

    const [code, ...others] = blocks("js");
    expect(others).toEqual([]);
    writeFileSync(join(folder, "example.mjs"), code ?? "");
    const result = spawnSync("node", [join(folder, "example.mjs"), image], { encoding: "utf8" });
    expect(result.stderr).toBe("");
    const lines = result.stdout.split("\n");
    expect(lines.slice(0, 4).sort()).toEqual([".", "..", "hello.txt", "lost+found"]);
    expect(lines.slice(4)).toEqual(["Hello from an image.", "", ""]);
  });
});
