/** FLUSH, FSYNC, FSYNCDIR, SYNCFS; what is durable before it is answered; times of shim writes. */
import { expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import { FsError } from "../../src/ext4/index.ts";
import type { Synchronous } from "../../src/fuse/session.ts";
import { Session } from "../../src/fuse/session.ts";
import {
  answerTo,
  exchange,
  FakeChannel,
  filesystem,
  inode,
  name,
  reply,
  request,
  u32,
  u64,
  writable,
  zeros,
} from "./support.ts";

const fsync = (opcode: number, flags: number): Uint8Array =>
  request(
    opcode,
    12,
    u64(0), // fh
    u32(flags),
    u32(0), // padding
  );

test.each([
  ["FSYNC", 20],
  ["FSYNCDIR", 30],
])("%s syncs the node, or its contents alone", (_, opcode) => {
  const asked: unknown[] = [];
  const fs = writable({ syncFile: (number, dataOnly) => asked.push(number, dataOnly) });
  expect(answerTo(fsync(opcode, 0), fs)).toEqual(reply(0));
  expect(answerTo(fsync(opcode, 1), fs)).toEqual(reply(0));
  expect(asked).toEqual([12, false, 12, true]);
});

test("SYNCFS, and FSYNCDIR of the root, sync everything", () => {
  let count = 0;
  const fs = writable({ syncFilesystem: () => (count += 1) });
  expect(answerTo(request(50, 1, u64(0)), fs)).toEqual(reply(0));
  expect(answerTo(request(30, 1, zeros(16)), fs)).toEqual(reply(0));
  expect(count).toBe(2);
});

test("a sync that fails says so, and is logged", () => {
  const fs = writable({
    syncFile: () => {
      throw new FsError(Errno.EIO, "cannot be committed");
    },
  });
  const { answers, log } = exchange([fsync(20, 0)], fs);
  expect(answers).toEqual([reply(-5)]);
  expect(log).toEqual(["FSYNC node 12: cannot be committed"]);
});

test("FLUSH is unknown, and so are all of them where nothing is changed", () => {
  expect(answerTo(request(25, 12, zeros(24)), writable())).toEqual(reply(-38));
  for (const opcode of [20, 30, 50]) {
    expect(answerTo(request(opcode, 12, zeros(16)), filesystem())).toEqual(reply(-38));
  }
});

test.each<readonly [Synchronous, number]>([
  ["none", 0],
  ["names", 1],
  ["all", 2],
])("with %s synchronous, of a name and an attribute %i are committed", (synchronous, count) => {
  let commits = 0;
  const fs = writable(
    {
      unlink: () => inode(),
      setAttributes: () => inode(),
      commit: () => (commits += 1),
    },
    { inode: () => inode() },
  );
  const requests = [
    request(10, 1, name("f")),
    request(4, 12, zeros(88)),
    request(3, 12, zeros(16)),
  ];
  const { answers } = exchange(requests, fs, { synchronous });
  expect(answers.map((answer) => (answer as Uint8Array)[4])).toEqual([0, 0, 0]);
  expect(commits).toBe(count);
});

test("files that the shim wrote to get their times before anything is answered", () => {
  const order: unknown[] = [];
  const fs = writable(
    { noteWrite: (number, time) => order.push(number, time) },
    {
      inode: (number) => {
        order.push("stat");
        return inode({ number });
      },
    },
  );
  const channel = new FakeChannel([request(3, 12, zeros(16))]);
  channel.write([12, 1_800_000_000, 5], [1, 1_800_000_001, 6]);
  exchange([], fs, {}, channel);
  expect(order).toEqual([
    12,
    { seconds: 1_800_000_000, nanoseconds: 5 },
    2,
    { seconds: 1_800_000_001, nanoseconds: 6 },
    "stat",
  ]);
});

test("times of more files than the shim hands over at once, and of one that is gone", () => {
  const noted: number[] = [];
  const fs = writable({
    noteWrite: (number) => {
      if (number === 15) throw new FsError(Errno.ESTALE, "gone");
      noted.push(number);
    },
  });
  const channel = new FakeChannel([]);
  const session = new Session(channel, fs, { log: () => undefined });
  channel.write(...Array.from({ length: 20 }, (_, index) => [index + 11, 0, 0] as const));
  session.finish();
  expect(noted).toHaveLength(19);
});

test("times are known before a timer runs", () => {
  const order: string[] = [];
  const fs = writable({ noteWrite: () => order.push("times") });
  let now = 0;
  const channel = new FakeChannel(["timeout"]);
  const session = new Session(channel, fs, { log: () => undefined, now: () => now });
  session.every(100, () => order.push("timer"));
  channel.write([12, 0, 0]);
  now = 100;
  session.serve();
  expect(order).toEqual(["times", "timer"]);
});

test("what a timer throws is logged, and a bug ends all changes", () => {
  const log: string[] = [];
  const ended: unknown[] = [];
  const fs = writable({ abort: (error) => ended.push(error) });
  let now = 0;
  const session = new Session(new FakeChannel(["timeout", "timeout"]), fs, {
    log: (line) => log.push(line),
    now: () => now,
  });
  const bug = new TypeError("no such thing");
  session.every(100, () => {
    throw bug;
  });
  now = 100;
  session.serve();
  expect(ended).toEqual([bug]);
  expect(log).toHaveLength(1);
  expect(log[0]).toContain("between requests: unexpected error: TypeError: no such thing");
});
