/** The help: complete, because it is made from the tables, and no wider than a terminal. */
import { expect, test } from "vitest";
import { FLAGS } from "../../../src/cli/command-line.ts";
import { helpText, versionText } from "../../../src/cli/help.ts";
import { MOUNT_OPTIONS } from "../../../src/cli/mount-options.ts";

test("helpText() names every option and flag", () => {
  const words = new Set(helpText().split(/[\s,=[]+/));
  for (const name of MOUNT_OPTIONS.flatMap((option) => option.names)) expect(words).toContain(name);
  for (const { letter, word } of FLAGS)
    expect(words).toContain(letter ? `-${letter}` : `--${word}`);
});

test("helpText() keeps to 100 columns", () => {
  for (const line of helpText().split("\n")) expect(line.length, line).toBeLessThanOrEqual(100);
});

test("versionText() is the package's name and version", () => {
  expect(versionText()).toMatch(/^fuse4fs-ts \d+\.\d+\.\d+\n$/);
});
