/** The system calls of `operation.ts` on a mounted filesystem, and the tree that they leave. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../run.ts";
import { type TreeEntry, walkTree } from "../tree.ts";
import type { Operation, Outcome } from "./operation.ts";
import { type Tree, type TreeNode, typeOfMode } from "./tree.ts";

const EXECUTE = new URL("../execute.py", import.meta.url).pathname;

/** What each of `operations` answers below `root`. All files are closed afterwards. */
export function execute(root: string, operations: readonly Operation[]): Outcome[] {
  const input = operations.map((operation) => `${JSON.stringify(operation)}\n`).join("");
  const { stdout } = run("python3", [EXECUTE, root], { input });
  return stdout.toString("latin1").split("\n").slice(0, -1);
}

const LOST_AND_FOUND = "./lost+found";

/** The tree below `root`, without lost+found. */
export function mountedTree(root: string): Tree {
  const tree = new Map<string, TreeNode>();
  for (const [path, line] of walkTree(root, { content: false })) {
    if (path === "statvfs" || path === LOST_AND_FOUND) continue;
    const name = Buffer.from(path === "." ? "/" : path.slice(1), "utf8").toString("latin1");
    tree.set(name, nodeOf(JSON.parse(line) as TreeEntry, join(root, path)));
  }
  return tree;
}

function nodeOf(entry: TreeEntry, path: string): TreeNode {
  const type = typeOfMode(Number(entry["type"]));
  const isRoot = entry.path === ".";
  return {
    id: Number(entry["ino"]),
    type,
    mode: Number.parseInt(String(entry["mode"]), 8),
    uid: Number(entry["uid"]),
    gid: Number(entry["gid"]),
    // The root has the folder lost+found.
    linkCount: Number(entry["nlink"]) - (isRoot ? 1 : 0),
    xattrs: Object.entries(entry["xattrs"] as Record<string, string>)
      .map(([name, hex]) => `${name}=${hex}`)
      .sort(),
    ...(type === "file" && { content: new Uint8Array(readFileSync(path)) }),
    ...(type === "symlink" && { target: String(entry["target"]) }),
    ...((type === "block" || type === "character") && { device: String(entry["rdev"]) }),
  };
}
