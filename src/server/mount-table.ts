/**
 * Finds our mounts in `/proc/self/mountinfo`, so that nothing is unmounted that is not ours and
 * nothing of ours is left.
 *
 * @see proc_pid_mountinfo(5)
 */
import { readFileSync } from "node:fs";

const MOUNTINFO = "/proc/self/mountinfo";
const DEVICE_FIELD = 2;
const MOUNTPOINT_FIELD = 4;

/** `"0:57"` for the `st_dev` of a file. @see new_encode_dev() in include/linux/kdev_t.h */
export function deviceName(dev: number): string {
  const major = (dev >>> 8) & 0xfff;
  const minor = (dev & 0xff) | ((dev >>> 12) & 0xfff00);
  return `${major}:${minor}`;
}

/** Where the filesystem of device `dev` is mounted, the newest mount first. */
export function mountpointsOf(dev: number, mountinfo = readMountinfo()): string[] {
  const name = deviceName(dev);
  return mountinfo
    .split("\n")
    .map((line) => line.split(" "))
    .filter((fields) => fields[DEVICE_FIELD] === name)
    .map((fields) => unescaped(fields[MOUNTPOINT_FIELD] ?? ""))
    .reverse();
}

function readMountinfo(): string {
  try {
    return readFileSync(MOUNTINFO, "utf8");
  } catch {
    return "";
  }
}

/** The kernel writes blanks and backslashes as octal numbers. */
function unescaped(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}
