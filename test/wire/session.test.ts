/** What a session does around its operations: errors, log, trace, timers, malformed headers. */
import { expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import { FieldRangeError } from "../../src/base/layout.ts";
import { CorruptionError, FsError } from "../../src/ext4/index.ts";
import { Session } from "../../src/fuse/session.ts";
import { TimerList } from "../../src/fuse/timers.ts";
import {
  exchange,
  FakeChannel,
  filesystem,
  inode,
  name,
  reply,
  request,
  UNIQUE,
  u32,
  u64,
  zeros,
} from "./support.ts";

const getattr = (node = 12): Uint8Array => request(3, node, zeros(16));

/** A filesystem whose inodes fail as `error` says. */
const failing = (error: (node: number) => Error) =>
  filesystem({
    inode: (number) => {
      throw error(number);
    },
  });

test("a CorruptionError is its errno, logged once for each rule and place", () => {
  const fs = failing(
    (number) => new CorruptionError("inode-checksum", { inode: number }, "0x1, expected 0x2"),
  );
  const { answers, log } = exchange([getattr(12), getattr(12), getattr(13)], fs);
  expect(answers).toEqual([reply(-117), reply(-117), reply(-117)]);
  expect(log).toEqual([
    "GETATTR node 12: inode-checksum at inode 12: 0x1, expected 0x2",
    "GETATTR node 13: inode-checksum at inode 13: 0x1, expected 0x2",
  ]);
});

test("corruption everywhere does not fill the log", () => {
  let count = 0;
  const fs = failing(() => new CorruptionError("inode-mode", { offset: count++ }, "0"));
  const requests = Array.from({ length: 1100 }, () => getattr());
  const { log } = exchange(requests, fs);
  expect(log).toHaveLength(1001);
  expect(log.at(-1)).toBe("1000 places are corrupt; further ones are not logged");
});

test("a device failure is EIO and logged with its cause; a refusal is not logged", () => {
  const device = failing(
    () => new FsError(Errno.EIO, "block 7 cannot be read", { cause: new Error("short read") }),
  );
  expect(exchange([getattr()], device)).toMatchObject({
    answers: [reply(-5)],
    log: ["GETATTR node 12: block 7 cannot be read (short read)"],
  });
  const stale = failing(() => new FsError(Errno.ESTALE, "inode 12 is not in use"));
  expect(exchange([getattr()], stale)).toMatchObject({ answers: [reply(-116)], log: [] });
});

test.each([new TypeError("undefined is not an object"), new FieldRangeError("above 2^53 - 1")])(
  "any other error is EIO, logged with its stack: %s",
  (error) => {
    const { answers, log } = exchange(
      [getattr()],
      failing(() => error),
    );
    expect(answers).toEqual([reply(-5)]);
    expect(log[0]).toContain(`GETATTR node 12: unexpected error: ${error.name}: ${error.message}`);
    expect(log[0]).toContain("session.test.ts");
  },
);

test("the session goes on after an error", () => {
  const fs = filesystem({
    inode: (number) => {
      if (number === 12) throw new Error("once");
      return inode({ number });
    },
  });
  const { answers } = exchange([getattr(12), getattr(13)], fs);
  expect(answers[0]).toEqual(reply(-5));
  expect((answers[1] as Uint8Array).length).toBe(16 + 104);
});

test("a request that lies about its length is EINVAL", () => {
  const longer = getattr();
  longer.set(u32(longer.length + 1));
  const shorter = getattr();
  shorter.set(u32(longer.length - 1));
  expect(exchange([longer, shorter], filesystem()).answers).toEqual([reply(-22), reply(-22)]);
});

test("a request without a whole header is dropped, and logged", () => {
  expect(exchange([getattr().slice(0, 39)], filesystem())).toMatchObject({
    answers: ["no reply"],
    log: ["a request of 39 bytes has no header; dropped"],
  });
});

test("trace has a line for every request: what was asked, what came of it", () => {
  const trace: string[] = [];
  const fs = filesystem({
    inode: (number) => inode({ number, sizeBytes: 0 }),
    lookup: () => {
      throw new FsError(Errno.ENOTDIR, "inode 12 is no directory");
    },
    getXattr: () => undefined,
  });
  exchange(
    [
      getattr(),
      request(1, 12, name('caf\u00e9 "x"')),
      request(1, 12, [0x61]),
      request(2, 12, u64(3)),
      request(15, 12, u64(0), u64(8192), u32(4096), zeros(20)),
      request(22, 12, u32(64), u32(0), name("user.k")),
      request(999, 12),
    ],
    fs,
    { trace: (line) => trace.push(line) },
  );
  expect(trace).toEqual([
    `${UNIQUE} GETATTR node 12 -> ok, 120 bytes`,
    `${UNIQUE} LOOKUP node 12 "caf\\xe9 \\x22x\\x22" -> ENOTDIR`,
    `${UNIQUE} LOOKUP node 12 malformed -> EINVAL`,
    `${UNIQUE} FORGET node 12 lookups 3 -> no reply`,
    `${UNIQUE} READ node 12 offset 8192 size 4096 -> ok, 16 bytes`,
    `${UNIQUE} GETXATTR node 12 "user.k" room 64 -> ENODATA`,
    `${UNIQUE} opcode 999 node 12 -> ENOSYS`,
  ]);
});

test("timers run between requests, and say how long to wait for one", () => {
  let now = 1000;
  const channel = new FakeChannel([getattr(), "timeout", getattr(), "timeout"]);
  const session = new Session(
    channel,
    filesystem({
      inode: (number) => {
        now += 300;
        return inode({ number });
      },
    }),
    { log: () => undefined, now: () => now },
  );
  const ranAt: number[] = [];
  session.every(500, () => ranAt.push(now));
  session.serve();
  expect(channel.timeouts).toEqual([500, 200, 200, 0, 500]);
  expect(ranAt).toEqual([1600]);
  expect(channel.answers).toHaveLength(2);
});

test("TimerList waits for the nearest timer, and for ever when there is none", () => {
  let now = 0;
  const timers = new TimerList(() => now);
  expect(timers.waitMs).toBe(-1);
  const ran: string[] = [];
  const stopSlow = timers.every(100, () => ran.push("slow"));
  const stopQuick = timers.every(30, () => ran.push("quick"));
  const runAt = (time: number): number => {
    now = time;
    timers.run();
    return timers.waitMs;
  };
  expect(runAt(0)).toBe(30);
  expect(runAt(29.5)).toBe(1);
  expect(runAt(95)).toBe(5); // two periods of the quick one were missed
  expect(runAt(100)).toBe(25);
  expect(ran).toEqual(["quick", "slow"]);
  now = 130;
  expect(timers.waitMs).toBe(0);
  stopQuick();
  expect(timers.waitMs).toBe(70);
  stopSlow();
  expect(timers.waitMs).toBe(-1);
});

test("a timer may stop itself", () => {
  let now = 0;
  const timers = new TimerList(() => now);
  let count = 0;
  const stop = timers.every(10, () => {
    count += 1;
    stop();
  });
  now = 10;
  timers.run();
  expect(timers.waitMs).toBe(-1);
  now = 20;
  timers.run();
  expect(count).toBe(1);
});
