/** What a run of xfstests is asked to do: the command line, the configurations, and where things lie. */
import { join, resolve } from "node:path";
import yargs from "yargs";

export type ServerName = "fuse4fs-ts" | "fuse2fs" | "kernel";

/** What mkfs.ext4 is told for the test device and for every scratch filesystem. */
export const CONFIGURATIONS: Readonly<Record<string, string>> = {
  "4k": "-b 4096",
  "1k": "-b 1024",
  bigalloc: "-b 4096 -O bigalloc -C 16384",
  inline_data: "-b 4096 -O inline_data",
  nojournal: "-b 4096 -O ^has_journal",
};

export interface Settings {
  readonly server: ServerName;
  /** A key of CONFIGURATIONS. */
  readonly config: string;
  readonly limitSeconds: number;
  /** Forget the results of an earlier run. */
  readonly fresh: boolean;
  /** Make the results the new baseline. */
  readonly record: boolean;
  /** Of each device, as truncate(1) reads it. */
  readonly size: string;
  /** Holds all that this run leaves; no other run uses it. */
  readonly folder: string;
  readonly xfstests: string;
  readonly checkArguments: readonly string[];
}

const LIMIT_SECONDS_DEFAULT = 300;

/**
 * Reads the words after the program's name. What follows the path belongs to xfstests.
 *
 * @param folder what relative paths are relative to.
 * @throws Error naming what is wrong.
 */
export function parseSettings(words: readonly string[], folder: string): Settings {
  const options = yargs([...words], folder)
    .scriptName("scripts/xfstests")
    .usage("$0 [option …] PATH_TO_XFSTESTS [check arguments]")
    .parserConfiguration({ "halt-at-non-option": true, "parse-positional-numbers": false })
    .option("kernel", { type: "boolean", describe: "run on the kernel's ext4" })
    .option("fuse2fs", { type: "boolean", describe: "run on fuse2fs" })
    .option("config", { choices: Object.keys(CONFIGURATIONS), default: "4k", describe: "mkfs" })
    .option("limit", {
      type: "number",
      default: LIMIT_SECONDS_DEFAULT,
      describe: "seconds that one test may take",
    })
    .option("fresh", { type: "boolean", default: false, describe: "forget earlier results" })
    .option("record", { type: "boolean", default: false, describe: "results become the baseline" })
    .option("size", { type: "string", default: "6G", describe: "of each of the two devices" })
    .option("work", {
      type: "string",
      default: join(process.env["TMPDIR"] ?? "/var/tmp", "fuse4fs-ts-xfstests"),
      defaultDescription: "below TMPDIR or /var/tmp",
      describe: "folder for images and results",
    })
    .conflicts("kernel", "fuse2fs")
    .strictOptions()
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? new Error(message);
    })
    .parseSync();

  const [xfstests, ...rest] = options._.map(String);
  if (xfstests === undefined) throw new Error("no path to an xfstests checkout given");
  if (!(options.limit > 0)) throw new Error("--limit takes a number of seconds");
  const server =
    options.kernel === true ? "kernel" : options.fuse2fs === true ? "fuse2fs" : "fuse4fs-ts";
  return {
    server,
    config: options.config,
    limitSeconds: options.limit,
    fresh: options.fresh,
    record: options.record,
    size: options.size,
    folder: resolve(folder, options.work, `${server}-${options.config}`),
    xfstests: resolve(folder, xfstests),
    checkArguments: rest.length > 0 ? rest : ["-g", "quick"],
  };
}
