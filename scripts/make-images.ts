/**
 * Rebuilds the golden images of test/images from their recipes, bit for bit, and writes down what
 * debugfs says about each (expect.json). `npm run images [NAME...]`; with `--check` nothing is
 * written, and an image that does not come out the same is an error.
 *
 * A recipe is lines of text:
 *
 *     # what the image is for
 *     size 2M
 *     file NAME PART...         a file on the host for `write` and `ea_set -f`, made of parts:
 *                               text:WORD, noise:LENGTH (a fixed pattern), hole:LENGTH
 *     mke2fs ARGUMENT...        also tune2fs, e2fsck
 *     debugfs                   followed by its commands, indented; `each A..B: COMMAND` repeats
 *                               one with `{}` replaced by A to B, and `\xNN` stands for a byte
 *     journal                   like debugfs, but the commands' effect goes to the journal only:
 *                               the image is left in need of recovery. `journal -c` and so on pass
 *                               arguments to debugfs's journal_open. A line `revoke: FILE` writes
 *                               noise over the first block of FILE in a transaction of its own, and
 *                               revokes that block in the next one
 *
 * What makes it repeatable: UUID, hash seed and all times are fixed, and the host's mke2fs.conf is
 * not read. In expect.json a path is a string with one character per byte.
 */
import { createHash } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import type { Expectation, ExpectedInode } from "../test/support/images.ts";
import { run } from "../test/support/run.ts";
import { type Scope, withScope } from "../test/support/scope.ts";

const IMAGES = new URL("../test/images/", import.meta.url).pathname;
const UUID = "f05e4f5e-7e57-4e57-8e57-0123456789ab";
const HASH_SEED = "5eed5eed-1234-4567-89ab-cdef01234567";
const NOW_SECONDS = 1_700_000_000;
const ENVIRONMENT = {
  E2FSPROGS_FAKE_TIME: String(NOW_SECONDS),
  E2FSCK_TIME: String(NOW_SECONDS),
  MKE2FS_CONFIG: "/dev/null",
};

interface Step {
  readonly command: string;
  readonly args: readonly string[];
  readonly body: string[];
}

function parseRecipe(text: string): Step[] {
  const steps: Step[] = [];
  for (const line of text.split("\n")) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    if (/^\s/.test(line)) steps.at(-1)?.body.push(...expand(line.trim()));
    else {
      const [command = "", ...args] = line.split(/\s+/);
      steps.push({ command, args, body: [] });
    }
  }
  return steps;
}

/** `each 1..3: ln file name{}` is three lines. */
function expand(line: string): string[] {
  const loop = /^each (\d+)\.\.(\d+): (.*)$/.exec(line);
  if (loop === null) return [unescapeBytes(line)];
  const [, first, last, command = ""] = loop;
  const lines: string[] = [];
  for (let index = Number(first); index <= Number(last); index++)
    lines.push(unescapeBytes(command.replaceAll("{}", String(index))));
  return lines;
}

