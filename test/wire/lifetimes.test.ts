/** Lookup counts, and the end of inodes without a name. */
import { expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import { FsError, type Inode } from "../../src/ext4/index.ts";
import { Lifetimes } from "../../src/fuse/lifetimes.ts";
import { Session } from "../../src/fuse/session.ts";
import {
  exchange,
  FakeChannel,
  inode,
  name,
  request,
  u32,
  u64,
  writable,
  zeros,
} from "./support.ts";

const NODE = 20;

const unlink = request(10, 1, name("f"));
const lookup = request(1, 1, name("f"));
const forget = (node: number, count: number): Uint8Array => request(2, node, u64(count));
const batchForget = (...nodes: readonly (readonly [node: number, count: number])[]): Uint8Array =>
  request(
    42,
    0,
    u32(nodes.length), // count
    u32(0), // dummy
    ...nodes.flatMap(([node, count]) => [u64(node), u64(count)]),
  );

/** Serves `requests`. @returns which inodes were released, and after how many of them. */
function releasesOf(requests: readonly Uint8Array[], linkCount = 0): (readonly [number, number])[] {
  const released: (readonly [number, number])[] = [];
  let served = 0;
  const counted = <T>(value: T): T => {
    served += 1;
    return value;
  };
  const fs = writable(
    {
      unlink: (parent) => counted(inode({ number: NODE, linkCount, generation: parent })),
      createTemporary: () => counted(inode({ number: NODE, linkCount: 0 })),
      link: (number) => counted(inode({ number })),
      release: (number) => released.push([number, served]),
    },
    {
      inode: (number) => (number === NODE ? counted(inode({ number })) : inode({ number })),
      lookup: () => NODE as Inode["number"],
      readDirectory: (_directory, _hi, _lo, sink) => {
        sink(Uint8Array.of(0x66), NODE as Inode["number"], 1, 0, 1);
      },
    },
  );
  exchange(requests, fs);
  return released;
}

test("times that wait are stored when the kernel forgets their inode", () => {
  const stored: number[] = [];
  const fs = writable(
    { storeTimes: (number) => void stored.push(number) },
    { inode: (number) => inode({ number }), lookup: () => NODE as Inode["number"] },
  );
  exchange([lookup, lookup, forget(NODE, 1)], fs);
  expect(stored).toEqual([]);
  exchange([lookup, lookup, forget(NODE, 2)], fs);
  expect(stored).toEqual([NODE]);
});

test("an unlinked inode is released with its last lookup", () => {
  expect(releasesOf([lookup, lookup, unlink, forget(NODE, 1)])).toEqual([]);
  expect(releasesOf([lookup, lookup, unlink, forget(NODE, 2)])).toEqual([[NODE, 3]]);
  expect(releasesOf([lookup, lookup, unlink, batchForget([7, 1], [NODE, 1], [NODE, 1])])).toEqual([
    [NODE, 3],
  ]);
});

test("an inode with another name is not released", () => {
  expect(releasesOf([lookup, unlink, forget(NODE, 1)], 1)).toEqual([]);
});

test("an inode that the kernel does not use is released when it is unlinked", () => {
  expect(releasesOf([unlink])).toEqual([[NODE, 1]]);
  expect(releasesOf([lookup, forget(NODE, 1), unlink])).toEqual([[NODE, 2]]);
});

test("READDIRPLUS counts as a lookup", () => {
  const readdirplus = request(44, 1, u64(0), u64(0), u32(4096), zeros(20));
  expect(releasesOf([readdirplus, unlink])).toEqual([]);
  expect(releasesOf([readdirplus, unlink, forget(NODE, 1)])).toEqual([[NODE, 2]]);
});

test("a temporary file is released unless it got a name", () => {
  const tmpfile = request(51, 1, zeros(16), name("/"));
  const link = request(13, 1, u64(NODE), name("f"));
  expect(releasesOf([tmpfile, forget(NODE, 1)])).toEqual([[NODE, 1]]);
  expect(releasesOf([tmpfile, link, forget(NODE, 2)])).toEqual([]);
});

test("FORGET of nodes that were never given out changes nothing", () => {
  expect(releasesOf([forget(NODE, 5), batchForget([0, 1], [2 ** 40, 1])])).toEqual([]);
});

test("a release that fails is logged, and asked for no more", () => {
  const fs = writable(
    {
      unlink: () => inode({ number: NODE, linkCount: 0 }),
      release: () => {
        throw new FsError(Errno.EIO, "the device failed");
      },
    },
    { inode: (number) => inode({ number }), lookup: () => NODE as Inode["number"] },
  );
  const { answers, log } = exchange([lookup, unlink, forget(NODE, 1), forget(NODE, 1)], fs);
  expect(answers.slice(2)).toEqual(["no reply", "no reply"]);
  expect(log).toEqual(["release of inode 20: the device failed"]);
});

test("the shim is told of a node that the kernel has given all lookups of back", () => {
  const fs = writable(
    {},
    { inode: (number) => inode({ number }), lookup: () => NODE as Inode["number"] },
  );
  const forgottenAfter = (...requests: readonly Uint8Array[]): readonly number[] =>
    exchange(requests, fs).channel.forgottenByKernel;
  expect(forgottenAfter(lookup, lookup, forget(NODE, 1))).toEqual([]);
  expect(forgottenAfter(lookup, lookup, forget(NODE, 2))).toEqual([NODE]);
  expect(forgottenAfter(lookup, batchForget([NODE, 1]))).toEqual([NODE]);
  // What is late belongs to an earlier life of the node.
  expect(forgottenAfter(lookup, lookup, forget(NODE, 1), lookup, forget(NODE, 1))).toEqual([]);
});

test("finish() releases what is left", () => {
  const released: number[] = [];
  const fs = writable(
    {
      unlink: () => inode({ number: NODE, linkCount: 0 }),
      release: (number) => released.push(number),
    },
    { inode: (number) => inode({ number }), lookup: () => NODE as Inode["number"] },
  );
  const session = new Session(new FakeChannel([lookup, unlink]), fs, { log: () => undefined });
  session.serve();
  expect(released).toEqual([]);
  session.finish();
  session.finish();
  expect(released).toEqual([NODE]);
});

test("Lifetimes counts nodes far apart, and above 2^31, by themselves", () => {
  const released: number[] = [];
  const forgotten: number[] = [];
  const lifetimes = new Lifetimes(
    (number) => released.push(number),
    (node) => forgotten.push(node),
  );
  const nodes = [3, 1027, 0x8000_0003, 0xffff_fffe];
  for (const node of nodes) {
    lifetimes.add(node);
    lifetimes.add(node);
    lifetimes.noteUnlinked(inode({ number: node, linkCount: 0 }));
  }
  for (const node of nodes) lifetimes.forget(node, 1);
  expect([released, forgotten]).toEqual([[], []]);
  for (const node of nodes) lifetimes.forget(node, 1);
  expect([released, forgotten]).toEqual([nodes, nodes]);
});
