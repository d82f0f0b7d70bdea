/**
 * A damaged image on a real mount: what is damaged is refused, with one line that says why, and all
 * else goes on.
 */
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import type { InodeNumber } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import { type Filesystem, iomapForRead, newIomap, openFilesystem } from "../../src/ext4/index.ts";
import { ForegroundServer } from "../support/foreground-server.ts";
import { expectation, image } from "../support/images.ts";
import { skipBecause, whyNoFuse } from "../support/run.ts";
import { Scope } from "../support/scope.ts";

const NAME = "ext4-4k";
/** Node has no name for EUCLEAN. */
const refused = expect.objectContaining({ errno: -Errno.EUCLEAN });
const skipped = skipBecause("damage", whyNoFuse());
const number = (path: string): InodeNumber => expectation(NAME).paths[path] as InodeNumber;

/** Byte offset of an inode on the device. */
function inodeAt(fs: Filesystem, path: string): number {
  const { block, at } = fs.groups.locateInode(number(path));
  return block * fs.superblock.blockSize + at;
}

/** Serves the golden image with the bits at the offsets that `choose` names turned over. */
async function serve(
  choose: (fs: Filesystem) => readonly number[],
  look: (server: ForegroundServer) => void,
): Promise<string> {
  const bytes = image(NAME);
  for (const at of choose(openFilesystem(new MemoryDevice(image(NAME))))) {
    bytes[at] = (bytes[at] as number) ^ 0x10;
  }
  const scope = new Scope();
  try {
    const path = join(scope.temporaryFolder(), "damaged.img");
    writeFileSync(path, bytes);
    const server = await ForegroundServer.start(scope, path);
    look(server);
    await expect.poll(() => server.printed).not.toBe("");
    return server.printed;
  } finally {
    scope.close();
  }
}

describe.skipIf(skipped)("a mount of a damaged image", () => {
  test("refuses a damaged inode with EUCLEAN and one line, and lists and reads the others", async () => {
    const printed = await serve(
      (fs) => [inodeAt(fs, "/folder/file") + 4],
      ({ path }) => {
        const folder = join(path, "folder");
        for (let times = 0; times < 3; times++) {
          expect(() => statSync(join(folder, "file"))).toThrow(refused);
        }
        expect(readdirSync(folder)).toContain("file");
        expect(readFileSync(join(folder, "big")).length).toBe(9000);
      },
    );
    expect(printed).toMatch(/^[^\n]*inode-checksum at inode 13: [^\n]*\n$/);
  });

  test("refuses a damaged directory with EUCLEAN, and walks the others", async () => {
    const printed = await serve(
      (fs) => [iomapForRead(fs, fs.inode(number("/folder/inner")), 0, 1, newIomap()).addr + 40],
      ({ path }) => {
        expect(() => readdirSync(join(path, "folder/inner"))).toThrow(refused);
        expect(() => statSync(join(path, "folder/inner/deeper"))).toThrow(refused);
        expect(readdirSync(join(path, "folder/name with space")).length).toBe(1);
      },
    );
    expect(printed).toMatch(/^[^\n]*dirent-[a-z]+ at [^\n]*inode 16[^\n]*\n$/);
  });
});
