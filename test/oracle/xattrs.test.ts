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
import {
  closeFilesystem,
  type Filesystem,
  FsError,
  getXattr,
  listXattrs,
  lookup,
  openFilesystem,
  openWritableFilesystem,
  ROOT_INODE,
  removeXattr,
  setXattr,
} from "../../src/ext4/index.ts";
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
});
