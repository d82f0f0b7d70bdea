/** The table of a run, and what differs from the recorded baseline. */
import { formatOutcome, type Outcome, type Verdict } from "./outcome.ts";

type Outcomes = ReadonlyMap<string, Outcome>;

const isTrouble = (verdict: Verdict): boolean => verdict === "failed" || verdict === "hung";

/** How many of what, each test that failed or hung, and why the others were not run. */
export function formatTable(outcomes: Outcomes): string {
  const all = [...outcomes.values()];
  const having = (verdict: Verdict) => all.filter((each) => each.verdict === verdict);
  const lines = [
    (["passed", "failed", "hung", "not run"] as const)
      .map((verdict) => `${having(verdict).length} ${verdict}`)
      .join(", "),
  ];
  const width = Math.max(0, ...all.map(({ test }) => test.length));
  const list = (title: string, chosen: readonly Outcome[]): void => {
    if (chosen.length > 0) lines.push("", title);
    for (const { test, reason } of chosen) lines.push(`  ${test.padEnd(width)}  ${reason}`);
  };
  list("failed:", having("failed"));
  list("hung:", having("hung"));
  list(
    "passed, with a server that failed:",
    having("passed").filter(({ reason }) => reason !== ""),
  );
  const reasons = groupByReason(having("not run"));
  if (reasons.length > 0) lines.push("", "not run:");
  for (const [reason, tests] of reasons)
    lines.push(`  ${`${tests.length}`.padStart(3)}  ${reason}: ${tests.join(" ")}`);
  return `${lines.join("\n")}\n`;
}

/** The reasons, the most frequent first, each with its tests. */
function groupByReason(outcomes: readonly Outcome[]): [reason: string, tests: string[]][] {
  const groups = new Map<string, string[]>();
  for (const { test, reason } of outcomes)
    groups.set(reason, [...(groups.get(reason) ?? []), test]);
  return [...groups].sort(([, some], [, others]) => others.length - some.length);
}

export interface Comparison {
  /** A test that passed, and now fails or hangs. */
  readonly regressions: readonly string[];
  /** A test that passes and did not, or is not run any more; one line each. */
  readonly changes: readonly string[];
}

/** What differs in the tests that both have. */
export function compare(baseline: Outcomes, outcomes: Outcomes): Comparison {
  const regressions: string[] = [];
  const changes: string[] = [];
  for (const { test, verdict, reason } of outcomes.values()) {
    const before = baseline.get(test)?.verdict;
    if (before === undefined || before === verdict) continue;
    const because = verdict === "passed" || reason === "" ? "" : `: ${reason}`;
    const line = `${test}: ${before} before, now ${verdict}${because}`;
    if (before === "passed" && isTrouble(verdict)) regressions.push(`regression: ${line}`);
    else changes.push(`${verdict === "passed" ? "progress" : "change"}: ${line}`);
  }
  return { regressions, changes };
}

/** The text of the baseline with `outcomes` in the place of what it has about the same tests. */
export function mergeBaseline(baseline: Outcomes, outcomes: Outcomes): string {
  const merged = new Map([...baseline, ...outcomes]);
  return [...merged.values()]
    .sort((one, other) => (one.test < other.test ? -1 : 1))
    .map(formatOutcome)
    .join("");
}
