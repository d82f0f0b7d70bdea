/** The channel of the shim, over a socket pair in the place of /dev/fuse. */
import { ftruncateSync } from "node:fs";
import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Errno } from "../../../src/base/errno.ts";
import {
  CLOSED,
  MAPPING_STRIDE,
  NO_REPLY,
  SERVE_BY_SHIM,
  TIMED_OUT,
  WriteAccess,
} from "../../../src/fuse/channel.ts";
import { type ChannelOptions, loadAddon, type NativeChannel } from "../../../src/native/binding.ts";
import { BODY_BYTES_MAX, ChannelRig } from "./channel-rig.ts";
import { BATCH_FORGET, type FakeKernel, FORGET, LOOKUP, READ } from "./fake-kernel.ts";

const addon = loadAddon();

const HOLE = 0;
const MAPPED = 2;
const UNWRITTEN = 3;

const DEVICE_BYTES = 1 << 20;
const NODE = 7;
/** A notification has its code where a reply has its error. @see fuse_kernel.h 7.45, fuse_notify_code */
const INVAL_INODE = 2;

type Mapping = readonly [
  offset: number,
  address: number,
  length: number,
  type: number,
  flags?: number,
];

/** Every four bytes say where they are. */
const deviceBytes = new Uint8Array(
  Uint32Array.from({ length: DEVICE_BYTES / 4 }, (_, i) => i).buffer,
);

let rig: ChannelRig;
let deviceFd: number;
let kernel: FakeKernel;

beforeEach(async () => {
  rig = await ChannelRig.open(deviceBytes);
  ({ kernel, deviceFd } = rig);
});

afterEach(() => rig.close());

const openChannel = (options?: Partial<ChannelOptions>) => rig.openChannel(options);

function map(
  channel: NativeChannel,
  node: number,
  sizeBytes: number,
  ...mappings: Mapping[]
): void {
  for (const [i, [offset, address, length, type, flags = 0]] of mappings.entries()) {
    channel.mappings.set([offset, address, length, type, flags], i * MAPPING_STRIDE);
  }
  channel.map(node, sizeBytes, mappings.length, WriteAccess.ASK);
}

/** Sends a READ that the shim has to serve by itself. @returns the reply's data. */
function readByShim(
  channel: NativeChannel,
  node: number,
  offset: number,
  size: number,
): Uint8Array {
  const unique = kernel.sendRead(node, offset, size);
  expect(channel.next(NO_REPLY, 0)).toBe(TIMED_OUT);
  const reply = kernel.receive();
  expect(reply).toMatchObject({ unique, error: 0 });
  return reply.data;
}

/** Sends a READ. @returns whether the shim left it to TypeScript; then it gets EIO. */
function isLeftToScript(
  channel: NativeChannel,
  node: number,
  offset: number,
  size: number,
): boolean {
  const unique = kernel.sendRead(node, offset, size);
  const length = channel.next(NO_REPLY, 0);
  if (length !== TIMED_OUT) channel.next(SERVE_BY_SHIM, 0);
  const reply = kernel.receive();
  expect(reply.unique).toBe(unique);
  if (length !== TIMED_OUT) expect(reply.error).toBe(-Errno.EIO);
  return length !== TIMED_OUT;
}

/** As `toEqual`, but quick with long arrays. */
function expectSame(got: Uint8Array, wanted: Uint8Array): void {
  expect(got.length).toBe(wanted.length);
  expect(Buffer.compare(got, wanted)).toBe(0);
}

const slice = (from: number, length: number): Uint8Array => deviceBytes.slice(from, from + length);

