/**
 * Runs the tests from the inside of the namespaces that `main.ts` has made:
 *
 *     inside.ts SETTINGS TEST_DEVICE SCRATCH_DEVICE
 *
 * Each test gets a `check` of its own, its outcome is written down at once, and a later run with the
 * same folder goes on with the first test that has none.
 */
import { spawn } from "node:child_process";
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { output, run } from "../support/run.ts";
import { furnish, SCRATCH_FOLDER, TEST_FOLDER } from "./namespace.ts";
import {
  formatOutcome,
  judge,
  kernelMounted,
  type Outcome,
  parseOutcomes,
  parseTestList,
} from "./outcome.ts";
import { CONFIGURATIONS, type Settings } from "./settings.ts";

const [settingsText = "", testDevice = "", scratchDevice = ""] = process.argv.slice(2);
const settings = JSON.parse(settingsText) as Settings;
const { folder, server, limitSeconds } = settings;
const mkfsOptions = CONFIGURATIONS[settings.config] ?? "";

const checkout = join(folder, "xfstests");
const results = join(folder, "results");
const printedFile = join(folder, "printed");
const resultsFile = join(folder, "results.tsv");

const INIT_PID = 1;
const LIST_SECONDS_MAX = 600;

function read(file: string): string {
  return existsSync(file) ? readFileSync(file, "utf8") : "";
}

/** Settings of xfstests that may be given to us in the environment. */
const PASSED_ON = ["LOAD_FACTOR", "TIME_FACTOR", "SOAK_DURATION", "MOUNT_OPTIONS", "DIFF_LENGTH"];

/** What xfstests takes its configuration from, and nothing else of our own environment. */
function environment(): NodeJS.ProcessEnv {
  const given = Object.entries(process.env).filter(([name]) => PASSED_ON.includes(name));
  return {
    ...Object.fromEntries(given),
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: "/tmp",
    USER: "root",
    FSTYP: "ext4",
    TEST_DEV: testDevice,
    TEST_DIR: TEST_FOLDER,
    SCRATCH_DEV: scratchDevice,
    SCRATCH_MNT: SCRATCH_FOLDER,
    RESULT_BASE: results,
    MKFS_OPTIONS: mkfsOptions,
    // The tests are to know that /proc is that of a namespace.
    FSTESTS_ISOL: "privatens",
  };
}

function makeFilesystem(device: string): void {
  run("mkfs.ext4", ["-q", "-F", ...mkfsOptions.split(" "), device]);
}

/** Runs `check`, whose output goes to a file. @returns whether it ended within the time. */
async function check(words: readonly string[], secondsMax: number): Promise<boolean> {
  const file = openSync(printedFile, "w");
  const child = spawn("./check", words, {
    cwd: checkout,
    env: environment(),
    stdio: ["ignore", file, file],
  });
  closeSync(file);
  const ended = new Promise<boolean>((resolve, reject) => {
    child.on("exit", () => resolve(true));
    child.on("error", reject);
  });
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), secondsMax * 1000);
  });
  const inTime = await Promise.race([ended, late]);
  clearTimeout(timer);
  return inTime;
}

async function listTests(): Promise<string[]> {
  const inTime = await check(["-n", ...settings.checkArguments], LIST_SECONDS_MAX);
  const tests = parseTestList(read(printedFile));
  if (!inTime || tests.length === 0) throw new Error(`no tests:\n${read(printedFile)}`);
  return tests;
}

async function runTest(test: string): Promise<Outcome> {
  const begin = Date.now();
  const inTime = await check([test], limitSeconds);
  const seconds = Math.round((Date.now() - begin) / 1000);
  const judged = inTime ? judgeEnded(test) : hung(test);
  const said = collectMessages(test);
  if (judged.verdict === "failed" || judged.verdict === "hung") {
    keepArtifacts(test);
    renewDamagedDevices(!inTime);
  }
  const reason = judged.verdict === "passed" ? said : judged.reason;
  return { test, verdict: judged.verdict, seconds, reason };
}

function judgeEnded(test: string): Pick<Outcome, "verdict" | "reason"> {
  const judged = judge(evidence(test));
  if (server === "kernel" || judged.verdict !== "passed") return judged;
  const log = output("dmesg", [], { accept: [0, 1] });
  if (!kernelMounted(log, test, [testDevice, scratchDevice])) return judged;
  return { verdict: "failed", reason: "the kernel's ext4 mounted the device" };
}

