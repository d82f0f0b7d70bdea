/**
 * The main thread's side of a mount, with workers made up for the occasion: what it makes of a
 * worker that refuses, dies, or ends, and when it calls a mount live.
 */
import { expect, test } from "vitest";
import { MountFailure } from "../../../src/server/mount-failure.ts";
import { Server } from "../../../src/server/server.ts";
import { PLAN } from "./plan.ts";

/** A server whose worker runs `script`, which finds `tell`, `plan` and `control`. */
function serverOf(script: string): Server {
  const code = `
    import { parentPort, workerData } from "node:worker_threads";
    const tell = (message) => parentPort.postMessage(message);
    const control = new Int32Array(workerData.control);
    parentPort.once("message", (plan) => { ${script} });`;
  return new Server(new URL(`data:text/javascript,${encodeURIComponent(code)}`));
}

const MOUNTED = `tell({ kind: "mounted", channelId: 0, fuseFd: -1, unmounter: "" });`;
const COUNTS = "{ requests: new Float64Array([1, 2]), scripted: new Float64Array([0, 1]) }";
const ENDED = `tell({ kind: "ended", unmounted: true, statistics: ${COUNTS}, closeFailure: "why" });`;

test("start() rejects with the worker's reason when it cannot mount", async () => {
  const server = serverOf(`tell({ kind: "failed", reason: "no magic in " + plan.device });`);
  await expect(server.start(PLAN)).rejects.toThrow(new MountFailure("no magic in disk.img"));
});

test("start() rejects when the worker dies before the mount", async () => {
  await expect(serverOf(`throw new Error("oh");`).start(PLAN)).rejects.toThrow("oh");
  await expect(serverOf("process.exit(3);").start(PLAN)).rejects.toThrow("without a word");
});

test("start() waits for the answer to INIT", async () => {
  const server = serverOf(
    `${MOUNTED} setTimeout(() => { plan = 0; tell({ kind: "ready" }); }, 50);`,
  );
  const began = performance.now();
  await server.start(PLAN);
  expect(performance.now() - began).toBeGreaterThan(45);
});

test("start() rejects when the mount ends before it is ready", async () => {
  const server = serverOf(MOUNTED + ENDED);
  await expect(server.start(PLAN)).rejects.toThrow("unmounted before the mount was ready");
});

test("ended resolves with the last counts, and with why closing failed", async () => {
  const server = serverOf(
    `${MOUNTED} tell({ kind: "ready" }); setTimeout(() => { ${ENDED} }, 10);`,
  );
  await server.start(PLAN);
  const { statistics, closeFailure } = await server.ended;
  expect(statistics.requests).toEqual(new Float64Array([1, 2]));
  expect(closeFailure).toBe("why");
});

test("statistics() asks the worker through shared memory", async () => {
  const server = serverOf(`${MOUNTED} tell({ kind: "ready" });
    const timer = setInterval(() => {
      if (Atomics.load(control, 0) === 0) return;
      clearInterval(timer);
      tell({ kind: "statistics", statistics: ${COUNTS} });
    }, 1);`);
  await server.start(PLAN);
  expect((await server.statistics()).scripted).toEqual(new Float64Array([0, 1]));
});