describe("next()", () => {
  test("hands over what the shim cannot serve, and sends the reply that was built", () => {
    const channel = openChannel();
    const unique = kernel.send(LOOKUP, 1, new TextEncoder().encode("name\0"));
    expect(channel.next(NO_REPLY, 1000)).toBe(45);
    expect(channel.request.subarray(40, 44)).toEqual(new TextEncoder().encode("name"));

    const view = new DataView(channel.reply.buffer, channel.reply.byteOffset);
    view.setUint32(0, 20, true);
    view.setInt32(4, 0, true);
    view.setBigUint64(8, BigInt(unique), true);
    view.setUint32(16, 0x01020304, true);
    expect(channel.next(20, 0)).toBe(TIMED_OUT);
    expect(kernel.receive()).toEqual({ unique, error: 0, data: Uint8Array.of(4, 3, 2, 1) });
  });

  test("answers EIO for a reply that is longer than the buffer", () => {
    const channel = openChannel();
    const unique = kernel.send(LOOKUP, 1);
    channel.next(NO_REPLY, 1000);
    channel.next(channel.reply.length + 1, 0);
    expect(kernel.receive()).toMatchObject({ unique, error: -Errno.EIO });
  });

  test("returns TIMED_OUT no sooner than it was told to", () => {
    const channel = openChannel();
    const before = performance.now();
    expect(channel.next(NO_REPLY, 30)).toBe(TIMED_OUT);
    expect(performance.now() - before).toBeGreaterThanOrEqual(29);
  });

  test("does not stay awake for long when no request follows another", () => {
    const channel = openChannel();
    for (let i = 0; i < 3; i++) {
      kernel.send(LOOKUP, 1);
      channel.next(NO_REPLY, 1000);
    }
    const before = process.cpuUsage();
    expect(channel.next(NO_REPLY, 400)).toBe(TIMED_OUT);
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1000).toBeLessThan(100);
  });

  test("takes a request that comes when it has gone to sleep", () => {
    const channel = openChannel();
    kernel.send(LOOKUP, 1);
    channel.next(NO_REPLY, 1000);
    const { fd, request } = kernel.unsent(READ, NODE);
    const source = `
      const { fd, request } = require("node:worker_threads").workerData;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
      require("node:fs").writeSync(fd, request);`;
    new Worker(source, { eval: true, workerData: { fd, request } });
    expect(channel.next(NO_REPLY, -1)).toBe(request.length);
  });

  test("returns CLOSED when the connection ends", () => {
    const channel = openChannel();
    kernel.hangUp();
    expect(channel.next(NO_REPLY, -1)).toBe(CLOSED);
  });

  test.each([-1, 60_000])(
    "returns CLOSED when it was interrupted before, timeout %i",
    (timeoutMs) => {
      const channel = openChannel();
      addon.interruptChannel(channel.id);
      expect(channel.next(NO_REPLY, timeoutMs)).toBe(CLOSED);
      expect(channel.next(NO_REPLY, timeoutMs)).toBe(CLOSED);
    },
  );

  test.each([-1, 60_000])(
    "returns CLOSED when another thread interrupts it, timeout %i",
    (timeoutMs) => {
      const channel = openChannel();
      const root = new URL("../../../", import.meta.url).pathname;
      const source = `
      const { root, id } = require("node:worker_threads").workerData;
      const addon = require(root + "node_modules/node-gyp-build")(root);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
      addon.interruptChannel(id);`;
      new Worker(source, { eval: true, workerData: { root, id: channel.id } });
      expect(channel.next(NO_REPLY, timeoutMs)).toBe(CLOSED);
    },
  );

  test("returns CLOSED after close()", () => {
    const channel = openChannel();
    channel.close();
    expect(channel.next(NO_REPLY, -1)).toBe(CLOSED);
    addon.interruptChannel(channel.id);
  });

  test("counts requests by opcode, and those that TypeScript saw", () => {
    const channel = openChannel();
    map(channel, NODE, 4096, [0, 0, 4096, MAPPED]);
    readByShim(channel, NODE, 0, 4096);
    isLeftToScript(channel, NODE + 1, 0, 4096);
    kernel.send(999, 1);
    channel.next(NO_REPLY, 0);
    expect([channel.requestCounts[READ], channel.scriptCounts[READ]]).toEqual([2, 1]);
    expect([channel.requestCounts[0], channel.scriptCounts[0]]).toEqual([1, 1]);
  });
});

