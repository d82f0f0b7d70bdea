/** The values of options: every unit and bound, and the words of a refusal. */
import { describe, expect, test } from "vitest";
import { UsageError } from "../../../src/cli/usage-error.ts";
import {
  parseBytes,
  parseMask,
  parseSeconds,
  parseText,
  parseWhole,
  parseWord,
} from "../../../src/cli/values.ts";

describe("parseBytes()", () => {
  test.each([
    ["0", 0],
    ["512", 512],
    ["4k", 4096],
    ["4K", 4096],
    ["3M", 3 * 2 ** 20],
    ["2g", 2 ** 31],
    ["1T", 2 ** 40],
    ["0x100", 256],
    ["0XffK", 255 * 1024],
  ])("reads %s as %d", (text, bytes) => {
    expect(parseBytes("offset", text)).toBe(bytes);
  });

  test.each(["", "-1", "1.5M", "1KB", "K", "0x", "9007199254740993", "9999999T", "1 "])(
    "refuses %j",
    (text) => {
      expect(() => parseBytes("offset", text)).toThrow(UsageError);
    },
  );
});

describe("parseWhole()", () => {
  test("takes both ends of its range", () => {
    expect(parseWhole("oom_score_adj", "-1000", -1000, 1000)).toBe(-1000);
    expect(parseWhole("oom_score_adj", "1000", -1000, 1000)).toBe(1000);
  });

  test.each(["", "-1001", "1001", "1.0", "1k", "0x1"])("refuses %j", (text) => {
    expect(() => parseWhole("oom_score_adj", text, -1000, 1000)).toThrow(
      `oom_score_adj=${text}: takes a number from -1000 to 1000`,
    );
  });
});

describe("parseSeconds()", () => {
  test.each([
    ["0", 0],
    ["30", 30],
    ["1.5", 1.5],
    [".5", 0.5],
    ["2.", 2],
  ])("reads %s as %d", (text, seconds) => {
    expect(parseSeconds("attr_timeout", text)).toBe(seconds);
  });

  test.each(["", "-1", "1s", ".", "Infinity", "1e9"])("refuses %j", (text) => {
    expect(() => parseSeconds("attr_timeout", text)).toThrow("attr_timeout=");
  });
});

describe("parseMask()", () => {
  test.each([
    ["022", 0o022],
    ["0", 0],
    ["7777", 0o777],
  ])("reads %s", (text, mask) => {
    expect(parseMask("umask", text)).toBe(mask);
  });

  test.each(["", "8", "22222", "0x12", "-1"])("refuses %j", (text) => {
    expect(() => parseMask("umask", text)).toThrow("takes permission bits in octal");
  });
});

test("parseWord() lists the words it would have taken", () => {
  expect(parseWord("errors", "panic", ["continue", "panic"])).toBe("panic");
  expect(() => parseWord("errors", "explode", ["continue", "panic"])).toThrow(
    "errors=explode: takes continue, panic",
  );
});

test("parseText() refuses an empty value", () => {
  expect(parseText("lockfile", "/run/lock")).toBe("/run/lock");
  expect(() => parseText("lockfile", "")).toThrow(UsageError);
});
