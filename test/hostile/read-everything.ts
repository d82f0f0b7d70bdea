/** Asks a filesystem everything there is to ask, damaged or not. */
import type { InodeNumber } from "../../src/base/numbers.ts";
import {
  type Filesystem,
  FsError,
  getXattr,
  listXattrs,
  lookup,
  ROOT_INODE,
  readDirectory,
  readFile,
  readLink,
  seekData,
  seekHole,
  statFilesystem,
} from "../../src/ext4/index.ts";

const READ_MAX = 1 << 18;
const INODES_MAX = 2000;

let refused = 0;

/** How many calls have been refused by `attempt` so far. */
export function refusals(): number {
  return refused;
}

/** Calls `act`, which may refuse with an FsError. */
export function attempt<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
    refused += 1;
    return undefined;
  }
}

/** Asks all about every inode that can be reached. @returns their numbers. */
export function readEverything(fs: Filesystem): InodeNumber[] {
  const seen = new Set<InodeNumber>();
  const left: InodeNumber[] = [ROOT_INODE];
  const buffer = new Uint8Array(READ_MAX);
  attempt(() => statFilesystem(fs, { minixdf: false }));
  for (let number = left.pop(); number !== undefined; number = left.pop()) {
    if (seen.has(number) || seen.size >= INODES_MAX) continue;
    seen.add(number);
    const at = number;
    const inode = attempt(() => fs.inode(at));
    if (inode === undefined) continue;
    const names = attempt(() => listXattrs(fs, at));
    for (const name of split(names)) attempt(() => getXattr(fs, at, name));
    if (inode.isSymlink) attempt(() => readLink(fs, at));
    if (inode.isDirectory) left.push(...children(fs, at));
    if (!inode.isRegular) continue;
    attempt(() => readFile(fs, inode, 0, buffer));
    attempt(() => readFile(fs, inode, Math.max(0, inode.sizeBytes - 1000), buffer));
    attempt(() => seekData(fs, inode, 0));
    attempt(() => seekHole(fs, inode, 0));
  }
  return [...seen];
}

function children(fs: Filesystem, directory: InodeNumber): InodeNumber[] {
  const found: InodeNumber[] = [];
  const names: Uint8Array[] = [];
  let [hi, lo] = [0, 0];
  attempt(() =>
    readDirectory(fs, directory, 0, 0, (name, inode, _type, nextHi, nextLo) => {
      if (nextHi < hi || (nextHi === hi && nextLo < lo)) throw new Error("a position went back");
      [hi, lo] = [nextHi, nextLo];
      names.push(name.slice());
      found.push(inode);
      return found.length < INODES_MAX;
    }),
  );
  for (const name of names) attempt(() => lookup(fs, directory, name));
  attempt(() => lookup(fs, directory, Uint8Array.of(0x7a, 0x7a, 0x7a)));
  return found;
}

function split(names: Uint8Array | undefined): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let at = 0; names !== undefined && at < names.length; ) {
    const end = names.indexOf(0, at);
    parts.push(names.subarray(at, end));
    at = end + 1;
  }
  return parts;
}