describe("a READ", () => {
  test("is served from the device where it is mapped", () => {
    const channel = openChannel();
    map(channel, NODE, 8192, [0, 65536, 8192, MAPPED]);
    expectSame(readByShim(channel, NODE, 0, 4096), slice(65536, 4096));
    expectSame(readByShim(channel, NODE, 1000, 5000), slice(66536, 5000));
  });

  test.each([32_768, 65_536, 131_072])("of %i bytes arrives whole", (size) => {
    const channel = openChannel();
    map(channel, NODE, DEVICE_BYTES, [0, 0, DEVICE_BYTES, MAPPED]);
    expectSame(readByShim(channel, NODE, 4096 * 3, size), slice(4096 * 3, size));
    expectSame(readByShim(channel, NODE, 999, size), slice(999, size));
  });

  test.each([4096, 100_000])("of %i bytes begins deviceOffsetBytes further on", (size) => {
    const channel = openChannel({ deviceOffsetBytes: 1536 });
    map(channel, NODE, DEVICE_BYTES, [0, 512, DEVICE_BYTES - 4096, MAPPED]);
    expectSame(readByShim(channel, NODE, 0, size), slice(2048, size));
  });

  test.each([HOLE, UNWRITTEN])("finds zeros in mappings of type %i", (type) => {
    const channel = openChannel();
    map(
      channel,
      NODE,
      12288,
      [0, 4096, 4096, MAPPED],
      [4096, 8192, 4096, type],
      [8192, 0, 4096, MAPPED],
    );
    const expected = new Uint8Array([
      ...slice(4096, 4096),
      ...new Uint8Array(4096),
      ...slice(0, 4096),
    ]);
    expectSame(readByShim(channel, NODE, 0, 12288), expected);
  });

  test.each([8192, 100_000])("ends at the end of the file, asked for %i bytes", (size) => {
    const channel = openChannel();
    map(channel, NODE, 70_001, [0, 4096, 73_728, MAPPED]);
    expectSame(readByShim(channel, NODE, 65_536, size), slice(69_632, 4465));
    expect(readByShim(channel, NODE, 70_001, size)).toHaveLength(0);
    expect(readByShim(channel, NODE, 1 << 30, size)).toHaveLength(0);
  });

  test("is left to TypeScript when any part of it is not mapped", () => {
    const channel = openChannel();
    map(channel, NODE, 65536, [4096, 0, 4096, MAPPED], [12288, 0, 4096, HOLE]);
    expect(isLeftToScript(channel, NODE, 4096, 4096)).toBe(false);
    expect(isLeftToScript(channel, NODE, 4095, 4096)).toBe(true);
    expect(isLeftToScript(channel, NODE, 4096, 4097)).toBe(true);
    expect(isLeftToScript(channel, NODE, 4096, 12288)).toBe(true);
    expect(isLeftToScript(channel, NODE + 1, 4096, 4096)).toBe(true);
  });

  test("is served on SERVE_BY_SHIM, and with EIO when it still cannot be", () => {
    const channel = openChannel();
    const unique = kernel.sendRead(NODE, 0, 100);
    expect(channel.next(NO_REPLY, 0)).toBe(80);
    map(channel, NODE, 4096, [0, 0, 4096, MAPPED]);
    channel.next(SERVE_BY_SHIM, 0);
    expect(kernel.receive()).toEqual({ unique, error: 0, data: slice(0, 100) });
    expect(isLeftToScript(channel, NODE + 1, 0, 100)).toBe(true);
  });

  test("longer than bodyBytesMax gets EIO", () => {
    const channel = openChannel();
    map(channel, NODE, DEVICE_BYTES, [0, 0, DEVICE_BYTES, MAPPED]);
    expect(isLeftToScript(channel, NODE, 0, BODY_BYTES_MAX + 1)).toBe(true);
  });

  test("goes through TypeScript where reads are traced", () => {
    const channel = openChannel({ traceTransfers: true });
    map(channel, NODE, 4096, [0, 0, 4096, MAPPED]);
    const unique = kernel.sendRead(NODE, 0, 100);
    expect(channel.next(NO_REPLY, 0)).toBe(80);
    channel.next(SERVE_BY_SHIM, 0);
    expect(kernel.receive()).toEqual({ unique, error: 0, data: slice(0, 100) });
  });

  test.each([4096, 65536])("of %i bytes gets EIO where the device ends before it", (size) => {
    const channel = openChannel();
    map(channel, NODE, DEVICE_BYTES, [0, 0, DEVICE_BYTES, MAPPED]);
    ftruncateSync(deviceFd, 70_000);
    for (const offset of [70_000 - 4000, 70_000, 200_000]) {
      const unique = kernel.sendRead(NODE, offset, size);
      expect(channel.next(NO_REPLY, 0)).toBe(TIMED_OUT);
      expect(kernel.receive()).toMatchObject({ unique, error: -Errno.EIO });
    }
  });
});

