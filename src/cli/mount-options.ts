/**
 * Every mount option, in one table: its names, its value, what it does, and how it changes the
 * draft of a mount. The parser looks options up here and the help is printed from here, so the two
 * cannot differ.
 *
 * The set is that of fuse2fs and fuse4fs, of libfuse, of mount(8) and of the kernel's ext4, so that
 * command lines and fstab entries made for those keep working. What has no effect here is accepted
 * all the same, and says why.
 */
import type { MountPlan, WritingPlan } from "../server/plan.ts";
import { UsageError } from "./usage-error.ts";
import { parseBytes, parseMask, parseSeconds, parseText, parseWhole, parseWord } from "./values.ts";

/** A mount while its options are read: undefined is what nobody has asked for yet. */
export interface Draft {
  readOnly: boolean | undefined;
  foreground: boolean;
  trace: boolean;
  defaults: boolean;

  offsetBytes: number;
  superblockKiB: number | undefined;
  journalPath: string | undefined;
  noRecovery: boolean;
  finishes: boolean;
  asksAtOpen: boolean;
  direct: boolean;
  cacheSizeBytes: number;
  errors: WritingPlan["errors"];
  commitSeconds: number;
  discard: boolean;
  bsdGroups: boolean | undefined;
  reserveUid: number | undefined;
  reserveGid: number | undefined;
  notices: string[];
  lockFile: string | undefined;
  oomScoreAdjustment: number | undefined;

  fsname: string | undefined;
  subtype: string;
  asDevice: boolean;
  allowOther: boolean | undefined;
  allowRoot: boolean;
  defaultPermissions: boolean | undefined;
  autoUnmount: boolean;
  maxReadBytes: number;
  flags: Set<string>;
  iomap: MountPlan["iomap"];
  iomapCache: boolean;

  minixdf: boolean;
  attributes: Writable<Omit<MountPlan["session"], "synchronous">>;
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/** As in the kernel's ext4. @see fs/jbd2/journal.c, JBD2_DEFAULT_MAX_COMMIT_AGE */
const COMMIT_SECONDS_DEFAULT = 5;
const COMMIT_SECONDS_MAX = 2 ** 31 / 1000 - 1;
const CACHE_SIZE_DEFAULT = 32 * 2 ** 20;
const CACHE_SIZE_MIN = 1024;
const CACHE_SIZE_MAX = 2 * 2 ** 30;
const ID_MAX = 2 ** 32 - 2;
const READ_MAX = 2 ** 31 - 1;
const OOM_SCORE_MAX = 1000;

/** What a mount is before the first option is read. Root's `nosuid` and `nodev` are libfuse's too. */
export function emptyDraft(): Draft {
  return {
    readOnly: undefined,
    foreground: false,
    trace: false,
    defaults: true,
    offsetBytes: 0,
    superblockKiB: undefined,
    journalPath: undefined,
    noRecovery: false,
    finishes: false,
    asksAtOpen: false,
    direct: false,
    cacheSizeBytes: CACHE_SIZE_DEFAULT,
    errors: undefined,
    commitSeconds: COMMIT_SECONDS_DEFAULT,
    discard: false,
    bsdGroups: undefined,
    reserveUid: undefined,
    reserveGid: undefined,
    notices: [],
    lockFile: undefined,
    oomScoreAdjustment: undefined,
    fsname: undefined,
    subtype: "ext4",
    asDevice: true,
    allowOther: undefined,
    allowRoot: false,
    defaultPermissions: undefined,
    autoUnmount: false,
    maxReadBytes: 0,
    flags: new Set(["nosuid", "nodev"]),
    iomap: "default",
    iomapCache: true,
    minixdf: false,
    attributes: {},
  };
}

/** Headings of the help, in its order. */
export const GROUPS = {
  image: "The image",
  writing: "Writing",
  access: "Who may do what",
  shown: "What is shown",
  caching: "Caching in the kernel",
  server: "The server",
  flags: "Mount flags",
  ignored: "Accepted without effect",
} as const;

export interface MountOption {
  /** The first name is the usual one. A name that ends in `*` stands for all that start so. */
  readonly names: readonly string[];
  /** What the value is called in the help; undefined for an option that takes none. */
  readonly value: string | undefined;
  readonly valueIsOptional: boolean;
  readonly group: keyof typeof GROUPS;
  /** What the option does, or why it does nothing. */
  readonly help: string;
  /** @throws UsageError when the value makes no sense. */
  readonly apply: (draft: Draft, value: string) => void;
}

type Group = keyof typeof GROUPS;

function flag(
  group: Group,
  names: string,
  help: string,
  apply: (draft: Draft) => void,
): MountOption {
  return { names: names.split(" "), value: undefined, valueIsOptional: false, group, help, apply };
}

/** `spec` is `name=META`, or `name[=META]` where the value may be left out. */
function valued(
  group: Group,
  spec: string,
  help: string,
  apply: (draft: Draft, value: string) => void,
): MountOption {
  const [, name, bracket, value] = /^(\w+)(\[?)=([^\]]+)\]?$/.exec(spec) ?? [];
  if (name === undefined) throw new TypeError(`not an option: ${spec}`);
  return { names: [name], value, valueIsOptional: bracket === "[", group, help, apply };
}

