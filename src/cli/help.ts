/** The text of -h, made from the tables that the parser reads. */
import { readFileSync } from "node:fs";
import { FLAGS } from "./command-line.ts";
import { GROUPS, MOUNT_OPTIONS, type MountOption } from "./mount-options.ts";

const PACKAGE = new URL("../../package.json", import.meta.url);
const WIDTH = 100;
const COLUMN = 30;

/** All of the help, ending in a newline. */
export function helpText(): string {
  const sections = [
    "Usage: fuse4fs-ts DEVICE MOUNTPOINT [-o OPTION,…] [FLAG…]",
    "Mounts an ext2, ext3 or ext4 image or device through FUSE.",
    [
      "Flags:",
      ...FLAGS.map((flag) => {
        const names = [flag.letter && `-${flag.letter}`, flag.word && `--${flag.word}`];
        return entry([names.filter(Boolean).join(", "), flag.value].join(" ").trimEnd(), flag.help);
      }),
    ].join("\n"),
    ...Object.entries(GROUPS).map(([group, heading]) =>
      [
        `${heading}:`,
        ...MOUNT_OPTIONS.filter((option) => option.group === group).map(describe),
      ].join("\n"),
    ),
    [
      "Environment:",
      entry("FUSE4FS_LOGFILE", "append all output to this file; FUSE2FS_LOGFILE is understood too"),
    ].join("\n"),
    [
      "Exit code: 0 mounted (or, with -f, served until unmounted), 1 usage or a failed server,",
      "2 the log file cannot be written, 32 the mount cannot be made.",
    ].join("\n"),
  ];
  return `${sections.join("\n\n")}\n`;
}

/** The answer to -V. */
export function versionText(): string {
  const { name, version } = JSON.parse(readFileSync(PACKAGE, "utf8"));
  return `${name} ${version}\n`;
}

function describe(option: MountOption): string {
  if (option.group === "ignored")
    return `${wrap(option.names.join(", "), 2)}\n${" ".repeat(6)}${option.help}`;
  const value = option.value === undefined ? "" : `=${option.value}`;
  return entry(
    option.names.map((name) => name + (option.valueIsOptional ? `[${value}]` : value)).join(", "),
    option.help,
  );
}

function entry(what: string, help: string): string {
  const left = `  ${what}`;
  const text = wrap(help, COLUMN);
  return left.length < COLUMN ? left + text.slice(left.length) : `${left}\n${text}`;
}

/** Breaks `text` into lines that start at column `indent`. */
function wrap(text: string, indent: number): string {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && indent + last.length + 1 + word.length <= WIDTH)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines.map((line) => " ".repeat(indent) + line).join("\n");
}
