/** Random calls of all of the library that changes something, on whatever inodes there are. */
import type { InodeNumber } from "../../src/base/numbers.ts";
import {
  copyFileRange,
  createFile,
  createTemporary,
  type Filesystem,
  FileType,
  fallocate,
  getXattr,
  iomapForWrite,
  link,
  listXattrs,
  lookup,
  makeDirectory,
  makeSymlink,
  newIomap,
  noteAccess,
  noteWrite,
  parentOf,
  ROOT_INODE,
  readDirectory,
  readFile,
  readLink,
  release,
  removeDirectory,
  removeXattr,
  rename,
  setAttributes,
  setFlags,
  setGeneration,
  setLabel,
  setProject,
  setSize,
  setUuid,
  setXattr,
  storeTimes,
  syncFile,
  syncFilesystem,
  trimFree,
  unlink,
  writeFile,
} from "../../src/ext4/index.ts";
import { bytesOf } from "../support/library-view.ts";
import { pattern } from "../support/posix/operation.ts";
import type { Random } from "../support/random.ts";

/** An entry that was found. */
interface Name {
  readonly directory: InodeNumber;
  readonly name: Uint8Array;
}

const NAMES_MAX = 3000;
const FOLDERS_MAX = 60;
const NEW_NAMES = 400;
const XATTRS = ["user.a", "user.bb", "trusted.t", "security.capability", "user.long-name-of-one"];
const ACL_ACCESS = "system.posix_acl_access";
const FALLOCATE_MODES = [0, 1, 3, 8, 0x10, 0x11, 0x20];
const OFFSETS = [
  0,
  1,
  100,
  4095,
  65536,
  1 << 20,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 42,
  2 ** 44,
  2 ** 53 - 9,
];
const MODES = [0o644, 0o755, 0o2755, 0o4711, 0];

export class Workload {
  readonly #fs: Filesystem;
  readonly #random: Random;
  readonly #names: Name[] = [];
  readonly #inodes: InodeNumber[] = [ROOT_INODE];
  readonly #folders: InodeNumber[] = [ROOT_INODE];

  constructor(fs: Filesystem, random: Random) {
    this.#fs = fs;
    this.#random = random;
  }