/** Sets a mount flag; the last one of those that exclude each other wins. */
function setFlag(draft: Draft, name: string): void {
  draft.flags.delete(name);
  draft.flags.add(name);
}

/** A pair of words for one of the kernel's mount flags: `on` sets it, `off` takes it away. */
function kernelFlag(on: string, off: string, help: string): MountOption[] {
  return [
    flag("flags", on, help, (draft) => setFlag(draft, on)),
    flag("flags", off, `the opposite of ${on}`, (draft) => draft.flags.delete(on)),
  ];
}

function ignored(names: string, why: string): MountOption {
  return {
    names: names.split(" "),
    value: "VALUE",
    valueIsOptional: true,
    group: "ignored",
    help: why,
    apply: () => undefined,
  };
}

/** The `kernel` option: stands before all others, so that they can take parts of it back. */
function likeTheKernel(draft: Draft): void {
  draft.finishes = true;
  draft.asksAtOpen = true;
  draft.allowOther = true;
  draft.defaultPermissions = true;
  draft.attributes.acl = true;
  draft.flags.delete("nosuid");
  draft.flags.delete("nodev");
}

/** Checks of the caller are left out, so the kernel must not do what a forged image asks for. */
function likeFakeroot(draft: Draft): void {
  draft.defaultPermissions = false;
  draft.flags.add("nosuid");
  draft.flags.add("nodev");
}

const ERRORS = ["continue", "remount-ro", "panic"] as const;

function setErrors(draft: Draft, value: string): void {
  draft.errors = parseWord("errors", value, ERRORS);
}

function setData(draft: Draft, value: string): void {
  const mode = parseWord("data", value, ["ordered", "journal", "writeback"]);
  if (mode !== "ordered") draft.notices.push(`data=${mode}: carried out as data=ordered`);
}

function setCommit(draft: Draft, value: string): void {
  const seconds = parseWhole("commit", value, 0, COMMIT_SECONDS_MAX);
  draft.commitSeconds = seconds === 0 ? COMMIT_SECONDS_DEFAULT : seconds;
}

const IOMAP = { "0": "forbid", "1": "require", default: "default" } as const;

function setIomap(draft: Draft, value: string): void {
  draft.iomap = IOMAP[parseWord("iomap", value === "" ? "1" : value, ["0", "1", "default"])];
}

