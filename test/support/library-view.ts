/**
 * What the ext4 library says about a tree, in the shape of a golden image's expectation, so that
 * the two can be compared with one assertion.
 */
import { createHash } from "node:crypto";
import type { InodeNumber } from "../../src/base/numbers.ts";
import {
  type Filesystem,
  getXattr,
  type Inode,
  listXattrs,
  ROOT_INODE,
  readDirectory,
  readFile,
  readLink,
} from "../../src/ext4/index.ts";
import type { ExpectedInode } from "./images.ts";

const TYPES: Readonly<Record<number, string>> = {
  1: "FIFO",
  2: "character special",
  4: "directory",
  6: "block special",
  8: "regular",
  10: "symlink",
  12: "socket",
};

/** One character per byte, both ways. */
export const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
export const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "latin1"));

export interface Entry {
  readonly name: string;
  readonly inode: InodeNumber;
  readonly type: number;
}

/** Every entry of a directory, "." and ".." included. */
export function entriesOf(fs: Filesystem, directory: InodeNumber): Entry[] {
  const entries: Entry[] = [];
  readDirectory(fs, directory, 0, 0, (name, inode, type) => {
    entries.push({ name: latin1(name), inode, type });
    return true;
  });
  return entries;
}

/** Inode numbers by path of everything below the root. */
export function pathsOf(fs: Filesystem): Record<string, number> {
  const paths: Record<string, number> = { "/": ROOT_INODE };
  const pending: [string, InodeNumber][] = [["", ROOT_INODE]];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [path, directory] = next;
    for (const { name, inode } of entriesOf(fs, directory)) {
      if (name === "." || name === "..") continue;
      paths[`${path}/${name}`] = inode;
      if (typeOf(fs.inode(inode)) === "directory") pending.push([`${path}/${name}`, inode]);
    }
  }
  return paths;
}

const typeOf = (inode: Inode): string => String(TYPES[inode.mode >>> 12]);

export function inodeView(fs: Filesystem, number: InodeNumber): ExpectedInode {
  const inode = fs.inode(number);
  const type = typeOf(inode);
  const time = (at: { seconds: number; nanoseconds: number }): [number, number] => [
    at.seconds,
    at.nanoseconds,
  ];
  const xattrs = xattrsOf(fs, number);
  const isDevice = type.endsWith("special");
  return {
    type,
    permissions: (inode.mode & 0o7777).toString(8).padStart(4, "0"),
    flags: inode.flags,
    generation: inode.generation,
    uid: inode.uid,
    gid: inode.gid,
    projectId: inode.projectId,
    sizeBytes: inode.sizeBytes,
    linkCount: inode.linkCount,
    blocks512: inode.blocks512,
    accessedAt: time(inode.accessedAt),
    modifiedAt: time(inode.modifiedAt),
    changedAt: time(inode.changedAt),
    ...(inode.createdAt !== undefined && { createdAt: time(inode.createdAt) }),
    ...(isDevice && { device: [inode.rdevMajor, inode.rdevMinor] as const }),
    ...(type === "symlink" && { target: latin1(readLink(fs, number)) }),
    ...(type === "regular" && { sha256: hashOf(fs, inode) }),
    ...(Object.keys(xattrs).length > 0 && { xattrs }),
  };
}

/** Values in hex by name. */
function xattrsOf(fs: Filesystem, number: InodeNumber): Record<string, string> {
  const values: Record<string, string> = {};
  for (const name of latin1(listXattrs(fs, number)).split("\0").slice(0, -1)) {
    const value = getXattr(fs, number, bytesOf(name));
    values[name] = value === undefined ? "not found" : Buffer.from(value).toString("hex");
  }
  return values;
}

const CHUNK_BYTES = 1 << 20;

function hashOf(fs: Filesystem, inode: Inode): string {
  const hash = createHash("sha256");
  const chunk = new Uint8Array(CHUNK_BYTES);
  for (let offset = 0; ; ) {
    const length = readFile(fs, inode, offset, chunk);
    if (length === 0) return hash.digest("hex");
    hash.update(chunk.subarray(0, length));
    offset += length;
  }
}
