/**
 * What a kernel does while nobody looks: writes some pages back, handles the end of what was written,
 * drops clean pages, asks for attributes again, tells times, sends what was queued. One of these at a
 * time, picked at random; and between system calls, forgets names as well.
 */

import type { Inode } from "./inode.ts";
import type { Mount } from "./mount.ts";
import { cleanBlocks } from "./pages.ts";
import { SystemError } from "./rules.ts";
import { flushTimes } from "./setattr.ts";
import { completeOne, writeBackSome } from "./writeback.ts";

type Job = (mount: Mount, inode: Inode) => void;

const JOBS: readonly Job[] = [
  writeBackSome,
  writeBackSome,
  (mount) => {
    const ioend = mount.ioends[mount.random.below(Math.max(1, mount.ioends.length))];
    if (ioend !== undefined) completeOne(mount, ioend);
  },
  (_mount, inode) => {
    for (const block of cleanBlocks(inode)) inode.pages.delete(block);
  },
  (mount, inode) => mount.getattr(inode),
  flushTimes,
  (mount) => mount.queue.shift()?.(),
];

/** Does one thing. That it fails is nobody's concern, unless it was a rule that was broken. */
export function doSomething(mount: Mount): void {
  const inodes = [...mount.inodes.values()];
  const inode = pick(mount, inodes);
  const job = pick(mount, JOBS);
  try {
    if (inode?.isIomap === true || job === JOBS.at(-1)) job?.(mount, inode as Inode);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
  }
}

/** Forgets names that nobody uses, and the inodes that nothing else holds. */
export function dropDentries(mount: Mount, oneIn = 1): void {
  for (const directory of [...mount.inodes.values()]) {
    for (const [name, inode] of [...directory.entries]) {
      const isPinned = inode !== undefined && (inode.opens > 0 || inode.entries.size > 0);
      if (!isPinned && mount.random.below(oneIn) === 0) mount.drop(directory, name);
    }
  }
}

const pick = <T>(mount: Mount, list: readonly T[]): T | undefined =>
  list[mount.random.below(Math.max(1, list.length))];
