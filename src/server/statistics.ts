/** How many requests of each kind a mount has served, and how many of them entered TypeScript. */
import { opcodeName } from "../fuse/index.ts";

/** Counts by opcode; `opcodeAt` knows the opcode of an index. */
export interface Statistics {
  readonly requests: Float64Array;
  readonly scripted: Float64Array;
}

/** The opcodes of iomap, the last below 4096, are counted in the last places. @see native/channel.cc, counterOf */
const IOMAP_INDEX = 121;
const IOMAP_OPCODE = 4089;

const NAME_WIDTH = 16;
const COUNT_WIDTH = 12;

/** A table with a line for every opcode that was seen, and the sum. Ends in a newline. */
export function formatStatistics({ requests, scripted }: Statistics): string {
  const sum = (counts: Float64Array): number => counts.reduce((total, each) => total + each, 0);
  const seen = [...requests.keys()].filter((index) => (requests[index] ?? 0) > 0);
  const lines = [
    row("request", "served", "in script"),
    ...seen.map((index) => row(opcodeName(opcodeAt(index)), requests[index], scripted[index])),
    row("total", sum(requests), sum(scripted)),
  ];
  return `${lines.join("\n")}\n`;
}

function opcodeAt(index: number): number {
  return index < IOMAP_INDEX ? index : index - IOMAP_INDEX + IOMAP_OPCODE;
}

function row(name: string, ...cells: readonly unknown[]): string {
  return name.padEnd(NAME_WIDTH) + cells.map((each) => String(each).padStart(COUNT_WIDTH)).join("");
}
