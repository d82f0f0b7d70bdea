/**
 * What the main thread and the worker say to each other. The worker takes one message, the plan,
 * and then serves without ever coming back to its event loop; from there on the main thread reaches
 * it through `Control` alone.
 */
import type { Statistics } from "./statistics.ts";

/** Words of a shared Int32Array. */
export const Control = {
  /** Not zero: the worker is to report its counts before it waits for the next request. */
  REPORT: 0,
} as const;

export const CONTROL_BYTES = 4;

export interface WorkerData {
  readonly control: SharedArrayBuffer;
}

/** From the worker. */
export type WorkerMessage =
  /** The kernel has the mount and the worker is about to serve it. */
  | {
      readonly kind: "mounted";
      readonly channelId: number;
      readonly fuseFd: number;
      readonly unmounter: string;
    }
  /** The kernel's INIT is answered. */
  | { readonly kind: "ready" }
  /** There is no mount, and none is left. */
  | { readonly kind: "failed"; readonly reason: string }
  /** The answer to `Control.REPORT`. */
  | { readonly kind: "statistics"; readonly statistics: Statistics }
  /** The connection is closed, because of an unmount or else; the last counts. */
  | {
      readonly kind: "ended";
      readonly unmounted: boolean;
      readonly statistics: Statistics;
      /** Why the filesystem could not be closed properly. */
      readonly closeFailure: string | undefined;
    };
