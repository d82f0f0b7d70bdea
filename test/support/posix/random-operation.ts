/**
 * Picks the next call of a random run, given the tree as it is: most of them find what they need,
 * some do not. The numbers decide everything, so a seed repeats a run.
 */
import type { Random } from "../random.ts";
import type { PosixModel } from "./model.ts";
import type { FallocateHow, Operation } from "./operation.ts";
import type { Tree } from "./tree.ts";

export interface RandomLimits {
  /** No file grows beyond this. */
  readonly fileBytesMax: number;
  /** About how many entries the tree is kept at. */
  readonly entriesMax: number;
  readonly blockSize: number;
  /** Bytes of xattr values that one inode can hold. */
  readonly xattrBytesMax: number;
  /** The kinds of calls to choose from; all if absent. */
  readonly kinds?: readonly Operation["kind"][];
}

type Kind = Operation["kind"];

/** How often each kind is tried, in relation to the others. */
// biome-ignore format: a table
const WEIGHTS: readonly (readonly [Kind, number])[] = [
  ["create", 12], ["mkdir", 5], ["mknod", 2], ["symlink", 3], ["link", 4], ["unlink", 8],
  ["rmdir", 3], ["rename", 9], ["tmpfile", 1], ["open", 2], ["close", 2], ["write", 22],
  ["truncate", 6], ["fallocate", 9], ["copy", 3], ["chmod", 2], ["chown", 2], ["setxattr", 6],
  ["removexattr", 3], ["fsync", 1], ["fdatasync", 1], ["sync", 1],
];
/** All kinds, each as often as it is tried. */
export const KINDS: readonly Kind[] = WEIGHTS.flatMap(([kind, weight]) =>
  new Array<Kind>(weight).fill(kind),
);

const HOWS: readonly FallocateHow[] = [
  ...["allocate", "keepSize", "punch", "punch", "zero", "zeroExtend", "collapse", "insert"],
] as FallocateHow[];
const RENAMES = ["replace", "replace", "replace", "noReplace", "exchange", "whiteout"] as const;
const NAMES = ["a", "b", "c", "d", "e", "f", "foo", "bar", "x".repeat(255), "caf\xc3\xa9"];
const XATTRS = ["user.a", "user.bb", "user.long-name-of-an-attribute", "trusted.t", "security.s"];
const OPEN_FILES_MAX = 4;
const WIDE_FOLDER_NAMES = 2000;
/** Well below PATH_MAX. */
const FOLDER_PATH_MAX = 1000;
/** One in so many takes a path that need not make sense. */
const NONSENSE = 25;

export function randomOperation(
  model: PosixModel,
  random: Random,
  limits: RandomLimits,
): Operation {
  return new Picker(model.tree(), model, random, limits).pick();
}

class Picker {
  readonly #tree: Tree;
  readonly #paths: string[];
  readonly #files: string[];
  readonly #folders: string[];
  readonly #model: PosixModel;
  readonly #random: Random;
  readonly #limits: RandomLimits;

  constructor(tree: Tree, model: PosixModel, random: Random, limits: RandomLimits) {
    this.#tree = tree;
    this.#model = model;
    this.#random = random;
    this.#limits = limits;
    this.#paths = [...tree.keys()].filter((path) => path !== "/");
    const ofType = (type: string) => [...tree].filter(([, n]) => n.type === type).map(([p]) => p);
    this.#files = [...ofType("file"), ...model.openFiles];
    this.#folders = ofType("directory");
  }

