/**
 * POSIX ACLs side by side with the kernel's ext4: the same ACLs, chmods and new inodes, sound and
 * malformed, have the same results, and leave the same modes and ACLs.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import {
  closeFilesystem,
  type Filesystem,
  FsError,
  getXattr,
  type Inode,
  lookup,
  openFilesystem,
  openWritableFilesystem,
  ROOT_INODE,
  removeXattr,
  setXattr,
} from "../../src/ext4/index.ts";
import { changeModeWithAcl, inheritAcl } from "../../src/ext4/ops/acl.ts";
import { mke2fs } from "../support/e2fsprogs.ts";
import { kernelMount } from "../support/mounts.ts";
import { run, skipBecause, whyNoE2fsprogs, whyNoKernelMount } from "../support/run.ts";
import { withScope } from "../support/scope.ts";
import { complaintsAbout } from "../support/writable-image.ts";

const STEPS = new URL("../support/acls.py", import.meta.url).pathname;
const ACCESS = "system.posix_acl_access";
const DEFAULT = "system.posix_acl_default";
const CREDITS = 16;
const SEED = Number(process.env["SEED"] ?? 11);

type Step =
  | readonly ["set", path: string, name: string, hex: string]
  | readonly ["remove", path: string, name: string]
  | readonly ["chmod", path: string, mode: number]
  | readonly ["mkdir" | "create", path: string, mode: number, umask: number];
/** Mode, access ACL and default ACL. */
type State = readonly [number, string | null, string | null];
interface Outcome {
  readonly errnos: readonly number[];
  readonly states: Readonly<Record<string, State>>;
}

const anyPermissions = fc.integer({ min: 0, max: 7 });
const anyEntries = fc
  .record({
    user: anyPermissions,
    users: fc.uniqueArray(fc.integer({ min: 0, max: 3 }), { maxLength: 2 }),
    group: anyPermissions,
    groups: fc.uniqueArray(fc.integer({ min: 0, max: 3 }), { maxLength: 2 }),
    named: anyPermissions,
    mask: fc.option(anyPermissions, { nil: undefined }),
    other: anyPermissions,
  })
  .map(({ user, users, group, groups, named, mask, other }) => {
    const unnamed = 0xffff_ffff;
    const entries: [tag: number, permissions: number, id: number][] = [[1, user, unnamed]];
    for (const id of users.sort()) entries.push([2, named, id]);
    entries.push([4, group, unnamed]);
    for (const id of groups.sort()) entries.push([8, named, id]);
    if (mask !== undefined) entries.push([0x10, mask, unnamed]);
    entries.push([0x20, other, unnamed]);
    return entries;
  });

function aclHex(entries: readonly (readonly [number, number, number])[], version = 2): string {
  const bytes = Buffer.alloc(4 + 8 * entries.length);
  bytes.writeUInt32LE(version, 0);
  entries.forEach(([tag, permissions, id], index) => {
    bytes.writeUInt16LE(tag, 4 + 8 * index);
    bytes.writeUInt16LE(permissions, 6 + 8 * index);
    bytes.writeUInt32LE(id, 8 + 8 * index);
  });
  return bytes.toString("hex");
}

/** Mostly sound; some miss an entry, have two out of order, or break off. */
const anyAcl = fc.oneof(
  { weight: 6, arbitrary: anyEntries.map((entries) => aclHex(entries)) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(anyEntries, fc.nat(5))
      .map(([entries, at]) => aclHex(entries.toSpliced(at % entries.length, 1))),
  },
  { weight: 1, arbitrary: anyEntries.map((entries) => aclHex(entries.toReversed())) },
  { weight: 1, arbitrary: anyEntries.map((entries) => aclHex(entries).slice(0, -4)) },
  { weight: 1, arbitrary: fc.constantFrom("", "02", aclHex([]), aclHex([], 1), aclHex([], 3)) },
);
const anyPath = fc.constantFrom("file", "folder");
const anyName = fc.constantFrom(ACCESS, DEFAULT);
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(fc.constant("set" as const), anyPath, anyName, anyAcl) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("remove" as const), anyPath, anyName) },
  {
    weight: 2,
    arbitrary: fc.tuple(
      fc.constant("chmod" as const),
      anyPath,
      fc.integer({ max: 0o7777, min: 0 }),
    ),
  },
);
const anyBirth: fc.Arbitrary<Step> = fc
  .tuple(
    fc.constantFrom("mkdir" as const, "create" as const),
    fc.integer({ min: 0, max: 0o777 }),
    fc.integer({ min: 0, max: 0o777 }),
  )
  .map(([kind, mode, umask]) => [kind, `folder/new-${kind}`, mode, umask]);