describe("map()", () => {
  test("replaces what it overlaps, as a plain model does", () => {
    const UNIT = 64;
    const UNITS = 48;
    const part = fc.record({
      at: fc.nat(UNITS - 1),
      count: fc.integer({ min: 1, max: UNITS }),
      address: fc.nat(200),
      type: fc.constantFrom(HOLE, MAPPED, MAPPED, UNWRITTEN),
    });
    const channel = openChannel();
    let node = NODE;
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 24 }), (parts) => {
        node += 1;
        const model = new Array<number | undefined>(UNITS).fill(undefined);
        for (const { at, count, address, type } of parts) {
          const end = Math.min(at + count, UNITS);
          for (let i = at; i < end; i++) model[i] = type === MAPPED ? address + i - at : -1;
          const mapping: Mapping = [at * UNIT, address * UNIT, (end - at) * UNIT, type];
          map(channel, node, UNITS * UNIT, mapping);
        }
        for (let from = 0; from < UNITS; from += 5) {
          const units = model.slice(from, from + 5);
          if (units.includes(undefined)) {
            expect(isLeftToScript(channel, node, from * UNIT, units.length * UNIT)).toBe(true);
            continue;
          }
          const expected = units.flatMap((address) =>
            address === undefined || address < 0
              ? new Array<number>(UNIT).fill(0)
              : [...slice(address * UNIT, UNIT)],
          );
          const got = readByShim(channel, node, from * UNIT, units.length * UNIT);
          expect([...got]).toEqual(expected);
        }
      }),
      { numRuns: 60 },
    );
  });

  test("takes the new size of a file", () => {
    const channel = openChannel();
    map(channel, NODE, 100, [0, 0, 4096, MAPPED]);
    expect(readByShim(channel, NODE, 0, 4096)).toHaveLength(100);
    map(channel, NODE, 4096);
    expect(readByShim(channel, NODE, 0, 4096)).toHaveLength(4096);
  });

  const impossible: [string, Mapping][] = [
    ["a negative offset", [-1, 0, 4096, MAPPED]],
    ["an offset that is no number", [Number.NaN, 0, 4096, MAPPED]],
    ["an offset that is not whole", [0.5, 0, 4096, MAPPED]],
    ["an offset above 2^53", [2 ** 54, 0, 4096, MAPPED]],
    ["an empty range", [0, 0, 0, MAPPED]],
    ["a negative length", [0, 0, -4096, MAPPED]],
    ["an endless range", [0, 0, Number.POSITIVE_INFINITY, MAPPED]],
    ["a mapping to nowhere", [0, -1, 4096, MAPPED]],
    ["an address that is no number", [0, Number.NaN, 4096, MAPPED]],
    ["an address above 2^53", [0, 2 ** 54, 4096, MAPPED]],
    ["delayed allocation", [0, 0, 4096, 1]],
    ["inline data", [0, 0, 4096, 4]],
    ["a type that is no number", [0, 0, 4096, Number.NaN]],
  ];
  test.each(impossible)("refuses all it is given when it finds %s", (_, mapping) => {
    const channel = openChannel();
    map(channel, NODE, 8192, [0, 0, 8192, MAPPED], mapping);
    expect(isLeftToScript(channel, NODE, 0, 100)).toBe(true);
  });

  test.each([
    [-1, 4096, 1],
    [Number.NaN, 4096, 1],
    [NODE, -1, 1],
    [NODE, Number.NaN, 1],
    [NODE, 2 ** 60, 1],
    [NODE, 4096, 1.5],
    [NODE, 4096, 1e9],
    [NODE, 4096, -1],
  ])("refuses node %d, size %d, count %d", (node, sizeBytes, count) => {
    const channel = openChannel();
    channel.mappings.set([0, 0, 4096, MAPPED, 0]);
    channel.map(node, sizeBytes, count, WriteAccess.ASK);
    expect(isLeftToScript(channel, NODE, 0, 100)).toBe(true);
  });

  test("is undone when the kernel forgets the node", () => {
    const channel = openChannel();
    for (const node of [1, 2, 3, 4]) map(channel, node, 4096, [0, 0, 4096, MAPPED]);
    kernel.send(FORGET, 1, new Uint8Array(8));
    expect(channel.next(NO_REPLY, 0)).toBe(48);
    const batch = new DataView(new ArrayBuffer(8 + 2 * 16));
    batch.setUint32(0, 2, true);
    batch.setBigUint64(8, 2n, true);
    batch.setBigUint64(24, 3n, true);
    kernel.send(BATCH_FORGET, 0, new Uint8Array(batch.buffer));
    expect(channel.next(NO_REPLY, 0)).toBe(80);
    const left = [1, 2, 3, 4].map((node) => isLeftToScript(channel, node, 0, 100));
    expect(left).toEqual([true, true, true, false]);
  });

  test("drops the node that was not used for longest, then far parts of the file itself", () => {
    const channel = openChannel();
    const perCall = channel.mappings.length / MAPPING_STRIDE;
    const fill = (node: number, calls: number, firstCall = 0): void => {
      for (let call = firstCall; call < firstCall + calls; call++) {
        for (let i = 0; i < perCall; i++) {
          const index = call * perCall + i;
          channel.mappings.set([index * 512, 0, 512, MAPPED, 0], i * MAPPING_STRIDE);
        }
        channel.map(node, 2 ** 40, perCall, WriteAccess.ASK);
      }
    };
    const knows = (node: number, index: number) => !isLeftToScript(channel, node, index * 512, 512);
    fill(1, 60);
    fill(2, 60);
    fill(3, 60);
    expect(knows(1, 0)).toBe(true);
    fill(4, 80);
    expect([1, 2, 3, 4].map((node) => knows(node, 0))).toEqual([true, false, true, true]);
    fill(5, 260);
    expect([1, 2, 3, 4].map((node) => knows(node, 0))).toEqual([false, false, false, false]);
    expect(knows(5, 260 * perCall - 1)).toBe(true);
    expect(knows(5, 0)).toBe(false);
  });
});

