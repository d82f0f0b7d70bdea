/**
 * The thread that serves a mount. It takes one message, the plan, and from then on lives in the
 * request loop: nothing that depends on its event loop happens until the connection closes.
 */
import { parentPort, workerData } from "node:worker_threads";
import { type Channel, NegotiationError } from "../fuse/index.ts";
import { type Addon, loadAddon, type NativeChannel } from "../native/binding.ts";
import { Control, type WorkerData, type WorkerMessage } from "./messages.ts";
import { type Mount, makeMount } from "./mount.ts";
import { MountFailure } from "./mount-failure.ts";
import type { MountPlan } from "./plan.ts";
import type { Statistics } from "./statistics.ts";

const control = new Int32Array((workerData as WorkerData).control);

function tell(message: WorkerMessage): void {
  parentPort?.postMessage(message);
}

parentPort?.once("message", (plan: MountPlan) => {
  let addon: Addon;
  let mount: Mount;
  try {
    addon = load();
    mount = makeMount(addon, plan, {
      onReady: () => tell({ kind: "ready" }),
      wrapChannel: reportOnDemand,
    });
  } catch (error) {
    if (!(error instanceof MountFailure)) throw error;
    tell({ kind: "failed", reason: error.message });
    return;
  }
  serve(addon, plan, mount);
});

function load(): Addon {
  try {
    return loadAddon();
  } catch (error) {
    const [reason] = String((error as Error).message).split("\n");
    throw new MountFailure(`the native addon cannot be loaded (npm run build makes it): ${reason}`);
  }
}

function serve(addon: Addon, plan: MountPlan, mount: Mount): void {
  const { channel, fuseFd, unmounter } = mount;
  tell({ kind: "mounted", channelId: channel.id, fuseFd, unmounter });
  try {
    mount.serve();
  } catch (error) {
    if (!(error instanceof NegotiationError)) throw error;
    // In this order: an unmount may wait for the answer to DESTROY as long as there is a connection.
    mount.close();
    addon.unmount(plan.mountpoint, unmounter);
    tell({ kind: "failed", reason: error.message });
    return;
  }
  const statistics = countsOf(channel);
  const closeFailure = mount.finish();
  const unmounted = mount.isUnmounted();
  mount.close();
  tell({ kind: "ended", unmounted, statistics, closeFailure });
}

/** Posts a copy of the counts before the next wait whenever the main thread has asked for one. */
function reportOnDemand(channel: NativeChannel): Channel {
  return {
    request: channel.request,
    reply: channel.reply,
    mappings: channel.mappings,
    written: channel.written,
    next(replyLength, timeoutMs) {
      if (Atomics.load(control, Control.REPORT) !== 0) {
        Atomics.store(control, Control.REPORT, 0);
        tell({ kind: "statistics", statistics: countsOf(channel) });
      }
      return channel.next(replyLength, timeoutMs);
    },
    map: (nodeId, sizeBytes, count, access) => channel.map(nodeId, sizeBytes, count, access),
    invalidate: (nodeId, offset, end) => channel.invalidate(nodeId, offset, end),
    loadData: () => channel.loadData(),
    storeMapped: () => channel.storeMapped(),
    forgetAttributes: (nodeId) => channel.forgetAttributes(nodeId),
    forgetContents: (nodeId) => channel.forgetContents(nodeId),
    noteForgotten: (nodeId) => channel.noteForgotten(nodeId),
    takeWritten: () => channel.takeWritten(),
    notify: (code, payload) => channel.notify(code, payload),
  };
}

function countsOf({ requestCounts, scriptCounts }: NativeChannel): Statistics {
  return { requests: requestCounts.slice(), scripted: scriptCounts.slice() };
}
