/** How many requests of each kind a mount has served, and how many of them entered TypeScript. */
import { opcodeName } from "../fuse/index.ts";

/** Counts by opcode, which is the index. */
export interface Statistics {
  readonly requests: Float64Array;
  readonly scripted: Float64Array;
}

const NAME_WIDTH = 16;
const COUNT_WIDTH = 12;

/** A table with a line for every opcode that was seen, and the sum. Ends in a newline. */
export function formatStatistics({ requests, scripted }: Statistics): string {
  const sum = (counts: Float64Array): number => counts.reduce((total, each) => total + each, 0);
  const seen = [...requests.keys()].filter((opcode) => (requests[opcode] ?? 0) > 0);
  const lines = [
    row("request", "served", "in script"),
    ...seen.map((opcode) => row(opcodeName(opcode), requests[opcode], scripted[opcode])),
    row("total", sum(requests), sum(scripted)),
  ];
  return `${lines.join("\n")}\n`;
}

function row(name: string, ...cells: readonly unknown[]): string {
  return name.padEnd(NAME_WIDTH) + cells.map((each) => String(each).padStart(COUNT_WIDTH)).join("");
}
