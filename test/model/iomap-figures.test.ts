/**
 * What a large file costs in requests while the kernel moves its contents: at most one IOMAP_BEGIN for
 * each extent, and none when the kernel has the mappings. Prints the figures.
 */
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { FileDevice } from "../../src/device/file-device.ts";
import { loadAddon } from "../../src/native/binding.ts";
import { debugfs, e2fsck, mke2fs } from "../support/e2fsprogs.ts";
import type { OpenFile } from "../support/iomap-kernel/files.ts";
import type { IomapKernel } from "../support/iomap-kernel/kernel.ts";
import { ServedKernel } from "../support/iomap-kernel/served.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { Scope } from "../support/scope.ts";

const MiB = 1024 * 1024;
const FILE_BYTES = 1024 * MiB;
const PIECES_PER_WRITEBACK = 16;
const DIRECT = {};

/** An image in a file, and a kernel that has one file of it open. */
class Figures {
  readonly image: string;
  /** Requests, and extents, by what they are for. */
  readonly all: Record<string, number> = {};
  readonly #device: FileDevice;
  #served: ServedKernel | undefined;
  #file: OpenFile | undefined;

  constructor(scope: Scope) {
    this.image = join(scope.temporaryFolder(), "image");
    const size = `${FILE_BYTES / MiB + 512}M`;
    mke2fs(this.image, size, ["-t", "ext4", "-b", "4096", "-N", "1024"]);
    const fd = openSync(this.image, "r+");
    scope.add(() => closeSync(fd));
    this.#device = new FileDevice(loadAddon(), fd, 0, this.image);
  }

  get kernel(): IomapKernel {
    return (this.#served as ServedKernel).kernel;
  }

  get file(): OpenFile {
    return this.#file as OpenFile;
  }

  /** Opens file `name` of a kernel that knows no mapping of it. */
  open(name: string, writesBackInOrder = true): void {
    this.close();
    this.#served = new ServedKernel(this.#device, {
      ...{ seed: 1, backgroundEvery: 0, writesBackInOrder },
    });
    const { kernel } = this;
    const found = kernel.lookup(kernel.root, name);
    this.#file = kernel.open(found ?? kernel.create(kernel.root, name, { mode: 0o100644 }));
  }

  close(): void {
    if (this.#served === undefined) return;
    this.file.close();
    this.#served.unmount();
    expect(this.kernel.violations).toEqual([]);
    expect(this.#served.log).toEqual([]);
    this.#served = undefined;
  }

  /** The requests that `action` costs, as the figure `name`. */
  count(name: string, action: () => void): void {
    const begins = (): number => this.kernel.counts.get("IOMAP_BEGIN") ?? 0;
    const before = begins();
    action();
    this.all[name] = begins() - before;
  }

  /** The same for what is done to each MiB of the file. */
  countPieces(name: string, each: (at: number) => void): void {
    this.count(name, () => {
      for (let at = 0; at < FILE_BYTES; at += MiB) each(at);
    });
  }

  /** The extents of a file as debugfs sees them, as the figure `name`. */
  countExtents(name: string, file: string): void {
    const lines = debugfs(this.image, [`dump_extents -l /${file}`]).split("\n");
    this.all[name] = lines.filter((line) => /^ *\d+\/ *\d+ .* \d+ - +\d+ /.test(line)).length;
  }
}

test.skipIf(skipBecause("iomap figures", whyNoE2fsprogs()))(
  "a large file costs one IOMAP_BEGIN for each extent at the most, and none that the kernel knows",
  () => {
    const scope = new Scope();
    const figures = new Figures(scope);
    const { all } = figures;
    const piece = new Uint8Array(MiB).fill(1);

    figures.open("file");
    figures.count("written at once", () => {
      figures.file.write(0, new Uint8Array(FILE_BYTES), DIRECT);
    });
    const read = (at: number): unknown => figures.file.read(at, MiB, DIRECT);
    const overwrite = (at: number): unknown => figures.file.write(at, piece, DIRECT);
    figures.open("file");
    figures.countPieces("overwritten", overwrite);
    // The kernel forgets the mapping of what it has written.
    figures.countPieces("overwritten again", overwrite);
    figures.open("file");
    figures.countPieces("read", read);
    figures.countPieces("read again", read);
    figures.countPieces("overwritten after that", overwrite);
    figures.close();
    figures.countExtents("extents", "file");

    for (const order of ["in order", "in any order"]) {
      figures.open("file", order === "in order");
      const { file, kernel } = figures;
      kernel.truncate(file.inode, 0);
      kernel.fsync(file.inode);
      figures.countPieces(`appended ${order}`, (at) => {
        file.write(at, piece);
        if ((at / MiB) % PIECES_PER_WRITEBACK > 0) return;
        kernel.writeBack(file.inode);
        kernel.losePages(file.inode);
      });
      figures.close();
      figures.countExtents(`extents of that ${order}`, "file");
    }
    console.log(`1 GiB, in pieces of 1 MiB: ${JSON.stringify(all, undefined, 1)}`);

    const { extents = 0 } = all;
    expect(extents).toBeGreaterThan(0);
    for (const name of ["written at once", "read", "overwritten", "overwritten again"]) {
      expect(all[name], name).toBeLessThanOrEqual(extents);
    }
    expect([all["read again"], all["overwritten after that"]]).toEqual([0, 0]);
    for (const order of ["in order", "in any order"]) {
      const most = all[`extents of that ${order}`] as number;
      expect(all[`appended ${order}`], order).toBeLessThanOrEqual(most);
    }
    expect(e2fsck(figures.image)).toBe("");
    scope.close();
  },
);
