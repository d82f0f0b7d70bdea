/** The command line of scripts/xfstests. */
import { expect, test } from "vitest";
import { parseSettings } from "../../xfstests/settings.ts";

const parse = (...words: string[]) => parseSettings(words, "/home/me");

test("parseSettings runs the quick group on our server unless told otherwise", () => {
  expect(parse("--work", "w", "xfstests")).toEqual({
    server: "fuse4fs-ts",
    config: "4k",
    limitSeconds: 300,
    fresh: false,
    record: false,
    size: "6G",
    folder: "/home/me/w/fuse4fs-ts-4k",
    xfstests: "/home/me/xfstests",
    checkArguments: ["-g", "quick"],
  });
});

test("parseSettings leaves what follows the path to check", () => {
  const words = ["--kernel", "--config=1k", "/x", "-g", "auto", "-x", "dump", "--large-fs"];
  const { server, config, checkArguments } = parse(...words);
  expect([server, config]).toEqual(["kernel", "1k"]);
  expect(checkArguments).toEqual(["-g", "auto", "-x", "dump", "--large-fs"]);
});

test.each([
  ["no path", []],
  ["two servers", ["--kernel", "--fuse2fs", "/x"]],
  ["an unknown configuration", ["--config", "5k", "/x"]],
  ["an unknown option", ["--quick", "/x"]],
  ["a limit that is none", ["--limit", "soon", "/x"]],
])("parseSettings refuses %s", (_, words) => {
  expect(() => parse(...words)).toThrow();
});
