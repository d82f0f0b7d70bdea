/**
 * Makes the images that are too large to commit: formatted by mke2fs, filled by the kernel's ext4
 * (populate.py says with what).
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { debugfs, e2fsck, mke2fs } from "./e2fsprogs.ts";
import { kernelMount, loopDevice } from "./mounts.ts";
import { run } from "./run.ts";
import { type Scope, withScope } from "./scope.ts";

const POPULATE = new URL("populate.py", import.meta.url).pathname;

export interface Configuration {
  readonly name: string;
  /** As truncate(1) takes it. */
  readonly size?: string;
  readonly mke2fs: readonly string[];
  /** debugfs commands on the new filesystem, before it is filled. */
  readonly debugfs?: readonly string[];
  /** Mount options while it is filled. */
  readonly options?: readonly string[];
  /** Sections of populate.py. */
  readonly sections: readonly string[];
  /** Runs on the mounted filesystem, before the sections do. */
  readonly prepare?: (mountpoint: string) => void;
  /** Runs on the image when it is filled and unmounted. */
  readonly finish?: (image: string) => void;
}

const SIZE_DEFAULT = "128M";

/** Builds what `configuration` says. @returns the path of the image, which is unmounted and clean. */
export function buildImage(scope: Scope, configuration: Configuration): string {
  const image = join(scope.temporaryFolder(), "image");
  mke2fs(image, configuration.size ?? SIZE_DEFAULT, configuration.mke2fs);
  if (configuration.debugfs !== undefined) debugfs(image, configuration.debugfs, true);
  fill(scope, image, configuration);
  configuration.finish?.(image);
  const complaints = e2fsck(image);
  if (complaints !== "")
    throw new Error(`${configuration.name} is not a sound image: ${complaints}`);
  return image;
}

/** Mounts `image` for writing, fills it, and unmounts it. */
function fill(
  scope: Scope,
  image: string,
  { options, prepare, sections }: Pick<Configuration, "options" | "prepare" | "sections">,
): void {
  const mount = kernelMount(scope, image, { write: true, ...(options && { options }) });
  try {
    prepare?.(mount.path);
    populate(mount.path, sections);
  } finally {
    mount.unmount();
  }
}

export function populate(mountpoint: string, sections: readonly string[]): void {
  run("python3", [POPULATE, mountpoint, ...sections]);
}

/** Makes `folder` below `mountpoint` encrypted, with a key that goes when the mount does. */
export function encryptFolder(mountpoint: string, folder: string, policy: readonly string[]): void {
  const path = join(mountpoint, folder);
  mkdirSync(path);
  const key = Buffer.alloc(64, folder);
  const answer = run("xfs_io", ["-c", "add_enckey", mountpoint], { input: key });
  const [identifier] = /[0-9a-f]{32}/.exec(answer.stdout.toString("utf8")) ?? [];
  run("xfs_io", ["-c", ["set_encpolicy", ...policy, identifier].join(" "), path]);
}

export interface JournaledImage {
  readonly image: string;
  readonly journal: string;
}

/** Makes a filesystem whose journal is a device of its own. */
export function formatWithExternalJournal(
  scope: Scope,
  size: string,
  args: readonly string[],
): JournaledImage {
  const folder = scope.temporaryFolder();
  const [image, journal] = [join(folder, "image"), join(folder, "journal")];
  mke2fs(journal, "16M", ["-O", "journal_dev", ...args.slice(0, 2)]);
  withScope((inner) => {
    const device = loopDevice(inner, journal, true);
    mke2fs(image, size, ["-t", "ext4", ...args, "-J", `device=${device}`]);
  });
  return { image, journal };
}

const CHURN = new URL("churn.py", import.meta.url).pathname;

/** What becomes of a running mount: see churn.py. */
export type Ending = "sync" | "running" | "shutdown" | "logflush";

/** Runs a workload of churn.py on a mounted filesystem, and ends it. */
export function churn(mountpoint: string, workload: string, ending: Ending): void {
  run("python3", [CHURN, mountpoint, workload, ending]);
}
