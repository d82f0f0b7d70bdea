/**
 * What the machine looks like to a run, from within its own mount namespace: an empty /tmp and /mnt, the
 * users that the tests work as, and a mount(8) that takes our server for ext4. Nobody else sees it.
 */
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { output, run } from "../support/run.ts";
import type { Settings } from "./settings.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const HELPERS = join(ROOT, "test/xfstests/helpers");

export const TEST_FOLDER = "/mnt/test";
export const SCRATCH_FOLDER = "/mnt/scratch";

const EMPTIED = ["/tmp", "/mnt"];
const USERS = ["fsgqa", "123456-fsgqa", "fsgqa2"];
const FIRST_USER_ID = 5000;

/** By which names mount(8) and umount(8) look for a helper: by the type asked for, and by what is mounted. */
const MOUNTED_TYPES = ["fuse.ext4", "fuse.fuse2fs", "fuseblk.ext4", "fuseblk.fuse2fs", "fuseblk"];
const MOUNT_TYPES = ["ext2", "ext3", "ext4", ...MOUNTED_TYPES];

/** Makes the namespace of this process that of a run. @returns where the servers leave messages. */
export function furnish(settings: Settings): string {
  leaveForeignServers();
  emptyFolders([ROOT, settings.folder]);
  for (const folder of [TEST_FOLDER, SCRATCH_FOLDER]) mkdirSync(folder);
  addUsers(settings.folder);
  const state = join(settings.folder, "servers");
  const messages = join(state, "messages");
  rmSync(state, { recursive: true, force: true });
  mkdirSync(messages, { recursive: true });
  if (settings.server !== "kernel") placeHelpers(settings, state);
  return messages;
}

/** Gives up the copies of FUSE mounts that a new namespace has: their servers would not end with the originals. */
function leaveForeignServers(): void {
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n").reverse();
  for (const [, path = "", type = ""] of mounts.map((line) => line.split(" ")))
    if (type.startsWith("fuse")) run("umount", ["-i", "-l", path], { accept: [0, 1, 32] });
}

/** Covers them with empty ones of our own, in which what is `needed` shows through. */
function emptyFolders(needed: readonly string[]): void {
  for (const folder of EMPTIED) {
    const hidden = needed.filter((path) => path.startsWith(`${folder}/`));
    const open = hidden.map((path) => [path, openSync(path, "r")] as const);
    run("mount", ["-t", "tmpfs", "-o", "mode=1777", "tmpfs", folder]);
    for (const [path, descriptor] of open) {
      mkdirSync(path, { recursive: true });
      run("mount", ["--no-canonicalize", "--bind", `/proc/${process.pid}/fd/${descriptor}`, path]);
    }
  }
}

function addUsers(folder: string): void {
  const known = readFileSync("/etc/passwd", "utf8");
  const missing = USERS.filter((user) => !known.includes(`${user}:`));
  if (missing.length === 0) return;
  for (const name of ["passwd", "group"]) {
    const copy = join(folder, name);
    copyFileSync(`/etc/${name}`, copy);
    missing.forEach((user, index) => {
      const id = FIRST_USER_ID + index;
      const rest = name === "passwd" ? `${id}:${id}::/tmp:/bin/bash` : `${id}:`;
      appendFileSync(copy, `${user}:x:${rest}\n`);
    });
    run("mount", ["--bind", copy, `/etc/${name}`]);
  }
}

/** Lays a folder with our helpers over the one that mount(8) looks into. */
function placeHelpers({ server, folder }: Settings, state: string): void {
  const layer = join(folder, "sbin");
  rmSync(layer, { recursive: true, force: true });
  mkdirSync(layer);
  const program =
    server === "fuse2fs" ? output("which", ["fuse2fs"]) : join(folder, "server/bin/fuse4fs-ts");
  const place = (kind: string, types: readonly string[]): void => {
    const environment = `SERVER_PROGRAM='${program}' STATE='${state}'`;
    const text = `#!/bin/bash\n${environment} exec '${join(HELPERS, kind)}' "$@"\n`;
    for (const type of types) writeFileSync(join(layer, `${kind}.${type}`), text, { mode: 0o755 });
  };
  place("mount", MOUNT_TYPES);
  place("umount", MOUNTED_TYPES);
  const searched = realpathSync("/sbin");
  run("mount", ["-t", "overlay", "-o", `lowerdir=${layer}:${searched}`, "overlay", searched]);
}