/** An image with a file and a folder, in which an inode for each kind of birth waits. */
function freshImage(withBirths: boolean): Uint8Array {
  return withScope((scope) => {
    const folder = scope.temporaryFolder();
    writeFileSync(join(folder, "file"), "");
    mkdirSync(join(folder, "folder"));
    if (withBirths) {
      writeFileSync(join(folder, "folder/new-create"), "");
      mkdirSync(join(folder, "folder/new-mkdir"));
    }
    const image = join(scope.temporaryFolder(), "image");
    mke2fs(image, "8M", ["-t", "ext4", "-b", "1024", "-d", folder]);
    return new Uint8Array(readFileSync(image));
  });
}

function kernelOutcome(image: Uint8Array, steps: readonly Step[]): Outcome {
  return withScope((scope) => {
    const file = join(scope.temporaryFolder(), "image");
    writeFileSync(file, image);
    const { path } = kernelMount(scope, file, { write: true });
    const { stdout } = run("python3", [STEPS, path], { input: JSON.stringify(steps) });
    return JSON.parse(stdout.toString("utf8")) as Outcome;
  });
}

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

function inodeAt(fs: Filesystem, path: string): Inode {
  let number = ROOT_INODE;
  for (const part of path.split("/")) {
    const next = lookup(fs, number, utf8(part));
    if (next === 0) throw new Error(`no ${path}`);
    number = next;
  }
  return fs.inode(number);
}

function perform(fs: Filesystem, step: Step): void {
  const inode = inodeAt(fs, step[1]);
  if (step[0] === "set") {
    setXattr(fs, inode.number, utf8(step[2]), Buffer.from(step[3], "hex"), { flags: 0 });
  } else if (step[0] === "remove") {
    removeXattr(fs, inode.number, utf8(step[2]));
  } else if (step[0] === "chmod") {
    fs.transact(CREDITS, (tx) => changeModeWithAcl(fs, tx, inode, step[2]));
  } else {
    const parent = inodeAt(fs, "folder");
    fs.transact(CREDITS, (tx) => {
      const mode = inheritAcl(fs, tx, parent, inode, inode.type | step[2], { umask: step[3] });
      tx.edit(inode).mode = mode;
    });
  }
}

function stateOf(fs: Filesystem, path: string): State {
  const { number, mode } = inodeAt(fs, path);
  const value = (name: string): string | null => {
    const found = getXattr(fs, number, utf8(name));
    return found === undefined ? null : Buffer.from(found).toString("hex");
  };
  return [mode, value(ACCESS), value(DEFAULT)];
}

function ourOutcome(image: Uint8Array, steps: readonly Step[]): Outcome {
  const device = new MemoryDevice(image);
  const fs = openWritableFilesystem(device);
  const errnos = steps.map((step) => {
    try {
      perform(fs, step);
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      return error.errno;
    }
    return 0;
  });
  closeFilesystem(fs);
  const paths = [...new Set(steps.map(([, path]) => path))].sort();
  const stored = openFilesystem(device);
  return { errnos, states: Object.fromEntries(paths.map((path) => [path, stateOf(stored, path)])) };
}

describe.skipIf(skipBecause("acls", whyNoE2fsprogs(), whyNoKernelMount()))("ACLs", () => {
  const empty = freshImage(false);
  const withBirths = freshImage(true);

  test("setXattr and chmod do what the kernel does with ACLs and modes", () => {
    fc.assert(
      fc.property(fc.array(anyStep, { minLength: 5, maxLength: 30 }), (steps) => {
        const image = empty.slice();
        const outcome = ourOutcome(image, steps);
        expect(complaintsAbout(image)).toBe("");
        expect(outcome).toEqual(kernelOutcome(empty, steps));
      }),
      { seed: SEED, numRuns: 25 },
    );
  });

  test("inheritAcl gives new inodes the modes and ACLs that the kernel gives", () => {
    fc.assert(
      fc.property(anyEntries, anyBirth, (entries, birth) => {
        const steps: Step[] = [["set", "folder", DEFAULT, aclHex(entries)], birth];
        const image = withBirths.slice();
        const outcome = ourOutcome(image, steps);
        expect(complaintsAbout(image)).toBe("");
        expect(outcome).toEqual(kernelOutcome(empty, steps));
      }),
      { seed: SEED, numRuns: 15 },
    );
  });
});
