/** How long does it take to mount an image and unmount it again, from a shell? */
import type { Row } from "./harness.ts";

export const rows: readonly Row[] = [
  {
    name: "mount",
    title: "mount and unmount",
    bar: { kernel: 2.8 / 2.8 },
    sample: (bench, contender) => bench.mountAndUnmount(contender, "tree"),
  },
];
