/**
 * The words of a command line become a `Command`: a plan that a server can carry out, or the wish
 * for help. Nothing here touches the machine; that the device and the mount point exist is found
 * out when they are used.
 */
import { resolve } from "node:path";
import { Parser } from "yargs/helpers";
import type { MountPlan, WritingPlan } from "../server/plan.ts";
import { applyMountOptions, type Draft, emptyDraft } from "./mount-options.ts";
import { UsageError } from "./usage-error.ts";

/** What was asked for. */
export type Command = { readonly kind: "help" } | { readonly kind: "version" } | MountCommand;

export interface MountCommand {
  readonly kind: "mount";
  readonly plan: MountPlan;
  /** Stay with the terminal. Without it the launcher has put us into the background already. */
  readonly foreground: boolean;
  /** Report requests by opcode at the end. */
  readonly stats: boolean;
  readonly lockFile: string | undefined;
  readonly oomScoreAdjustment: number | undefined;
}

export interface Flag {
  readonly letter: string | undefined;
  readonly word: string | undefined;
  readonly value: string | undefined;
  readonly help: string;
}

/** Every flag. `bin/fuse4fs-ts` looks for those that keep it in the foreground, too. */
// biome-ignore format: a table
export const FLAGS: readonly Flag[] = [
  { letter: "o", word: undefined, value: "OPTION[,…]", help: "mount options, below; may be repeated" },
  { letter: "r", word: undefined, value: undefined, help: "as -o ro" },
  { letter: "f", word: "foreground", value: undefined, help: "stay in the foreground" },
  { letter: "d", word: "debug", value: undefined, help: "report every request; implies -f" },
  { letter: "s", word: undefined, value: undefined, help: "accepted: requests are served one after another anyway" },
  { letter: undefined, word: "stats", value: undefined, help: "report requests by opcode at the end; SIGUSR1 does so at any time" },
  { letter: "V", word: "version", value: undefined, help: "print the version" },
  { letter: "h", word: "help", value: undefined, help: "print this text" },
];

const nameOf = (flag: Flag): string => flag.word ?? flag.letter ?? "";

const PARSER_OPTIONS: Parameters<typeof Parser>[1] = {
  string: ["o"],
  narg: { o: 1 },
  boolean: FLAGS.filter((flag) => flag.value === undefined).map(nameOf),
  alias: Object.fromEntries(
    FLAGS.flatMap(({ letter, word }) => (letter !== undefined && word ? [[word, [letter]]] : [])),
  ),
  configuration: {
    "boolean-negation": false,
    "camel-case-expansion": false,
    "dot-notation": false,
    "parse-numbers": false,
    "parse-positional-numbers": false,
    "populate--": true,
    "unknown-options-as-args": true,
  },
};

/**
 * Reads the words after the program's name.
 *
 * @param isRoot whose defaults apply.
 * @throws UsageError with one line that says what is wrong.
 */
export function parseCommandLine(words: readonly string[], isRoot: boolean): Command {
  const parsed = Parser(separateOptionLists(words), PARSER_OPTIONS);
  if (parsed["help"] === true) return { kind: "help" };
  if (parsed["version"] === true) return { kind: "version" };
  const before = parsed._.map(String);
  const unknown = before.find((word) => word.startsWith("-"));
  if (unknown !== undefined) throw new UsageError(`unknown flag: ${unknown}`);
  const [device, mountpoint, ...rest] = [...before, ...((parsed["--"] as string[]) ?? [])];
  if (device === undefined) throw new UsageError("no device given; -h shows how to use this");
  if (mountpoint === undefined)
    throw new UsageError("no mount point given; -h shows how to use this");
  if (rest.length > 0) throw new UsageError(`one word too many: ${rest[0]}`);

  const draft = emptyDraft();
  applyMountOptions(draft, [parsed["o"] ?? []].flat());
  if (parsed["r"] === true) draft.readOnly = true;
  const debug = parsed["debug"] === true;
  return {
    kind: "mount",
    plan: plan(draft, device, mountpoint, isRoot, debug),
    foreground: parsed["foreground"] === true || debug || draft.foreground,
    stats: parsed["stats"] === true,
    lockFile: draft.lockFile === undefined ? undefined : resolve(draft.lockFile),
    oomScoreAdjustment: draft.oomScoreAdjustment,
  };
}