function evidence(test: string): Parameters<typeof judge>[0] {
  const left = (suffix: string): string => withoutFolder(join(results, `${test}${suffix}`));
  return {
    printed: withoutFolder(printedFile),
    notRun: left(".notrun"),
    expected: read(join(checkout, "tests", `${test}.out`)),
    actual: left(".out.bad"),
    full: left(".full"),
    dmesg: left(".dmesg"),
  };
}

/** The text of `file`, the same wherever this run has its folder. */
function withoutFolder(file: string): string {
  return read(file).replaceAll(`${checkout}/`, "").replaceAll(`${folder}/`, "");
}

function artifactFolder(test: string): string {
  const kept = join(folder, "artifacts", test);
  mkdirSync(kept, { recursive: true });
  return kept;
}

/** Writes down who is waiting for what, and ends everything. */
function hung(test: string): Pick<Outcome, "verdict" | "reason"> {
  const processes = otherProcesses();
  const stacks = processes.map((pid) => `\n${pid}:\n${stackOf(pid)}`);
  const listing = output("ps", ["-eo", "pid,ppid,stat,etimes,wchan:32,args"]);
  writeFileSync(join(artifactFolder(test), "processes"), `${listing}\n${stacks.join("")}`);
  endEverything();
  return { verdict: "hung", reason: `did not end within ${limitSeconds} s` };
}

function stackOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/stack`, "utf8");
  } catch {
    return "";
  }
}

/** All of the namespace but its first process and this one. */
function otherProcesses(): number[] {
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => pid > INIT_PID && pid !== process.pid);
}

/** Ends all processes, servers included, and takes all mounts and devices of the tests away. */
function endEverything(): void {
  for (const pid of otherProcesses()) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // it ended meanwhile
    }
  }
  const ours = (path: string): boolean =>
    path.startsWith(`${TEST_FOLDER}`) || path.startsWith(`${SCRATCH_FOLDER}`);
  const loops = output("losetup", ["-n", "-l", "-O", "NAME,BACK-FILE"]).split("\n");
  for (const [device = "", file = ""] of loops.map((line) => line.trim().split(/\s+/)))
    if (ours(file)) run("losetup", ["-d", device], { accept: [0, 1] });
  const mounts = read("/proc/self/mounts").split("\n").reverse();
  for (const [, path = ""] of mounts.map((line) => line.split(" ")))
    if (ours(path)) run("umount", ["-i", "-l", path], { accept: [0, 1, 32] });
}

/**
 * Keeps what the servers said during the test.
 *
 * @returns the first line that tells of a server that failed. Notices are no trouble, and a test may have
 *   asked for worse.
 */
function collectMessages(test: string): string {
  const files = readdirSync(messagesFolder).map((name) => join(messagesFolder, name));
  const said = files.map(read).join("");
  for (const file of files) rmSync(file);
  if (said !== "") writeFileSync(join(artifactFolder(test), "server"), said);
  return /^exit .*|^.*\binternal error\b.*/m.exec(said)?.[0] ?? "";
}

/** Copies what the test and `check` have left. */
function keepArtifacts(test: string): void {
  const kept = artifactFolder(test);
  const left = dirname(join(results, test));
  for (const name of existsSync(left) ? readdirSync(left) : [])
    if (name.startsWith(`${basename(test)}.`)) copyFileSync(join(left, name), join(kept, name));
  copyFileSync(printedFile, join(kept, "printed"));
}

/** The next test is to start from a sound filesystem. The scratch device is made anew by `check`. */
function renewDamagedDevices(certainly: boolean): void {
  for (const path of [TEST_FOLDER, SCRATCH_FOLDER]) run("umount", [path], { accept: [0, 1, 32] });
  for (const device of [testDevice, scratchDevice]) {
    const sound =
      !certainly && run("e2fsck", ["-fn", device], { accept: [0, 1, 2, 4, 8] }).status === 0;
    if (!sound) makeFilesystem(device);
  }
}

const messagesFolder = furnish(settings);
makeFilesystem(testDevice);
makeFilesystem(scratchDevice);
const tests = await listTests();
writeFileSync(join(folder, "tests"), `${tests.join("\n")}\n`);
const done = parseOutcomes(read(resultsFile));
console.log(`${server}, ${settings.config}: ${tests.length} tests`);
for (const test of tests) {
  if (done.has(test)) continue;
  const outcome = await runTest(test);
  appendFileSync(resultsFile, formatOutcome(outcome));
  const { verdict, seconds, reason } = outcome;
  console.log(`${test}  ${verdict}  ${seconds} s${reason === "" ? "" : `  ${reason}`}`);
}