describe("forgetAttributes()", () => {
  test("names the node, and spares its pages", () => {
    const channel = openChannel();
    channel.forgetAttributes(NODE);
    const { unique, error, data } = kernel.receive();
    expect([unique, error]).toEqual([0, INVAL_INODE]);
    expect([...new BigInt64Array(data.buffer)]).toEqual([BigInt(NODE), -1n, 0n]);
  });
});

test("forgetContents() names the node, and all of its pages", () => {
  const channel = openChannel();
  channel.forgetContents(NODE);
  const { unique, error, data } = kernel.receive();
  expect([unique, error]).toEqual([0, INVAL_INODE]);
  expect([...new BigInt64Array(data.buffer)]).toEqual([BigInt(NODE), 0n, 0n]);
});

describe("notify()", () => {
  test("sends the code, and the payload as it is", () => {
    const channel = openChannel();
    const payload = Uint8Array.from({ length: 80 }, (_, i) => i + 1);
    expect(channel.notify(100, payload.subarray(8))).toBe(0);
    const { unique, error, data } = kernel.receive();
    expect({ unique, error }).toEqual({ unique: 0, error: 100 });
    expect([...data]).toEqual([...payload.subarray(8)]);
    expect(channel.notify(8, new Uint8Array(0))).toBe(0);
    expect(kernel.receive()).toEqual({ unique: 0, error: 8, data: new Uint8Array(0) });
  });

  test("leaves the request in hand to be answered", () => {
    const channel = openChannel();
    const unique = kernel.send(LOOKUP, NODE);
    expect(channel.next(NO_REPLY, 1000)).toBeGreaterThan(0);
    expect(channel.notify(101, new Uint8Array(48))).toBe(0);
    expect(kernel.receive()).toMatchObject({ unique: 0, error: 101 });
    channel.reply.set(new Uint8Array(new Uint32Array([16, 0, unique, 0]).buffer));
    expect(channel.next(16, 0)).toBe(TIMED_OUT);
    expect(kernel.receive()).toMatchObject({ unique, error: 0 });
  });

  test("gives a negative errno when the kernel does not take it", () => {
    const channel = openChannel();
    for (const code of [0, -1, 2 ** 31, Number.NaN])
      expect(channel.notify(code, new Uint8Array(4))).toBe(-Errno.EINVAL);
    expect(channel.notify(1, new Uint16Array(4) as unknown as Uint8Array)).toBe(-Errno.EINVAL);
    channel.close();
    expect(channel.notify(1, new Uint8Array(4))).toBe(-Errno.EBADF);
  });
});

test("requests of iomap have counters of their own", () => {
  const channel = openChannel();
  for (const [opcode, index] of [
    [4089, 121],
    [4095, 127],
    [4096, 0],
    [121, 0],
    [120, 120],
  ] as const) {
    const before = channel.requestCounts[index] ?? 0;
    kernel.send(opcode, NODE);
    expect(channel.next(NO_REPLY, 1000)).toBeGreaterThan(0);
    expect([opcode, channel.requestCounts[index], channel.scriptCounts[index]]).toEqual([
      opcode,
      before + 1,
      before + 1,
    ]);
  }
});
