/**
 * What the kernel has seen once it does not ask for again, file data does not pass through
 * TypeScript, and a directory of any size is listed in a number of requests that grows with it.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildImage } from "../support/build.ts";
import { ForegroundServer, type Requests } from "../support/foreground-server.ts";
import { run, skipBecause, whyNoFuse, whyNoKernelMount } from "../support/run.ts";
import { Scope } from "../support/scope.ts";

const skip = skipBecause("caching", whyNoKernelMount(), whyNoFuse());
const DATA_MIB = 24;
/** At least so many entries have to fit into one answer to a READDIR. */
const ENTRIES_PER_REQUEST = 100;

describe.skipIf(skip)("the kernel's caches", () => {
  const scope = new Scope();
  afterAll(() => scope.close());
  let server: ForegroundServer;

  beforeAll(async () => {
    const image = buildImage(scope, {
      name: "caching",
      size: "512M",
      mke2fs: ["-t", "ext4", "-b", "4096", "-N", "110000"],
      sections: ["types", "symlinks", "folders", "fragmented", "big_directory"],
      prepare: (mountpoint) =>
        run("dd", ["if=/dev/urandom", `of=${mountpoint}/data`, "bs=1M", `count=${DATA_MIB}`]),
    });
    server = await ForegroundServer.start(scope, image);
  });

  const find = (folder: string) => () => run("find", [`${server.path}/${folder}`, "-ls"]);
  const cat = (folder: string) => () =>
    run("find", [`${server.path}/${folder}`, "-type", "f", "-exec", "cat", "{}", "+"]);

  test("a second find of a tree sends no request", async () => {
    const first = await server.requestsOf(find("folders"));
    expect(count(first)).toBeGreaterThan(10);
    expect(await server.requestsOf(find("folders"))).toEqual(new Map());
  });

  test("a second cat of files sends no request", async () => {
    const first = await server.requestsOf(cat("fragmented"));
    expect(first.get("READ")?.served).toBeGreaterThan(0);
    expect(await server.requestsOf(cat("fragmented"))).toEqual(new Map());
  });

  test("a second readlink sends no request", async () => {
    const readLinks = () =>
      run("find", [`${server.path}/symlinks`, "-type", "l", "-exec", "readlink", "{}", "+"]);
    const first = await server.requestsOf(readLinks);
    expect(first.get("READLINK")?.served).toBeGreaterThan(0);
    expect(await server.requestsOf(readLinks)).toEqual(new Map());
  });

  test("a name that does not exist is looked up once", async () => {
    run("stat", [`${server.path}/types`]);
    const look = () => run("stat", [`${server.path}/types/absent`], { accept: [1] });
    const first = await server.requestsOf(look);
    expect(first.get("LOOKUP")?.served).toBe(1);
    expect(await server.requestsOf(look)).toEqual(new Map());
  });

  test("the data of a file does not pass through TypeScript", async () => {
    const read = () => run("cat", [`${server.path}/data`]);
    const first = await server.requestsOf(read);
    const { served, scripted } = first.get("READ") ?? { served: 0, scripted: 0 };
    expect(served).toBeGreaterThanOrEqual(DATA_MIB);
    expect(scripted).toBeLessThanOrEqual(2);
  });

  test("a directory of 100,000 entries is listed in requests of many entries each", async () => {
    let names: readonly string[] = [];
    const list = await server.requestsOf(() => {
      const { stdout } = run("ls", ["-f", `${server.path}/big_directory`]);
      names = stdout.toString("utf8").trimEnd().split("\n");
    });
    expect(names).toHaveLength(100_002);
    expect(new Set(names).size).toBe(names.length);
    expect(count(list)).toBeLessThan(100_000 / ENTRIES_PER_REQUEST);
  });

  test("the server ends with 0 after an unmount", async () => {
    expect(await server.stop()).toBe(0);
  });
});

function count(requests: ReadonlyMap<string, Requests>, name?: string): number {
  if (name !== undefined) return requests.get(name)?.served ?? 0;
  return [...requests.values()].reduce((sum, { served }) => sum + served, 0);
}
