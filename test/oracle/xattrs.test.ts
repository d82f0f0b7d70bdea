/**
 * Extended attributes that we set, replace and remove at random: nothing for e2fsck to find, and
 * the kernel's ext4 reads the values that a model remembers.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { InodeNumber } from "../../src/base/numbers.ts";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import { XattrIndex } from "../../src/ext4/format/xattr.ts";
import {
  closeFilesystem,
  type Filesystem,
  FsError,
  getXattr,
  InodeFlags,
  listXattrs,
  lookup,
  openFilesystem,
  openWritableFilesystem,
  ROOT_INODE,
  removeXattr,
  setAttributes,
  setXattr,
  XattrFlags,
} from "../../src/ext4/index.ts";
import { freeXattrs, storeXattr } from "../../src/ext4/ops/xattr-store.ts";
import { mke2fs } from "../support/e2fsprogs.ts";
import { kernelMount } from "../support/mounts.ts";
import { run, skipBecause, whyNoE2fsprogs, whyNoKernelMount } from "../support/run.ts";
import { withScope } from "../support/scope.ts";
import { complaintsAbout } from "../support/writable-image.ts";

const CONFIGURATIONS: readonly (readonly [string, ...string[]])[] = [
  ["1 KiB blocks, 128-byte inodes", "-b", "1024", "-I", "128"],
  ["1 KiB blocks, 256-byte inodes", "-b", "1024", "-I", "256"],
  ["4 KiB blocks", "-b", "4096"],
  ["1,024-byte inodes", "-b", "4096", "-I", "1024"],
  ["no checksums", "-b", "1024", "-O", "^metadata_csum"],
  ["inline data", "-b", "1024", "-O", "inline_data"],
  ["values in inodes", "-b", "1024", "-O", "ea_inode"],
  ["clusters", "-b", "1024", "-O", "bigalloc,ea_inode"],
];
const FILES = ["one", "two", "three", "folder"];
const NAMES = ["user.a", "user.longer-than-that", "trusted.t", "security.s", "user.äöü"];
const VALUE_SIZES = [0, 1, 7, 30, 100, 400, 1000, 3000, 9000];
/** Enough for any change here. */
const CREDITS = 100;
const NOT_FOUND = 61;
const NO_SPACE = 28;

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

interface Step {
  readonly file: string;
  readonly name: string;
  /** A few, so that equal attributes are shared. */
  readonly value: Uint8Array | undefined;
}

const anyStep: fc.Arbitrary<Step> = fc.record({
  file: fc.constantFrom(...FILES),
  name: fc.constantFrom(...NAMES),
  value: fc.option(
    fc
      .tuple(fc.constantFrom(...VALUE_SIZES), fc.integer({ min: 1, max: 3 }))
      .map(([size, byte]) => new Uint8Array(size).fill(byte)),
    { nil: undefined, freq: 3 },
  ),
});

/** An image with four empty inodes. */
function imageOf(args: readonly string[]): Uint8Array {
  return withScope((scope) => {
    const folder = scope.temporaryFolder();
    for (const name of FILES) {
      if (name === "folder") mkdirSync(join(folder, name));
      else writeFileSync(join(folder, name), name);
    }
    const image = join(scope.temporaryFolder(), "image");
    mke2fs(image, "16M", ["-t", "ext4", "-d", folder, ...args]);
    return new Uint8Array(readFileSync(image));
  });
}

function numberOf(fs: Filesystem, file: string): InodeNumber {
  const number = lookup(fs, ROOT_INODE, utf8(file));
  if (number === 0) throw new Error(`no ${file}`);
  return number;
}

type Model = Map<string, Map<string, Uint8Array>>;

function apply(fs: Filesystem, model: Model, { file, name, value }: Step): void {
  const number = numberOf(fs, file);
  const known = model.get(file) as Map<string, Uint8Array>;
  try {
    if (value === undefined) removeXattr(fs, number, utf8(name));
    else setXattr(fs, number, utf8(name), value, { flags: 0 });
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
    expect(error.errno).toBe(value === undefined ? NOT_FOUND : NO_SPACE);
    if (value === undefined) expect(known.has(name)).toBe(false);
    return;
  }
  if (value === undefined) expect(known.delete(name)).toBe(true);
  else known.set(name, value);
}

