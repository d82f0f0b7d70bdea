/** Who a process acts as, by what /proc says of processes that are known. */
import { spawn } from "node:child_process";
import { expect, test } from "vitest";
import { callerOf } from "../../../src/server/caller.ts";
import { skipBecause } from "../../support/run.ts";

test("finds out who this process acts as", () => {
  expect(callerOf(process.pid)).toEqual({ uid: process.geteuid?.(), gid: process.getegid?.() });
});

const whyNoOther = process.getuid?.() === 0 ? undefined : "only root can act as others";

test.skipIf(skipBecause("another caller", whyNoOther))("and another one", async () => {
  const child = spawn("sleep", ["60"], { uid: 1234, gid: 5678 });
  await new Promise((resolve) => child.once("spawn", resolve));
  expect(callerOf(child.pid ?? 0)).toEqual({ uid: 1234, gid: 5678 });
  child.kill();
});

test("knows nothing of a process that is none", () => {
  expect(callerOf(0)).toBeUndefined();
});
