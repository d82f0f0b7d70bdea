/** The golden images are what their recipes say: rebuilt, they come out bit for bit. */
import { describe, expect, test } from "vitest";
import { expectation, imageNames } from "../support/images.ts";
import { run, skipBecause, whyNoE2fsprogs } from "../support/run.ts";

const SCRIPT = new URL("../../scripts/make-images.ts", import.meta.url).pathname;

/** Another version of e2fsprogs may lay the same tree out in another way. */
function whyOtherVersion(): string | undefined {
  const versions = new Set(imageNames().map((name) => expectation(name).oracle));
  const here = /debugfs \S+/.exec(run("debugfs", ["-V"]).stderr)?.[0];
  return versions.has(String(here)) ? undefined : `needs ${[...versions].join()}, not ${here}`;
}

const skip = skipBecause("images", whyNoE2fsprogs() ?? whyOtherVersion());

describe.skipIf(skip)("scripts/make-images.ts", () => {
  test("rebuilds every golden image and its expectation as they are", () => {
    expect(imageNames().length).toBeGreaterThan(40);
    expect(run("npx", ["tsx", SCRIPT, "--check"]).status).toBe(0);
  });
});
