/**
 * Mounts that are written to: the same calls as on the kernel's ext4, with the same answers; then
 * e2fsck finds nothing and the kernel sees the same tree. And what becomes of changes when a mount
 * ends in other ways than by an unmount.
 */
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { e2fsck, mke2fs } from "../support/e2fsprogs.ts";
import { ForegroundServer } from "../support/foreground-server.ts";
import {
  COMMAND,
  kernelMount,
  kernelMountOfCopy,
  loopDevice,
  ourMount,
} from "../support/mounts.ts";
import { output, run, skipBecause, whyNoFuse, whyNoKernelMount } from "../support/run.ts";
import { Scope, withScope } from "../support/scope.ts";
import { diffTrees, type TreeEntry, walkTree } from "../support/tree.ts";

const skip = skipBecause("writing", whyNoKernelMount(), whyNoFuse());
const SCRIPT = new URL("../support/writing.py", import.meta.url).pathname;
const POPULATE = new URL("../support/populate.py", import.meta.url).pathname;
const SCENARIOS = [
  "open_modes",
  "without_name",
  "open_descriptors",
  "privileges",
  "ranges",
  "mapped",
  "direct",
  "names",
  "times",
  "handles",
];

function newImage(scope: Scope, size: string, ...args: readonly string[]): string {
  const image = join(scope.temporaryFolder(), "image");
  mke2fs(image, size, ["-t", "ext4", ...args]);
  return image;
}

/** What a scenario of writing.py answers in a new folder of the mount at `root`. */
function play(scenario: string, root: string): unknown {
  const folder = join(root, scenario);
  mkdirSync(folder);
  chmodSync(folder, 0o777);
  return JSON.parse(output("python3", [SCRIPT, scenario, folder]));
}

const dump = (image: string): string => output("dumpe2fs", ["-h", image]);

describe.skipIf(skip).each([
  ["4 KiB blocks", ["-b", "4096"], []],
  ["1 KiB blocks and inline data", ["-b", "1024", "-O", "inline_data"], []],
  ["1 KiB blocks and large inodes", ["-b", "1024", "-I", "512", "-O", "^metadata_csum"], []],
  ["4 KiB blocks, opened with O_DIRECT", ["-b", "4096"], ["directio"]],
  ["1 KiB blocks, opened with O_DIRECT", ["-b", "1024"], ["directio"]],
])("a mount of %s", (_, args, options) => {
  const scope = new Scope();
  afterAll(() => scope.close());

  test("answers as the kernel's ext4, and leaves what it can mount", () => {
    const image = newImage(scope, "128M", ...args);
    const reference = newImage(scope, "128M", ...args);
    const ours = ourMount(scope, image, { write: true, options });
    const kernels = kernelMount(scope, reference, { write: true });
    for (const scenario of SCENARIOS) {
      expect(play(scenario, ours.path), scenario).toEqual(play(scenario, kernels.path));
    }
    const before = walkTree(ours.path);
    ours.unmount();
    expect(e2fsck(image)).toBe("");
    const again = kernelMount(scope, image);
    expect(diffTrees(walkTree(again.path), before, [{ fields: ["atime"] }])).toEqual([]);
  });
});

