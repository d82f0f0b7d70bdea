/** What does a read of 4 KiB at a random place of a 1 GiB file cost? */
import { join } from "node:path";
import { type Bar, fio, type Row } from "./harness.ts";
import { LARGE_FILE } from "./images.ts";

function row(name: string, title: string, bar: Bar, args: readonly string[]): Row {
  return {
    name,
    title,
    bar,
    sample: (bench, contender) =>
      bench.onFreshMount(contender, "files", (root) => fio(join(root, LARGE_FILE), args)),
  };
}

export const rows: readonly Row[] = [
  row("random-1", "4 KiB O_DIRECT read, depth 1", { kernel: 0.8 }, [
    "--direct=1",
    "--ioengine=psync",
  ]),
  // The peer's figure came from FUSE over io_uring.
  row("random-16", "4 KiB O_DIRECT read, depth 16", { kernel: 9.2 / 3.8 }, [
    "--direct=1",
    "--ioengine=libaio",
    "--iodepth=16",
  ]),
  row("random-buffered", "4 KiB buffered read, cold", {}, ["--ioengine=psync"]),
];