// biome-ignore format: a table
export const MOUNT_OPTIONS: readonly MountOption[] = [
  flag("image", "ro", "mount read-only; nothing is ever written to the image",
    (draft) => { draft.readOnly = true; }),
  flag("image", "rw", "mount for reading and writing (the default); read-only if the image is write-protected",
    (draft) => { draft.readOnly = false; }),
  flag("image", "norecovery noload", "leave the journal alone; read-only and without its changes if it holds any",
    (draft) => { draft.noRecovery = true; }),
  valued("image", "offset=BYTES", "where the filesystem starts on the device; K, M, G, T and 0x are understood",
    (draft, value) => { draft.offsetBytes = parseBytes("offset", value); }),
  valued("image", "sb=BLOCK", "use the superblock at this block, in units of 1 KiB",
    (draft, value) => { draft.superblockKiB = parseWhole("sb", value, 1, Number.MAX_SAFE_INTEGER / 1024); }),
  valued("image", "journal_path=PATH", "the device that holds the external journal",
    (draft, value) => { draft.journalPath = parseText("journal_path", value); }),
  valued("image", "cache_size=BYTES", "memory for metadata blocks: one block to 2G, 32M unless told",
    (draft, value) => { draft.cacheSizeBytes = parseCacheSize(value); }),
  flag("image", "directio direct", "read and write the device past the page cache (O_DIRECT)",
    (draft) => { draft.direct = true; }),
  valued("image", "lockfile=PATH", "create PATH and hold it while mounted; refuse to mount if it exists",
    (draft, value) => { draft.lockFile = parseText("lockfile", value); }),

  valued("writing", "commit=SECONDS", "changes are safe after so long at the latest: 5 unless told, as for 0", setCommit),
  valued("writing", "errors=POLICY", "continue, remount-ro or panic when the image is damaged: what it says itself unless told", setErrors),
  flag("writing", "discard", "tell the device which blocks were freed", (draft) => { draft.discard = true; }),
  flag("writing", "nodiscard", "leave that to fstrim(8) (the default)", (draft) => { draft.discard = false; }),
  valued("writing", "data=MODE", "ordered; journal and writeback are carried out as ordered", setData),

  flag("access", "allow_other", "let every user in (root's default)",
    (draft) => { draft.allowOther = true; draft.allowRoot = false; }),
  flag("access", "allow_root", "let only root in besides the owner of the mount; for mounts made by root",
    (draft) => { draft.allowRoot = true; }),
  flag("access", "default_permissions", "let the kernel check modes and ACLs (the default)",
    (draft) => { draft.defaultPermissions = true; }),
  flag("access", "no_default_opts", "leave out allow_other and default_permissions unless they are given",
    (draft) => { draft.defaults = false; }),
  flag("access", "fakeroot", "refuse nobody anything, whatever modes and owners say; implies nosuid and nodev",
    likeFakeroot),
  flag("access", "kernel", "as the kernel would mount it: allow_other, default_permissions, suid, dev, acl; and what a crash left"
    + " is finished for good, with ro as well, and every open(2) asks the server",
    likeTheKernel),
  flag("access", "acl", "POSIX ACLs are enforced (the default with default_permissions)", (draft) => { draft.attributes.acl = true; }),
  flag("access", "noacl", "POSIX ACLs are not enforced", (draft) => { draft.attributes.acl = false; }),
  flag("access", "grpid bsdgroups", "new files belong to the group of their folder", (draft) => { draft.bsdGroups = true; }),
  flag("access", "nogrpid sysvgroups", "only in folders with set-group-ID (the default, unless the image says otherwise)",
    (draft) => { draft.bsdGroups = false; }),
  valued("access", "resuid=N", "who may use the reserved blocks besides root; what the image says unless told",
    (draft, value) => { draft.reserveUid = parseId("resuid", value); }),
  valued("access", "resgid=N", "the same for a group", (draft, value) => { draft.reserveGid = parseId("resgid", value); }),
  flag("access", "auto_unmount", "unmount when the server dies, whatever kills it",
    (draft) => { draft.autoUnmount = true; }),

  valued("shown", "fsname=NAME", "the source of the mount, in place of the device as it was given",
    (draft, value) => { draft.fsname = value; }),
  valued("shown", "subtype=NAME", "the type of the mount after `fuse.` or `fuseblk.`: ext4 unless told",
    (draft, value) => { draft.subtype = value; }),
  flag("server", "blkdev", "mount a block device that is written to as type fuseblk, where root does and no other name is asked for: sync and umount"
    + " wait for it (the default)", (draft) => { draft.asDevice = true; }),
  flag("server", "noblkdev", "mount it as type fuse", (draft) => { draft.asDevice = false; }),
  valued("shown", "uid=N", "the owner of everything, new files included", (draft, value) => { draft.attributes.uid = parseId("uid", value); }),
  valued("shown", "gid=N", "the group of everything, new files included", (draft, value) => { draft.attributes.gid = parseId("gid", value); }),
  valued("shown", "umask=OCTAL", "permissions of everything: 0777 less these bits",
    (draft, value) => { draft.attributes.umask = parseMask("umask", value); }),
  valued("shown", "fmask=OCTAL", "the same for all that are not directories",
    (draft, value) => { draft.attributes.fmask = parseMask("fmask", value); }),
  valued("shown", "dmask=OCTAL", "the same for directories",
    (draft, value) => { draft.attributes.dmask = parseMask("dmask", value); }),
  flag("shown", "minixdf", "df counts the filesystem's own tables as space", (draft) => { draft.minixdf = true; }),
  flag("shown", "bsddf", "df leaves them out (the default)", (draft) => { draft.minixdf = false; }),

  valued("caching", "entry_timeout=SECONDS", "how long names stay cached: without limit unless told",
    (draft, value) => { draft.attributes.entryTimeout = parseSeconds("entry_timeout", value); }),
  valued("caching", "negative_timeout=SECONDS", "the same for names that do not exist",
    (draft, value) => { draft.attributes.negativeTimeout = parseSeconds("negative_timeout", value); }),
  valued("caching", "attr_timeout=SECONDS", "the same for attributes",
    (draft, value) => { draft.attributes.attrTimeout = parseSeconds("attr_timeout", value); }),
  valued("caching", "max_read=BYTES", "the longest read in one request",
    (draft, value) => { draft.maxReadBytes = parseWhole("max_read", value, 0, READ_MAX); }),

  flag("server", "debug", "as -d", (draft) => { draft.trace = true; draft.foreground = true; }),
  flag("server", "fuse2fs_debug fuse4fs_debug", "report every request, without -d's -f",
    (draft) => { draft.trace = true; }),
  valued("server", "oom_score_adj=N", "how readily the kernel kills the server when memory is short",
    (draft, value) => { draft.oomScoreAdjustment = parseWhole("oom_score_adj", value, -OOM_SCORE_MAX, OOM_SCORE_MAX); }),
  valued("server", "iomap[=0|1|default]", "have the kernel move file data by itself: 0 never, 1 (or no value) or there is no mount, default where it"
    + " can. It needs a kernel with iomap for FUSE; an image in a file becomes a loop device", setIomap),
  flag("server", "iomap_cache", "have it remember where the data lie (the default)", (draft) => { draft.iomapCache = true; }),
  flag("server", "noiomap_cache", "have it ask whenever it needs to know", (draft) => { draft.iomapCache = false; }),
  flag("server", "remount", "refused: unmount and mount again",
    () => { throw new UsageError("remount is not possible: unmount and mount again"); }),

  ...kernelFlag("nosuid", "suid", "ignore set-user-ID bits and file capabilities (the default)"),
  ...kernelFlag("nodev", "dev", "do not open device files (the default)"),
  ...kernelFlag("noexec", "exec", "do not run programs"),
  ...kernelFlag("noatime", "atime", "do not update access times; otherwise those of files that the kernel has cached may be old"),
  ...kernelFlag("nodiratime", "diratime", "the same for directories"),
  ...kernelFlag("relatime", "norelatime", "update access times only now and then"),
  ...kernelFlag("strictatime", "nostrictatime", "update access times always"),
  ...kernelFlag("lazytime", "nolazytime", "keep times in memory"),
  ...kernelFlag("sync", "async", "everything is safe when the call returns"),
  flag("flags", "dirsync", "names and directories are safe when the call returns", (draft) => setFlag(draft, "dirsync")),

  ignored("kernel_cache auto_cache noauto_cache ac_attr_timeout remember noforget",
    "the kernel keeps everything until told otherwise"),
  ignored("nonempty", "a mount over a directory with entries is not refused"),
  ignored("direct_io", "data is read through the page cache of the kernel"),
  ignored("hard_remove use_ino readdir_ino", "inode numbers are the image's own, and files keep them"),
  ignored("intr intr_signal", "a request runs to its end"),
  ignored("big_writes large_read atomic_o_trunc async_read sync_read max_write max_readahead"
    + " max_background congestion_threshold parallel_direct_write splice_read no_splice_read"
    + " splice_write no_splice_write splice_move no_splice_move", "settled with the kernel by itself"),
  ignored("clone_fd max_threads max_idle_threads io_uring io_uring_q_depth", "threads are not counted by hand"),
  ignored("blksize", "the block size is the image's own"),
  ignored("modules no_remote_lock no_remote_flock no_remote_posix_lock", "libfuse is not used"),
  ignored("timing flush_interval", "a setting of fuse4fs"),
  ignored("block_validity noblock_validity delalloc nodelalloc auto_da_alloc"
    + " noauto_da_alloc barrier nobarrier stripe journal_checksum"
    + " nojournal_checksum data_err min_batch_time max_batch_time prefetch_block_bitmaps"
    + " no_prefetch_block_bitmaps journal_async_commit journal_ioprio journal_dev init_itable noinit_itable"
    + " inode_readahead_blks max_dir_size_kb mb_optimize_scan dioread_lock dioread_nolock nodioread_nolock"
    + " i_version iversion noiversion prjquota grpquota usrquota quota noquota jqfmt usrjquota grpjquota oldalloc orlov debug_want_extra_isize nombcache dax"
    + " test_dummy_encryption warn_on_error nowarn_on_error check",
    "a setting of the kernel's ext4 that has no counterpart"),
  ignored("user_xattr nouser_xattr", "extended attributes are always shown"),
  ignored("context fscontext defcontext rootcontext seclabel", "labels are those of the image"),
  ignored("symfollow", "symbolic links are always followed"),
  ignored("defaults auto noauto user nouser users owner group nofail _netdev comment loop silent loud"
    + " mand nomand", "a word of fstab(5)"),
  ignored("x-* X-*", "for mount(8) and its helpers"),
];

