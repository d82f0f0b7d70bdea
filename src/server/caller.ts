/**
 * Who a process acts as, from /proc: for the few requests that have to know and do not say it, such as
 * a write that needs the space that is kept for root.
 */
import { readFileSync } from "node:fs";
import type { Caller } from "../fuse/index.ts";

/** The fourth number is the one for file access. @see proc_pid_status(5) */
const FILE_IDS = /^Uid:(?:\t\d+){3}\t(\d+)\nGid:(?:\t\d+){3}\t(\d+)$/m;

/** @returns undefined when `pid` is no process that can be seen. */
export function callerOf(pid: number): Caller | undefined {
  const [, uid, gid] = FILE_IDS.exec(statusOf(pid)) ?? [];
  return uid === undefined ? undefined : { uid: Number(uid), gid: Number(gid) };
}

function statusOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, "latin1");
  } catch {
    return ""; // it has ended, or is in another PID namespace
  }
}
