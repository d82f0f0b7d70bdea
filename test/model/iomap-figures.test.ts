/**
 * What a large file costs in requests while the kernel moves its contents: at most one IOMAP_BEGIN for
 * each extent, and none when the kernel has the mappings. A file that grows in small pieces costs more
 * of them, as it is given room several times before an extent is full. Prints the figures.
 */
import { expect, test } from "vitest";
import { MemoryDevice } from "../../src/device/memory-device.ts";
import type { OpenFile } from "../support/iomap-kernel/files.ts";
import type { IomapKernel } from "../support/iomap-kernel/kernel.ts";
import { ServedKernel } from "../support/iomap-kernel/served.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { askDebugfs, complaintsAbout, freshImage } from "../support/writable-image.ts";

const MiB = 1024 * 1024;
/** `FIGURES_MIB=1024` in front makes the file a GiB long. */
const FILE_BYTES = Number(process.env["FIGURES_MIB"] ?? 256) * MiB;
const DIRECT = {};
/** A file that grows is given more than it asks for, so that so many writes share a question. */
const APPENDS_PER_BEGIN = 8;

class Figures {
  readonly bytes: Uint8Array;
  served: ServedKernel;
  #file: OpenFile | undefined;
  readonly all: Record<string, number> = {};

  constructor(image: Uint8Array) {
    this.bytes = image;
    this.served = this.#mount();
  }

  get kernel(): IomapKernel {
    return this.served.kernel;
  }

  #mount(): ServedKernel {
    return new ServedKernel(new MemoryDevice(this.bytes), { seed: 1, backgroundEvery: 0 });
  }

  /** The kernel has no mapping any more. */
  remount(): void {
    this.unmount();
    this.served = this.#mount();
  }

  unmount(): void {
    this.#file?.close();
    this.served.unmount();
    expect(this.kernel.violations).toEqual([]);
    expect(this.served.log).toEqual([]);
  }

  /** The requests that `action` costs, as the figure `name`. */
  count(name: string, action: () => void): void {
    const begins = (): number => this.kernel.counts.get("IOMAP_BEGIN") ?? 0;
    const before = begins();
    action();
    this.all[name] = begins() - before;
  }

  open(name: string): OpenFile {
    const { kernel } = this;
    const found = kernel.lookup(kernel.root, name);
    this.#file = kernel.open(found ?? kernel.create(kernel.root, name, { mode: 0o100644 }));
    return this.#file;
  }
}

/** No extent of blocks that are still to be written is longer, and none reaches into another group. */
const UNWRITTEN_BLOCKS_MAX = 32_767;
const GROUP_BLOCKS = 32_768;

/** The extents of a file as debugfs sees them, counted as they were before they were written. */
function extentsOf(image: Uint8Array, name: string): number {
  let count = 0;
  for (const line of askDebugfs(image, `dump_extents -l /${name}`).split("\n")) {
    const found = /^ *\d+\/ *\d+ .* (\d+) - +(\d+) +\d+ *(?:Uninit)?$/.exec(line);
    if (found === null) continue;
    const [start, last] = [Number(found[1]), Number(found[2])];
    for (let at = start; at <= last; count++) {
      const groupEnd = at - (at % GROUP_BLOCKS) + GROUP_BLOCKS;
      at = Math.min(at + UNWRITTEN_BLOCKS_MAX, groupEnd);
    }
  }
  return count;
}

test.skipIf(skipBecause("iomap figures", whyNoE2fsprogs()))(
  "a large file costs one IOMAP_BEGIN for each extent at the most unless it grows in pieces, and none that the kernel knows",
  () => {
    const size = `${Math.ceil(FILE_BYTES / MiB) + 512}M`;
    const figures = new Figures(freshImage(size, ["-t", "ext4", "-b", "4096", "-N", "1024"]));
    const { all } = figures;
    const content = new Uint8Array(FILE_BYTES).fill(1);
    const piece = content.subarray(0, MiB);
    const inPieces = (each: (at: number) => void) => () => {
      for (let at = 0; at < FILE_BYTES; at += MiB) each(at);
    };

    const written = figures.open("file");
    figures.count("written at once", () => void written.write(0, content, DIRECT));
    figures.remount();
    all["extents"] = extentsOf(figures.bytes, "file");
    let file = figures.open("file");
    const read = inPieces((at) => file.read(at, MiB, DIRECT));
    const overwrite = inPieces((at) => file.write(at, piece, DIRECT));
    figures.count("read", read);
    figures.count("read again", read);
    figures.remount();
    file = figures.open("file");
    figures.count("overwritten", overwrite);
    figures.count("overwritten again", overwrite);
    figures.kernel.truncate(file.inode, 0);
    figures.kernel.fsync(file.inode);

    const append = inPieces((at) => {
      file.write(at, piece);
      if ((at / MiB) % 16 > 0) return;
      figures.kernel.writeBack(file.inode);
      figures.kernel.losePages(file.inode);
    });
    figures.count("appended in pieces of 1 MiB", append);
    figures.unmount();
    all["extents of that"] = extentsOf(figures.bytes, "file");
    console.log(`${FILE_BYTES / MiB} MiB: ${JSON.stringify(all)}`);

    const { extents = 0, "appended in pieces of 1 MiB": appended } = all;
    expect(extents).toBeGreaterThan(0);
    for (const name of ["written at once", "read", "overwritten"]) {
      expect(all[name], name).toBeLessThanOrEqual(extents);
    }
    expect([all["read again"], all["overwritten again"]]).toEqual([0, 0]);
    expect(appended).toBeLessThan(FILE_BYTES / MiB / APPENDS_PER_BEGIN);
    expect(complaintsAbout(figures.bytes)).toBe("");
  },
);