  pick(): Operation {
    const kind = this.#kind();
    switch (kind) {
      case "create":
      case "mkdir":
        return { kind, path: this.#newPath(), mode: this.#mode() };
      case "mknod": {
        const type = this.#of([0o010000, 0o020000, 0o060000, 0o140000]);
        const [major, minor] = this.#of([
          [1, 3] as const,
          [8, 300] as const,
          [300, 70000] as const,
        ]);
        return { kind, path: this.#newPath(), mode: type | this.#mode(), major, minor };
      }
      case "symlink":
        return { kind, path: this.#newPath(), target: "t".repeat(this.#symlinkLength()) };
      case "link":
        return {
          kind,
          from: this.#of([...this.#paths, ...this.#model.openFiles]),
          to: this.#newPath(),
        };
      case "unlink":
        return { kind, path: this.#anyPath() };
      case "rmdir":
        return { kind, path: this.#chance(4) ? this.#anyPath() : this.#emptyFolder() };
      case "rename":
        return this.#rename();
      case "tmpfile":
        return { kind, directory: this.#of(this.#folders), as: this.#newHandle() };
      case "open":
        return { kind, path: this.#anyFile(), as: this.#newHandle() };
      case "close":
        return { kind, path: this.#of(this.#model.openFiles) };
      case "write":
        return { kind, path: this.#anyFile(), ...this.#range(), tag: this.#random.below(1 << 24) };
      case "truncate":
        return { kind, path: this.#anyFile(), size: this.#offset() };
      case "fallocate":
        return this.#fallocate();
      case "copy": {
        const { offset: fromOffset, length } = this.#range();
        const toOffset = this.#offset();
        return { kind, from: this.#anyFile(), fromOffset, to: this.#anyFile(), toOffset, length };
      }
      case "chmod":
        return { kind, path: this.#anyPath(), mode: this.#mode() };
      case "chown": {
        const ids = [0, 7, 1000, 65536, 70000];
        return { kind, path: this.#anyPath(), uid: this.#of(ids), gid: this.#of(ids) };
      }
      case "setxattr":
        return this.#setXattr();
      case "removexattr":
        return this.#removeXattr();
      case "fsync":
      case "fdatasync":
        return { kind, path: this.#anyPath() };
      case "sync":
        return { kind };
    }
  }

  #kind(): Kind {
    const kind = this.#of(this.#limits.kinds ?? KINDS);
    const { size: entries } = this.#tree;
    const adds = kind === "create" || kind === "mkdir" || kind === "symlink" || kind === "mknod";
    if (adds && entries > this.#limits.entriesMax && this.#chance(2)) return "unlink";
    if (kind === "close" && this.#model.openFiles.length === 0) return "sync";
    const opens = kind === "open" || kind === "tmpfile";
    if (opens && this.#model.openFiles.length >= OPEN_FILES_MAX) return "close";
    if (this.#paths.length === 0) return "create";
    return kind;
  }

  #of<T>(choices: readonly T[]): T {
    return choices[this.#random.below(choices.length)] as T;
  }
  #chance(oneIn: number): boolean {
    return this.#random.below(oneIn) === 0;
  }

  #anyPath(): string {
    const isNonsense = this.#paths.length === 0 || this.#chance(NONSENSE);
    return isNonsense ? this.#nonsense() : this.#of(this.#paths);
  }
  #anyFile(): string {
    return this.#chance(NONSENSE) || this.#files.length === 0
      ? this.#anyPath()
      : this.#of(this.#files);
  }
  #isFile(path: string): boolean {
    return this.#tree.get(path)?.type === "file";
  }

  #nonsense(): string {
    // The kernel would follow a symlink.
    const below = this.#of([...this.#folders, ...this.#paths.filter((path) => this.#isFile(path))]);
    return this.#of([
      `${below === "/" ? "" : below}/${this.#of(NAMES)}`,
      `/${"y".repeat(256)}`,
      `/none/${this.#of(NAMES)}`,
    ]);
  }

  /** Mostly a path that is free; some folders get many names. */
  #newPath(): string {
    if (this.#chance(NONSENSE)) return this.#anyPath();
    const folder = this.#of(this.#folders.filter((path) => path.length < FOLDER_PATH_MAX));
    const name = this.#chance(3)
      ? this.#of(NAMES)
      : `n${this.#random.below(WIDE_FOLDER_NAMES)}${"-".repeat(this.#random.below(40))}`;
    return folder === "/" ? `/${name}` : `${folder}/${name}`;
  }

  #newHandle(): string {
    for (let index = 0; ; index++) {
      if (!this.#model.openFiles.includes(`#${index}`)) return `#${index}`;
    }
  }

  #mode(): number {
    return this.#of([0o644, 0o755, 0o600, 0o2755, 0o4711, 0o1777, 0]);
  }

  #symlinkLength(): number {
    return 1 + this.#random.below(this.#of([58, 62, 200, this.#limits.blockSize + 2]));
  }

  #rename(): Operation {
    const from = this.#anyPath();
    const to = this.#chance(2) ? this.#newPath() : this.#anyPath();
    return { kind: "rename", from, to, how: this.#of(RENAMES) };
  }

  /** Often at the edges where something changes on the disk. */
  #offset(): number {
    const { blockSize, fileBytesMax } = this.#limits;
    const anywhere = this.#random.below(this.#of([100, 3 * blockSize, fileBytesMax]));
    const aligned = anywhere - (anywhere % blockSize);
    return this.#of([anywhere, aligned, 0]);
  }

  #range(): { offset: number; length: number } {
    const { blockSize, fileBytesMax } = this.#limits;
    const offset = this.#offset();
    const anything = 1 + this.#random.below(this.#of([60, 200, 5 * blockSize, fileBytesMax / 4]));
    const aligned = Math.max(blockSize, anything - (anything % blockSize));
    return { offset, length: this.#chance(3) ? aligned : anything };
  }

  #fallocate(): Operation {
    const path = this.#anyFile();
    const how = this.#of(HOWS);
    const { offset, length } = this.#range();
    if ((how !== "collapse" && how !== "insert") || this.#chance(10))
      return { kind: "fallocate", path, how, offset, length };
    const { blockSize } = this.#limits;
    const size = this.#tree.get(path)?.content?.length ?? 0;
    const blocks = Math.floor(size / blockSize);
    const from = this.#random.below(blocks + 1);
    const count = 1 + this.#random.below(how === "insert" ? 4 : blocks - from + 1);
    return {
      ...{ kind: "fallocate", path, offset: from * blockSize, length: count * blockSize },
      how: how === "insert" && size > this.#limits.fileBytesMax ? "punch" : how,
    };
  }

  #emptyFolder(): string {
    const empty = this.#folders.filter(
      (folder) => folder !== "/" && !this.#paths.some((path) => path.startsWith(`${folder}/`)),
    );
    return empty.length === 0 ? this.#anyPath() : this.#of(empty);
  }

  /** Mostly one that is there. */
  #removeXattr(): Operation {
    const having = this.#paths.filter((path) => (this.#tree.get(path)?.xattrs.length ?? 0) > 0);
    const path = having.length === 0 || this.#chance(4) ? this.#anyPath() : this.#of(having);
    const [first] = this.#tree.get(path)?.xattrs ?? [];
    const name = this.#chance(2) ? first?.split("=")[0] : undefined;
    return { kind: "removexattr", path, name: name ?? this.#of(XATTRS) };
  }

  #setXattr(): Operation {
    const path = this.#anyPath();
    const room = this.#limits.xattrBytesMax;
    const used = (this.#tree.get(path)?.xattrs ?? []).reduce((sum, x) => sum + x.length / 2, 0);
    const most = Math.max(1, Math.min(this.#of([20, 60, 300, room]), Math.floor(room - used)));
    return {
      ...{ kind: "setxattr", path, name: this.#of(XATTRS), tag: this.#random.below(1 << 16) },
      length: this.#random.below(most),
      how: this.#of(["any", "any", "any", "create", "replace"] as const),
    };
  }
}
