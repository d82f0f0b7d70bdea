/**
 * Directories of every kind that we change at random: nothing for e2fsck to find, and e2fsck -D and
 * the kernel's ext4 find the entries that a model remembers.
 */
import {
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import type { Inode } from "../../src/ext4/format/inode.ts";
import { closeFilesystem, openFilesystem, openWritableFilesystem } from "../../src/ext4/index.ts";
import { FILE_COUNT, SUBJECT, Subject } from "../support/directory-subject.ts";
import { mke2fs } from "../support/e2fsprogs.ts";
import { kernelMount } from "../support/mounts.ts";
import { run, skipBecause, whyNoE2fsprogs, whyNoKernelMount } from "../support/run.ts";
import { withScope } from "../support/scope.ts";
import { askDebugfs, complaintsAbout } from "../support/writable-image.ts";

interface Configuration {
  readonly name: string;
  readonly args: readonly string[];
  /** For tune2fs -E hash_alg=. */
  readonly hash?: string;
  readonly hashUnsigned?: boolean;
  readonly casefold?: boolean;
  /** Not every kernel mounts it. */
  readonly isRare?: boolean;
}

const CONFIGURATIONS: readonly Configuration[] = [
  { name: "1 KiB blocks", args: ["-b", "1024"] },
  { name: "4 KiB blocks", args: ["-b", "4096"] },
  { name: "64 KiB blocks", args: ["-b", "65536"], isRare: true },
  { name: "no index", args: ["-b", "1024", "-O", "^dir_index"] },
  { name: "no file types", args: ["-b", "1024", "-O", "^filetype"] },
  { name: "no checksums", args: ["-b", "1024", "-O", "^metadata_csum"] },
  { name: "block maps", args: ["-b", "1024", "-O", "^extents,^64bit,^has_journal"] },
  { name: "128-byte inodes", args: ["-b", "1024", "-I", "128"] },
  { name: "large directories", args: ["-b", "1024", "-O", "large_dir"] },
  { name: "clusters", args: ["-b", "1024", "-O", "bigalloc"] },
  { name: "inline data", args: ["-b", "1024", "-O", "inline_data"] },
  { name: "inline data, no index", args: ["-b", "1024", "-O", "inline_data,^dir_index"] },
  { name: "inline data, 1 KiB inodes", args: ["-b", "1024", "-I", "1024", "-O", "inline_data"] },
  { name: "legacy hash", args: ["-b", "1024"], hash: "legacy" },
  { name: "legacy hash, unsigned", args: ["-b", "1024"], hash: "legacy", hashUnsigned: true },
  { name: "half MD4, unsigned", args: ["-b", "1024"], hash: "half_md4", hashUnsigned: true },
  { name: "TEA", args: ["-b", "1024"], hash: "tea" },
  { name: "TEA, unsigned", args: ["-b", "1024"], hash: "tea", hashUnsigned: true },
  {
    name: "case-insensitive names",
    args: ["-b", "1024", "-O", "casefold", "-E", "encoding=utf8"],
    casefold: true,
    isRare: true,
  },
];
const FLAGS_UNSIGNED_HASH = 2;

function imageOf({ args, hash, hashUnsigned }: Configuration, size = "32M"): Uint8Array {
  return withScope((scope) => {
    const folder = scope.temporaryFolder();
    mkdirSync(join(folder, "made-by-mke2fs"));
    const image = join(scope.temporaryFolder(), "image");
    mke2fs(image, size, ["-t", "ext4", "-m", "0", "-d", folder, ...args]);
    if (hash !== undefined) run("tune2fs", ["-E", `hash_alg=${hash}`, image]);
    if (hashUnsigned) run("debugfs", ["-w", "-R", `ssv flags ${FLAGS_UNSIGNED_HASH}`, image]);
    return new Uint8Array(readFileSync(image));
  });
}

interface Step {
  readonly name: string;
  readonly file: number;
  readonly kind: "set" | "remove" | "set and fail" | "remove and fail";
}

/** Names of very different lengths, few enough to come again. */
const anyName = fc
  .tuple(fc.integer({ min: 1, max: 150 }), fc.constantFrom("", "Äöü", "x".repeat(30)))
  .map(([number, tail]) => `${number}${tail}${"y".repeat((number * number) % 180)}`);

const anyStep: fc.Arbitrary<Step> = fc.record({
  name: fc.oneof(
    anyName,
    anyName.map((name) => name.toUpperCase()),
  ),
  file: fc.integer({ min: 0, max: FILE_COUNT - 1 }),
  kind: fc.oneof(
    { weight: 10, arbitrary: fc.constant("set" as const) },
    { weight: 4, arbitrary: fc.constant("remove" as const) },
    { weight: 1, arbitrary: fc.constantFrom("set and fail", "remove and fail") },
  ) as fc.Arbitrary<Step["kind"]>,
});

function apply(subject: Subject, { name, file, kind }: Step): void {
  const fails = kind.endsWith("fail");
  if (kind.startsWith("set")) subject.set(name, subject.files[file] as Inode, fails);
  else subject.remove(name, fails);
}

/** What the kernel finds in the subject. */
function kernelEntries(image: Uint8Array): Map<string, number> {
  return withScope((scope) => {
    const file = join(scope.temporaryFolder(), "image");
    writeFileSync(file, image);
    const mounted = kernelMount(scope, file);
    const folder = join(mounted.path, SUBJECT);
    return new Map(readdirSync(folder).map((name) => [name, statSync(join(folder, name)).ino]));
  });
}

/** The image after e2fsck -D has rebuilt its directories. */
function rebuilt(image: Uint8Array): Uint8Array {
  return withScope((scope) => {
    const file = join(scope.temporaryFolder(), "image");
    writeFileSync(file, image);
    run("e2fsck", ["-fyD", file], { accept: [0, 1] });
    return new Uint8Array(readFileSync(file));
  });
}

/** Closes the filesystem and lets everybody look at it. */
function judge(subject: Subject, image: Uint8Array, { isRare = false }: Configuration): void {
  subject.expectModel();
  closeFilesystem(subject.fs);
  expect(complaintsAbout(image)).toBe("");
  subject.expectModel(openFilesystem(new MemoryDevice(image)));
  subject.expectModel(openFilesystem(new MemoryDevice(rebuilt(image))));
  if (!isRare) expect(kernelEntries(image)).toEqual(subject.numbers());
}

/** Lets the kernel add and remove entries of the subject. */
function changeByKernel(image: Uint8Array, entryCount: number): Uint8Array {
  return withScope((scope) => {
    const file = join(scope.temporaryFolder(), "image");
    writeFileSync(file, image);
    const mounted = kernelMount(scope, file, { write: true });
    const folder = join(mounted.path, SUBJECT);
    const known = readdirSync(folder);
    for (let index = 0; index < entryCount; index++) {
      linkSync(join(mounted.path, "file-0"), join(folder, `by the kernel ${index}`));
      unlinkSync(join(folder, known[index] as string));
    }
    mounted.unmount();
    return new Uint8Array(readFileSync(file));
  });
}

/** `count` names of `length` bytes. */
const manyNames = (count: number, length: number): string[] =>
  Array.from({ length: count }, (_, index) => `${index}`.padEnd(length, "-"));

const SEED = Number(process.env["SEED"] ?? 11);
const PLAIN: Configuration = { name: "", args: ["-b", "1024"] };
const LARGE: Configuration = { name: "", args: ["-b", "1024", "-O", "large_dir"] };
const NO_SPACE = 28;

describe.skipIf(skipBecause("directories", whyNoE2fsprogs(), whyNoKernelMount()))(
  "directories",
  () => {
    test.each(CONFIGURATIONS)("random changes with $name", (configuration) => {
      const fresh = imageOf(configuration);
      const steps = fc.array(anyStep, { minLength: 5, maxLength: 400, size: "max" });
      fc.assert(
        fc.property(steps, (taken) => {
          const image = fresh.slice();
          const fs = openWritableFilesystem(new MemoryDevice(image));
          const subject = new Subject(fs, configuration);
          for (const step of taken) apply(subject, step);
          judge(subject, image, configuration);
        }),
        { seed: SEED, numRuns: 4 },
      );
    });

    test("an index of three levels grows, is emptied by half, and uses its room again", () => {
      let image = imageOf(LARGE, "64M");
      const fs = openWritableFilesystem(new MemoryDevice(image));
      const subject = new Subject(fs, LARGE);
      const names = manyNames(60_000, 200);
      const [first, second] = subject.files as readonly [Inode, Inode];
      names.forEach((name, index) => {
        subject.set(name, index < 30_000 ? first : second);
      });
      const { sizeBytes } = subject.directory;
      for (const name of names.slice(30_000)) subject.remove(name);
      for (const name of names.slice(30_000)) subject.set(name, second);
      expect(subject.directory.sizeBytes).toBe(sizeBytes);
      for (const name of names.slice(30_000)) subject.remove(name);
      judge(subject, image, LARGE);
      expect(askDebugfs(image, `htree_dump ${SUBJECT}`)).toContain("Indirect levels: 2");
      image = changeByKernel(image, 500);
      expect(complaintsAbout(image)).toBe("");
    });

    test("an index without large_dir is full at last, and nothing is lost", () => {
      const image = imageOf(PLAIN, "64M");
      const fs = openWritableFilesystem(new MemoryDevice(image));
      const subject = new Subject(fs, PLAIN);
      const fill = (): void => {
        manyNames(65_000, 250).forEach((name, index) => {
          subject.set(name, subject.files[index % FILE_COUNT] as Inode);
        });
      };
      expect(fill).toThrow(expect.objectContaining({ errno: NO_SPACE }));
      expect(fs.groups.countFree().clusters).toBeGreaterThan(1000);
      judge(subject, image, PLAIN);
    });
  },
);