describe.skipIf(skip)("a mount that is written to", () => {
  test("holds what the kernel's holds when both are filled in the same way", () => {
    withScope((scope) => {
      const args = ["-b", "4096", "-N", "20000"];
      const [image, reference] = [
        newImage(scope, "512M", ...args),
        newImage(scope, "512M", ...args),
      ];
      const ours = ourMount(scope, image, { write: true, options: ["dev", "suid"] });
      const kernels = kernelMount(scope, reference, { write: true });
      const sections = ["types", "symlinks", "folders", "sparse", "fragmented", "xattrs"];
      for (const { path } of [ours, kernels]) run("python3", [POPULATE, path, ...sections]);
      const written = walkTree(ours.path);
      const unequal = [
        { fields: ["atime", "mtime", "ctime", "btime", "ino", "dirent", "dots", "generation"] },
        // Seeds of directory hashes are random, and so is where nodes split.
        { fields: ["size"], when: ({ path }: TreeEntry) => path.startsWith("./folders/") },
        { fields: ["blocks512", "bfree", "bavail"] },
      ];
      expect(diffTrees(written, walkTree(kernels.path), unequal)).toEqual([]);
      ours.unmount();
      expect(e2fsck(image)).toBe("");
      const again = walkTree(kernelMount(scope, image).path);
      expect(diffTrees(again, written, [{ fields: ["atime"] }])).toEqual([]);
    });
  });

  test("moves data without TypeScript where blocks are allocated, and asks little elsewhere", async () => {
    const scope = new Scope();
    const image = newImage(scope, "128M", "-b", "4096");
    const server = await ForegroundServer.start(scope, image, ["rw"]);
    const file = join(server.path, "data");
    const write =
      (...more: string[]) =>
      () =>
        run("dd", ["if=/dev/zero", `of=${file}`, "bs=1M", "count=16", "conv=notrunc", ...more]);
    const first = await server.requestsOf(write("oflag=direct"));
    expect(first.get("WRITE")).toEqual({ served: 32, scripted: 32 });
    for (const more of ["oflag=direct", "bs=4k"]) {
      const requests = await server.requestsOf(write(more));
      expect(requests.get("WRITE")?.served).toBeGreaterThanOrEqual(16);
      expect(requests.get("WRITE")?.scripted).toBe(0);
    }
    const created = await server.requestsOf(() => {
      mkdirSync(join(server.path, "folder"));
      for (let i = 0; i < 100; i++) writeFileSync(join(server.path, "folder", `${i}`), "x");
    });
    expect(created.get("MKNOD")?.served).toBe(100);
    expect(created.get("OPEN")).toBeUndefined();
    expect(created.get("RELEASE")).toBeUndefined();
    expect(created.get("GETXATTR")?.served).toBeLessThanOrEqual(101);
    expect(await server.stop()).toBe(0);
    expect(e2fsck(image)).toBe("");
    scope.close();
  });

  test.each(["SIGTERM", "SIGINT"] as const)("is closed cleanly by %s", async (signal) => {
    const scope = new Scope();
    const image = newImage(scope, "64M");
    const server = await ForegroundServer.start(scope, image, ["rw"]);
    writeFileSync(join(server.path, "file"), "contents");
    expect(await server.signal(signal)).toBe(0);
    expect(dump(image)).toMatch(/Filesystem state: +clean\n/);
    expect(dump(image)).not.toContain("needs_recovery");
    expect(e2fsck(image)).toBe("");
    expect(readFileSync(join(kernelMount(scope, image).path, "file"), "utf8")).toBe("contents");
    scope.close();
  });

  test.each([
    ["was synced", [], (path: string) => run("sync", [path])],
    [
      "was there when the root was synced",
      [],
      (path: string) => run("sync", [join(path, "../..")]),
    ],
    ["is in a directory that was synced", [], (path: string) => run("sync", [join(path, "..")])],
    ["was made with sync", ["sync"], () => undefined],
    ["was made with dirsync", ["dirsync"], () => undefined],
    ["is older than the commit interval", ["commit=1"], () => run("sleep", ["2.5"])],
  ])("keeps what %s when its server is killed", async (_, options, secure) => {
    const scope = new Scope();
    const image = newImage(scope, "64M");
    const server = await ForegroundServer.start(scope, image, ["rw", ...options]);
    mkdirSync(join(server.path, "folder"));
    writeFileSync(join(server.path, "folder", "before"), "contents");
    secure(join(server.path, "folder", "before"));
    await server.kill();
    const again = ourMount(scope, image, { write: true });
    expect(readdirSync(join(again.path, "folder"))).toEqual(["before"]);
    again.unmount();
    expect(e2fsck(image)).toBe("");
    scope.close();
  });

  test("writes pages that were changed through a mapping before a signal ends it", async () => {
    const scope = new Scope();
    const image = newImage(scope, "64M");
    const server = await ForegroundServer.start(scope, image, ["rw"]);
    const script =
      "import mmap, os, signal, sys\n" +
      "fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR); os.ftruncate(fd, 8192)\n" +
      "mmap.mmap(fd, 8192)[5000:5006] = b'mapped'; os.kill(int(sys.argv[2]), signal.SIGTERM)\n" +
      "import time; time.sleep(2)";
    run("python3", ["-c", script, join(server.path, "file"), `${server.pid}`]);
    expect(await server.exited()).toBe(0);
    const contents = readFileSync(join(kernelMount(scope, image).path, "file"), "latin1");
    expect(contents.slice(5000, 5006)).toBe("mapped");
    scope.close();
  });

  test("frees what had no name when it ends, and when its server is killed", async () => {
    const scope = new Scope();
    const image = newImage(scope, "64M");
    const freeOf = (text: string): string | undefined => /Free blocks: +(\d+)/.exec(text)?.[1];
    const before = freeOf(dump(image));
    const script =
      "import os, sys\n" +
      "fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR); os.write(fd, b'x' * 2_000_000)\n" +
      "os.fsync(fd); os.unlink(sys.argv[1]); os.sync(); os.fsync(os.open(sys.argv[2], os.O_RDONLY))\n" +
      "os.kill(int(sys.argv[3]), 9) if len(sys.argv) > 3 else None";
    const server = await ForegroundServer.start(scope, image, ["rw"]);
    run("python3", ["-c", script, join(server.path, "f"), server.path]);
    expect(await server.stop()).toBe(0);
    expect(freeOf(dump(image))).toBe(before);

    const killed = await ForegroundServer.start(scope, image, ["rw"]);
    const { path, pid } = killed;
    run("python3", ["-c", script, join(path, "f"), path, `${pid}`]);
    await killed.exited();
    run("umount", [path]);
    ourMount(scope, image, { write: true }).unmount();
    expect(e2fsck(image)).toBe("");
    expect(freeOf(dump(image))).toBe(before);
    scope.close();
  });

  test("lets root alone into the reserve, and says where space ends", () => {
    withScope((scope) => {
      const image = newImage(scope, "32M", "-b", "1024", "-m", "20");
      const { path, unmount } = ourMount(scope, image, { write: true });
      chmodSync(path, 0o777);
      const available = (): number => Number(output("stat", ["-f", "-c", "%a", path]));
      const fill = (name: string, ...as: readonly string[]): void => {
        const dd = ["dd", "if=/dev/zero", `of=${join(path, name)}`, "bs=64k"];
        const [command = "", ...words] = [...as, ...dd];
        run(command, words, { accept: [1] });
      };
      fill("user", "setpriv", "--reuid=1000", "--regid=1000", "--clear-groups");
      expect(available()).toBe(0);
      const free = (): number => Number(output("stat", ["-f", "-c", "%f", path]));
      expect(free()).toBeGreaterThan(5000);
      fill("root");
      // A fiftieth is kept back even from root.
      expect(free()).toBeLessThan(700);
      run("rm", [join(path, "user"), join(path, "root")]);
      expect(available()).toBeGreaterThan(15_000);
      unmount();
      expect(e2fsck(image)).toBe("");
    });
  });

  test.each([
    ["resuid=1000", ["--reuid=1000", "--regid=7"]],
    ["resgid=1000", ["--reuid=7", "--regid=1000"]],
  ])("lets others into the reserve with %s", (option, user) => {
    withScope((scope) => {
      const image = newImage(scope, "32M", "-b", "1024", "-m", "20");
      const { path } = ourMount(scope, image, { write: true, options: [option] });
      chmodSync(path, 0o777);
      const dd = ["dd", "if=/dev/zero", `of=${join(path, "file")}`, "bs=64k"];
      run("setpriv", [...user, "--clear-groups", ...dd], { accept: [1] });
      expect(Number(output("stat", ["-f", "-c", "%f", path]))).toBeLessThan(700);
    });
  });

  test("gives new files to the group of their folder with grpid, or where the image says so", () => {
    withScope((scope) => {
      const image = newImage(scope, "32M");
      const made = (names: readonly string[], options: readonly string[]): string => {
        const { path, unmount } = ourMount(scope, image, { write: true, options });
        run("chgrp", ["77", path]);
        run("mkdir", names, { cwd: path });
        const groups = output("stat", ["-c", "%g %a", ...names], { cwd: path });
        unmount();
        return groups;
      };
      expect(made(["a"], [])).toBe("0 755");
      expect(made(["b"], ["grpid"])).toBe("77 755");
      run("tune2fs", ["-o", "bsdgroups", image]);
      expect(made(["c"], [])).toBe("77 755");
      expect(made(["d"], ["sysvgroups"])).toBe("0 755");
      expect(e2fsck(image)).toBe("");
    });
  });

  test("makes durable at once what chattr +S and +D ask for, and nothing else", () => {
    withScope((scope) => {
      const image = newImage(scope, "32M");
      const { path } = ourMount(scope, image, { write: true, options: ["commit=300"] });
      const at = (name: string): string => join(path, name);
      /** What the kernel finds after a power cut that comes now. */
      const afterCut = <T>(look: (root: string) => T): T =>
        withScope((inner) => look(kernelMountOfCopy(inner, image).path));
      run("mkdir", ["plain", "dirsync"], { cwd: path });
      writeFileSync(at("sync"), "");
      run("chattr", ["+D", at("dirsync")]);
      run("chattr", ["+S", at("sync")]);
      run("sync", [path]);

      mkdirSync(at("plain/lost"));
      expect(afterCut((root) => readdirSync(join(root, "plain")))).toEqual([]);
      mkdirSync(at("dirsync/kept"));
      expect(afterCut((root) => readdirSync(join(root, "dirsync")))).toEqual(["kept"]);
      renameSync(at("dirsync/kept"), at("plain/moved"));
      expect(afterCut((root) => readdirSync(join(root, "dirsync")))).toEqual([]);
      for (const content of ["new blocks", "the same", "x".repeat(10_000), ""]) {
        writeFileSync(at("sync"), content);
        expect(afterCut((root) => readFileSync(join(root, "sync"), "latin1"))).toBe(content);
      }
      writeFileSync(at("plain/source"), "copied");
      const copy = `
import os
files = [os.open(name, os.O_RDWR) for name in ("plain/source", "sync")]
os.copy_file_range(*files, 6)`;
      run("python3", ["-c", copy], { cwd: path });
      expect(afterCut((root) => readFileSync(join(root, "sync"), "latin1"))).toBe("copied");
      run("setfattr", ["-n", "user.name", "-v", "value", at("sync")]);
      const getfattr = (root: string): string =>
        output("getfattr", ["--only-values", "-n", "user.name", "sync"], { cwd: root });
      expect(afterCut(getfattr)).toBe("value");
    });
  });

  test("lists the parent that a directory has after it moved, by itself or in an exchange", () => {
    withScope((scope) => {
      const { path } = ourMount(scope, newImage(scope, "32M"), { write: true });
      run("mkdir", ["-p", "a/moved", "b/other", "c"], { cwd: path });
      /** The inode numbers that ".." has in the listings of `folders`. */
      const parents = (...folders: readonly string[]): unknown[] => {
        const tree = walkTree(path, { content: false });
        return folders.map((folder) => {
          const { dots } = JSON.parse(tree.get(`./${folder}`) ?? "{}") as TreeEntry;
          return (dots as [string, number, number][]).find(([name]) => name === "..")?.[1];
        });
      };
      const inode = (folder: string): number => statSync(join(path, folder)).ino;
      expect(parents("a/moved", "b/other")).toEqual([inode("a"), inode("b")]);
      renameSync(join(path, "a/moved"), join(path, "c/moved"));
      expect(parents("c/moved", "b/other")).toEqual([inode("c"), inode("b")]);
      const exchange = `
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
sys.exit(libc.renameat2(-100, b"b/other", -100, b"c/moved", 2) and ctypes.get_errno())`;
      run("python3", ["-c", exchange], { cwd: path });
      expect(parents("b/other", "c/moved")).toEqual([inode("b"), inode("c")]);
    });
  });

  test("lets new files inherit ACLs unless it is mounted with noacl", () => {
    withScope((scope) => {
      const image = newImage(scope, "32M");
      const make = (options: readonly string[], name: string): void => {
        const { path, unmount } = ourMount(scope, image, { write: true, options });
        run("setfacl", ["-d", "-m", "u:7:rwx", path], { accept: [0, 1] });
        run("sh", ["-c", `umask 027; touch ${join(path, name)}`]);
        unmount();
      };
      make([], "inherits");
      make(["noacl"], "masked");
      const { path } = kernelMount(scope, image);
      const aclOf = (name: string): string =>
        output("getfacl", ["--omit-header", "--numeric", name], { cwd: path });
      expect(aclOf("inherits")).toContain("user:7:rwx");
      expect(aclOf("masked").split("\n").slice(0, 3)).toEqual([
        "user::rw-",
        "group::r--",
        "other::---",
      ]);
    });
  });

  test("gives new files to whom the options say, or to the caller", () => {
    withScope((scope) => {
      const image = newImage(scope, "32M");
      const make = (options: readonly string[], name: string): void => {
        const { path, unmount } = ourMount(scope, image, { write: true, options });
        const touch = ["touch", join(path, name)];
        run("setpriv", ["--reuid=1000", "--regid=1001", "--clear-groups", ...touch]);
        unmount();
      };
      make(["fakeroot"], "callers");
      make(["fakeroot", "uid=7", "gid=8"], "others");
      const { path } = kernelMount(scope, image);
      const owners = output("stat", ["-c", "%n %u:%g", "callers", "others"], { cwd: path });
      expect(owners.split("\n")).toEqual(["callers 1000:1001", "others 7:8"]);
    });
  });
});

