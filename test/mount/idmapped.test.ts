/**
 * ID-mapped mounts: the owners that programs see and make are shifted, those on the image are not.
 * Linux 6.12 and later can, for mounts that root makes and the kernel checks permissions of.
 */
import { chownSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { debugfs, e2fsck, mke2fs } from "../support/e2fsprogs.ts";
import { ourMount } from "../support/mounts.ts";
import { run, skipBecause, whyNoFuse, whyNoKernelMount } from "../support/run.ts";
import { withScope } from "../support/scope.ts";

const SCRIPT = new URL("../support/idmapped.py", import.meta.url).pathname;
const SHIFT = 100_000;

function kernelRelease(): number {
  const [major = 0, minor = 0] = readFileSync("/proc/sys/kernel/osrelease", "utf8")
    .split(".")
    .map(Number);
  return major * 1000 + minor;
}

const whyNoIdMapping = kernelRelease() < 6012 ? "Linux maps no IDs of FUSE mounts" : undefined;

const skip = skipBecause("idmapped", whyNoKernelMount(), whyNoFuse(), whyNoIdMapping);

describe.skipIf(skip)("an ID-mapped mount", () => {
  test("shifts owners both ways, and the image keeps its own", () => {
    withScope((scope) => {
      const folder = scope.temporaryFolder();
      const image = join(folder, "image");
      mke2fs(image, "32M", ["-t", "ext4"]);
      const mount = ourMount(scope, image, { write: true });
      writeFileSync(join(mount.path, "before"), "contents");
      chownSync(join(mount.path, "before"), 7, 8);

      const shifted = join(folder, "shifted");
      mkdirSync(shifted);
      run("chmod", ["0755", folder]);
      run("python3", [SCRIPT, mount.path, shifted, String(SHIFT)]);
      const mapped = scope.child();
      mapped.add(() => run("umount", [shifted]));
      const owner = (path: string) => {
        const { uid, gid } = statSync(path);
        return [uid, gid];
      };
      expect(owner(join(shifted, "before"))).toEqual([SHIFT + 7, SHIFT + 8]);
      chownSync(join(shifted, "before"), SHIFT + 1, SHIFT + 2);
      expect(owner(join(mount.path, "before"))).toEqual([1, 2]);

      // The root of this machine is nobody there: it can make nothing.
      expect(() => writeFileSync(join(shifted, "of-root"), "")).toThrow("EOVERFLOW");
      const as = ["--reuid", String(SHIFT + 5), "--regid", String(SHIFT + 6), "--clear-groups"];
      run("chmod", ["0777", mount.path]);
      const make = "umask 022; echo text > made; mkdir folder; ln -s made link; echo more >> made";
      run("setpriv", [...as, "sh", "-c", `cd ${shifted} && ${make}`]);
      for (const name of ["made", "folder"]) {
        expect(owner(join(mount.path, name))).toEqual([5, 6]);
        expect(owner(join(shifted, name))).toEqual([SHIFT + 5, SHIFT + 6]);
      }
      expect(readFileSync(join(mount.path, "made"), "utf8")).toBe("text\nmore\n");
      mapped.close();
      mount.unmount();
      expect(debugfs(image, ["stat made"])).toMatch(/User: +5 +Group: +6 /);
      expect(e2fsck(image)).toBe("");
    });
  });

  test("leaves the reserved blocks to root", () => {
    withScope((scope) => {
      const folder = scope.temporaryFolder();
      const image = join(folder, "image");
      mke2fs(image, "16M", ["-t", "ext4", "-m", "20"]);
      const mount = ourMount(scope, image, { write: true });
      run("chmod", ["0777", mount.path]);
      const fill = (file: string) => ["sh", "-c", `cat /dev/zero > ${join(mount.path, file)}`];
      const user = ["--reuid", "1000", "--regid", "1000", "--clear-groups"];
      run("setpriv", [...user, ...fill("of-user")], { accept: [1] });
      const [, ...command] = fill("of-root");
      run("sh", command, { accept: [1] });
      const kept = statSync(join(mount.path, "of-root")).size;
      // A fifth of 16 MiB, less what the map of the file needs.
      expect(kept).toBeGreaterThan(3_000_000);
      mount.unmount();
      expect(e2fsck(image)).toBe("");
    });
  });
});
