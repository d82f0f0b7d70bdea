/**
 * The tools of e2fsprogs: they make images for tests, and as software that is not ours they judge
 * what we read and write.
 */
import { output, type RunOptions, run } from "./run.ts";

/** Makes a filesystem in the file `image`, which is created or emptied first. */
export function mke2fs(
  image: string,
  size: string,
  args: readonly string[],
  options?: RunOptions,
): void {
  run("truncate", ["-s", "0", image]);
  run("truncate", ["-s", size, image]);
  run("mke2fs", ["-q", "-F", ...args, image], options);
}

/**
 * Runs debugfs `commands` on `image`.
 *
 * @param write open the image for writing.
 * @throws Error when a command fails: debugfs itself exits with 0 then.
 */
export function debugfs(
  image: string,
  commands: readonly string[],
  write = false,
  options: RunOptions = {},
): string {
  const result = run("debugfs", [...(write ? ["-w"] : []), "-f", "-", image], {
    ...options,
    input: `${commands.join("\n")}\n`,
  });
  const complaints = result.stderr.split("\n").filter((line) => line !== "" && !isBanner(line));
  if (complaints.length > 0)
    throw new Error(`debugfs ${image}: ${commands.join("; ")}\n${complaints.join("\n")}`);
  return result.stdout.toString("utf8");
}

const isBanner = (line: string): boolean => /^debugfs \d/.test(line);

/** What e2fsck -fn says against `image`: empty when it finds nothing. */
export function e2fsck(image: string, args: readonly string[] = []): string {
  const result = run("e2fsck", ["-fn", ...args, image], { accept: [0, 1, 4, 8, 12] });
  return result.status === 0 ? "" : result.stdout.toString("utf8") + result.stderr;
}

/** The sha256 of a file. */
export function sha256(file: string): string {
  return output("sha256sum", [file]).slice(0, 64);
}
