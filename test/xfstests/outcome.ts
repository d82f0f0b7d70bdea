/**
 * What became of one test, and why: judged by what `check` printed and left behind, kept as one line of
 * tab-separated text.
 */

export type Verdict = "passed" | "failed" | "not run" | "hung";

export interface Outcome {
  readonly test: string;
  readonly verdict: Verdict;
  readonly seconds: number;
  /** One line; of a test that passed, how its server failed meanwhile. */
  readonly reason: string;
}

/** What `check` printed, and the files it left for the test; those that are missing are empty. */
export interface Evidence {
  readonly printed: string;
  readonly notRun: string;
  /** What the test should print, and what it did if that differed. */
  readonly expected: string;
  readonly actual: string;
  readonly full: string;
  readonly dmesg: string;
}

const REASON_LENGTH_MAX = 200;
const VERDICTS: readonly string[] = ["passed", "failed", "not run", "hung"];

/** The verdict on a test that ended by itself, and its reason. */
export function judge(evidence: Evidence): Pick<Outcome, "verdict" | "reason"> {
  if (evidence.notRun !== "") return { verdict: "not run", reason: oneLine(evidence.notRun) };
  if (/^Passed all 1 tests/m.test(evidence.printed)) return { verdict: "passed", reason: "" };
  return { verdict: "failed", reason: oneLine(whyFailed(evidence)) };
}

/** The gravest first: a damaged image, then the kernel's complaints, then a wrong answer. */
function whyFailed({ printed, expected, actual, full, dmesg }: Evidence): string {
  if (printed.includes("is inconsistent")) return `e2fsck: ${firstComplaint(full)}`;
  if (printed.includes("something found in dmesg")) return `dmesg: ${firstAlarm(dmesg)}`;
  if (actual !== "") return firstDifference(expected, actual);
  const status = /\[failed, exit status \d+\]/.exec(printed)?.[0];
  return status ?? lastLine(printed);
}

/** What e2fsck said first, less its banner, warnings and the names of its passes. */
function firstComplaint(full: string): string {
  const report = /\*\*\* fsck\.\S+ output \*\*\*\n(.*?)\*\*\* end/s.exec(full)?.[1] ?? full;
  const lines = report
    .split("\n")
    .filter((line) => !/^(fsck from|e2fsck \d|Warning|Pass \d|\s*$)/.test(line));
  return lines[0] ?? "";
}

function firstAlarm(dmesg: string): string {
  const alarm = /^.*(WARNING|BUG|Oops|lockdep|INFO: task).*$/m.exec(dmesg)?.[0] ?? "";
  return alarm.replace(/^\[[\s\d.]+\]\s*/, "");
}

/** The first line that is not as expected; a line more or less counts. */
function firstDifference(expected: string, actual: string): string {
  const wanted = expected.split("\n");
  const got = actual.split("\n");
  const at = wanted.findIndex((line, index) => line !== got[index]);
  if (at < 0) return `line ${wanted.length + 1}: printed ${quote(got[wanted.length])}`;
  return `line ${at + 1}: printed ${quote(got[at])}, expected ${quote(wanted[at])}`;
}

const quote = (line: string | undefined): string => (line === undefined ? "no more" : `"${line}"`);

function lastLine(text: string): string {
  return text.trimEnd().split("\n").at(-1) ?? "";
}

function oneLine(text: string): string {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > REASON_LENGTH_MAX ? `${line.slice(0, REASON_LENGTH_MAX - 1)}…` : line;
}

export function formatOutcome({ test, verdict, seconds, reason }: Outcome): string {
  return `${[test, verdict, seconds, oneLine(reason)].join("\t")}\n`;
}

/** The outcome of each test in `text`; the last one of a test counts, and half a line does not. */
export function parseOutcomes(text: string): Map<string, Outcome> {
  const outcomes = new Map<string, Outcome>();
  for (const line of text.split("\n").slice(0, -1)) {
    const [test = "", verdict = "", seconds, reason = ""] = line.split("\t");
    if (VERDICTS.includes(verdict))
      outcomes.set(test, { test, verdict: verdict as Verdict, seconds: Number(seconds), reason });
  }
  return outcomes;
}

/**
 * Whether the kernel's own ext4 mounted one of `devices` since `check` announced the test in the
 * kernel's log. A test must not pass because something went past our server.
 */
export function kernelMounted(log: string, test: string, devices: readonly string[]): boolean {
  const since = log.lastIndexOf(`run fstests ${test} at `);
  if (since < 0) return false;
  const mounts = log.slice(since).matchAll(/EXT4-fs \((\w+)\): mounted filesystem/g);
  return [...mounts].some(([, name]) => devices.includes(`/dev/${name}`));
}

/** The tests that `check -n` lists, less those that it says are left out. */
export function parseTestList(printed: string): string[] {
  return [...printed.matchAll(/^(\w+\/\d+\S*)\s*$/gm)].map(([, test = ""]) => test);
}
