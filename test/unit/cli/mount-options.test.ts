/** The table of mount options: every entry is applied here, and every way to get one wrong. */
import { describe, expect, test } from "vitest";
import {
  applyMountOptions,
  type Draft,
  emptyDraft,
  findMountOption,
  MOUNT_OPTIONS,
  splitOptions,
} from "../../../src/cli/mount-options.ts";

function draftOf(...lists: readonly string[]): Draft {
  const draft = emptyDraft();
  applyMountOptions(draft, lists);
  return draft;
}

/** What `list` changes in a draft, and nothing else. */
function changesOf(list: string): Partial<Draft> {
  const before = Object.entries(emptyDraft());
  const after = draftOf(list);
  return Object.fromEntries(
    before
      .filter(([key, value]) => stringify(value) !== stringify(after[key as keyof Draft]))
      .map(([key]) => [key, after[key as keyof Draft]]),
  );
}

const stringify = (value: unknown): string =>
  JSON.stringify(value instanceof Set ? [...value] : value) ?? "undefined";

const flags = (...names: readonly string[]): Set<string> => new Set(names);

/** What each option that does something does. Options missing here must be in the group `ignored`. */
// biome-ignore format: a table
const EFFECTS: Readonly<Record<string, readonly [text: string, effect: Partial<Draft>]>> = {
  ro: ["ro", { readOnly: true }],
  rw: ["rw", { readOnly: false }],
  norecovery: ["norecovery", { noRecovery: true }],
  noload: ["noload", { noRecovery: true }],
  offset: ["offset=1M", { offsetBytes: 2 ** 20 }],
  sb: ["sb=32768", { superblockKiB: 32768 }],
  journal_path: ["journal_path=/dev/loop9", { journalPath: "/dev/loop9" }],
  cache_size: ["cache_size=4m", { cacheSizeBytes: 4 * 2 ** 20 }],
  directio: ["directio", { direct: true }],
  direct: ["direct", { direct: true }],
  lockfile: ["lockfile=/run/a.lock", { lockFile: "/run/a.lock" }],
  commit: ["commit=30", { commitSeconds: 30 }],
  errors: ["errors=remount-ro", { errors: "remount-ro" }],
  discard: ["discard", { discard: true }],
  nodiscard: ["discard,nodiscard", {}],
  data: ["data=journal", { notices: ["data=journal: carried out as data=ordered"] }],
  allow_other: ["allow_other", { allowOther: true }],
  allow_root: ["allow_root", { allowRoot: true }],
  default_permissions: ["default_permissions", { defaultPermissions: true }],
  no_default_opts: ["no_default_opts", { defaults: false }],
  fakeroot: ["suid,dev,fakeroot", { defaultPermissions: false }],
  kernel: ["kernel", { finishes: true, asksAtOpen: true, allowOther: true, defaultPermissions: true, attributes: { acl: true }, flags: flags() }],
  acl: ["acl", { attributes: { acl: true } }],
  noacl: ["noacl", { attributes: { acl: false } }],
  grpid: ["grpid", { bsdGroups: true }],
  bsdgroups: ["nogrpid,bsdgroups", { bsdGroups: true }],
  nogrpid: ["nogrpid", { bsdGroups: false }],
  sysvgroups: ["sysvgroups", { bsdGroups: false }],
  resuid: ["resuid=1000", { reserveUid: 1000 }],
  resgid: ["resgid=4294967294", { reserveGid: 4294967294 }],
  auto_unmount: ["auto_unmount", { autoUnmount: true }],
  fsname: ["fsname=my disk", { fsname: "my disk" }],
  subtype: ["subtype=ext3", { subtype: "ext3" }],
  blkdev: ["noblkdev,blkdev", {}],
  noblkdev: ["noblkdev", { asDevice: false }],
  uid: ["uid=4294967294", { attributes: { uid: 4294967294 } }],
  gid: ["gid=0", { attributes: { gid: 0 } }],
  umask: ["umask=022", { attributes: { umask: 0o022 } }],
  fmask: ["fmask=0133", { attributes: { fmask: 0o133 } }],
  dmask: ["dmask=77", { attributes: { dmask: 0o77 } }],
  minixdf: ["minixdf", { minixdf: true }],
  bsddf: ["minixdf,bsddf", {}],
  entry_timeout: ["entry_timeout=1.5", { attributes: { entryTimeout: 1.5 } }],
  negative_timeout: ["negative_timeout=0", { attributes: { negativeTimeout: 0 } }],
  attr_timeout: ["attr_timeout=60", { attributes: { attrTimeout: 60 } }],
  max_read: ["max_read=65536", { maxReadBytes: 65536 }],
  debug: ["debug", { trace: true, foreground: true }],
  fuse2fs_debug: ["fuse2fs_debug", { trace: true }],
  fuse4fs_debug: ["fuse4fs_debug", { trace: true }],
  oom_score_adj: ["oom_score_adj=-500", { oomScoreAdjustment: -500 }],
  iomap: ["iomap=0", { iomap: "forbid" }],
  iomap_cache: ["noiomap_cache,iomap_cache", {}],
  noiomap_cache: ["noiomap_cache", { iomapCache: false }],
  remount: ["remount", {}],
  nosuid: ["suid,nosuid", { flags: flags("nodev", "nosuid") }],
  suid: ["suid", { flags: flags("nodev") }],
  nodev: ["nodev", {}],
  dev: ["dev", { flags: flags("nosuid") }],
  noexec: ["noexec", { flags: flags("nosuid", "nodev", "noexec") }],
  exec: ["noexec,exec", {}],
  noatime: ["noatime", { flags: flags("nosuid", "nodev", "noatime") }],
  atime: ["noatime,atime", {}],
  nodiratime: ["nodiratime", { flags: flags("nosuid", "nodev", "nodiratime") }],
  diratime: ["nodiratime,diratime", {}],
  relatime: ["relatime", { flags: flags("nosuid", "nodev", "relatime") }],
  norelatime: ["relatime,norelatime", {}],
  strictatime: ["strictatime", { flags: flags("nosuid", "nodev", "strictatime") }],
  nostrictatime: ["strictatime,nostrictatime", {}],
  lazytime: ["lazytime", { flags: flags("nosuid", "nodev", "lazytime") }],
  nolazytime: ["lazytime,nolazytime", {}],
  sync: ["sync", { flags: flags("nosuid", "nodev", "sync") }],
  async: ["sync,async", {}],
  dirsync: ["dirsync", { flags: flags("nosuid", "nodev", "dirsync") }],
};

