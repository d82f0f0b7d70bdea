/** What the shim has the kernel drop before a WRITE past the page cache is answered. */
import { closeSync, openSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Errno } from "../../../src/base/errno.ts";
import { NO_REPLY, SERVE_BY_SHIM, TIMED_OUT, WriteAccess } from "../../../src/fuse/channel.ts";
import type { ChannelOptions, NativeChannel } from "../../../src/native/binding.ts";
import { ChannelRig } from "./channel-rig.ts";
import { type FakeKernel, FORGET, type Reply } from "./fake-kernel.ts";

const DEVICE_BYTES = 1 << 20;
const MAPPED = 2;
const NODE = 7;
const OTHER_NODE = 8;
/** FUSE_READ_LOCKOWNER and FUSE_WRITE_LOCKOWNER: only what goes past the page cache has them. */
const LOCK_OWNER = 2;
/** A notification has its code where a reply has its error. @see fuse_kernel.h 7.45, fuse_notify_code */
const INVAL_INODE = 2;
/** WRITEs in a row after which all pages of a node are dropped: native/invalidator.cc. */
const STREAK = 1024;

let rig: ChannelRig;
let kernel: FakeKernel;

beforeEach(async () => {
  rig = await ChannelRig.open(new Uint8Array(DEVICE_BYTES));
  ({ kernel } = rig);
});

afterEach(() => rig.close());

/** A channel that knows where the bytes of two nodes are. */
function openChannel(options: Partial<ChannelOptions> = {}): NativeChannel {
  const channel = rig.openChannel(options);
  for (const node of [NODE, OTHER_NODE]) map(channel, node, DEVICE_BYTES);
  return channel;
}

function map(channel: NativeChannel, node: number, length: number): void {
  channel.mappings.set([0, 0, length, MAPPED, 0]);
  channel.map(node, length, 1, WriteAccess.FREE);
}

/** @param flags `read_flags`. */
function read(channel: NativeChannel, node: number, flags = 0): void {
  kernel.sendRead(node, 0, 4096, flags);
  if (channel.next(NO_REPLY, 0) !== TIMED_OUT) channel.next(SERVE_BY_SHIM, 0);
  expect(kernel.receive().error).toBe(0);
}

/** Sends a WRITE. @returns what the kernel gets, up to the reply. */
function write(
  channel: NativeChannel,
  node: number,
  offset: number,
  length: number,
  flags = LOCK_OWNER,
): Reply[] {
  const unique = kernel.sendWrite(node, offset, new Uint8Array(length).fill(1), flags);
  if (channel.next(NO_REPLY, 0) !== TIMED_OUT) channel.next(SERVE_BY_SHIM, 0);
  return receiveUpTo(unique);
}

function receiveUpTo(unique: number): Reply[] {
  const received: Reply[] = [];
  do received.push(kernel.receive());
  while (received.at(-1)?.unique !== unique);
  return received;
}

/** @returns node, offset and length of what the kernel was told to drop before it got its reply. */
function dropped(received: readonly Reply[]): number[][] {
  return received.slice(0, -1).map(({ unique, error, data }) => {
    expect([unique, error]).toEqual([0, INVAL_INODE]);
    return [...new BigInt64Array(data.buffer)].map(Number);
  });
}

