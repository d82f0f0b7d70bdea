/** How the end of a test is judged, and what is kept of it. */
import { describe, expect, test } from "vitest";
import {
  type Evidence,
  formatOutcome,
  judge,
  kernelMounted,
  parseOutcomes,
  parseTestList,
} from "../../xfstests/outcome.ts";

const nothing: Evidence = {
  printed: "",
  notRun: "",
  expected: "",
  actual: "",
  full: "",
  dmesg: "",
};

describe("judge", () => {
  test("finds a test passed when check says so", () => {
    const printed = "generic/001 3s ...  3s\nRan: generic/001\nPassed all 1 tests\n";
    expect(judge({ ...nothing, printed })).toEqual({ verdict: "passed", reason: "" });
  });

  test("takes what check says of a test that was not run for no pass", () => {
    const printed = "generic/009 [not run] no\nNot run: generic/009\nPassed all 1 tests\n";
    const notRun = "xfs_io fiemap failed\n";
    expect(judge({ ...nothing, printed, notRun })).toEqual({
      verdict: "not run",
      reason: "xfs_io fiemap failed",
    });
  });

  test("says what e2fsck found before it says what was printed", () => {
    const printed = "_check_generic_filesystem: filesystem on /dev/loop1 is inconsistent\n";
    const full = [
      "earlier",
      "*** fsck.ext4 output ***",
      "fsck from util-linux 2.38.1",
      "e2fsck 1.47.0 (5-Feb-2023)",
      "Warning: skipping journal recovery because doing a read-only filesystem check.",
      "Pass 1: Checking inodes, blocks, and sizes",
      "Inode 12, i_blocks is 8, should be 16.  Fix? no",
      "*** end fsck.ext4 output",
    ].join("\n");
    expect(judge({ ...nothing, printed, full, actual: "QA\n" })).toEqual({
      verdict: "failed",
      reason: "e2fsck: Inode 12, i_blocks is 8, should be 16. Fix? no",
    });
  });

  test("names the kernel's alarm without its time", () => {
    const printed = "_check_dmesg: something found in dmesg (see x.dmesg)\n";
    const dmesg = "[   12.3] fine\n[   12.4] WARNING: CPU: 0 at fs/fuse/dev.c\n";
    expect(judge({ ...nothing, printed, dmesg }).reason).toBe(
      "dmesg: WARNING: CPU: 0 at fs/fuse/dev.c",
    );
  });

  test.each([
    ["another line", "QA\nsilence\n", "QA\nnoise\n", 'line 2: printed "noise", expected "silence"'],
    ["too little", "QA\nsilence", "QA", 'line 2: printed no more, expected "silence"'],
    ["too much", "QA", "QA\nnoise", 'line 2: printed "noise"'],
  ])("quotes the first line that differs: %s", (_, expected, actual, reason) => {
    expect(judge({ ...nothing, expected, actual })).toEqual({ verdict: "failed", reason });
  });

  test("falls back to the exit status, then to what check said last", () => {
    const failed = { ...nothing, printed: "generic/001 [failed, exit status 1]\n\nFailures: …\n" };
    expect(judge(failed).reason).toBe("[failed, exit status 1]");
    const refused = { ...nothing, printed: "first\nour local mount routine failed\n" };
    expect(judge(refused).reason).toBe("our local mount routine failed");
  });
});

describe("an outcome as text", () => {
  const outcome = { test: "generic/001", verdict: "failed", seconds: 7, reason: "a\tb" } as const;

  test("comes back, on one line", () => {
    const text = formatOutcome(outcome);
    expect(text).toBe("generic/001\tfailed\t7\ta b\n");
    expect(parseOutcomes(text).get("generic/001")).toEqual({ ...outcome, reason: "a b" });
  });

  test("does not count when its line was cut off", () => {
    expect(parseOutcomes(`${formatOutcome(outcome)}generic/002\tpas`).size).toBe(1);
  });

  test("gives way to a later one of the same test", () => {
    const later = formatOutcome({ ...outcome, verdict: "passed", reason: "" });
    const all = parseOutcomes(formatOutcome(outcome) + later);
    expect([...all.values()].map(({ verdict }) => verdict)).toEqual(["passed"]);
  });
});

test("parseTestList leaves out headings and what check leaves out", () => {
  const printed = "FSTYP         -- ext4\n\ngeneric/001   \ngeneric/002  [expunged]\next4/003\n";
  expect(parseTestList(printed)).toEqual(["generic/001", "ext4/003"]);
});

test("kernelMounted sees mounts of our devices since the test began", () => {
  const mounted = (name: string): string => `[1.0] EXT4-fs (${name}): mounted filesystem 12-34\n`;
  const begin = "[1.0] run fstests generic/001 at 2026-01-01 00:00:00\n";
  const asked = (log: string): boolean => kernelMounted(log, "generic/001", ["/dev/loop7"]);
  expect(asked(begin + mounted("loop7"))).toBe(true);
  expect(asked(mounted("loop7") + begin)).toBe(false);
  expect(asked(begin + mounted("loop8"))).toBe(false);
  expect(asked(mounted("loop7"))).toBe(false);
});
