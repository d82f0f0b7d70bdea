/** The file of `-o lockfile=`: as long as it exists, nobody who asks for it mounts the image. */
import { closeSync, openSync, unlinkSync, writeSync } from "node:fs";
import { MountFailure } from "./mount-failure.ts";

const OWNER_READS = 0o400;

/**
 * Creates the file `path` with our process number in it.
 *
 * @returns a function that removes it.
 * @throws MountFailure when it exists or cannot be made.
 */
export function takeLockFile(path: string): () => void {
  let fd: number;
  try {
    fd = openSync(path, "wx", OWNER_READS);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new MountFailure(
      code === "EEXIST"
        ? `lock file ${path} exists: the image is mounted, or its server was killed`
        : `lock file ${path} cannot be made: ${message}`,
    );
  }
  writeSync(fd, `${process.pid}\n`);
  closeSync(fd);
  return () => {
    try {
      unlinkSync(path);
    } catch {
      // somebody else has removed it, which is all that was wanted
    }
  };
}