describe("before a WRITE past the page cache is answered, the kernel", () => {
  test.each([100, 4096, 65_536, 200_000])("drops the %i bytes that it has read before", (size) => {
    const channel = openChannel();
    read(channel, NODE);
    const received = write(channel, NODE, 8192, size);
    expect(dropped(received)).toEqual([[NODE, 8192, size]]);
    const { data } = received[1] as Reply;
    expect(new DataView(data.buffer).getUint32(0, true)).toBe(size);
  });

  test("drops nothing of a node that was only read past the page cache", () => {
    const channel = openChannel();
    read(channel, OTHER_NODE);
    read(channel, NODE, LOCK_OWNER);
    for (const size of [100, 65_536]) {
      expect(dropped(write(channel, NODE, 0, size))).toEqual([]);
      expect(dropped(write(channel, NODE, 0, size))).toEqual([]);
    }
  });

  test("drops what it has written itself", () => {
    const channel = openChannel();
    expect(dropped(write(channel, NODE, 0, 4096, 0))).toEqual([]);
    expect(dropped(write(channel, NODE, 4096, 4096, 0))).toEqual([]);
    expect(dropped(write(channel, NODE, 0, 4096))).toEqual([[NODE, 0, 4096]]);
  });

  test("drops what TypeScript has answered a READ of", () => {
    const channel = openChannel();
    channel.invalidate(NODE, 0, Number.POSITIVE_INFINITY);
    kernel.sendRead(NODE, 0, 4096);
    expect(channel.next(NO_REPLY, 0)).toBeGreaterThan(0);
    channel.next(SERVE_BY_SHIM, 0);
    expect(kernel.receive().error).toBe(-Errno.EIO);
    map(channel, NODE, DEVICE_BYTES);
    expect(dropped(write(channel, NODE, 0, 4096))).toEqual([[NODE, 0, 4096]]);
  });

  test("drops pages of a WRITE that the device refuses", () => {
    const readOnly = openSync(rig.devicePath, "r");
    const channel = openChannel({ deviceFd: readOnly });
    read(channel, NODE);
    for (const size of [4096, 65_536]) {
      const received = write(channel, NODE, 0, size);
      expect(dropped(received)).toEqual([[NODE, 0, size]]);
      expect(received[1]?.error).toBe(-Errno.EIO);
    }
    channel.close();
    closeSync(readOnly);
  });

  test("drops all pages of a WRITE that is carried out in pieces", () => {
    const channel = openChannel();
    read(channel, NODE);
    channel.invalidate(NODE, 0, Number.POSITIVE_INFINITY);
    const unique = kernel.sendWrite(NODE, 0, new Uint8Array(8192), LOCK_OWNER);
    channel.next(NO_REPLY, 0);
    map(channel, NODE, 4096);
    expect(channel.storeMapped()).toBe(0);
    map(channel, NODE, 8192);
    channel.next(SERVE_BY_SHIM, 0);
    expect(dropped(receiveUpTo(unique))).toEqual([[NODE, 0, 8192]]);
  });

  test.each([
    [0, 24],
    [-Errno.ENOSPC, 16],
  ])("drops pages of a WRITE that TypeScript answers with %i", (error, length) => {
    const channel = openChannel();
    read(channel, NODE);
    channel.invalidate(NODE, 0, Number.POSITIVE_INFINITY);
    const unique = kernel.sendWrite(NODE, 100, new Uint8Array(50), LOCK_OWNER);
    channel.next(NO_REPLY, 0);
    const view = new DataView(channel.reply.buffer, channel.reply.byteOffset);
    view.setUint32(0, length, true);
    view.setInt32(4, error, true);
    view.setBigUint64(8, BigInt(unique), true);
    view.setUint32(16, 50, true);
    channel.next(length, 0);
    const received = receiveUpTo(unique);
    expect(dropped(received)).toEqual([[NODE, 100, 50]]);
    expect(received[1]).toMatchObject({ unique, error });
    expect(received[1]?.data.length).toBe(length - 16);
  });

  test("drops nothing of a node that it has forgotten since", () => {
    const channel = openChannel();
    read(channel, NODE);
    read(channel, OTHER_NODE);
    // Lookups are counted in TypeScript: FORGET may leave some.
    kernel.send(FORGET, NODE, new Uint8Array(8));
    channel.next(NO_REPLY, 0);
    map(channel, NODE, DEVICE_BYTES);
    expect(dropped(write(channel, NODE, 0, 4096))).toEqual([[NODE, 0, 4096]]);
    channel.noteForgotten(NODE);
    expect(dropped(write(channel, NODE, 0, 4096))).toEqual([]);
    expect(dropped(write(channel, OTHER_NODE, 0, 4096))).toEqual([[OTHER_NODE, 0, 4096]]);
    read(channel, NODE);
    expect(dropped(write(channel, NODE, 0, 4096))).toEqual([[NODE, 0, 4096]]);
  });

  test("drops all pages that it does not read any more, later and later", () => {
    const channel = openChannel();
    const writeOnce = (): number[][] => dropped(write(channel, NODE, 4096, 512));
    const all = [NODE, 0, 0];
    const some = [NODE, 4096, 512];
    for (const length of [STREAK, 2 * STREAK]) {
      read(channel, NODE);
      for (let i = 1; i < length; i++) expect(writeOnce()).toEqual([some]);
      expect(writeOnce()).toEqual([all]);
      expect(writeOnce()).toEqual([]);
    }
    read(channel, NODE);
    for (let i = 1; i < STREAK; i++) writeOnce();
    read(channel, NODE);
    for (let i = 1; i < 4 * STREAK; i++) expect(writeOnce()).toEqual([some]);
    expect(writeOnce()).toEqual([all]);
  });
});

test("many WRITEs at once are answered, each after what it has dropped", () => {
  const channel = openChannel({ ioThreads: 4 });
  read(channel, NODE);
  const waiting = new Set<number>();
  const notified = new Set<number>();
  for (let round = 0; round < 60; round++) {
    const size = round % 3 === 0 ? 65_536 : 512;
    waiting.add(kernel.sendWrite(NODE, round * 4096, new Uint8Array(size), LOCK_OWNER));
    channel.next(NO_REPLY, 0);
    for (let i = 0; i < 2; i++) {
      const { unique, data } = kernel.receive();
      if (unique === 0) notified.add(Number(new BigInt64Array(data.buffer)[1]));
      else {
        expect(waiting.delete(unique)).toBe(true);
        expect(notified.size).toBeGreaterThanOrEqual(round + 1 - waiting.size);
      }
    }
  }
  expect([waiting.size, notified.size]).toEqual([0, 60]);
});

test("close() answers what still waits", () => {
  const channel = openChannel();
  read(channel, NODE);
  const uniques = [0, 1, 2].map((i) => {
    const unique = kernel.sendWrite(NODE, i * 65_536, new Uint8Array(65_536), LOCK_OWNER);
    channel.next(NO_REPLY, 0);
    return unique;
  });
  channel.close();
  const answered: number[] = [];
  while (answered.length < uniques.length) {
    const { unique } = kernel.receive();
    if (unique !== 0) answered.push(unique);
  }
  expect(answered.sort((a, b) => a - b)).toEqual(uniques);
});
