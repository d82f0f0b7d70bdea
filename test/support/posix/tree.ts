/**
 * A tree as the model and the library both see it: every path with all that a test compares.
 */
import { FileType } from "../../../src/ext4/index.ts";

export type NodeType = "file" | "directory" | "symlink" | "fifo" | "socket" | "block" | "character";

const TYPES: Readonly<Record<number, NodeType>> = {
  [FileType.REGULAR]: "file",
  [FileType.DIRECTORY]: "directory",
  [FileType.SYMLINK]: "symlink",
  [FileType.FIFO]: "fifo",
  [FileType.SOCKET]: "socket",
  [FileType.BLOCK]: "block",
  [FileType.CHARACTER]: "character",
};

export const typeOfMode = (mode: number): NodeType => TYPES[mode & FileType.MASK] as NodeType;

export interface TreeNode {
  /** The same for all names of one inode, and for no other inode of this tree. */
  readonly id: number;
  readonly type: NodeType;
  /** Permission bits, suid, sgid and sticky bit. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly linkCount: number;
  /** Of files; never changed once it is here. */
  readonly content?: Uint8Array;
  /** Of symlinks. */
  readonly target?: string;
  /** Of devices: major and minor number. */
  readonly device?: string;
  /** `name=hex` of each xattr, sorted. */
  readonly xattrs: readonly string[];
}

/** Nodes by absolute path; the root is "/". */
export type Tree = ReadonlyMap<string, TreeNode>;

const FIELDS = ["type", "mode", "uid", "gid", "linkCount", "target", "device"] as const;

/**
 * What differs between two trees, one line each; empty when nothing does.
 *
 * @param compareContents is called for files in place of a comparison byte by byte, and says what
 *   is wrong or nothing.
 */
export function differences(
  found: Tree,
  expected: Tree,
  compareContents: (found: TreeNode, expected: TreeNode) => string | undefined = sameBytes,
): string[] {
  const lines: string[] = [];
  const firstNames = new Map<number, string>();
  for (const [path, node] of expected) {
    const actual = found.get(path);
    if (actual === undefined) {
      lines.push(`${show(path)} is missing`);
      continue;
    }
    for (const field of FIELDS) {
      if (actual[field] === node[field]) continue;
      lines.push(`${show(path)}: ${field} is ${actual[field]}, not ${node[field]}`);
    }
    const [is, wanted] = [actual.xattrs.join(" "), node.xattrs.join(" ")];
    if (is !== wanted) lines.push(`${show(path)}: xattrs are [${cut(is)}], not [${cut(wanted)}]`);
    const isFile = node.type === "file" && actual.type === "file";
    const wrong = isFile ? compareContents(actual, node) : undefined;
    if (wrong !== undefined) lines.push(`${show(path)}: ${wrong}`);
    const first = firstNames.get(node.id);
    if (first === undefined) firstNames.set(node.id, path);
    else if (found.get(first)?.id !== actual.id)
      lines.push(`${show(path)} and ${show(first)} are not the same inode`);
  }
  for (const path of found.keys()) {
    if (!expected.has(path)) lines.push(`${show(path)} should not exist`);
  }
  return lines;
}

const show = (path: string): string => JSON.stringify(path.length > 80 ? cut(path) : path);
const cut = (text: string): string =>
  text.length > 200 ? `${text.slice(0, 100)}…${text.slice(-60)}` : text;

function sameBytes(found: TreeNode, expected: TreeNode): string | undefined {
  const [is, wanted] = [found.content as Uint8Array, expected.content as Uint8Array];
  if (is.length !== wanted.length) return `size is ${is.length}, not ${wanted.length}`;
  if (Buffer.compare(is, wanted) === 0) return undefined;
  const at = is.findIndex((byte, index) => byte !== wanted[index]);
  return `byte ${at} is ${is[at]}, not ${wanted[at]}`;
}
