/**
 * The images that rows are measured on. Each is made when first asked for, with mke2fs's defaults,
 * and filled through the kernel's own ext4, so that its layout is what people have.
 */
import { closeSync, existsSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { run } from "../test/support/run.ts";
import { withScope } from "../test/support/scope.ts";

export type ImageName = "tree" | "directory" | "files" | "empty";

const MIB = 2 ** 20;

/** 10,000 files of 1 to 14 KiB, 100 to a folder, in ten folders of ten. */
export const TREE_FILES = Array.from(
  { length: 10_000 },
  (_, i) => `${Math.floor(i / 1000)}/${Math.floor(i / 100) % 10}/file-${i}.txt`,
);
const treeFileBytes = (index: number): number => 1024 + ((index * 7919) % 14) * 1024;
/** What find(1) lists: the files, their 110 folders, lost+found and the root. */
export const TREE_ENTRIES = TREE_FILES.length + 112;

/** 100,000 empty files in one folder. */
export const DIRECTORY = "directory";
export const DIRECTORY_NAMES = Array.from({ length: 100_000 }, (_, i) => `entry-${i * 31}.data`);

/** One large file, and four for readers side by side. */
export const LARGE_FILE = "large";
export const LARGE_FILE_MIB = 1024;
export const READER_FILES = ["reader-0", "reader-1", "reader-2", "reader-3"] as const;
export const READER_FILE_MIB = 256;

interface Recipe {
  readonly size: string;
  readonly inodes: number;
  readonly fill: (root: string) => void;
}

const RECIPES: Readonly<Record<ImageName, Recipe>> = {
  tree: { size: "256M", inodes: 12_000, fill: fillTree },
  directory: { size: "256M", inodes: 110_000, fill: fillDirectory },
  files: { size: "2200M", inodes: 1000, fill: fillFiles },
  empty: { size: "1G", inodes: 130_000, fill: () => {} },
};

export class Images {
  readonly #folder: string;
  readonly #made = new Map<ImageName, string>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The path of the image. */
  get(name: ImageName): string {
    const made = this.#made.get(name);
    if (made !== undefined) return made;
    const path = join(this.#folder, `${name}.img`);
    make(path, RECIPES[name]);
    this.#made.set(name, path);
    return path;
  }

  /** The path of a copy of the image that may be changed, until the next copy is asked for. */
  copy(name: ImageName): string {
    const path = join(this.#folder, "copy.img");
    run("cp", ["--sparse=always", this.get(name), path]);
    return path;
  }

  /** A tar archive of the image `tree`. */
  archive(): string {
    const path = join(this.#folder, "tree.tar");
    if (existsSync(path)) return path;
    const image = this.get("tree");
    withScope((scope) => {
      const root = `${image}.mount`;
      run("mount", ["-t", "ext4", "-o", "loop,ro", image, root]);
      scope.add(() => run("umount", [root]));
      run("tar", ["cf", path, "-C", root, "."]);
    });
    return path;
  }

  /** A folder on tmpfs with empty files of these names. */
  plainFolder(name: string, files: readonly string[]): string {
    const root = join(this.#folder, "plain", name);
    if (existsSync(root)) return root;
    for (const folder of new Set(files.map(dirname)))
      mkdirSync(join(root, folder), { recursive: true });
    for (const file of files) writeFileSync(join(root, file), "");
    return root;
  }
}

function make(path: string, { size, inodes, fill }: Recipe): void {
  const lazy = "lazy_itable_init=0,lazy_journal_init=0";
  run("mke2fs", ["-q", "-t", "ext4", "-N", String(inodes), "-E", lazy, path, size]);
  withScope((scope) => {
    const root = `${path}.mount`;
    mkdirSync(root);
    run("mount", ["-t", "ext4", "-o", "loop", path, root]);
    scope.add(() => run("umount", [root]));
    fill(root);
  });
}

function fillTree(root: string): void {
  const content = Buffer.alloc(treeFileBytes(13), "fuse4fs-ts\n");
  for (const [index, file] of TREE_FILES.entries()) {
    const path = join(root, file);
    if (index % 100 === 0) mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content.subarray(0, treeFileBytes(index)));
  }
}

function fillDirectory(root: string): void {
  mkdirSync(join(root, DIRECTORY));
  for (const name of DIRECTORY_NAMES) closeSync(openSync(join(root, DIRECTORY, name), "w"));
}

function fillFiles(root: string): void {
  writeLarge(join(root, LARGE_FILE), LARGE_FILE_MIB);
  for (const name of READER_FILES) writeLarge(join(root, name), READER_FILE_MIB);
}

function writeLarge(path: string, sizeMib: number): void {
  const piece = Buffer.alloc(MIB, "fuse4fs-ts\n");
  const fd = openSync(path, "w");
  for (let written = 0; written < sizeMib; written++) writeSync(fd, piece);
  closeSync(fd);
}