  /** Finds names, as far as that can be done. @param attempt calls what may throw an FsError. */
  explore(attempt: (act: () => void) => void): void {
    for (let at = 0; at < this.#folders.length; at++) {
      const directory = this.#folders[at] as InodeNumber;
      const found: [Uint8Array, InodeNumber][] = [];
      attempt(() => {
        readDirectory(this.#fs, directory, 0, 0, (name, inode) => {
          found.push([name.slice(), inode]);
          return found.length < NAMES_MAX;
        });
      });
      for (const [name, number] of found) this.#take(attempt, directory, name, number);
    }
  }

  #take(
    attempt: (act: () => void) => void,
    directory: InodeNumber,
    name: Uint8Array,
    number: InodeNumber,
  ): void {
    if (this.#names.length < NAMES_MAX) this.#names.push({ directory, name });
    if (this.#inodes.includes(number)) return;
    this.#inodes.push(number);
    attempt(() => {
      const { isDirectory } = this.#fs.inode(number);
      if (isDirectory && this.#folders.length < FOLDERS_MAX) this.#folders.push(number);
    });
  }

  /** Makes one call. @returns what it was, for a report. */
  next(): readonly [what: string, act: () => unknown] {
    const fs = this.#fs;
    const random = this.#random;
    const calls: (() => readonly [string, () => unknown])[] = [
      () => this.#create(),
      () => this.#create(),
      () => this.#remove(),
      () => this.#remove(),
      () => this.#rename(),
      () => this.#write(),
      () => this.#write(),
      () => this.#write(),
      () => this.#resize(),
      () => this.#fallocate(),
      () => this.#xattr(),
      () => this.#xattr(),
      () => this.#attributes(),
      () => this.#read(),
      () => {
        const [number, length] = [this.#inode(), 1 + random.below(1 << 17)];
        const offset = this.#offset();
        const answer = newIomap();
        return [
          `iomapForWrite ${number} ${offset} ${length}`,
          () => iomapForWrite(fs, fs.inode(number), offset, length, answer),
        ];
      },
      () => {
        const [from, to] = [this.#inode(), this.#inode()];
        const [fromOffset, toOffset] = [random.below(1 << 17), random.below(1 << 17)];
        return [
          `copyFileRange ${from} ${fromOffset} ${to} ${toOffset}`,
          () => copyFileRange(fs, from, fromOffset, to, toOffset, 1 + random.below(1 << 17)),
        ];
      },
      () => {
        const { transactions } = fs.writer;
        return random.below(3) === 0
          ? ["checkpoint", () => transactions.checkpoint()]
          : ["commit", () => transactions.commit()];
      },
      () => this.#rarely(),
    ];
    return (this.#of(calls) as (typeof calls)[0])();
  }

  #rarely(): readonly [string, () => unknown] {
    const fs = this.#fs;
    const number = this.#inode();
    const value = this.#random.below(0x7fff_ffff);
    const calls: [string, () => unknown][] = [
      [`setFlags ${number} ${value}`, () => setFlags(fs, number, value & 0x8_88ff)],
      [`setProject ${number}`, () => setProject(fs, number, value, 0)],
      [`setGeneration ${number}`, () => setGeneration(fs, number, value)],
      ["setLabel", () => setLabel(fs, bytesOf("label"))],
      ["setUuid", () => setUuid(fs, new Uint8Array(16).fill(value & 0xff))],
      ["trim", () => trimFree(fs, 0, Number.MAX_SAFE_INTEGER, 0)],
      [`syncFile ${number}`, () => syncFile(fs, number, false)],
      ["syncFilesystem", () => syncFilesystem(fs)],
      [`noteWrite ${number}`, () => noteWrite(fs, number, { seconds: -value, nanoseconds: 5 })],
      [`noteAccess ${number}`, () => noteAccess(fs, number)],
      [`storeTimes ${number}`, () => storeTimes(fs, number)],
      [`release ${number}`, () => release(fs, number)],
    ];
    return this.#of(calls);
  }

  #create(): readonly [string, () => unknown] {
    const fs = this.#fs;
    const parent = this.#folder();
    const text = `new${this.#random.below(NEW_NAMES)}${"-".repeat(this.#random.below(60))}`;
    const name = bytesOf(text);
    const attributes = { mode: FileType.REGULAR | 0o644, uid: 7, gid: 8, umask: 0o22 };
    const took = (number: InodeNumber): void => {
      this.#names.push({ directory: parent, name });
      this.#inodes.push(number);
    };
    const target = bytesOf("t".repeat(1 + this.#random.below(300)));
    const linked = this.#inode();
    return this.#of<readonly [string, () => unknown]>([
      [`create ${parent} ${text}`, () => took(createFile(fs, parent, name, attributes).number)],
      [`create ${parent} ${text}`, () => took(createFile(fs, parent, name, attributes).number)],
      [
        `mkdir ${parent} ${text}`,
        () => {
          const { number } = makeDirectory(fs, parent, name, attributes);
          took(number);
          this.#folders.push(number);
        },
      ],
      [
        `symlink ${parent} ${text} ${target.length}`,
        () => took(makeSymlink(fs, parent, name, target, attributes).number),
      ],
      [`link ${linked} ${parent} ${text}`, () => took(link(fs, linked, parent, name).number)],
      [
        `tmpfile ${parent}`,
        () => this.#inodes.push(createTemporary(fs, parent, attributes).number),
      ],
    ]);
  }

  #remove(): readonly [string, () => unknown] {
    const fs = this.#fs;
    const { directory, name } = this.#name();
    const shown = `${directory} ${Buffer.from(name).toString("latin1")}`;
    return this.#of<readonly [string, () => unknown]>([
      [`unlink ${shown}`, () => unlink(fs, directory, name)],
      [
        `unlink and release ${shown}`,
        () => {
          const { number } = unlink(fs, directory, name);
          release(fs, number);
        },
      ],
      [
        `rmdir ${shown}`,
        () => {
          const { number } = removeDirectory(fs, directory, name);
          release(fs, number);
        },
      ],
    ]);
  }

  #rename(): readonly [string, () => unknown] {
    const fs = this.#fs;
    const from = this.#name();
    const isNew = this.#random.below(2) === 0;
    const to = isNew
      ? { directory: this.#folder(), name: bytesOf(`moved${this.#random.below(NEW_NAMES)}`) }
      : this.#name();
    const options = this.#of([
      {},
      { noReplace: true },
      { exchange: true },
      { whiteout: { uid: 0, gid: 0, umask: 0 } },
    ]);
    return [
      `rename ${from.directory} to ${to.directory} ${JSON.stringify(options)}`,
      () => {
        const replaced = rename(fs, from.directory, from.name, to.directory, to.name, options);
        if (replaced !== undefined) release(fs, replaced.number);
        this.#names.push(to);
      },
    ];
  }

  #write(): readonly [string, () => unknown] {
    const fs = this.#fs;
    const number = this.#inode();
    const offset = this.#offset();
    const bytes = pattern(this.#random.below(1 << 20), 0, 1 + this.#random.below(1 << 15));
    return [
      `write ${number} ${offset} ${bytes.length}`,
      () => writeFile(fs, fs.inode(number), offset, bytes),
    ];
  }

  #resize(): readonly [string, () => unknown] {
    const number = this.#inode();
    const size = this.#random.below(3) === 0 ? 0 : this.#offset();
    return [`setSize ${number} ${size}`, () => setSize(this.#fs, number, size)];
  }

  #fallocate(): readonly [string, () => unknown] {
    const number = this.#inode();
    const mode = this.#of(FALLOCATE_MODES);
    const unit = this.#of([1, 1024, 4096, 65536]);
    const offset = this.#of([this.#offset(), unit * this.#random.below(40)]);
    const length = unit * (1 + this.#random.below(40));
    return [
      `fallocate ${number} ${mode} ${offset} ${length}`,
      () => fallocate(this.#fs, number, mode, offset, length),
    ];
  }

  #xattr(): readonly [string, () => unknown] {
    const fs = this.#fs;
    const number = this.#inode();
    const text = this.#of(XATTRS);
    const name = bytesOf(text);
    const length = this.#random.below(this.#of([10, 100, 900, 3900, 20000]));
    const value = pattern(this.#random.below(4), 0, length);
    const acl = [2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 7, 0, 0, 0];
    acl.push(...[4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 6, 0, 255, 255, 255, 255]);
    acl.push(...[32, 0, 4, 0, 255, 255, 255, 255]);
    return this.#of<readonly [string, () => unknown]>([
      [
        `setXattr ${number} ${text} ${length}`,
        () => setXattr(fs, number, name, value, { flags: 0 }),
      ],
      [
        `setXattr ${number} ${text} ${length}`,
        () => setXattr(fs, number, name, value, { flags: 0 }),
      ],
      [`removeXattr ${number} ${text}`, () => removeXattr(fs, number, name)],
      [
        `setXattr ${number} ${ACL_ACCESS}`,
        () => setXattr(fs, number, bytesOf(ACL_ACCESS), Uint8Array.from(acl), { flags: 0 }),
      ],
    ]);
  }

  #attributes(): readonly [string, () => unknown] {
    const fs = this.#fs;
    const number = this.#inode();
    const mode = this.#of(MODES);
    const time = { seconds: this.#of([-1, 0, -(2 ** 40), 2 ** 40]), nanoseconds: 999_999_999 };
    return this.#of<readonly [string, () => unknown]>([
      [`chmod ${number}`, () => setAttributes(fs, number, { mode })],
      [`chown ${number}`, () => setAttributes(fs, number, { uid: mode, gid: 70000 + mode })],
      [
        `utimens ${number} ${time.seconds}`,
        () => setAttributes(fs, number, { accessedAt: time, modifiedAt: time }),
      ],
      [
        `truncate ${number}`,
        () => setAttributes(fs, number, { sizeBytes: this.#offset(), killSetid: true }),
      ],
    ]);
  }

  #read(): readonly [string, () => unknown] {
    const fs = this.#fs;
    const number = this.#inode();
    const { directory, name } = this.#name();
    return this.#of<readonly [string, () => unknown]>([
      [`read ${number}`, () => readFile(fs, fs.inode(number), 0, new Uint8Array(1 << 16))],
      [`readlink ${number}`, () => fs.inode(number).isSymlink && readLink(fs, number)],
      [`listxattr ${number}`, () => listXattrs(fs, number)],
      [`getxattr ${number}`, () => getXattr(fs, number, bytesOf("user.a"))],
      [`lookup ${directory}`, () => lookup(fs, directory, name)],
      [`parentOf ${directory}`, () => parentOf(fs, directory)],
    ]);
  }

  #of<T>(choices: readonly T[]): T {
    return choices[this.#random.below(choices.length)] as T;
  }
  #inode(): InodeNumber {
    return this.#random.below(50) === 0
      ? (this.#random.below(200) as InodeNumber)
      : this.#of(this.#inodes);
  }
  #folder(): InodeNumber {
    return this.#random.below(40) === 0 ? this.#inode() : this.#of(this.#folders);
  }
  #name(): Name {
    return this.#of([...this.#names, { directory: ROOT_INODE, name: bytesOf("none") }]);
  }
  #offset(): number {
    if (this.#random.below(3) === 0) return this.#of(OFFSETS);
    return this.#random.below(this.#of([100, 5000, 1 << 16, 1 << 18]));
  }
}
