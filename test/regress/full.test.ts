/** A real mount that becomes full under asynchronous writes past the page cache. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { e2fsck, mke2fs } from "../support/e2fsprogs.ts";
import { ourMount } from "../support/mounts.ts";
import { output, skipBecause, whyNoE2fsprogs, whyNoFuse } from "../support/run.ts";
import { withScope } from "../support/scope.ts";

const FILL = new URL("../support/fill_by_aio.py", import.meta.url).pathname;

const skip = skipBecause("full", whyNoE2fsprogs(), whyNoFuse());

describe.skipIf(skip)("a full mount", () => {
  // The kernel makes EIO of an asynchronous write that is answered with fewer bytes.
  test("answers asynchronous writes past the page cache with ENOSPC, and nothing else", () => {
    withScope((scope) => {
      const image = join(scope.temporaryFolder(), "image");
      mke2fs(image, "32M", ["-t", "ext4", "-b", "4096", "-m", "0"]);
      const mount = ourMount(scope, image, { write: true });
      expect(output("python3", [FILL, join(mount.path, "file")])).toBe("ENOSPC");
      mount.unmount();
      expect(e2fsck(image)).toBe("");
    });
  });
});
