/**
 * The program as people and scripts run it: what it prints, what it exits with, how it comes up in
 * the background and how it goes away. Every test leaves nothing mounted and no process behind.
 */
import { type ChildProcess, type SpawnSyncReturns, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statfs,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { loadAddon } from "../../src/native/binding.ts";
import { mke2fs, sha256 } from "../support/e2fsprogs.ts";
import { loopDevice } from "../support/mounts.ts";
import { run, skipBecause, whyNoE2fsprogs, whyNoFuse } from "../support/run.ts";
import { Scope } from "../support/scope.ts";

const COMMAND = new URL("../../bin/fuse4fs-ts", import.meta.url).pathname;
const NOBODY = 65534;
const PATIENCE_MS = 10_000;
/** The bare system call, on the path that it is given. */
const UMOUNT = "import ctypes, sys; sys.exit(ctypes.CDLL(None).umount2(sys.argv[1].encode(), 0))";

type Environment = Readonly<Record<string, string>>;

/** Runs the program until it exits, or until its server is in the background. */
function launch(args: readonly string[], env: Environment = {}): SpawnSyncReturns<string> {
  return spawnSync(COMMAND, args, { encoding: "utf8", env: { ...process.env, ...env } });
}

/** A program that stays in the foreground. */
class Foreground {
  readonly process: ChildProcess;
  stderr = "";
  readonly #exit: Promise<number | string | null>;

  constructor(command: string, args: readonly string[], env: Environment = {}) {
    this.process = spawn(command, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    this.process.stderr?.on("data", (text) => {
      this.stderr += text;
    });
    this.#exit = new Promise((resolve) => {
      this.process.on("close", (code, signal) => resolve(code ?? signal));
    });
  }

  /** Its exit code, or the signal that killed it. */
  exit(): Promise<number | string | null> {
    return this.#exit;
  }
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`timed out waiting until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The fields of the mount at `path` in mountinfo: what stands before and after the dash. */
function mountAt(path: string): { own: string; type: string; source: string } | undefined {
  for (const line of readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
    const [before, after] = line.split(" - ");
    const fields = before?.split(" ") ?? [];
    if (fields[4] !== path || after === undefined) continue;
    const [type = "", source = ""] = after.split(" ");
    return { own: fields[5] ?? "", type, source };
  }
  return undefined;
}

/** The servers of the mount at `path`. */
function serversOf(path: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
        return words[0] === "node" && words.includes(path);
      } catch {
        return false;
      }
    })
    .map(Number);
}

function whyNotRoot(): string | undefined {
  return process.getuid?.() === 0 ? undefined : "needs root";
}

const skipped = skipBecause("cli", whyNotRoot(), whyNoFuse(), whyNoE2fsprogs());

describe.skipIf(skipped)("fuse4fs-ts", () => {
  const scope = new Scope();
  let folder = "";
  let image = "";
  let mountpoint = "";
  let count = 0;

  beforeAll(() => {
    folder = scope.temporaryFolder();
    chmodSync(folder, 0o755);
    const tree = join(folder, "tree");
    mkdirSync(join(tree, "sub"), { recursive: true });
    writeFileSync(join(tree, "hello"), "Hello.\n");
    writeFileSync(join(tree, "secret"), "Psst.\n", { mode: 0o600 });
    writeFileSync(join(tree, "sub/large"), Buffer.alloc(3_000_000, "0123456789"));
    image = join(folder, "disk.img");
    mke2fs(image, "16M", ["-t", "ext4", "-d", tree]);
  });
  afterAll(() => scope.close());

  beforeEach(() => {
    mountpoint = join(folder, `mnt${count++}`);
    mkdirSync(mountpoint);
  });
  afterEach(async () => {
    while (mountAt(mountpoint) !== undefined) run("umount", ["-l", mountpoint]);
    await until("no server is left", () => serversOf(mountpoint).length === 0);
  });

  const hello = (): string => readFileSync(join(mountpoint, "hello"), "utf8");

  /** Mounts in the background, which must not fail. */
  function mount(options = "ro", flags: readonly string[] = [], env: Environment = {}): void {
    const { status, stdout, stderr } = launch([image, mountpoint, "-o", options, ...flags], env);
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: "", stderr: "" });
  }

  async function foreground(
    options: string,
    flags: readonly string[] = [],
    env: Environment = {},
  ): Promise<Foreground> {
    const server = new Foreground(COMMAND, ["-f", image, mountpoint, "-o", options, ...flags], env);
    await until("the mount is there", () => mountAt(mountpoint) !== undefined);
    expect(hello()).toBe("Hello.\n");
    return server;
  }

  describe("in the background", () => {
    test("exits with 0 and without a word when the mount is live", () => {
      mount();
      expect(hello()).toBe("Hello.\n");
      expect(readdirSync(mountpoint).sort()).toEqual(["hello", "lost+found", "secret", "sub"]);
    });

    test("ends after an outside umount, and has left the image as it was", async () => {
      const before = sha256(image);
      mount();
      expect(readFileSync(join(mountpoint, "sub/large")).length).toBe(3_000_000);
      run("umount", [mountpoint]);
      await until("the server is gone", () => serversOf(mountpoint).length === 0);
      expect(sha256(image)).toBe(before);
    });

    test("leads a session of its own, in the root directory, without our descriptors", () => {
      mount();
      const [pid] = serversOf(mountpoint);
      const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
      expect(fields[3], "session").toBe(String(pid));
      expect(run("readlink", [`/proc/${pid}/cwd`]).stdout.toString()).toBe("/\n");
      for (const fd of [0, 1, 2])
        expect(run("readlink", [`/proc/${pid}/fd/${fd}`]).stdout.toString()).toBe("/dev/null\n");
    });

    test("unmounts when told to stop", async () => {
      mount();
      process.kill(serversOf(mountpoint)[0] ?? 0, "SIGTERM");
      await until("the mount is gone", () => mountAt(mountpoint) === undefined);
    });

    test("works through a symbolic link to the program", () => {
      const link = join(folder, "linked");
      symlinkSync(COMMAND, link);
      expect(spawnSync(link, [image, mountpoint, "-r"]).status).toBe(0);
      expect(hello()).toBe("Hello.\n");
    });

    test.each(["iomap=0", "iomap=default,noiomap_cache", "lazytime,strictatime"])(
      "serves the image with -o %s",
      (options) => {
        mount(`ro,${options}`);
        expect(readFileSync(join(mountpoint, "sub/large")).length).toBe(3_000_000);
        expect(mountAt(mountpoint)?.type).toBe("fuse.ext4");
      },
    );

    test("shares an image with another reader", () => {
      const second = join(folder, "second");
      mkdirSync(second);
      mount();
      expect(launch([image, second, "-o", "ro"]).stderr).toBe("");
      run("umount", [second]);
      expect(hello()).toBe("Hello.\n");
    });
  });

  describe("in mountinfo", () => {
    test("is fuse.ext4 with the image as it was given", () => {
      spawnSync(COMMAND, ["disk.img", mountpoint, "-o", "ro"], { cwd: folder });
      expect(mountAt(mountpoint)).toMatchObject({ type: "fuse.ext4", source: "disk.img" });
    });

    test("has the name and subtype that were asked for, commas and all", () => {
      mount("ro,fsname=my\\,disk,subtype=ext3");
      expect(mountAt(mountpoint)).toMatchObject({ type: "fuse.ext3", source: "my,disk" });
    });

    test("has nosuid and nodev unless taken back, and what else was asked for", () => {
      mount("ro,noexec,suid");
      expect(mountAt(mountpoint)?.own.split(",")).toEqual(["ro", "nodev", "noexec", "relatime"]);
    });
  });

  describe("the device", () => {
    test("can be an inherited descriptor, in the foreground and in the background", () => {
      const fd = openSync(image, "r");
      const stdio = ["ignore", "pipe", "pipe", fd] as const;
      for (const path of ["/dev/fd/3", "/proc/self/fd/3"]) {
        const started = spawnSync(COMMAND, [path, mountpoint, "-o", "ro"], { stdio: [...stdio] });
        expect(started.stderr.toString()).toBe("");
        expect(mountAt(mountpoint)?.source).toBe(path);
        expect(hello()).toBe("Hello.\n");
        run("umount", [mountpoint]);
      }
      closeSync(fd);
    });

    test("can be standard input", () => {
      const fd = openSync(image, "r");
      const args = ["/dev/fd/0", mountpoint, "-o", "ro"];
      expect(spawnSync(COMMAND, args, { stdio: [fd, "pipe", "pipe"] }).status).toBe(0);
      closeSync(fd);
      expect(hello()).toBe("Hello.\n");
    });

    test("can start at an offset", () => {
      const disk = join(folder, "partitioned.img");
      run("dd", [`if=${image}`, `of=${disk}`, "bs=1M", "seek=3", "conv=sparse", "status=none"]);
      const { stderr } = launch([disk, mountpoint, "-o", "ro,offset=3M"]);
      expect(stderr).toBe("");
      expect(readFileSync(join(mountpoint, "sub/large")).length).toBe(3_000_000);
    });
  });

  test("serves a fuse descriptor that somebody else has mounted", async () => {
    const script = `
import ctypes, os, sys
image, mountpoint, command = sys.argv[1:]
fuse = os.open("/dev/fuse", os.O_RDWR)
os.set_inheritable(fuse, True)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0"
if ctypes.CDLL(None, use_errno=True).mount(b"theirs", mountpoint.encode(), b"fuse.x", 1, options.encode()):
    sys.exit("mount failed")
os.execv(command, [command, "-f", image, f"/dev/fd/{fuse}", "-o", "ro"])`;
    const server = new Foreground("python3", ["-c", script, image, mountpoint, COMMAND]);
    await until("the mount is there", () => mountAt(mountpoint) !== undefined);
    expect(hello()).toBe("Hello.\n");
    expect(mountAt(mountpoint)).toMatchObject({ type: "fuse.x", source: "theirs" });
    run("umount", [mountpoint]);
    expect(await server.exit(), server.stderr).toBe(0);
  });

  describe("goes away", () => {
    test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)("cleanly on %s", async (signal) => {
      const server = await foreground("ro");
      server.process.kill(signal);
      expect(await server.exit()).toBe(0);
      expect(mountAt(mountpoint)).toBeUndefined();
      expect(server.stderr).toBe("");
    });

    test("on a signal that comes before the mount is live", async () => {
      const server = new Foreground(COMMAND, ["-f", image, mountpoint, "-o", "ro"]);
      // Without a pause: the server learns within a millisecond that its mount answers.
      const end = Date.now() + PATIENCE_MS;
      while (mountAt(mountpoint) === undefined && Date.now() < end);
      server.process.kill("SIGTERM");
      expect(await server.exit(), server.stderr).toBe(0);
      expect(mountAt(mountpoint)).toBeUndefined();
    });

    test("on a signal although a file is open", async () => {
      const server = await foreground("ro");
      const fd = openSync(join(mountpoint, "hello"), "r");
      server.process.kill("SIGTERM");
      expect(await server.exit()).toBe(0);
      closeSync(fd);
      expect(mountAt(mountpoint)).toBeUndefined();
    });

    test.each([
      ["umount", []],
      ["fusermount3", ["-u"]],
    ])("with 0 after %s", async (command, args) => {
      const server = await foreground("ro");
      // Busy for as long as the server itself looks whether the mount is live.
      await until(
        "nobody uses the mount",
        () => spawnSync(command, [...args, mountpoint]).status === 0,
      );
      expect(await server.exit()).toBe(0);
    });

    test("and leaves alone another mount that got its device number meanwhile", async () => {
      mount();
      const { dev } = statSync(mountpoint);
      const [first = 0] = serversOf(mountpoint);
      process.kill(first, "SIGSTOP");
      // umount(8) would ask the mount a question first, and nobody is there to answer.
      run("python3", ["-c", UMOUNT, mountpoint]);
      const second = await foreground("ro");
      expect(statSync(mountpoint).dev).toBe(dev);
      process.kill(first, "SIGCONT");
      await until("the first server is gone", () => !serversOf(mountpoint).includes(first));
      expect(hello()).toBe("Hello.\n");
      second.process.kill("SIGTERM");
      expect(await second.exit()).toBe(0);
    });

    test("with the last user after a lazy umount", async () => {
      const server = await foreground("ro");
      const fd = openSync(join(mountpoint, "hello"), "r");
      run("umount", ["-l", mountpoint]);
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(server.process.exitCode).toBe(null);
      closeSync(fd);
      expect(await server.exit()).toBe(0);
    });

    test("with its mount after the connection was aborted", async () => {
      const server = await foreground("ro");
      const control = scope.temporaryFolder();
      run("mount", ["-t", "fusectl", "fusectl", control]);
      // An anonymous device has major number 0, and its number is its minor number.
      writeFileSync(join(control, String(statSync(mountpoint).dev), "abort"), "1");
      run("umount", [control]);
      expect(await server.exit()).toBe(0);
      expect(mountAt(mountpoint)).toBeUndefined();
    });

    test.each([
      ["at once", 1],
      ["with the answer to INIT", 2],
      ["after a while", 20],
    ])("with its mount, a line and not 0 when the worker dies %s", async (_, calls) => {
      // Before every wait for a request, the worker looks at the words it shares with the program.
      const preload = join(folder, `die-${calls}.cjs`);
      writeFileSync(
        preload,
        `const threads = require("worker_threads");
         const { load } = Atomics;
         let calls = ${calls};
         Atomics.load = (array, index) => {
           const isOurs = !threads.isMainThread && array.buffer === threads.workerData?.control;
           if (isOurs && --calls === 0) throw new TypeError("planned");
           return load(array, index);
         };`,
      );
      const server = new Foreground(COMMAND, ["-f", image, mountpoint, "-r"], {
        NODE_OPTIONS: `--require ${preload}`,
      });
      const ask = setInterval(() => statfs(mountpoint, () => undefined), 10);
      const code = await server.exit();
      clearInterval(ask);
      expect(code).toBe(calls < 20 ? 32 : 1);
      expect(server.stderr).toMatch(
        /^fuse4fs-ts: [^\n]*internal error: TypeError: planned[^\n]*\n$/,
      );
      expect(mountAt(mountpoint)).toBeUndefined();
    });

    test("by kill -9 with its mount with auto_unmount", async () => {
      const server = await foreground("ro,auto_unmount");
      server.process.kill("SIGKILL");
      await until("the mount is gone", () => mountAt(mountpoint) === undefined);
    });

    test("by kill -9 with a stale mount, which says so and which umount clears", async () => {
      const server = await foreground("ro");
      server.process.kill("SIGKILL");
      await server.exit();
      expect(() => statfsSync(mountpoint)).toThrow("ENOTCONN");
      const again = launch([image, mountpoint, "-o", "ro"]);
      expect(again.status).toBe(32);
      expect(again.stderr).toMatch(/^fuse4fs-ts: .* is a mount whose server is gone.*\n$/);
      run("umount", [mountpoint]);
      expect(launch([image, mountpoint, "-o", "ro"]).status).toBe(0);
      expect(hello()).toBe("Hello.\n");
    });
  });

  describe("refuses, in one line and with nothing mounted,", () => {
    const zeros = (name: string, size: number): string => {
      const file = join(folder, name);
      writeFileSync(file, "");
      truncateSync(file, size);
      return file;
    };
    const changed = (name: string, change: (bytes: Buffer) => Buffer): string => {
      const file = join(folder, name);
      writeFileSync(file, change(readFileSync(image)));
      return file;
    };
    /** Without checksums, so that a feature can be added by setting its bit. */
    const withFeature = (bit: number): string => {
      const file = join(folder, `feature-${bit}.img`);
      mke2fs(file, "4M", ["-t", "ext4", "-O", "^metadata_csum"]);
      const bytes = readFileSync(file);
      bytes.writeUInt32LE((bytes.readUInt32LE(1024 + 0x60) | bit) >>> 0, 1024 + 0x60);
      writeFileSync(file, bytes);
      return file;
    };

    const IMAGE_CASES: readonly [what: string, make: () => string, says: RegExp][] = [
      ["a missing image", () => join(folder, "none.img"), /none\.img: .*no such file/],
      ["a directory for an image", () => folder, /: cannot be opened: .*\(EISDIR\)/],
      ["a device that is no disk", () => "/dev/null", /\/dev\/null: /],
      ["an empty file", () => zeros("empty.img", 0), /empty\.img: .+/],
      [
        "a file of zeros",
        () => zeros("zeros.img", 2 ** 20),
        /not an ext2, ext3 or ext4 filesystem/,
      ],
      [
        "a truncated image",
        () => changed("short.img", (bytes) => bytes.subarray(0, 2 ** 23)),
        /16777216 bytes.* 8388608.*truncated/,
      ],
      ["an unsupported feature", () => withFeature(0x1), /unsupported feature: compression/],
      ["an unknown feature", () => withFeature(0x4000_0000), /unsupported feature: .*30|40000000/],
    ];

    test.each(IMAGE_CASES)("%s", (_, make, says) => {
      const { status, stdout, stderr } = launch([make(), mountpoint, "-o", "ro"]);
      expect(stderr).toMatch(says);
      expect(stderr).toMatch(/^fuse4fs-ts: [^\n]+\n$/);
      expect({ status, stdout }).toEqual({ status: 32, stdout: "" });
      expect(mountAt(mountpoint)).toBeUndefined();
    });

    test.skipIf(!existsSync("/dev/loop-control"))("a device that cannot be read", () => {
      const file = changed("gone.img", (bytes) => bytes);
      const device = loopDevice(scope, file);
      truncateSync(file, 0);
      const { status, stderr } = launch([device, mountpoint, "-o", "ro"]);
      expect(stderr).toMatch(/^fuse4fs-ts: \/dev\/loop\d+: [^\n]*cannot read [^\n]*EIO\n$/);
      expect(status).toBe(32);
    });

    const withoutIomap: readonly [options: string, code: number, says: string][] =
      loadAddon().iomapSupport(-1) !== 0
        ? []
        : ["iomap", "ro,iomap=1", "iomap=0,iomap,noiomap_cache"].map((options) => [
            options,
            32,
            "disk.img: needs iomap, which takes a kernel that has it",
          ]);
    const OPTION_CASES: readonly [options: string, code: number, says: string][] = [
      ["frobnicate,ro", 1, "unknown mount option: frobnicate"],
      ["ro,errors=explode", 1, "errors=explode: takes continue, remount-ro, panic"],
      ["ro,cache_size=3G", 1, "cache_size=3G: takes one block to 2G"],
      ["ro,iomap=2", 1, "iomap=2: takes 0, 1, default"],
      ...withoutIomap,
      ["ro,offset=1T", 32, "offset=1099511627776 is past its end"],
      ["ro,offset=512", 32, "not an ext2, ext3 or ext4 filesystem"],
      ["ro,journal_path=/nowhere", 32, "journal /nowhere cannot be opened: no such file"],
      ["ro,lockfile=/nowhere/lock", 32, "lock file /nowhere/lock cannot be made"],
    ];

    test.each(OPTION_CASES)("-o %s", (options, code, says) => {
      for (const flags of [[], ["-f"]]) {
        const { status, stdout, stderr } = launch([image, mountpoint, "-o", options, ...flags]);
        expect(stderr).toContain(says);
        expect(stderr).toMatch(/^fuse4fs-ts: [^\n]+\n$/);
        expect({ status, stdout }).toEqual({ status: code, stdout: "" });
        expect(mountAt(mountpoint)).toBeUndefined();
      }
    });

    test("a cache that holds no block", () => {
      const large = join(folder, "large-blocks.img");
      mke2fs(large, "4M", ["-t", "ext4", "-b", "4096"]);
      const { status, stderr } = launch([large, mountpoint, "-o", "ro,cache_size=1k"]);
      expect(stderr).toMatch(
        /^fuse4fs-ts: [^\n]*cache_size: takes at least one block, 4096 bytes\n$/,
      );
      expect(status).toBe(32);
    });

    test.each([
      ["none", "does not exist"],
      ["disk.img", "is not a directory"],
    ])("the mount point %s", (name, says) => {
      const { status, stderr } = launch([image, join(folder, name), "-o", "ro"]);
      expect(stderr).toContain(`mount point ${join(folder, name)} ${says}`);
      expect(stderr).toMatch(/^fuse4fs-ts: [^\n]+\n$/);
      expect(status).toBe(32);
    });

    test("a name with a line break in it", () => {
      const { stderr } = launch(["two\nlines", mountpoint, "-o", "ro"]);
      expect(stderr).toMatch(/^fuse4fs-ts: two\\x0alines: [^\n]+\n$/);
    });

    test("usage errors with 1", () => {
      for (const args of [[], [image], [image, mountpoint, "-r", "-x"], [image, "a", "b", "-r"]]) {
        const { status, stderr } = launch(args);
        expect(stderr).toMatch(/^fuse4fs-ts: [^\n]+\n$/);
        expect(status).toBe(1);
      }
    });

    test("a machine without /dev/fuse", () => {
      const script = 'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"';
      const cwd = copyOutOfDev();
      const words = ["-m", "sh", "-c", script, "sh", COMMAND, "disk.img", mountpoint, "-o", "ro"];
      const { status, stderr } = spawnSync("unshare", words, { encoding: "utf8", cwd });
      expect(stderr).toMatch(
        /^fuse4fs-ts: disk\.img: cannot open \/dev\/fuse: no such file[^\n]*\n$/,
      );
      expect(status).toBe(32);
    });

    /** The images of this test may be on /dev/shm, which that machine does not have. */
    function copyOutOfDev(): string {
      const away = run("mktemp", ["-d", "/tmp/fuse4fs-ts-XXXXXX"]).stdout.toString().trimEnd();
      scope.add(() => run("rm", ["-r", away]));
      run("cp", [image, away]);
      mountpoint = join(away, "mnt");
      mkdirSync(mountpoint);
      return away;
    }

    test("an image that the user may not read", () => {
      const secret = changed("private.img", (bytes) => bytes);
      chmodSync(secret, 0o600);
      const { status, stderr } = asNobody(COMMAND, [secret, mountpoint, "-o", "ro"]);
      expect(stderr).toMatch(/^fuse4fs-ts: [^\n]*private\.img: [^\n]*permission denied[^\n]*\n$/);
      expect(status).toBe(32);
    });
  });

  test("-h and -V answer on standard output and exit with 0", () => {
    expect(launch(["-h"])).toMatchObject({ status: 0, stderr: "" });
    expect(launch(["-h"]).stdout).toContain("norecovery");
    expect(launch(["-V"]).stdout).toMatch(/^fuse4fs-ts \d/);
    expect(launch([image, "-V"]).status).toBe(0);
  });

  describe("reports", () => {
    test("requests by opcode at the end with --stats", async () => {
      const server = await foreground("ro", ["--stats"]);
      run("umount", [mountpoint]);
      expect(await server.exit()).toBe(0);
      expect(server.stderr).toMatch(/^request +served +in script\nLOOKUP +\d+ +\d+\n/);
      expect(server.stderr).toMatch(/^INIT +1 +1$/m);
    });

    test("to the terminal that started it with --stats in the background", async () => {
      // spawnSync returns when standard error is closed, which is at the end of the server.
      const script = '"$0" --stats "$1" "$2" -o ro && cat "$2/hello" && umount "$2"';
      const shell = ["-c", script, COMMAND, image, mountpoint];
      const { stdout, stderr } = spawnSync("sh", shell, { encoding: "utf8" });
      expect(stdout).toBe("Hello.\n");
      expect(stderr).toMatch(/^total +\d+ +\d+$/m);
    });

    test("the same at any time on SIGUSR1, and goes on", async () => {
      const server = await foreground("ro");
      for (const reports of [1, 2]) {
        server.process.kill("SIGUSR1");
        await until("it has reported", () => server.stderr.split("total").length === reports + 1);
      }
      expect(server.stderr).toMatch(/^STATFS +2 +2$/m);
      expect(hello()).toBe("Hello.\n");
      server.process.kill("SIGTERM");
      expect(await server.exit()).toBe(0);
    });

    test("every request with -d", async () => {
      const server = await foreground("ro", ["-d"]);
      run("umount", [mountpoint]);
      await server.exit();
      expect(server.stderr).toMatch(/LOOKUP.*"hello".*-> ok/);
      expect(server.stderr).toContain("READ");
    });

    test("into FUSE4FS_LOGFILE or FUSE2FS_LOGFILE, of mode 0600", () => {
      for (const name of ["FUSE4FS_LOGFILE", "FUSE2FS_LOGFILE"]) {
        const log = join(folder, name);
        const missing = launch(["/nowhere", mountpoint, "-o", "ro"], { [name]: log });
        expect(missing).toMatchObject({ status: 32, stderr: "", stdout: "" });
        expect(launch([image, mountpoint, "-o", "frobnicate"], { [name]: log }).status).toBe(1);
        expect(readFileSync(log, "utf8")).toMatch(/^fuse4fs-ts: \/nowhere: .*\n.*frobnicate\n$/);
        expect(statSync(log).mode & 0o777).toBe(0o600);
      }
    });

    test("with 2 that the log file cannot be written", () => {
      const { status, stderr } = launch([image, mountpoint, "-r"], { FUSE4FS_LOGFILE: "/no/log" });
      expect(stderr).toMatch(/^fuse4fs-ts: log file [^\n]*\/no\/log[^\n]*\n$/);
      expect(status).toBe(2);
    });

    test("from the background into the log file", async () => {
      const log = join(folder, "background.log");
      mount("ro", ["--stats"], { FUSE4FS_LOGFILE: log });
      run("umount", [mountpoint]);
      await until("the report is written", () => readFileSync(log, "utf8").includes("total"));
    });
  });

  test("-o lockfile= is there while mounted, keeps others out, and goes with the mount", async () => {
    const lock = join(folder, "lock");
    mount(`ro,lockfile=${lock}`);
    expect(existsSync(lock)).toBe(true);
    const second = launch([image, mountpoint, "-o", `ro,lockfile=${lock}`]);
    expect(second.stderr).toMatch(/^fuse4fs-ts: [^\n]*lock file [^\n]* exists[^\n]*\n$/);
    expect(second.status).toBe(32);
    expect(existsSync(lock)).toBe(true);
    run("umount", [mountpoint]);
    await until("the lock is gone", () => !existsSync(lock));
  });

  test("-o lockfile= is gone after a mount that failed", () => {
    const lock = join(folder, "lock-of-failure");
    expect(launch(["/nowhere", mountpoint, "-o", `ro,lockfile=${lock}`]).status).toBe(32);
    expect(existsSync(lock)).toBe(false);
  });

  test("-o oom_score_adj= is set", () => {
    mount("ro,oom_score_adj=123");
    expect(readFileSync(`/proc/${serversOf(mountpoint)[0]}/oom_score_adj`, "utf8")).toBe("123\n");
  });

  test("-o uid=, gid= and masks change what is shown", () => {
    mount("ro,uid=7,gid=8,fmask=0137,dmask=0022");
    expect(statSync(join(mountpoint, "hello"))).toMatchObject({ uid: 7, gid: 8, mode: 0o100640 });
    expect(statSync(join(mountpoint, "sub")).mode).toBe(0o040755);
  });

  test("-o minixdf makes the filesystem larger than bsddf does", () => {
    mount("ro,minixdf");
    const { blocks } = statfsSync(mountpoint);
    run("umount", [mountpoint]);
    mount();
    expect(blocks).toBeGreaterThan(statfsSync(mountpoint).blocks);
  });

  describe("other users", () => {
    test("are let in by root's mount, and may do what the modes say", () => {
      mount();
      expect(asNobody("cat", [join(mountpoint, "hello")]).stdout).toBe("Hello.\n");
      expect(asNobody("cat", [join(mountpoint, "secret")]).stderr).toContain("Permission denied");
    });

    test("may do everything with fakeroot", () => {
      mount("ro,fakeroot");
      expect(asNobody("cat", [join(mountpoint, "secret")]).stdout).toBe("Psst.\n");
    });

    test("are kept out with no_default_opts and with allow_root", () => {
      for (const option of ["no_default_opts", "allow_root"]) {
        mount(`ro,${option}`);
        expect(hello()).toBe("Hello.\n");
        expect(asNobody("cat", [join(mountpoint, "hello")]).stderr).toContain("Permission denied");
        run("umount", [mountpoint]);
      }
    });
  });

  const whyNoHelper = (): string | undefined => {
    const helper = spawnSync("which", ["fusermount3"], { encoding: "utf8" }).stdout.trim();
    if (helper === "") return "needs fusermount3";
    if ((statSync(helper).mode & 0o4000) === 0) return "needs fusermount3 to be set-user-ID";
    const readable = asNobody("test", ["-r", COMMAND]).status === 0;
    return readable ? undefined : "needs a checkout that every user can read";
  };

  describe.skipIf(skipBecause("cli of users", whyNoHelper()))("without root", () => {
    let mode = 0;
    beforeAll(() => {
      mode = statSync("/dev/fuse").mode & 0o7777;
      chmodSync("/dev/fuse", 0o666);
    });
    afterAll(() => chmodSync("/dev/fuse", mode));
    beforeEach(() => run("chown", [String(NOBODY), mountpoint]));

    test("mounts through fusermount3 for that user alone", () => {
      const { status, stderr } = asNobody(COMMAND, [image, mountpoint, "-o", "ro"]);
      expect(stderr).toBe("");
      expect(status).toBe(0);
      expect(mountAt(mountpoint)).toMatchObject({ type: "fuse.ext4", source: image });
      expect(asNobody("cat", [join(mountpoint, "hello")]).stdout).toBe("Hello.\n");
      expect(() => hello()).toThrow("EACCES");
    });

    test("unmounts on a signal, and ends after fusermount3 -u", async () => {
      asNobody(COMMAND, [image, mountpoint, "-o", "ro"]);
      process.kill(serversOf(mountpoint)[0] ?? 0, "SIGTERM");
      await until("the mount is gone", () => mountAt(mountpoint) === undefined);
      await until("the server is gone", () => serversOf(mountpoint).length === 0);
      asNobody(COMMAND, [image, mountpoint, "-o", "ro"]);
      expect(asNobody("fusermount3", ["-u", mountpoint]).status).toBe(0);
      await until("the server is gone", () => serversOf(mountpoint).length === 0);
    });

    test("says why it cannot mount over a directory of somebody else", () => {
      run("chown", ["0", mountpoint]);
      chmodSync(mountpoint, 0o755);
      const { status, stderr } = asNobody(COMMAND, [image, mountpoint, "-o", "ro"]);
      expect(stderr).toMatch(/^fuse4fs-ts: [^\n]+\n$/);
      expect(status).toBe(32);
    });
  });
});

function asNobody(command: string, args: readonly string[]): SpawnSyncReturns<string> {
  const user = [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"];
  return spawnSync("setpriv", [...user, command, ...args], { encoding: "utf8" });
}