function expectModel(fs: Filesystem, model: Model): void {
  for (const [file, attributes] of model) {
    const number = numberOf(fs, file);
    const names = new TextDecoder().decode(listXattrs(fs, number)).split("\0").slice(0, -1);
    expect(names.sort()).toEqual([...attributes.keys()].sort());
    for (const [name, value] of attributes) {
      expect(getXattr(fs, number, utf8(name))).toEqual(value);
    }
  }
}

/** What getfattr prints on a kernel mount, as a model. */
function kernelModel(image: Uint8Array): Model {
  return withScope((scope) => {
    const file = join(scope.temporaryFolder(), "image");
    writeFileSync(file, image);
    const { path } = kernelMount(scope, file);
    const model: Model = new Map();
    for (const name of FILES) {
      const attributes = new Map<string, Uint8Array>();
      const args = ["-d", "-m", "-", "-e", "hex", "--absolute-names", join(path, name)];
      const printed = run("getfattr", args).stdout.toString("latin1");
      for (const line of printed.split("\n")) {
        const [, key, hex] = /^([^#=]+)=?(?:0x)?([0-9a-f]*)$/.exec(line) ?? [];
        if (key === undefined) continue;
        const readable = key.replaceAll(/\\(\d{3})/g, (_, octal) =>
          String.fromCharCode(+`0o${octal}`),
        );
        const decoded = Buffer.from(readable, "latin1").toString("utf8");
        attributes.set(decoded, new Uint8Array(Buffer.from(hex ?? "", "hex")));
      }
      model.set(name, attributes);
    }
    return model;
  });
}

/** Lets the kernel take `steps`. @returns the image that it leaves, and with that the model. */
function applyByKernel(image: Uint8Array, model: Model, steps: readonly Step[]): Uint8Array {
  return withScope((scope) => {
    const imageFile = join(scope.temporaryFolder(), "image");
    writeFileSync(imageFile, image);
    const { path, unmount } = kernelMount(scope, imageFile, { write: true });
    for (const { file, name, value } of steps) {
      const known = model.get(file) as Map<string, Uint8Array>;
      const hex = Buffer.from(value ?? []).toString("hex");
      const change = value === undefined ? ["-x", name] : ["-n", name, "-v", `0x${hex}`];
      const { status } = run("setfattr", [...change, join(path, file)], { accept: [0, 1] });
      if (status !== 0) continue;
      if (value === undefined) known.delete(name);
      else known.set(name, value);
    }
    unmount();
    return new Uint8Array(readFileSync(imageFile));
  });
}

const KEY = utf8("user.shared");

/** Sets `KEY` of each file to its value, or removes it, and closes the filesystem again. */
function change(image: Uint8Array, values: Readonly<Record<string, Uint8Array | undefined>>): void {
  const fs = openWritableFilesystem(new MemoryDevice(image));
  for (const [file, value] of Object.entries(values)) {
    if (value === undefined) removeXattr(fs, numberOf(fs, file), KEY);
    else setXattr(fs, numberOf(fs, file), KEY, value, { flags: 0 });
  }
  closeFilesystem(fs);
  expect(complaintsAbout(image)).toBe("");
}

function freeCounts(image: Uint8Array): unknown {
  const { clusters, inodes } = openFilesystem(new MemoryDevice(image)).groups.countFree();
  return { clusters, inodes };
}

function xattrBlocks(image: Uint8Array): number[] {
  const fs = openFilesystem(new MemoryDevice(image));
  return FILES.map((file) => fs.inode(numberOf(fs, file)).xattrBlock);
}

const SEED = Number(process.env["SEED"] ?? 7);

describe.skipIf(skipBecause("xattrs", whyNoE2fsprogs(), whyNoKernelMount()))("xattrs", () => {
  test.each(CONFIGURATIONS)("random changes on an image with %s", (_, ...args) => {
    const fresh = imageOf(args);
    fc.assert(
      fc.property(fc.array(anyStep, { minLength: 10, maxLength: 60 }), (steps) => {
        const image = fresh.slice();
        const device = new MemoryDevice(image);
        const fs = openWritableFilesystem(device);
        const model: Model = new Map(FILES.map((file) => [file, new Map()]));
        for (const step of steps) apply(fs, model, step);
        expectModel(fs, model);
        closeFilesystem(fs);
        expect(complaintsAbout(image)).toBe("");
        expectModel(openFilesystem(device), model);
        expect(kernelModel(image)).toEqual(model);
      }),
      { seed: SEED, numRuns: 5 },
    );
  });

  test.each(CONFIGURATIONS)("we and the kernel take turns on an image with %s", (_, ...args) => {
    const fresh = imageOf(args);
    const anyTurn = fc.array(anyStep, { minLength: 5, maxLength: 20 });
    fc.assert(
      fc.property(fc.tuple(anyTurn, anyTurn, anyTurn), ([first, second, third]) => {
        const model: Model = new Map(FILES.map((file) => [file, new Map()]));
        let image = applyByKernel(fresh, model, first);
        const fs = openWritableFilesystem(new MemoryDevice(image));
        expectModel(fs, model);
        for (const step of second) apply(fs, model, step);
        closeFilesystem(fs);
        image = applyByKernel(image, model, third);
        expect(complaintsAbout(image)).toBe("");
        expectModel(openFilesystem(new MemoryDevice(image)), model);
      }),
      { seed: SEED, numRuns: 2 },
    );
  });

  test("equal attributes share a block until they differ, and it goes with the last", () => {
    const image = imageOf(["-b", "1024"]);
    const before = freeCounts(image);
    const [value, other] = [new Uint8Array(500).fill(1), new Uint8Array(500).fill(2)];
    change(image, { one: value, two: value, three: value });
    const [one, two, three] = xattrBlocks(image);
    expect([two, three]).toEqual([one, one]);
    change(image, { two: other });
    const [, moved, stayed] = xattrBlocks(image);
    expect(stayed).toBe(one);
    expect(moved).not.toBe(one);
    change(image, { one: undefined, two: undefined, three: undefined });
    expect(xattrBlocks(image)).toEqual([0, 0, 0, 0]);
    expect(freeCounts(image)).toEqual(before);
  });

  test("a block is shared by 1,024 inodes at the most", () => {
    const fresh = withScope((scope) => {
      const folder = scope.temporaryFolder();
      for (let index = 0; index < 1100; index++) writeFileSync(join(folder, `${index}`), "");
      const image = join(scope.temporaryFolder(), "image");
      mke2fs(image, "16M", ["-t", "ext4", "-b", "1024", "-d", folder]);
      return new Uint8Array(readFileSync(image));
    });
    const value = new Uint8Array(500).fill(1);
    change(fresh, Object.fromEntries(Array.from({ length: 1100 }, (_, name) => [name, value])));
    const fs = openFilesystem(new MemoryDevice(fresh));
    const blocks = Array.from({ length: 1100 }, (_, name) => {
      return fs.inode(numberOf(fs, `${name}`)).xattrBlock;
    });
    expect(new Set(blocks).size).toBe(2);
    expect(blocks.filter((block) => block === blocks[0]).length).toBe(1024);
  });

  test("equal large values share an inode, and it goes with the last", () => {
    const image = imageOf(["-b", "1024", "-O", "ea_inode"]);
    const before = freeCounts(image) as { clusters: number; inodes: number };
    const [value, other] = [new Uint8Array(20_000).fill(1), new Uint8Array(60_000).fill(2)];
    change(image, { one: value, two: value, folder: other });
    expect(freeCounts(image)).toEqual({
      clusters: before.clusters - 20 - 59,
      inodes: before.inodes - 2,
    });
    change(image, { one: undefined, folder: value });
    change(image, { two: undefined, folder: undefined });
    expect(freeCounts(image)).toEqual(before);
  });

  test("a full filesystem refuses large values, and gets all its space back", () => {
    const image = imageOf(["-b", "1024", "-N", "64", "-O", "ea_inode"]);
    const before = freeCounts(image);
    const fs = openWritableFilesystem(new MemoryDevice(image));
    const stored: Uint8Array[] = [];
    const number = numberOf(fs, "one");
    const fill = (): void => {
      for (let index = 0; index < 10_000; index++) {
        const name = utf8(`user.${index}`);
        const value = new Uint8Array(60_000 >> (index >> 6)).fill(index).fill(index >> 8, 0, 9);
        setXattr(fs, number, name, value, { flags: 0 });
        stored.push(name);
      }
    };
    expect(fill).toThrow(expect.objectContaining({ errno: NO_SPACE }));
    expect(stored.length).toBeGreaterThan(10);
    for (const name of stored) removeXattr(fs, number, name);
    closeFilesystem(fs);
    expect(complaintsAbout(image)).toBe("");
    expect(freeCounts(image)).toEqual(before);
  });

  test("freeXattrs gives up blocks and inodes", () => {
    const image = imageOf(["-b", "1024", "-O", "ea_inode"]);
    const before = freeCounts(image);
    const fs = openWritableFilesystem(new MemoryDevice(image));
    const inode = fs.inode(numberOf(fs, "one"));
    setXattr(fs, inode.number, KEY, new Uint8Array(20_000).fill(1), { flags: 0 });
    setXattr(fs, inode.number, utf8("user.block"), new Uint8Array(500).fill(1), { flags: 0 });
    fs.transact(CREDITS, (tx) => freeXattrs(fs, tx, inode));
    closeFilesystem(fs);
    expect(complaintsAbout(image)).toBe("");
    expect(freeCounts(image)).toEqual(before);
  });

  test("an inode that gets more fields moves attributes that have no room to a block", () => {
    const image = imageOf(["-b", "1024", "-I", "256"]);
    const fs = openWritableFilesystem(new MemoryDevice(image));
    const number = numberOf(fs, "one");
    fs.transact(CREDITS, (tx) => {
      tx.edit(fs.inode(number)).extraSize = 4;
    });
    const values = { "user.a": 20, "user.b": 40 };
    for (const [name, size] of Object.entries(values)) {
      setXattr(fs, number, utf8(name), new Uint8Array(size).fill(size), { flags: 0 });
    }
    expect(fs.inode(number).xattrBlock).toBe(0);
    setAttributes(fs, number, { modifiedAt: { seconds: 2 ** 32, nanoseconds: 5 } });
    const inode = fs.inode(number);
    expect(inode.extraSize).toBe(32);
    expect(inode.xattrBlock).not.toBe(0);
    expect(inode.modifiedAt).toEqual({ seconds: 2 ** 32, nanoseconds: 5 });
    closeFilesystem(fs);
    expect(complaintsAbout(image)).toBe("");
    const read = kernelModel(image).get("one");
    for (const [name, size] of Object.entries(values)) {
      expect(read?.get(name)).toEqual(new Uint8Array(size).fill(size));
    }
  });

  test("what a failed operation changed is as it was", () => {
    const image = imageOf(["-b", "1024", "-O", "ea_inode"]);
    const fs = openWritableFilesystem(new MemoryDevice(image));
    const [one, two] = [numberOf(fs, "one"), numberOf(fs, "two")];
    const value = new Uint8Array(700).fill(1);
    setXattr(fs, one, KEY, value, { flags: 0 });
    for (const attempt of [value, new Uint8Array(20_000), new Uint8Array(300)]) {
      const fail = (): void =>
        fs.transact(CREDITS, (tx) => {
          storeXattr(fs, tx, fs.inode(two), XattrIndex.USER, utf8("x"), attempt);
          storeXattr(fs, tx, fs.inode(one), XattrIndex.USER, utf8("shared"), attempt);
          throw new Error("wanted");
        });
      expect(fail).toThrow("wanted");
    }
    setXattr(fs, two, KEY, value, { flags: 0 });
    expect(getXattr(fs, one, KEY)).toEqual(value);
    closeFilesystem(fs);
    expect(complaintsAbout(image)).toBe("");
  });

  test.each([
    ["CREATE of one that is there", KEY, 10, XattrFlags.CREATE, 17],
    ["REPLACE of one that is not", utf8("user.none"), 10, XattrFlags.REPLACE, 61],
    ["a value that no block has room for", KEY, 5000, 0, 28],
    ["a value that is too long anyway", KEY, 65_537, 0, 7],
    ["a name that is too long", utf8(`user.${"n".repeat(256)}`), 1, 0, 34],
    ["a namespace that there is not", utf8("other.name"), 1, 0, 95],
  ])("setXattr refuses %s", (_, name, size, flags, errno) => {
    const fs = openWritableFilesystem(new MemoryDevice(imageOf(["-b", "1024"])));
    const number = numberOf(fs, "one");
    setXattr(fs, number, KEY, new Uint8Array(3), { flags: 0 });
    expect(() => setXattr(fs, number, name, new Uint8Array(size), { flags })).toThrow(
      expect.objectContaining({ errno }),
    );
    fs.transact(CREDITS, (tx) => {
      const inode = tx.edit(fs.inode(number));
      inode.flags |= InodeFlags.IMMUTABLE;
    });
    expect(() => setXattr(fs, number, KEY, new Uint8Array(1), { flags: 0 })).toThrow(
      expect.objectContaining({ errno: 1 }),
    );
  });
});
