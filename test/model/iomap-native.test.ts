/**
 * The kernel model with our session behind the native channel, on another thread: what the shim adds to
 * a message, and takes from one. `SEED=n` in front replays.
 */
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FileDevice } from "../../src/device/file-device.ts";
import { loadAddon } from "../../src/native/binding.ts";
import { IomapKernel } from "../support/iomap-kernel/kernel.ts";
import { WorkerTransport } from "../support/iomap-kernel/worker-transport.ts";
import { IomapDriver, iomapTree } from "../support/posix/iomap-driver.ts";
import { PosixModel } from "../support/posix/model.ts";
import { describe as shown } from "../support/posix/operation.ts";
import { randomOperation } from "../support/posix/random-operation.ts";
import { differences } from "../support/posix/tree.ts";
import { randomFrom, seedOfRun } from "../support/random.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { Scope } from "../support/scope.ts";
import { complaintsAbout, freshImage } from "../support/writable-image.ts";
import { REPEATABLE } from "./kinds.ts";

const CALLS = 400;
const BLOCK = 4096;

describe.skipIf(skipBecause("iomap", whyNoE2fsprogs()))("random calls through the channel", () => {
  test.each([true, false])("answer as the model does; mappings cached: %s", async (usesCache) => {
    const seed = seedOfRun();
    console.log(`SEED=${seed}`);
    const random = randomFrom(seed);
    const scope = new Scope();
    const file = join(scope.temporaryFolder(), "image");
    writeFileSync(
      file,
      freshImage("16M", ["-t", "ext4", "-N", "512", ...REPEATABLE, "-b", String(BLOCK)]),
    );
    const transport = await WorkerTransport.open(file, usesCache, seed);
    const fd = openSync(file, "r+");
    try {
      const device = new FileDevice(loadAddon(), fd, 0, file);
      const kernel = new IomapKernel({ transport, device, random, backgroundEvery: 5 });
      transport.serve(kernel.host());
      kernel.mount();
      const driver = new IomapDriver(kernel, { random });
      const model = new PosixModel({ blockSize: BLOCK, hasRangeMoves: false });
      const limits = {
        fileBytesMax: 1 << 16,
        entriesMax: 60,
        blockSize: BLOCK,
        xattrBytesMax: 600,
      };
      for (let call = 0; call < CALLS; call++) {
        const operation = randomOperation(model, random, limits);
        expect(driver.apply(operation), shown(operation)).toBe(model.apply(operation));
      }
      expect(differences(iomapTree(kernel, random), model.tree())).toEqual([]);
      driver.closeAll();
      kernel.unmount();
      expect(kernel.violations).toEqual([]);
    } finally {
      await transport.close();
      if (transport.log.length > 0) console.log(transport.log.join("\n"));
      closeSync(fd);
    }
    expect(transport.log).toEqual([]);
    expect(complaintsAbout(new Uint8Array(readFileSync(file)))).toBe("");
    scope.close();
  });
});