function parseCacheSize(value: string): number {
  const bytes = parseBytes("cache_size", value);
  if (bytes < CACHE_SIZE_MIN || bytes > CACHE_SIZE_MAX)
    throw new UsageError(`cache_size=${value}: takes one block to 2G`);
  return bytes;
}

function parseId(option: string, value: string): number {
  return parseWhole(option, value, 0, ID_MAX);
}

const byName = new Map(
  MOUNT_OPTIONS.flatMap((option) => option.names.map((name) => [name, option] as const)),
);

/** The table's entry for the option `name`, or undefined when there is no such option. */
export function findMountOption(name: string): MountOption | undefined {
  return byName.get(name) ?? byName.get(`${name.slice(0, 2)}*`);
}

/**
 * Applies what follows `-o`, each element one comma-separated list. The last one of contradicting
 * options wins, except that `kernel` stands before all others wherever it is given.
 *
 * @throws UsageError naming the option that is unknown, or whose value is.
 */
export function applyMountOptions(draft: Draft, lists: readonly string[]): void {
  const words = lists.flatMap(splitOptions);
  if (words.includes("kernel")) likeTheKernel(draft);
  for (const word of words) if (word !== "kernel") applyOption(draft, word);
}

function applyOption(draft: Draft, word: string): void {
  const equals = word.indexOf("=");
  const name = equals < 0 ? word : word.slice(0, equals);
  const option = findMountOption(name);
  if (option === undefined) throw new UsageError(`unknown mount option: ${word}`);
  if (equals >= 0 && option.value === undefined)
    throw new UsageError(`mount option ${name} takes no value: ${word}`);
  if (equals < 0 && option.value !== undefined && !option.valueIsOptional)
    throw new UsageError(`mount option ${name} needs a value: ${name}=${option.value}`);
  option.apply(draft, equals < 0 ? "" : word.slice(equals + 1));
}

/**
 * Splits a comma-separated list. A backslash takes the next character as it is, or three octal
 * digits as the character of that number.
 *
 * @see libfuse, lib/fuse_opt.c, process_real_option_group
 */
export function splitOptions(list: string): string[] {
  const words: string[] = [];
  let word = "";
  for (const [token, escaped] of list.matchAll(/\\([0-3][0-7]{2}|.)|./gsu)) {
    if (escaped !== undefined) {
      word += escaped.length === 3 ? String.fromCharCode(Number.parseInt(escaped, 8)) : escaped;
    } else if (token === ",") {
      words.push(word);
      word = "";
    } else {
      word += token;
    }
  }
  words.push(word);
  return words.filter((each) => each !== "");
}
