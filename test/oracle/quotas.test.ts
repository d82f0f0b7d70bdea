/**
 * Quota files after random changes of owners, blocks and inodes: e2fsck counts the usage itself, and
 * finds nothing to complain about.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  closeFilesystem,
  createFile,
  type Filesystem,
  FileType,
  FsError,
  type Inode,
  openWritableFilesystem,
  ROOT_INODE,
  RoCompat,
  release,
  setAttributes,
  setProject,
  setXattr,
  unlink,
  writeFile,
} from "../../src/ext4/index.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { askDebugfs, complaintsAbout, freshImage } from "../support/writable-image.ts";

const CONFIGURATIONS: readonly (readonly [string, ...string[]])[] = [
  ["1 KiB blocks", "-b", "1024", "-O", "quota,project"],
  ["4 KiB blocks", "-b", "4096", "-O", "quota,project"],
  ["clusters and values in inodes", "-b", "1024", "-O", "quota,project,bigalloc,ea_inode"],
  ["users alone", "-b", "1024", "-O", "quota", "-E", "quotatype=usrquota"],
];
const CREDITS = 100;
const SEED = Number(process.env["SEED"] ?? 5);
const IDS = [0, 1, 2, 255, 256, 1000, 65_536, 0x1000_0000, 0xffff_fffe];
const MODE = FileType.REGULAR | 0o644;

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

const KINDS = ["remove", "write", "xattr", "own"] as const;

interface Step {
  readonly kind: (typeof KINDS)[number];
  readonly file: number;
  readonly size: number;
  readonly uid: number;
  readonly gid: number;
  readonly projectId: number;
}

const anyId = fc.oneof(fc.constantFrom(...IDS), fc.integer({ min: 0, max: 60 }));
const anyStep: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom(...KINDS),
  file: fc.nat(5),
  size: fc.nat(20_000),
  uid: anyId,
  gid: anyId,
  projectId: anyId,
});

function create(fs: Filesystem, name: Uint8Array): Inode {
  return createFile(fs, ROOT_INODE, name, { mode: MODE, uid: 0, gid: 0, umask: 0 });
}

function perform(fs: Filesystem, files: Map<number, Inode>, step: Step): void {
  const { kind, file, size, uid, gid, projectId } = step;
  const name = utf8(`file-${file}`);
  const inode = files.get(file);
  if (inode === undefined) {
    files.set(file, create(fs, name));
  } else if (kind === "remove") {
    unlink(fs, ROOT_INODE, name);
    release(fs, inode.number);
    files.delete(file);
  } else if (kind === "own") {
    setAttributes(fs, inode.number, { uid, gid });
    const hasProjects = fs.superblock.hasRoCompat(RoCompat.PROJECT);
    if (hasProjects) setProject(fs, inode.number, projectId, 0);
  } else if (kind === "write") {
    writeFile(fs, inode, size, new Uint8Array(size).fill(1));
  } else if (kind === "xattr") {
    setXattrIfItFits(fs, inode, `user.${size % 2}`, new Uint8Array(size).fill(size % 3));
  }
}

function setXattrIfItFits(fs: Filesystem, inode: Inode, name: string, value: Uint8Array): void {
  try {
    setXattr(fs, inode.number, utf8(name), value, { flags: 0 });
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
  }
}

describe.skipIf(skipBecause("quotas", whyNoE2fsprogs()))("quotas", () => {
  test.each(CONFIGURATIONS)("usage is right after random changes with %s", (_, ...args) => {
    const fresh = freshImage("16M", ["-t", "ext4", ...args]);
    fc.assert(
      fc.property(fc.array(anyStep, { minLength: 20, maxLength: 120 }), (steps) => {
        const image = fresh.slice();
        const fs = openWritableFilesystem(new MemoryDevice(image));
        const files = new Map<number, Inode>();
        for (const step of steps) perform(fs, files, step);
        closeFilesystem(fs);
        expect(complaintsAbout(image)).toBe("");
      }),
      { seed: SEED, numRuns: 10 },
    );
  });

  test("many ids make the tree and the file grow", () => {
    const image = freshImage("16M", ["-t", "ext4", "-b", "1024", "-O", "quota,project"]);
    const fs = openWritableFilesystem(new MemoryDevice(image));
    const inode = create(fs, utf8("file"));
    for (let index = 0; index < 400; index++) {
      fs.transact(CREDITS, (tx) => {
        tx.edit(inode).uid = index * 37;
        inode.gid = index * 0x10_0001;
      });
    }
    closeFilesystem(fs);
    expect(complaintsAbout(image)).toBe("");
    expect(askDebugfs(image, "list_quota user")).toContain(String(399 * 37));
  });

  test("an operation that fails charges nothing", () => {
    const image = freshImage("16M", ["-t", "ext4", "-b", "1024", "-O", "quota"]);
    const fs = openWritableFilesystem(new MemoryDevice(image));
    const inode = create(fs, utf8("file"));
    const fail = (): void =>
      fs.transact(CREDITS, (tx) => {
        tx.edit(inode).uid = 77;
        throw new Error("wanted");
      });
    expect(fail).toThrow("wanted");
    closeFilesystem(fs);
    expect(complaintsAbout(image)).toBe("");
    expect(askDebugfs(image, "list_quota user")).not.toContain("77 ");
  });
});
