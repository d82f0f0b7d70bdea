/**
 * Runs xfstests from the outside: makes the devices, starts `inside.ts` in namespaces of its own, takes
 * down what is left when they are gone, and prints the table.
 *
 * The namespaces of mounts and processes are what keeps a run to itself: with the first process of it
 * everything ends, be it a server, a test that hangs or a mount.
 */
import { type ChildProcess, spawn } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { output, run } from "../support/run.ts";
import { Scope } from "../support/scope.ts";
import { parseOutcomes } from "./outcome.ts";
import { compare, formatTable, mergeBaseline } from "./report.ts";
import { parseSettings, type Settings } from "./settings.ts";

const ExitCode = { OK: 0, REGRESSION: 1, TROUBLE: 2, INTERRUPTED: 130 } as const;
const HERE = new URL(".", import.meta.url).pathname;
const ROOT = join(HERE, "../..");
const INIT = '"$@" & wait $!'; // bash, so that the first process gathers those without a parent

const scope = new Scope();

function fail(message: string): never {
  console.error(`xfstests: ${message}`);
  process.exit(ExitCode.TROUBLE);
}

function read(file: string): string {
  return existsSync(file) ? readFileSync(file, "utf8") : "";
}

function settingsOrExit(): Settings {
  const words = process.argv.slice(2);
  try {
    const settings = parseSettings(words, process.cwd());
    if (!existsSync(join(settings.xfstests, "check")))
      throw new Error(`${settings.xfstests} is no xfstests checkout`);
    if (!existsSync(join(settings.xfstests, "ltp/fsx")))
      throw new Error(`${settings.xfstests} is not built: docs/xfstests.md says how`);
    return settings;
  } catch (error) {
    return fail((error as Error).message);
  }
}

/** Two runs with the same server and configuration would use the same images. */
function claim(folder: string): void {
  const file = join(folder, "pid");
  const owner = read(file);
  if (owner !== "" && read(`/proc/${owner}/cmdline`).includes("xfstests"))
    fail(`process ${owner} is running in ${folder}`);
  writeFileSync(file, `${process.pid}`);
  scope.add(() => rmSync(file, { force: true }));
}

/** A copy of the checkout that the run may write to, and that knows our mounts. */
function copyCheckout({ xfstests, server, folder }: Settings): void {
  const copy = join(folder, "xfstests");
  rmSync(copy, { recursive: true, force: true });
  mkdirSync(copy);
  const parts = readdirSync(xfstests).filter((name) => name !== ".git" && name !== "results");
  run("cp", ["-a", ...parts.map((name) => join(xfstests, name)), copy]);
  if (server === "kernel") return;
  for (const name of readdirSync(join(HERE, "overrides")))
    appendFileSync(join(copy, "common", name), read(join(HERE, "overrides", name)));
}

/** A copy of our server, for which a build that somebody starts meanwhile makes no difference. */
function copyServer({ server, folder }: Settings): void {
  const copy = join(folder, "server");
  rmSync(copy, { recursive: true, force: true });
  if (server !== "fuse4fs-ts") return;
  mkdirSync(copy);
  const parts = ["bin", "dist/bin", "build/Release", "package.json", "node_modules/node-gyp-build"];
  run("cp", ["-a", "--parents", ...parts, copy], { cwd: ROOT });
}

/** The arguments of `check`, with the lists of tests to leave out where the run can see them. */
function copyExcludeLists({ checkArguments, folder }: Settings): string[] {
  return checkArguments.map((word, index) => {
    if (checkArguments[index - 1] !== "-E" || !existsSync(word)) return word;
    const copy = join(folder, `exclude-${index}`);
    copyFileSync(word, copy);
    return copy;
  });
}

const LOOP_MAJOR = "7";
const ATTEMPTS_MAX = 20;

/** An empty image on a loop device; the next run with this folder takes its place. */
function makeDevice(image: string, size: string): string {
  const stale = output("losetup", ["-n", "-O", "NAME", "-j", image]).split("\n");
  for (const device of stale) if (device !== "") run("losetup", ["-d", device]);
  rmSync(image, { force: true });
  run("truncate", ["-s", size, image]);
  const device = attach(image);
  scope.add(() => {
    run("losetup", ["-d", device]);
    rmSync(image);
  });
  return device;
}

/** Other runs look for a free device, too: whoever is second tries again. */
function attach(image: string): string {
  for (let attempt = 1; ; attempt++) {
    const device = output("losetup", ["-f"]);
    if (!existsSync(device)) run("mknod", [device, "b", LOOP_MAJOR, device.replace(/\D+/, "")]);
    const { status, stderr } = run("losetup", [device, image], { accept: [0, 1] });
    if (status === 0) return device;
    if (attempt === ATTEMPTS_MAX) fail(stderr);
  }
}

/** Runs the tests; ends with the last process in the namespaces. */
async function runInside(settings: Settings, devices: readonly string[]): Promise<number> {
  const node = [process.execPath, ...process.execArgv, join(HERE, "inside.ts")];
  const child: ChildProcess = spawn(
    "unshare",
    // biome-ignore format: an option a word
    ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
      "bash", "-c", INIT, "bash", ...node, JSON.stringify(settings), ...devices],
    { stdio: ["ignore", "inherit", "inherit"] },
  );
  let interrupted = false;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(signal, () => {
      interrupted = true;
      child.kill("SIGKILL");
    });
  const code = await new Promise<number>((resolve) => {
    child.on("exit", (status) => resolve(status ?? ExitCode.TROUBLE));
  });
  return interrupted ? ExitCode.INTERRUPTED : code;
}

/** Prints what came out. @returns the exit code. */
function report({ server, config, folder, record }: Settings): number {
  const tests = read(join(folder, "tests")).split("\n");
  const results = parseOutcomes(read(join(folder, "results.tsv")));
  const outcomes = new Map([...results].filter(([test]) => tests.includes(test)));
  console.log(`\n${server}, ${config}: ${formatTable(outcomes)}`);

  const file = join(HERE, "baseline", `${server}-${config}.tsv`);
  const baseline = parseOutcomes(read(file));
  const { regressions, changes } = compare(baseline, outcomes);
  for (const line of [...changes, ...regressions]) console.log(line);
  if (record) writeFileSync(file, mergeBaseline(baseline, outcomes));
  console.log(`results: ${folder}`);
  return regressions.length > 0 && !record ? ExitCode.REGRESSION : ExitCode.OK;
}

if (process.getuid?.() !== 0) fail("needs root: mounts, loop devices and namespaces");
const settings = settingsOrExit();
const { folder, fresh, size } = settings;
mkdirSync(folder, { recursive: true });
claim(folder);
if (fresh)
  for (const name of ["results.tsv", "artifacts"])
    rmSync(join(folder, name), { recursive: true, force: true });
rmSync(join(folder, "tests"), { force: true });
copyCheckout(settings);
copyServer(settings);
const devices = ["test.img", "scratch.img"].map((name) => makeDevice(join(folder, name), size));
const checkArguments = copyExcludeLists(settings);
const code = await runInside({ ...settings, checkArguments }, devices);
scope.close();
if (code === ExitCode.INTERRUPTED) console.error("interrupted: the same command goes on from here");
process.exitCode = code === ExitCode.OK ? report(settings) : code;
