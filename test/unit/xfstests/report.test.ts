/** The table of a run of xfstests, and its comparison with a baseline. */
import { expect, test } from "vitest";
import {
  formatOutcome,
  type Outcome,
  parseOutcomes,
  type Verdict,
} from "../../xfstests/outcome.ts";
import { compare, formatTable, mergeBaseline } from "../../xfstests/report.ts";

type Row = readonly [test: string, verdict: Verdict, reason?: string];

const outcomes = (...rows: Row[]): Map<string, Outcome> =>
  new Map(
    rows.map(([name, verdict, reason = ""]) => [name, { test: name, verdict, seconds: 1, reason }]),
  );

test("formatTable counts, says why tests failed, and groups those not run by reason", () => {
  const table = formatTable(
    outcomes(
      ["generic/001", "passed"],
      ["generic/002", "not run", "no dm"],
      ["generic/003", "not run", "no FIEMAP"],
      ["generic/004", "not run", "no FIEMAP"],
      ["ext4/001", "failed", "line 1: …"],
      ["generic/006", "hung", "did not end"],
      ["generic/007", "passed", "exit 1"],
    ),
  );
  expect(table.split("\n")).toEqual([
    "2 passed, 1 failed, 1 hung, 3 not run",
    "",
    "failed:",
    "  ext4/001     line 1: …",
    "",
    "hung:",
    "  generic/006  did not end",
    "",
    "passed, with a server that failed:",
    "  generic/007  exit 1",
    "",
    "not run:",
    "    2  no FIEMAP: generic/003 generic/004",
    "    1  no dm: generic/002",
    "",
  ]);
});

test("compare calls only what passed and now fails or hangs a regression", () => {
  const baseline = outcomes(
    ["generic/001", "passed"],
    ["generic/002", "passed"],
    ["generic/003", "passed"],
    ["generic/004", "failed"],
    ["generic/005", "not run"],
    ["generic/006", "failed"],
  );
  const now = outcomes(
    ["generic/001", "failed", "line 3"],
    ["generic/002", "hung"],
    ["generic/003", "not run", "no dm"],
    ["generic/004", "passed"],
    ["generic/005", "failed", "line 1"],
    ["generic/006", "failed"],
    ["generic/007", "failed"],
  );
  expect(compare(baseline, now)).toEqual({
    regressions: [
      "regression: generic/001: passed before, now failed: line 3",
      "regression: generic/002: passed before, now hung",
    ],
    changes: [
      "change: generic/003: passed before, now not run: no dm",
      "progress: generic/004: failed before, now passed",
      "change: generic/005: not run before, now failed: line 1",
    ],
  });
});

test("mergeBaseline replaces the tests that were run and keeps the others, sorted", () => {
  const baseline = outcomes(["generic/002", "passed"], ["generic/001", "failed"]);
  const text = mergeBaseline(baseline, outcomes(["generic/001", "passed"], ["ext4/001", "passed"]));
  expect([...parseOutcomes(text).values()].map(formatOutcome).join("")).toBe(text);
  expect([...parseOutcomes(text)].map(([name, { verdict }]) => `${name} ${verdict}`)).toEqual([
    "ext4/001 passed",
    "generic/001 passed",
    "generic/002 passed",
  ]);
});