const unescapeBytes = (line: string): string =>
  line.replace(/\\x([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number(`0x${hex}`)));

/** `length` bytes that hardly compress and are the same for ever (a 32-bit xorshift). */
function noise(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = 0x2545_f491;
  for (let index = 0; index < length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[index] = state & 0xff;
  }
  return bytes;
}

function makeHostFile(path: string, parts: readonly string[]): void {
  const fd = openSync(path, "w");
  let offset = 0;
  for (const part of parts) {
    const [kind, value = ""] = part.split(/:(.*)/);
    const length = kind === "text" ? value.length : Number(value);
    if (kind === "text") writeSync(fd, value, offset);
    else if (kind === "noise") writeSync(fd, noise(length), 0, length, offset);
    else if (kind !== "hole") throw new Error(`unknown part ${part}`);
    offset += length;
  }
  ftruncateSync(fd, offset);
  closeSync(fd);
}

/** Builds the image in `folder`. @returns the image, and where the state after recovery lies. */
function build(steps: readonly Step[], folder: string): { image: string; recovered: string } {
  const image = join(folder, "image");
  let recovered = image;
  const tool = (
    command: string,
    args: readonly string[],
    accept: readonly number[] = [0],
  ): void => {
    run(command, args, { cwd: folder, env: ENVIRONMENT, accept });
  };
  for (const { command, args, body } of steps) {
    if (command === "size") tool("truncate", ["-s", String(args[0]), "image"]);
    else if (command === "file") makeHostFile(join(folder, String(args[0])), args.slice(1));
    else if (command === "mke2fs") tool(command, ["-q", "-F", ...fixed(args), "image"]);
    else if (command === "tune2fs") tool(command, [...args, "image"]);
    else if (command === "e2fsck") tool(command, [...args, "image"], [0, 1]);
    else if (command === "debugfs") debugfs(folder, "image", body);
    else if (command === "journal") recovered = journal(folder, args, body);
    else throw new Error(`unknown step ${command}`);
  }
  return { image, recovered };
}

/** The arguments of mke2fs with everything fixed that would be random. */
function fixed(args: readonly string[]): string[] {
  const result = ["-U", UUID, ...args];
  const extended = result.indexOf("-E") + 1;
  if (extended === 0) return ["-E", `hash_seed=${HASH_SEED}`, ...result];
  result[extended] = `${result[extended]},hash_seed=${HASH_SEED}`;
  return result;
}

function debugfs(folder: string, image: string, commands: readonly string[]): Buffer {
  const script = [`set_current_time @${NOW_SECONDS}`, ...commands, ""].join("\n");
  const result = run("debugfs", ["-w", "-f", "-", image], {
    cwd: folder,
    env: ENVIRONMENT,
    input: Buffer.from(script, "latin1"),
  });
  const complaints = result.stderr.split("\n").filter((line) => !/^(debugfs \d.*)?$/.test(line));
  if (complaints.length > 0) throw new Error(complaints.join("\n"));
  return result.stdout;
}

/**
 * Runs `commands` on a copy, and writes the blocks that differ then (but for the superblock) into
 * the journal of the image.
 *
 * @returns the image after e2fsck has replayed that journal.
 */
function journal(folder: string, openArgs: readonly string[], commands: readonly string[]): string {
  const image = join(folder, "image");
  const changedCopy = join(folder, "changed-copy");
  copyFileSync(image, changedCopy);
  const revoked = commands.flatMap((line) => {
    const file = /^revoke: (\S+)$/.exec(line)?.[1];
    return file === undefined ? [] : [firstBlock(image, file)];
  });
  debugfs(
    folder,
    "changed-copy",
    commands.filter((line) => !line.startsWith("revoke:")),
  );
  const before = readFileSync(image);
  const after = readFileSync(changedCopy);
  const blockSize = 1024 << after.readUInt32LE(1024 + 24);
  const superblock = Math.floor(1024 / blockSize);
  const changed: number[] = [];
  for (let block = 0; block * blockSize < after.length; block++) {
    const [from, to] = [block * blockSize, (block + 1) * blockSize];
    if (block !== superblock && before.compare(after, from, to, from, to) !== 0)
      changed.push(block);
  }
  writeFileSync(
    join(folder, "changed"),
    Buffer.concat(changed.map((n) => after.subarray(n * blockSize, (n + 1) * blockSize))),
  );
  writeFileSync(join(folder, "noise"), noise(blockSize * revoked.length));
  debugfs(folder, "image", [
    ["jo", ...openArgs].join(" "),
    ...(revoked.length > 0
      ? [`jw -b ${revoked.join(",")} noise`, `jw -r ${revoked.join(",")}`]
      : []),
    `jw -b ${changed.join(",")} changed`,
    "jc",
  ]);
  writeFileSync(image, withFixedCommitTimes(readFileSync(image), blockSize));
  const recovered = join(folder, "recovered");
  copyFileSync(image, recovered);
  run("e2fsck", ["-fy", recovered], { env: ENVIRONMENT, accept: [0, 1] });
  return recovered;
}

function firstBlock(image: string, file: string): number {
  const block = Number(run("debugfs", ["-R", `bmap ${file} 0`, image]).stdout.toString("latin1"));
  if (!(block > 0)) throw new Error(`${file} has no first block`);
  return block;
}

const JBD2_MAGIC = 0xc03b_3998;
const COMMIT_BLOCK = 2;
const JOURNAL_SUPERBLOCK_V2 = 4;
const INCOMPAT_CSUM_V2_OR_V3 = 0x18;

/**
 * debugfs stamps commit records with the time of day: writes the fixed time over it, and makes the
 * record's checksum right again.
 *
 * @see Documentation/filesystems/ext4/journal.rst, "Commit Block"
 */
function withFixedCommitTimes(image: Buffer, blockSize: number): Buffer {
  let seed: number | undefined;
  for (let at = 0; at < image.length; at += blockSize) {
    if (image.readUInt32BE(at) !== JBD2_MAGIC) continue;
    const type = image.readUInt32BE(at + 4);
    if (
      type === JOURNAL_SUPERBLOCK_V2 &&
      (image.readUInt32BE(at + 40) & INCOMPAT_CSUM_V2_OR_V3) > 0
    )
      seed = crc32c(0xffff_ffff, image.subarray(at + 48, at + 64));
    if (type !== COMMIT_BLOCK) continue;
    image.writeBigUInt64BE(BigInt(NOW_SECONDS), at + 48);
    image.writeUInt32BE(0, at + 56);
    if (seed === undefined) continue;
    image.writeUInt32BE(0, at + 16);
    image.writeUInt32BE(crc32c(seed, image.subarray(at, at + blockSize)), at + 16);
  }
  return image;
}

const INCOMPAT_MMP = 0x100;

/**
 * debugfs leaves the time of day and the name of this machine in the MMP block: writes the fixed
 * time and nothing over them.
 *
 * @see Documentation/filesystems/ext4/mmp.rst
 */
function withFixedMmp(image: Buffer): Buffer {
  const superblock = image.subarray(1024, 2048);
  if ((superblock.readUInt32LE(0x60) & INCOMPAT_MMP) === 0) return image;
  const at = superblock.readUInt32LE(0x168) * (1024 << superblock.readUInt32LE(0x18));
  image.writeBigUInt64LE(BigInt(NOW_SECONDS), at + 8);
  image.fill(0, at + 16, at + 16 + 64 + 32);
  const seed = crc32c(0xffff_ffff, superblock.subarray(0x68, 0x78));
  image.writeUInt32LE(crc32c(seed, image.subarray(at, at + 1020)), at + 1020);
  return image;
}

/** Bit by bit: a few blocks are all it has to do. */
function crc32c(seed: number, bytes: Uint8Array): number {
  let crc = seed;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0);
  }
  return crc >>> 0;
}

