/** What is appended to the functions of xfstests, on stand-ins for those functions. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { output } from "../../support/run.ts";

const override = (name: string): string =>
  readFileSync(new URL(`../../xfstests/overrides/${name}`, import.meta.url), "utf8");

/** What bash prints for `calls`, after `functions` were declared and then overridden. */
function evaluate(name: string, functions: string, calls: string): string {
  const script = `${functions}\n${override(name)}\n${calls}`;
  return output("bash", ["-c", script]);
}

const stock = `
_fs_type() { echo "$1"; }
_is_dev_mounted() { echo "$1 as $2"; }
_is_dir_mountpoint() { echo "$1 as $2"; }
_fail() { echo "failed: $*"; }
_notrun() { echo "not run: $*"; }
_require_scratch_swapfile() { _fail "no swap"; }
`;

test.each(["fuse.ext4", "fuseblk", "fuseblk.ext4", "fuse.fuse2fs", "ext4"])(
  "_fs_type calls a mount of type %s ext4",
  (type) => {
    expect(evaluate("rc", stock, `_fs_type ${type}`)).toBe("ext4");
  },
);

test.each(["xfs", "fuse.sshfs", "fuse", "nfs"])("_fs_type leaves %s as it is", (type) => {
  expect(evaluate("rc", stock, `_fs_type ${type}`)).toBe(type);
});

test("_is_dev_mounted and _is_dir_mountpoint look for the types of our mounts, or for what they are told", () => {
  expect(evaluate("rc", stock, "_is_dev_mounted /dev/loop1")).toMatch(/ext4,.*\bfuseblk$/);
  expect(evaluate("rc", stock, "_is_dir_mountpoint /mnt xfs")).toBe("/mnt as xfs");
});

test("_require_scratch_swapfile does not run what it would fail, and lets others fail again", () => {
  const calls = "_require_scratch_swapfile; _fail afterwards";
  expect(evaluate("rc", stock, calls)).toBe("not run: no swap\nfailed: afterwards");
});

test("_require_quota finds no quota", () => {
  expect(evaluate("quota", stock, "_require_quota")).toContain("not run: quotactl(2)");
});
