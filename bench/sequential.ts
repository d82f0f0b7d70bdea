/** How quickly do whole files come off the image: one after another, past the page cache, four at once? */

import { type Row, timed } from "./harness.ts";
import { LARGE_FILE, LARGE_FILE_MIB, READER_FILE_MIB, READER_FILES } from "./images.ts";

const read = (file: string, flags = ""): string => `dd if=${file} bs=1M status=none ${flags}`;
const READERS = READER_FILES.map((file) => `${read(file)} & pids+=($!)`).join("; ");

export const rows: readonly Row[] = [
  {
    name: "sequential",
    title: "cold sequential read, per MiB",
    bar: { kernel: 1264 / 1100 },
    sample: (bench, contender) =>
      bench.onFreshMount(
        contender,
        "files",
        (root) => timed(read(LARGE_FILE), root) / LARGE_FILE_MIB,
      ),
  },
  {
    name: "sequential-direct",
    title: "O_DIRECT sequential read, per MiB",
    bar: { kernel: 1027 / 165 },
    sample: (bench, contender) =>
      bench.onFreshMount(
        contender,
        "files",
        (root) => timed(read(LARGE_FILE, "iflag=direct"), root) / LARGE_FILE_MIB,
      ),
  },
  {
    name: "readers",
    title: "4 cold readers at once, per MiB",
    bar: { kernel: 543 / 1055 },
    sample: (bench, contender) =>
      bench.onFreshMount(
        contender,
        "files",
        (root) =>
          timed(`${READERS}; for p in "\${pids[@]}"; do wait $p; done`, root) /
          (READER_FILE_MIB * READER_FILES.length),
      ),
  },
];