/** `-fo` stays, `-oro` becomes `-o ro` and `-foro` becomes `-f -o ro`, as getopt(3) reads them. */
function separateOptionLists(words: readonly string[]): string[] {
  const end = words.indexOf("--");
  const flags = end < 0 ? words : words.slice(0, end);
  return [
    ...flags.flatMap((word, index) => {
      const [, letters, list] = /^-([^-o][^o]*)?o(.+)$/s.exec(word) ?? [];
      if (list === undefined || takesNext(words[index - 1])) return [word];
      return [...(letters === undefined ? [] : [`-${letters}`]), "-o", list];
    }),
    ...words.slice(flags.length),
  ];
}

/** Whether the word after this one is the value of its `-o`. */
function takesNext(word: string | undefined): boolean {
  return word !== undefined && /^-([^-o][^o]*)?o$/.test(word);
}

function plan(
  draft: Draft,
  device: string,
  mountpoint: string,
  isRoot: boolean,
  debug: boolean,
): MountPlan {
  if (draft.allowRoot && !isRoot)
    throw new UsageError("allow_root is for mounts made by root: use allow_other");
  const defaultPermissions = draft.defaultPermissions ?? draft.defaults;
  // A kernel that enforces ACLs checks modes with them, as it must not where nobody is refused.
  const acl = draft.attributes.acl ?? defaultPermissions;
  return {
    device,
    mountpoint: resolve(mountpoint),
    notices: draft.readOnly === true ? [] : draft.notices,
    trace: draft.trace || debug,
    image: {
      offsetBytes: draft.offsetBytes,
      noRecovery: draft.noRecovery,
      finishes: draft.finishes && !draft.noRecovery,
      superblockKiB: draft.superblockKiB,
      journalPath: draft.journalPath,
      cacheSizeBytes: draft.cacheSizeBytes,
      direct: draft.direct,
      writing: draft.readOnly === true ? undefined : writingPlan(draft),
    },
    mount: {
      fsname: draft.fsname ?? device,
      subtype: draft.subtype,
      asDevice: draft.asDevice && draft.fsname === undefined && draft.offsetBytes === 0,
      allowOther: !draft.allowRoot && (draft.allowOther ?? (draft.defaults && isRoot)),
      defaultPermissions,
      autoUnmount: draft.autoUnmount,
      maxReadBytes: draft.maxReadBytes,
      flags: [...draft.flags],
    },
    presentation: { minixdf: draft.minixdf, asksAtOpen: draft.asksAtOpen },
    session: {
      ...draft.attributes,
      acl,
      idMapped: isRoot && (acl || defaultPermissions),
      synchronous: synchronous(draft),
    },
    iomap: draft.iomap,
    iomapCache: draft.iomapCache,
  };
}

function writingPlan(draft: Draft): WritingPlan {
  const { commitSeconds, errors, discard, bsdGroups, reserveUid, reserveGid, flags } = draft;
  return {
    commitSeconds,
    errors,
    discard,
    bsdGroups,
    reserveUid,
    reserveGid,
    atime: [...flags].findLast(isAtimePolicy) ?? "relatime",
    nodiratime: flags.has("nodiratime"),
    lazytime: flags.has("lazytime"),
  };
}

function isAtimePolicy(flag: string): flag is WritingPlan["atime"] {
  return flag === "noatime" || flag === "relatime" || flag === "strictatime";
}

function synchronous({ flags }: Draft): MountPlan["session"]["synchronous"] {
  if (flags.has("sync")) return "all";
  return flags.has("dirsync") ? "names" : "none";
}
