/**
 * `npm run bench -- [ROW…] [--rounds=N] [--only=K,F2,T]`: prints what the same work costs on the
 * kernel's ext4 (K), Debian's fuse2fs (F2) and fuse4fs-ts (T), all in one interleaved run, and
 * whether each row stays below its bar. docs/performance.md says what the rows are.
 */
import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";
import { Scope } from "../test/support/scope.ts";
import { rows as changes } from "./changes.ts";
import { rows as directory } from "./directory.ts";
import { Bench, type Contender, type Row, type Sample, whyNoBench } from "./harness.ts";
import { rows as mount } from "./mount.ts";
import { rows as random } from "./random.ts";
import { formatRow, header, machine } from "./report.ts";
import { rows as sequential } from "./sequential.ts";
import { rows as walk } from "./walk.ts";

const ROWS: readonly Row[] = [
  ...mount,
  ...walk,
  ...directory,
  ...sequential,
  ...random,
  ...changes,
];
const INSIDE = "--inside";
const CONTENDERS: readonly Contender[] = ["K", "F2", "T"];

async function measure(bench: Bench, row: Row, rounds: number, who: readonly string[]) {
  const samples: Record<Contender, Sample[]> = { K: [], F2: [], T: [] };
  const baselines: number[] = [];
  for (let round = 0; round < rounds; round++) {
    if (row.baseline !== undefined) baselines.push(row.baseline(bench));
    for (const contender of CONTENDERS) {
      if (!who.includes(contender)) continue;
      samples[contender].push(await row.sample(bench, contender));
    }
  }
  return formatRow(row, samples, baselines);
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: "string", default: "5" },
      only: { type: "string", default: CONTENDERS.join() },
      inside: { type: "boolean" },
    },
  });
  const rounds = Number(values.rounds);
  const known = ROWS.map(({ name }) => name);
  const unknown = positionals.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`no row ${unknown}: there are ${known.join(", ")}`);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds=${values.rounds}`);

  const scope = new Scope();
  try {
    const bench = new Bench(scope);
    console.log(`${machine(rounds)}\n${header()}`);
    for (const row of ROWS)
      if (positionals.length === 0 || positionals.includes(row.name))
        console.log(await measure(bench, row, rounds, values.only.split(",")));
  } finally {
    scope.close();
  }
}

/**
 * Runs this file again in mount and process namespaces of its own, with a tmpfs that only they see.
 * Whatever ends the run, the kernel then takes servers, mounts, loop devices and images with it.
 */
function inNamespaces(): number {
  const inner = [process.execPath, ...process.execArgv, ...process.argv.slice(1), INSIDE];
  const script = 'mount -t tmpfs bench /dev/shm && exec "$0" "$@"';
  const unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
  const args = ["--pdeathsig", "KILL", ...unshare, "sh", "-c", script, ...inner];
  return spawnSync("setpriv", args, { stdio: "inherit" }).status ?? 1;
}

try {
  const why = whyNoBench();
  if (why !== undefined) throw new Error(why);
  if (process.argv.includes(INSIDE)) await main();
  else process.exitCode = inNamespaces();
} catch (error) {
  console.error(`bench: ${(error as Error).message}`);
  process.exitCode = 1;
}
