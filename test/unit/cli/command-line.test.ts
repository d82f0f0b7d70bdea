/** Command lines as people type them, and the plans that come of them. */
import { describe, expect, test } from "vitest";
import { type MountCommand, parseCommandLine } from "../../../src/cli/command-line.ts";
import { UsageError } from "../../../src/cli/usage-error.ts";

function parse(line: string, isRoot = true): MountCommand {
  const command = parseCommandLine(line.split(" ").filter(Boolean), isRoot);
  if (command.kind !== "mount") throw new Error(`not a mount: ${command.kind}`);
  return command;
}

describe("parseCommandLine()", () => {
  test("fills in the defaults of a mount by root", () => {
    expect(parse("disk.img /mnt")).toEqual({
      kind: "mount",
      foreground: false,
      stats: false,
      lockFile: undefined,
      oomScoreAdjustment: undefined,
      plan: {
        device: "disk.img",
        mountpoint: "/mnt",
        notices: [],
        trace: false,
        image: {
          offsetBytes: 0,
          noRecovery: false,
          finishes: false,
          superblockKiB: undefined,
          journalPath: undefined,
          cacheSizeBytes: 32 * 2 ** 20,
          direct: false,
          writing: {
            commitSeconds: 5,
            errors: undefined,
            discard: false,
            atime: "relatime",
            nodiratime: false,
            lazytime: false,
            bsdGroups: undefined,
            reserveUid: undefined,
            reserveGid: undefined,
          },
        },
        mount: {
          fsname: "disk.img",
          subtype: "ext4",
          asDevice: true,
          allowOther: true,
          defaultPermissions: true,
          autoUnmount: false,
          maxReadBytes: 0,
          flags: ["nosuid", "nodev"],
        },
        presentation: { minixdf: false, asksAtOpen: false },
        session: { acl: true, idMapped: true, synchronous: "none" },
        iomap: "default",
        iomapCache: true,
      },
    });
  });

  test("lets only the user in who mounts, unless that is root", () => {
    const { mount } = parse("a b -o ro", false).plan;
    expect(mount).toMatchObject({ allowOther: false, defaultPermissions: true });
    expect(parse("a b -o ro,allow_other", false).plan.mount.allowOther).toBe(true);
  });

  test("leaves out the defaults with no_default_opts", () => {
    expect(parse("a b -o ro,no_default_opts").plan.mount).toMatchObject({
      allowOther: false,
      defaultPermissions: false,
    });
    expect(parse("a b -o no_default_opts,ro,allow_other").plan.mount.allowOther).toBe(true);
  });

  test("lets nobody be refused with fakeroot", () => {
    expect(parse("a b -o ro,fakeroot").plan.mount).toMatchObject({
      allowOther: true,
      defaultPermissions: false,
      flags: ["nosuid", "nodev"],
    });
  });

  test("enforces ACLs only where modes are checked, unless told", () => {
    expect(parse("a b -o ro,fakeroot").plan.session.acl).toBe(false);
    expect(parse("a b -o ro,fakeroot,acl").plan.session.acl).toBe(true);
    expect(parse("a b -o ro,noacl").plan.session.acl).toBe(false);
  });

  test("takes allow_root of root as: nobody else, and of others not at all", () => {
    expect(parse("a b -o ro,allow_root").plan.mount.allowOther).toBe(false);
    expect(() => parse("a b -o ro,allow_root", false)).toThrow("use allow_other");
  });

  test.each([
    ["a b -oro -f", true],
    ["-fo ro a b", true],
    ["-foro a b", true],
    ["-f -s a b -r", true],
    ["--foreground a b -r", true],
    ["-d a b -r", true],
    ["a b -o ro,debug", true],
    ["a b -o ro", false],
    ["a b -oro,fsname=-f", false],
  ])("knows from `%s` whether to stay in the foreground", (line, foreground) => {
    expect(parse(line)).toMatchObject({ foreground, plan: { device: "a" } });
  });

  test("traces with -d, and with -o debug", () => {
    expect(parse("a b -r -d").plan.trace).toBe(true);
    expect(parse("a b -r -o debug").plan.trace).toBe(true);
    expect(parse("a b -r -f").plan.trace).toBe(false);
  });

  test("joins repeated -o", () => {
    const { plan } = parse("-o ro a -o offset=512 b -o noexec");
    expect(plan).toMatchObject({ device: "a", image: { offsetBytes: 512 } });
    expect(plan.mount.flags).toContain("noexec");
  });

  test("takes words after -- and numbers as they are", () => {
    expect(parse("-r -- -a -b").plan).toMatchObject({ device: "-a" });
    expect(parse("-r 007 1e3").plan.device).toBe("007");
  });

  test("makes paths absolute that are needed after the change of directory", () => {
    const { plan, lockFile } = parse("a b -o ro,lockfile=c");
    expect(plan.mountpoint).toBe(`${process.cwd()}/b`);
    expect(lockFile).toBe(`${process.cwd()}/c`);
    expect(plan.device).toBe("a");
  });

  test("has -r win over rw", () => {
    expect(parse("-r a b -o rw").plan.image.writing).toBeUndefined();
  });

  test("writes unless told otherwise, the last one of ro and rw winning", () => {
    const writes = (line: string): boolean => parse(line).plan.image.writing !== undefined;
    expect(["a b", "a b -o rw", "a b -o ro", "a b -o rw,ro", "a b -o ro,rw"].map(writes)).toEqual([
      true,
      true,
      false,
      false,
      true,
    ]);
  });

  test.each([
    ["", "relatime"],
    ["-o noatime", "noatime"],
    ["-o noatime,strictatime", "strictatime"],
    ["-o noatime,relatime,noatime", "noatime"],
  ])("takes `%s` for the access time policy %s", (options, atime) => {
    expect(parse(`a b ${options}`).plan.image.writing?.atime).toBe(atime);
  });

  test.each([
    ["", "none"],
    ["-o dirsync", "names"],
    ["-o dirsync,sync", "all"],
  ])("makes what `%s` says durable at once: %s", (options, synchronous) => {
    expect(parse(`a b ${options}`).plan.session.synchronous).toBe(synchronous);
  });

  test("has something to say about data=writeback, where anything is written", () => {
    expect(parse("a b -o data=writeback").plan.notices).toHaveLength(1);
    expect(parse("a b -o ro,data=writeback").plan.notices).toEqual([]);
  });

  test.each(["-h", "--help", "a b -fh", "-V", "--version"])("answers %s", (line) => {
    const { kind } = parseCommandLine(line.split(" "), true);
    expect(kind).toBe(line.includes("h") ? "help" : "version");
  });

  test.each([
    ["", "no device given"],
    ["-r", "no device given"],
    ["-r a", "no mount point given"],
    ["-r a b c", "one word too many: c"],
    ["-r -x a b", "unknown flag: -x"],
    ["-r --frobnicate a b", "unknown flag: --frobnicate"],
    ["-fx a b -r", "unknown flag: -fx"],
    ["a b -o ro,frobnicate", "unknown mount option: frobnicate"],
  ])("refuses `%s`", (line, message) => {
    expect(() => parse(line)).toThrow(UsageError);
    expect(() => parse(line)).toThrow(message);
  });
});