/** Where inline data goes on: debugfs shows it among the xattrs, the kernel does not. */
const INLINE_DATA_NAME = "system.data";

/** All that debugfs says about the tree in `image`. */
function ask(scope: Scope, image: string): Expectation {
  const folder = scope.temporaryFolder();
  const read = (commands: readonly string[]): string[] => {
    const result = run("debugfs", ["-f", "-", image], {
      cwd: folder,
      env: ENVIRONMENT,
      input: Buffer.from(`${commands.join("\n")}\n`, "latin1"),
    });
    // Each answer begins with the echo of its command.
    return result.stdout
      .toString("latin1")
      .split(/^debugfs: .*\n/m)
      .slice(1);
  };

  const paths: Record<string, number> = { "/": 2 };
  for (let level: [string, number][] = [["", 2]]; level.length > 0; ) {
    const listings = read(level.map(([, inode]) => `ls -p <${inode}>`));
    level = level.flatMap(([path], index) =>
      [...(listings[index] ?? "").matchAll(/^\/(\d+)\/(\d+)\/-?\d+\/-?\d+\/([^/]+)\/\d*\/$/gm)]
        .map(([, inode, mode, name]) => [`${path}/${name}`, Number(inode), Number(`0o${mode}`)])
        .filter(([child]) => !/\/\.\.?$/.test(String(child)))
        .flatMap(([child, inode, mode]): [string, number][] => {
          paths[String(child)] = Number(inode);
          return (Number(mode) & 0o170000) === 0o040000 ? [[String(child), Number(inode)]] : [];
        }),
    );
  }

  const numbers = [...new Set(Object.values(paths))].sort((a, b) => a - b);
  const stats = read(numbers.map((inode) => `stat <${inode}>`));
  const lists = read(numbers.map((inode) => `ea_list <${inode}>`));
  // Of a file with inline data, dump writes more than the file holds: parseStat cuts that off.
  const isFile = (index: number): boolean => /Type: (regular|symlink)/.test(stats[index] ?? "");
  read(numbers.flatMap((inode, index) => (isFile(index) ? [`dump <${inode}> data${inode}`] : [])));
  const names = lists.map((list) =>
    [...list.matchAll(/^ {2}(\S+) \(\d+\)/gm)]
      .map(([, name]) => String(name))
      .filter((name) => name !== INLINE_DATA_NAME),
  );
  read(
    numbers.flatMap((inode, index) =>
      (names[index] ?? []).map((name, at) => `ea_get -f ea${inode}-${at} <${inode}> ${name}`),
    ),
  );

  const inodes: Record<string, ExpectedInode> = {};
  numbers.forEach((inode, index) => {
    const values: Record<string, string> = {};
    names[index]?.forEach((name, at) => {
      values[name] = readFileSync(join(folder, `ea${inode}-${at}`)).toString("hex");
    });
    const data = isFile(index) ? readFileSync(join(folder, `data${inode}`)) : undefined;
    inodes[inode] = parseStat(stats[index] ?? "", values, data);
  });
  const version = /debugfs (\S+)/.exec(run("debugfs", ["-V"]).stderr)?.[1];
  const summary = read(["stats -h"])[0] ?? "";
  return {
    oracle: `debugfs ${version}`,
    features: String(/^Filesystem features: +(.*)$/m.exec(summary)?.[1]),
    paths,
    inodes,
  };
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

function parseStat(
  text: string,
  xattrs: Readonly<Record<string, string>>,
  data: Buffer | undefined,
): ExpectedInode {
  const field = (pattern: RegExp): string => {
    const found = pattern.exec(text)?.[1];
    if (found === undefined) throw new Error(`no ${pattern} in ${text}`);
    return found;
  };
  const time = (name: string): readonly [seconds: number, nanoseconds: number] | undefined => {
    // Seconds, and behind the colon two more bits of them below 30 bits of nanoseconds.
    const found = new RegExp(`^ ?${name}: 0x([0-9a-f]{8})(?::([0-9a-f]{8}))?`, "m").exec(text);
    if (found === null) return undefined;
    const extra = Number(`0x${found[2] ?? "0"}`);
    return [(Number(`0x${found[1]}`) | 0) + (extra & 3) * 2 ** 32, extra >>> 2];
  };
  const type = field(/Type: (.+?) {2,}Mode/);
  const sizeBytes = Number(field(/Size: (\d+)/));
  const device = /major\/minor number: (\d+):(\d+)/.exec(text);
  return {
    type,
    permissions: field(/Mode: +0?(\d{4})/),
    flags: Number(field(/Flags: (0x[0-9a-f]+)/)),
    generation: Number(field(/Generation: (\d+)/)),
    uid: Number(field(/User: +(-?\d+)/)) >>> 0,
    gid: Number(field(/Group: +(-?\d+)/)) >>> 0,
    projectId: Number(/Project: +(\d+)/.exec(text)?.[1] ?? 0),
    sizeBytes,
    linkCount: Number(field(/Links: (\d+)/)),
    blocks512: Number(field(/Blockcount: (\d+)/)),
    accessedAt: time("atime") ?? [0, 0],
    modifiedAt: time("mtime") ?? [0, 0],
    changedAt: time("ctime") ?? [0, 0],
    ...(time("crtime") !== undefined && { createdAt: time("crtime") }),
    ...(device !== null && { device: [Number(device[1]), Number(device[2])] as const }),
    ...(data !== undefined &&
      (type === "symlink"
        ? { target: /link dest: "(.*)"/.exec(text)?.[1] ?? data.toString("latin1") }
        : { sha256: sha256(data.subarray(0, sizeBytes)) })),
    ...(Object.keys(xattrs).length > 0 && { xattrs }),
  };
}

/** JSON with one inode or path per line, so that a change of an image is readable as a diff. */
function formatExpectation({ oracle, features, paths, inodes }: Expectation): string {
  const table = (rows: Readonly<Record<string, unknown>>): string =>
    Object.entries(rows)
      .map(([key, value]) => `    ${JSON.stringify(key)}: ${JSON.stringify(value)}`)
      .join(",\n");
  return `{
  "oracle": ${JSON.stringify(oracle)},
  "features": ${JSON.stringify(features)},
  "paths": {\n${table(paths)}\n  },
  "inodes": {\n${table(inodes)}\n  }
}
`;
}

function make(name: string, check: boolean): void {
  withScope((scope) => {
    const home = join(IMAGES, name);
    const folder = scope.temporaryFolder();
    const steps = parseRecipe(readFileSync(join(home, "recipe"), "utf8"));
    const { image, recovered } = build(steps, folder);
    const bytes = withFixedMmp(readFileSync(image));
    const expectation = formatExpectation(ask(scope, recovered));
    if (check) {
      if (!bytes.equals(gunzipSync(readFileSync(join(home, "image.gz")))))
        throw new Error(`${name}: the image does not come out as it is in test/images`);
      if (expectation !== readFileSync(join(home, "expect.json"), "utf8"))
        throw new Error(`${name}: debugfs does not say what expect.json says`);
      return;
    }
    mkdirSync(home, { recursive: true });
    const packed = gzipSync(bytes, { level: 9 });
    writeFileSync(join(home, "image.gz"), packed);
    writeFileSync(join(home, "expect.json"), expectation);
    process.stdout.write(`${name}: ${packed.length} + ${expectation.length} bytes\n`);
  });
}

const words = process.argv.slice(2);
const wanted = words.filter((word) => !word.startsWith("--"));
for (const name of wanted.length > 0 ? wanted : readdirSync(IMAGES).sort())
  make(name, words.includes("--check"));