const effective = MOUNT_OPTIONS.filter((option) => option.group !== "ignored");
const ignored = MOUNT_OPTIONS.filter((option) => option.group === "ignored");

describe("MOUNT_OPTIONS", () => {
  test("names every option once", () => {
    const names = MOUNT_OPTIONS.flatMap((option) => option.names);
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  });

  test("has its effects listed in this test, each of them", () => {
    expect(Object.keys(EFFECTS).sort()).toEqual(effective.flatMap(({ names }) => names).sort());
  });

  test.each(Object.entries(EFFECTS).filter(([name]) => name !== "remount"))(
    "%s changes what it should and nothing else",
    (_, [text, effect]) => {
      expect(changesOf(text)).toEqual(effect);
    },
  );

  test.each(ignored.flatMap(({ names }) => names))("%s is accepted and changes nothing", (name) => {
    const word = name.replace("*", "systemd.automount");
    expect(changesOf(word)).toEqual({});
    expect(changesOf(`${word}=7`)).toEqual({});
  });

  test.each(MOUNT_OPTIONS)("$names.0 says what it does", (option) => {
    expect(option.help.length).toBeGreaterThan(4);
    expect(findMountOption(option.names[0] ?? "")).toBe(option);
  });
});

describe("applyMountOptions()", () => {
  test("lets the last of contradicting options win, across lists too", () => {
    expect(draftOf("ro,rw").readOnly).toBe(false);
    expect(draftOf("rw", "ro").readOnly).toBe(true);
    expect(draftOf("offset=1,offset=2").offsetBytes).toBe(2);
  });

  test("takes commit=0 and data=ordered for the defaults", () => {
    expect(changesOf("commit=30,commit=0,data=ordered")).toEqual({});
  });

  test("puts kernel before all others, wherever it stands", () => {
    const draft = draftOf("nosuid,noacl", "kernel");
    expect(draft.flags).toEqual(flags("nosuid"));
    expect(draft.attributes.acl).toBe(false);
    expect(draft.allowOther).toBe(true);
  });

  test("lets allow_other take allow_root back", () => {
    expect(draftOf("allow_root,allow_other").allowRoot).toBe(false);
  });

  test.each([
    ["foo", "unknown mount option: foo"],
    ["foo=bar", "unknown mount option: foo=bar"],
    ["nosymfollow", "unknown mount option: nosymfollow"],
    ["ro=1", "mount option ro takes no value: ro=1"],
    ["offset", "mount option offset needs a value: offset=BYTES"],
    ["errors=explode", "errors=explode: takes continue, remount-ro, panic"],
    ["cache_size=1023", "cache_size=1023: takes one block to 2G"],
    ["cache_size=2049M", "cache_size=2049M: takes one block to 2G"],
    ["uid=-1", "uid=-1: takes a number from 0 to 4294967294"],
    ["sb=0", "sb=0: takes a number from 1"],
    ["lockfile=", "lockfile=: takes a value that is not empty"],
    ["iomap=2", "iomap=2: takes 0, 1, default"],
    ["iomap=yes", "iomap=yes: takes 0, 1, default"],
    ["iomap_cache=1", "mount option iomap_cache takes no value: iomap_cache=1"],
    ["remount", "unmount and mount again"],
  ])("refuses %s", (text, message) => {
    expect(() => draftOf(text)).toThrow(message);
  });

  test.each([
    ["iomap", "require"],
    ["iomap=1", "require"],
    ["iomap=0", "forbid"],
    ["iomap=default", "default"],
    ["iomap=1,iomap=default", "default"],
    ["iomap=0,iomap", "require"],
  ])("takes %s for %s", (text, meaning) => {
    expect(draftOf(text).iomap).toBe(meaning);
  });

  test("takes the cache sizes at both ends", () => {
    expect(draftOf("cache_size=1k").cacheSizeBytes).toBe(1024);
    expect(draftOf("cache_size=2G").cacheSizeBytes).toBe(2 ** 31);
  });
});

describe("splitOptions()", () => {
  test.each([
    ["ro,allow_other", ["ro", "allow_other"]],
    [",ro,,", ["ro"]],
    ["", []],
    ["fsname=a\\,b,ro", ["fsname=a,b", "ro"]],
    ["fsname=a\\\\,ro", ["fsname=a\\", "ro"]],
    ["fsname=a\\054b", ["fsname=a,b"]],
    ["fsname=a\\04", ["fsname=a04"]],
    ["fsname=a\\", ["fsname=a\\"]],
    ["fsname=two\nlines", ["fsname=two\nlines"]],
  ])("splits %j", (list, words) => {
    expect(splitOptions(list)).toEqual(words);
  });
});