describe.skipIf(skip)("an image that cannot be written", () => {
  /** Mounts, and returns what the command said and whether the mount can be written to. */
  function mount(scope: Scope, image: string, options: string) {
    const path = scope.temporaryFolder();
    const result = run(COMMAND, [image, path, "-o", options], { accept: [0, 32] });
    if (result.status !== 0) return { said: result.stderr, status: result.status, flags: "" };
    scope.add(() => run("umount", [path]));
    const flags = output("findmnt", ["-n", "-o", "OPTIONS", path]).split(",")[0];
    return { said: result.stderr, status: 0, flags };
  }

  test("is mounted read-only, with a line that says so, when it is write-protected", () => {
    withScope((scope) => {
      const device = loopDevice(scope, newImage(scope, "32M"));
      const { said, status, flags } = mount(scope, device, "rw");
      expect([status, flags]).toEqual([0, "ro"]);
      expect(said).toBe(`fuse4fs-ts: ${device}: write-protected: mounting read-only\n`);
    });
  });

  test("is mounted read-only with norecovery when its journal is not empty", async () => {
    const scope = new Scope();
    const image = newImage(scope, "32M");
    const server = await ForegroundServer.start(scope, image, ["rw"]);
    writeFileSync(join(server.path, "file"), "contents");
    run("sync", [join(server.path, "file")]);
    await server.kill();
    const { said, flags } = mount(scope, image, "norecovery");
    expect(flags).toBe("ro");
    expect(said).toContain(`${image}: the journal is not empty: mounting read-only\n`);
    scope.close();
  });

  test("is refused when a feature only allows reading, naming it", () => {
    withScope((scope) => {
      const image = newImage(scope, "32M");
      run("debugfs", ["-w", "-R", "feature FEATURE_R30", image]);
      const { said, status } = mount(scope, image, "rw");
      expect(status).toBe(32);
      expect(said).toMatch(
        /^fuse4fs-ts: \S+: cannot be written, only read: feature .*: use -o ro\n$/,
      );
      expect(mount(scope, image, "ro").status).toBe(0);
    });
  });

  test("is taken by one mount alone", () => {
    withScope((scope) => {
      const image = newImage(scope, "32M");
      ourMount(scope, image, { write: true });
      for (const options of ["rw", "ro"]) {
        const { said, status } = mount(scope, image, options);
        expect(status).toBe(32);
        expect(said).toContain("EBUSY");
      }
    });
  });
});
