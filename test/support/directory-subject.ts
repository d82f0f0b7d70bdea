/**
 * A directory that a test changes, with files that its entries are links to, and a model of what it
 * should hold.
 */
import { expect } from "vitest";
import { allocateInode } from "../../src/ext4/alloc/inodes.ts";
import { isEmptyDirectory } from "../../src/ext4/dir/directory.ts";
import { initDirectory } from "../../src/ext4/dir/dots.ts";
import { addEntry, removeEntry, replaceEntry } from "../../src/ext4/dir/entries.ts";
import { Inode } from "../../src/ext4/format/inode.ts";
import {
  type Filesystem,
  FileType,
  InodeFlags,
  lookup,
  ROOT_INODE,
  readDirectory,
} from "../../src/ext4/index.ts";
import { initBlockMap } from "../../src/ext4/map/change.ts";
import { Credits } from "../../src/ext4/ops/credits.ts";

/** The name of the directory, in the root directory. */
export const SUBJECT = "subject";
export const FILE_COUNT = 3;

const bytesOf = (name: string): Uint8Array => new TextEncoder().encode(name);

function makeInode(fs: Filesystem, parent: Inode, mode: number): Inode {
  const isDirectory = (mode & FileType.MASK) === FileType.DIRECTORY;
  return fs.transact(Credits.LINK, (tx) => {
    const number = allocateInode(fs, tx, parent, isDirectory);
    const inode = Inode.blank(number, fs.takeInodeBytes(), fs.superblock, fs.checksums, {
      mode,
      generation: number * 7,
      extraSize: 32,
    });
    initBlockMap(fs, inode);
    return tx.createInode(inode);
  });
}

export class Subject {
  readonly fs: Filesystem;
  readonly directory: Inode;
  readonly files: readonly Inode[];
  readonly model = new Map<string, Inode>();
  readonly #isFolded: boolean;

  /** @param casefold names are compared without regard to case. */
  constructor(fs: Filesystem, { casefold = false }: { readonly casefold?: boolean } = {}) {
    this.fs = fs;
    this.#isFolded = casefold;
    const root = fs.inode(ROOT_INODE);
    this.directory = makeInode(fs, root, FileType.DIRECTORY | 0o755);
    const { directory } = this;
    fs.transact(Credits.LINK, (tx) => {
      tx.edit(directory).linkCount = 2;
      initDirectory(fs, tx, directory, ROOT_INODE);
      addEntry(fs, tx, root, bytesOf(SUBJECT), directory.number, directory.mode);
      tx.edit(root).linkCount++;
      if (casefold) directory.flags |= InodeFlags.CASEFOLD;
    });
    this.files = Array.from({ length: FILE_COUNT }, (_, index) => {
      const file = makeInode(fs, root, FileType.REGULAR | 0o644);
      fs.transact(Credits.LINK, (tx) => {
        addEntry(fs, tx, root, bytesOf(`file-${index}`), file.number, file.mode);
      });
      return file;
    });
  }

  /** The name of the entry that `name` means. */
  stored(name: string): string | undefined {
    if (!this.#isFolded) return this.model.has(name) ? name : undefined;
    const folded = name.toLowerCase();
    return [...this.model.keys()].find((each) => each.toLowerCase() === folded);
  }

  /** Adds the entry `name`, or lets it name another file. @param fails nothing of it must happen. */
  set(name: string, file: Inode, fails = false): void {
    const { fs, directory, model } = this;
    const stored = this.stored(name);
    this.#attempt(fails, () =>
      fs.transact(Credits.LINK, (tx) => {
        const { number, mode } = file;
        if (stored === undefined) {
          addEntry(fs, tx, directory, bytesOf(name), number, mode);
        } else {
          const before = model.get(stored) as Inode;
          expect(replaceEntry(fs, tx, directory, bytesOf(name), number, mode)).toBe(before.number);
          tx.edit(before).linkCount--;
        }
        tx.edit(file).linkCount++;
        if (fails) throw new Failure();
      }),
    );
    if (!fails) model.set(stored ?? name, file);
  }

  /** Removes the entry `name`, which there may be. */
  remove(name: string, fails = false): void {
    const { fs, directory, model } = this;
    const stored = this.stored(name);
    if (stored === undefined) {
      expect(() => fs.transact(1, (tx) => removeEntry(fs, tx, directory, bytesOf(name)))).toThrow(
        expect.objectContaining({ errno: 2 }),
      );
      return;
    }
    const file = model.get(stored) as Inode;
    this.#attempt(fails, () =>
      fs.transact(Credits.LINK, (tx) => {
        expect(removeEntry(fs, tx, directory, bytesOf(name))).toBe(file.number);
        tx.edit(file).linkCount--;
        if (fails) throw new Failure();
      }),
    );
    if (!fails) model.delete(stored);
  }

  /** The entries by name, as a listing gives them. */
  listed(fs = this.fs): Map<string, number> {
    const found = new Map<string, number>();
    const decoder = new TextDecoder();
    readDirectory(fs, this.directory.number, 0, 0, (name, inode) => {
      const text = decoder.decode(name);
      if (text !== "." && text !== "..") {
        expect(found.has(text), text).toBe(false);
        found.set(text, inode);
      }
      return true;
    });
    return found;
  }

  expectModel(fs = this.fs): void {
    const wanted = this.numbers();
    expect(this.listed(fs)).toEqual(wanted);
    for (const [name, number] of wanted) {
      expect(lookup(fs, this.directory.number, bytesOf(name)), name).toBe(number);
    }
    expect(isEmptyDirectory(fs, this.directory.number)).toBe(wanted.size === 0);
  }

  numbers(): Map<string, number> {
    return new Map([...this.model].map(([name, file]) => [name, file.number]));
  }

  #attempt(fails: boolean, operation: () => void): void {
    if (fails) expect(operation).toThrow(Failure);
    else operation();
  }
}

/** Why an operation that has to fail does. */
class Failure extends Error {}
