/** Turns samples into the table that a run prints, one line as soon as its row is measured. */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import type { Bar, Contender, Row, Sample } from "./harness.ts";

export type Samples = Readonly<Record<Contender, readonly Sample[]>>;

const COLUMNS = [
  ["row", -18],
  ["one operation", -36],
  ["tmpfs", 8],
  ["K µs", 9],
  ["F2 µs", 9],
  ["T µs", 9],
  ["T/F2", 7],
  ["T/K", 7],
  ["bar", 18],
  ["", 7],
  ["F2 cpu s", 9],
  ["T cpu s", 8],
  ["F2 MB", 6],
  ["T MB", 6],
] as const;

export function header(): string {
  return line(COLUMNS.map(([title]) => title));
}

/** @param baselines microseconds of the same work on tmpfs; empty where that says nothing. */
export function formatRow(row: Row, samples: Samples, baselines: readonly number[]): string {
  const microseconds = (who: Contender): number =>
    median(samples[who].map((each) => each.microseconds));
  const [k, f2, t] = [microseconds("K"), microseconds("F2"), microseconds("T")];
  const cpu = (who: Contender): string =>
    number(median(samples[who].flatMap(({ server }) => server?.cpuSeconds ?? [])), 2);
  return line([
    row.name,
    row.title,
    number(median(baselines)),
    number(k),
    number(f2),
    number(t),
    number(t / f2, 3),
    number(t / k, 2),
    describe(row.bar),
    verdict(row.bar, t / k, t / f2),
    cpu("F2"),
    cpu("T"),
    peak(samples.F2),
    peak(samples.T),
  ]);
}

function describe({ kernel, fuse2fs }: Bar): string {
  const parts = [
    ...(kernel === undefined ? [] : [`${kernel.toFixed(2)} K`]),
    ...(fuse2fs === undefined ? [] : [`${fuse2fs.toFixed(3)} F2`]),
  ];
  return parts.join(", ");
}

function verdict({ kernel, fuse2fs }: Bar, overKernel: number, overFuse2fs: number): string {
  if (kernel === undefined && fuse2fs === undefined) return "";
  if (Number.isNaN(overKernel) || Number.isNaN(overFuse2fs)) return "";
  const met = overKernel <= (kernel ?? Infinity) && overFuse2fs <= (fuse2fs ?? Infinity);
  return met ? "met" : "missed";
}

/** The largest peak of all samples, in units of 10^6 bytes. */
function peak(samples: readonly Sample[]): string {
  const peaks = samples.flatMap(({ server }) => server?.peakBytes ?? []);
  return peaks.length === 0 ? "" : number(Math.max(...peaks) / 1e6, 0);
}

/** NaN when there are none. */
function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [low, high] = [sorted[sorted.length % 2 === 0 ? middle - 1 : middle], sorted[middle]];
  return ((low ?? Number.NaN) + (high ?? Number.NaN)) / 2;
}

/** Three digits that count; nothing where there is no number. */
function number(value: number, digits?: number): string {
  if (Number.isNaN(value)) return "";
  return value.toFixed(digits ?? (value < 10 ? 2 : value < 100 ? 1 : 0));
}

function line(cells: readonly string[]): string {
  const padded = cells.map((cell, index) => {
    const width = COLUMNS[index]?.[1] ?? 0;
    return width < 0 ? cell.padEnd(-width) : cell.padStart(width);
  });
  return padded.join(" ").trimEnd();
}

/** What the figures were taken on. */
export function machine(rounds: number): string {
  const model = /^model name\s*: (.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1];
  const cpu = `${cpus().length} × ${model ?? process.arch}`;
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  const fuse2fs = spawnSync("fuse2fs", ["-V"], { encoding: "utf8" }).stderr.split("\n")[0];
  const system = `Linux ${release()}, Node ${process.version}, ${fuse2fs}`;
  return `machine: ${cpu}, ${memory}, ${system}; images on tmpfs; medians of ${rounds} rounds`;
}
