/** WRITE in the shim, over a socket pair in the place of /dev/fuse. */
import { closeSync, fstatSync, ftruncateSync, openSync, readSync } from "node:fs";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Errno } from "../../../src/base/errno.ts";
import {
  MAPPING_NEW,
  MAPPING_STRIDE,
  NO_REPLY,
  SERVE_BY_SHIM,
  TIMED_OUT,
  WRITTEN_STRIDE,
  WriteAccess,
} from "../../../src/fuse/channel.ts";
import {
  type ChannelOptions,
  loadAddon,
  type NativeChannel,
  OPEN_DIRECT,
  OPEN_WRITE,
} from "../../../src/native/binding.ts";
import { BLOCK_BYTES, ChannelRig } from "./channel-rig.ts";
import { type FakeKernel, FORGET, WRITE } from "./fake-kernel.ts";

const addon = loadAddon();

const { ASK, ASK_TO_CLEAR, FREE } = WriteAccess;
const HOLE = 0;
const MAPPED = 2;
const UNWRITTEN = 3;
/** `write_flags`: take set-id bits away. */
const KILL_SUIDGID = 4;

const DEVICE_BYTES = 1 << 20;
const HEADERS_BYTES = 80;
const NODE = 7;
const FILLED = 0xaa;

type Mapping = readonly [
  offset: number,
  address: number,
  length: number,
  type: number,
  flags?: number,
];

let rig: ChannelRig;
let deviceFd: number;
let kernel: FakeKernel;
let expected: Uint8Array;

beforeEach(async () => {
  expected = new Uint8Array(DEVICE_BYTES).fill(FILLED);
  rig = await ChannelRig.open(expected);
  ({ kernel, deviceFd } = rig);
});

afterEach(() => rig.close());

const openChannel = (options?: Partial<ChannelOptions>) => rig.openChannel(options);

function map(
  channel: NativeChannel,
  sizeBytes: number,
  access: WriteAccess,
  ...mappings: Mapping[]
): void {
  for (const [i, [offset, address, length, type, flags = 0]] of mappings.entries()) {
    channel.mappings.set([offset, address, length, type, flags], i * MAPPING_STRIDE);
  }
  channel.map(NODE, sizeBytes, mappings.length, access);
}

/** Bytes that tell one write from another. */
function data(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 17) % 251);
}

function written(reply: { data: Uint8Array }): number {
  return new DataView(reply.data.buffer, reply.data.byteOffset).getUint32(0, true);
}

/** Sends a WRITE that the shim carries out by itself. */
function writeByShim(channel: NativeChannel, offset: number, bytes: Uint8Array, flags = 0): void {
  const unique = kernel.sendWrite(NODE, offset, bytes, flags);
  expect(channel.next(NO_REPLY, 0)).toBe(TIMED_OUT);
  const reply = kernel.receive();
  expect(reply).toMatchObject({ unique, error: 0 });
  expect(written(reply)).toBe(bytes.length);
}

/** Sends a WRITE. @returns whether it was left to TypeScript, which then refuses it. */
function isLeftToScript(
  channel: NativeChannel,
  offset: number,
  bytes: Uint8Array,
  flags = 0,
): boolean {
  const unique = kernel.sendWrite(NODE, offset, bytes, flags);
  const length = channel.next(NO_REPLY, 0);
  if (length !== TIMED_OUT) refuse(channel, unique, Errno.EROFS);
  expect(kernel.receive().unique).toBe(unique);
  return length !== TIMED_OUT;
}

/** Answers the request in hand with an errno. */
function refuse(channel: NativeChannel, unique: number, errno: number): void {
  const view = new DataView(channel.reply.buffer, channel.reply.byteOffset);
  view.setUint32(0, 16, true);
  view.setInt32(4, -errno, true);
  view.setBigUint64(8, BigInt(unique), true);
  channel.next(16, 0);
}

function expectDevice(): void {
  const got = new Uint8Array(fstatSync(deviceFd).size);
  readSync(deviceFd, got, 0, got.length, 0);
  expect(got.length).toBe(expected.length);
  const at = got.findIndex((byte, index) => byte !== expected[index]);
  expect(at, `byte ${at} is ${got[at]}, not ${expected[at]}`).toBe(-1);
}

describe("a WRITE", () => {
  test.each([100, 4096, 65_536, 200_000])("of %i bytes overwrites what is mapped", (size) => {
    const channel = openChannel();
    map(channel, 400_000, FREE, [0, 8192, 200_000, MAPPED], [200_000, 300_000, 200_000, MAPPED]);
    writeByShim(channel, 150_000, data(size));
    const first = Math.min(size, 50_000);
    expected.set(data(size).subarray(0, first), 8192 + 150_000);
    expected.set(data(size).subarray(first), 300_000);
    channel.drain();
    expectDevice();
    expect(channel.requestCounts[WRITE]).toBe(1);
    expect(channel.scriptCounts[WRITE]).toBe(0);
  });

  test("goes to its place behind deviceOffsetBytes", () => {
    const channel = openChannel({ deviceOffsetBytes: 1536 });
    map(channel, 4096, FREE, [0, 512, 4096, MAPPED]);
    writeByShim(channel, 10, data(100));
    expected.set(data(100), 1536 + 512 + 10);
    expectDevice();
  });

  test("is left to TypeScript where it would do more than overwrite", () => {
    const channel = openChannel();
    expect(isLeftToScript(channel, 0, data(10))).toBe(true);
    map(
      channel,
      9000,
      FREE,
      [0, 0, 4096, MAPPED],
      [4096, 8192, 4096, UNWRITTEN],
      [8192, 0, 4096, HOLE],
    );
    expect(isLeftToScript(channel, 4000, data(96))).toBe(false);
    expect(isLeftToScript(channel, 4000, data(97))).toBe(true);
    expect(isLeftToScript(channel, 4096, data(10))).toBe(true);
    expect(isLeftToScript(channel, 8192, data(10))).toBe(true);
    map(channel, 100, FREE);
    expect(isLeftToScript(channel, 0, data(100))).toBe(false);
    expect(isLeftToScript(channel, 0, data(101))).toBe(true);
    expect(isLeftToScript(channel, 100, data(1))).toBe(true);
    expect(isLeftToScript(channel, 0, data(0))).toBe(true);
  });

  test.each([
    [ASK, true, true],
    [ASK_TO_CLEAR, false, true],
    [FREE, false, false],
  ])(
    "with access %i is left to TypeScript: %s, and to clear set-id bits: %s",
    (access, plain, clears) => {
      const channel = openChannel();
      map(channel, 4096, access, [0, 0, 4096, MAPPED]);
      expect(isLeftToScript(channel, 0, data(10))).toBe(plain);
      expect(isLeftToScript(channel, 0, data(10), KILL_SUIDGID)).toBe(clears);
    },
  );

  test("goes through TypeScript where transfers are traced", () => {
    const channel = openChannel({ traceTransfers: true });
    map(channel, 4096, FREE, [0, 0, 4096, MAPPED]);
    const unique = kernel.sendWrite(NODE, 0, data(10));
    expect(channel.next(NO_REPLY, 0)).toBe(HEADERS_BYTES + 10);
    channel.next(SERVE_BY_SHIM, 0);
    expect(kernel.receive()).toMatchObject({ unique, error: 0 });
  });

  test.each([10, 100_000])("of %i bytes shows its data to TypeScript on demand", (size) => {
    const channel = openChannel();
    const unique = kernel.sendWrite(NODE, 0, data(size));
    expect(channel.next(NO_REPLY, 0)).toBe(HEADERS_BYTES + size);
    channel.loadData();
    const shown = channel.request.subarray(HEADERS_BYTES, HEADERS_BYTES + size);
    expect(Buffer.compare(shown, data(size))).toBe(0);
    refuse(channel, unique, Errno.ENOSPC);
    expect(kernel.receive()).toMatchObject({ unique, error: -Errno.ENOSPC });
  });

  test("is carried out on SERVE_BY_SHIM as far as it is mapped", () => {
    const channel = openChannel();
    const serve = (): { error: number; bytes: number } => {
      kernel.sendWrite(NODE, 0, data(8192));
      channel.next(NO_REPLY, 0);
      map(channel, 8192, ASK, [0, 4096, 4096, MAPPED]);
      channel.next(SERVE_BY_SHIM, 0);
      const reply = kernel.receive();
      return { error: reply.error, bytes: reply.error === 0 ? written(reply) : 0 };
    };
    expect(serve()).toEqual({ error: 0, bytes: 4096 });
    expected.set(data(8192).subarray(0, 4096), 4096);
    expectDevice();
    channel.invalidate(NODE, 0, Number.POSITIVE_INFINITY);
    kernel.sendWrite(NODE, 0, data(10));
    channel.next(NO_REPLY, 0);
    channel.next(SERVE_BY_SHIM, 0);
    expect(kernel.receive()).toMatchObject({ error: -Errno.EIO });
  });

  test("that the device refuses gets EIO", () => {
    const readOnly = openSync(rig.devicePath, "r");
    const channel = openChannel({ deviceFd: readOnly });
    map(channel, DEVICE_BYTES, FREE, [0, 0, DEVICE_BYTES, MAPPED]);
    for (const size of [100, 4096, 100_000]) {
      const unique = kernel.sendWrite(NODE, 0, data(size));
      expect(channel.next(NO_REPLY, 0)).toBe(TIMED_OUT);
      expect(kernel.receive()).toMatchObject({ unique, error: -Errno.EIO });
    }
    closeSync(readOnly);
    expectDevice();
  });

  test("keeps its place among many under way", () => {
    const channel = openChannel({ ioThreads: 4 });
    map(channel, DEVICE_BYTES, FREE, [0, 0, DEVICE_BYTES, MAPPED]);
    for (let round = 0; round < 40; round++) {
      const bytes = data(70_000, round);
      const offset = (round % 12) * 80_000;
      kernel.sendWrite(NODE, offset, bytes);
      channel.next(NO_REPLY, 0);
      if (round % 3 === 2) for (let i = 0; i < 3; i++) kernel.receive();
      if (round % 12 === 11) channel.drain();
      expected.set(bytes, offset);
    }
    channel.drain();
    expectDevice();
  });
});

describe("a WRITE into new blocks", () => {
  /** Carries out a WRITE that TypeScript maps with `mappings`. */
  function write(
    channel: NativeChannel,
    offset: number,
    bytes: Uint8Array,
    ...mappings: Mapping[]
  ) {
    kernel.sendWrite(NODE, offset, bytes);
    expect(channel.next(NO_REPLY, 0)).toBe(HEADERS_BYTES + bytes.length);
    map(channel, offset + bytes.length, FREE, ...mappings);
    expect(channel.next(SERVE_BY_SHIM, 0)).toBe(TIMED_OUT);
    return kernel.receive();
  }

  test.each([
    ["in the middle of one", 5000, 1000],
    ["from its start", 4096, 10],
    ["to its end", 8000, 192],
    ["over several", 4100, 100_000],
    ["all of one", 4096, 4096],
  ])("%s has zeros around its data", (_, offset, size) => {
    const channel = openChannel();
    const address = 65_536 + (offset % BLOCK_BYTES);
    const reply = write(channel, offset, data(size), [offset, address, size, MAPPED, MAPPING_NEW]);
    expect(reply.error).toBe(0);
    expect(written(reply)).toBe(size);
    const end = address + size;
    expected.fill(0, 65_536, Math.ceil(end / BLOCK_BYTES) * BLOCK_BYTES);
    expected.set(data(size), address);
    expectDevice();
  });

  test("knows the whole block afterwards", () => {
    const channel = openChannel();
    write(channel, 5000, data(10), [5000, 65_536 + 904, 10, MAPPED, MAPPING_NEW]);
    map(channel, 8192, FREE);
    writeByShim(channel, 4096, data(100, 2));
    writeByShim(channel, 8092, data(100, 3));
    expected.fill(0, 65_536, 69_632);
    expected.set(data(10), 65_536 + 904);
    expected.set(data(100, 2), 65_536);
    expected.set(data(100, 3), 69_532);
    expectDevice();
  });

  test("leaves old blocks beside new ones alone", () => {
    const channel = openChannel();
    write(
      channel,
      4000,
      data(5000),
      [4000, 4000, 96, MAPPED],
      [4096, 65_536, 4096, MAPPED, MAPPING_NEW],
      [8192, 131_072, 808, MAPPED],
    );
    expected.set(data(5000).subarray(0, 96), 4000);
    expected.set(data(5000).subarray(96, 4192), 65_536);
    expected.set(data(5000).subarray(4192), 131_072);
    expectDevice();
  });

  test("fills what it has no data for with zeros, also when it is refused", () => {
    const channel = openChannel();
    const unique = kernel.sendWrite(NODE, 4096, data(100));
    channel.next(NO_REPLY, 0);
    map(channel, 8192, FREE, [4096, 65_536, 100, MAPPED, MAPPING_NEW]);
    refuse(channel, unique, Errno.EDQUOT);
    expect(kernel.receive()).toMatchObject({ error: -Errno.EDQUOT });
    expected.fill(0, 65_536, 69_632);
    expectDevice();
  });

  test("can be carried out piece by piece", () => {
    const channel = openChannel();
    kernel.sendWrite(NODE, 4196, data(10_000));
    channel.next(NO_REPLY, 0);
    map(channel, 8192, FREE, [4196, 65_636, 3996, MAPPED, MAPPING_NEW]);
    expect(channel.storeMapped()).toBe(0);
    expected.fill(0, 65_536, 69_632);
    expected.set(data(10_000).subarray(0, 3996), 65_636);
    expectDevice();
    map(channel, 14_196, FREE, [8192, 131_072, 6004, MAPPED, MAPPING_NEW]);
    channel.next(SERVE_BY_SHIM, 0);
    expect(written(kernel.receive())).toBe(10_000);
    expected.fill(0, 131_072, 139_264);
    expected.set(data(10_000).subarray(3996), 131_072);
    expectDevice();
  });

  test("that ends for want of space after a piece says how long the piece was", () => {
    const channel = openChannel();
    kernel.sendWrite(NODE, 0, data(10_000));
    channel.next(NO_REPLY, 0);
    expect(channel.storeMapped()).toBe(-Errno.EIO);
    map(channel, 4096, FREE, [0, 65_536, 4096, MAPPED, MAPPING_NEW]);
    expect(channel.storeMapped()).toBe(0);
    channel.next(SERVE_BY_SHIM, 0);
    expect(written(kernel.receive())).toBe(4096);
    expected.set(data(10_000).subarray(0, 4096), 65_536);
    expectDevice();
  });

  test("is not accepted for another node or a request that is no WRITE", () => {
    const channel = openChannel();
    map(channel, 4096, FREE, [0, 0, 4096, MAPPED, MAPPING_NEW]);
    expect(isLeftToScript(channel, 0, data(10))).toBe(true);
    expectDevice();
  });
});

describe("invalidate()", () => {
  test("takes away what it names, and no more", () => {
    const UNITS = 40;
    const UNIT = 64;
    const channel = openChannel();
    const range = fc.record({ from: fc.nat(UNITS), count: fc.nat(UNITS), keep: fc.boolean() });
    fc.assert(
      fc.property(fc.array(range, { maxLength: 8 }), (ranges) => {
        channel.invalidate(NODE, 0, Number.POSITIVE_INFINITY);
        map(channel, UNITS * UNIT, FREE, [0, 0, UNITS * UNIT, MAPPED]);
        const known = new Array<boolean>(UNITS).fill(true);
        for (const { from, count, keep } of ranges) {
          const end = Math.min(from + count, UNITS);
          if (end > from && keep) {
            map(channel, UNITS * UNIT, FREE, [
              from * UNIT,
              from * UNIT,
              (end - from) * UNIT,
              MAPPED,
            ]);
          } else {
            channel.invalidate(NODE, from * UNIT, end * UNIT);
          }
          known.fill(keep, Math.min(from, end), end);
        }
        for (let unit = 0; unit < UNITS; unit += 3) {
          expect(isLeftToScript(channel, unit * UNIT, data(UNIT))).toBe(!known[unit]);
        }
      }),
      { numRuns: 40 },
    );
  });

  test("waits for what is under way", () => {
    const channel = openChannel();
    map(channel, DEVICE_BYTES, FREE, [0, 0, DEVICE_BYTES, MAPPED]);
    kernel.sendWrite(NODE, 0, data(200_000));
    channel.next(NO_REPLY, 0);
    channel.invalidate(NODE, 0, 4096);
    expected.set(data(200_000), 0);
    expectDevice();
  });
});

describe("takeWritten()", () => {
  test("names the nodes that the shim wrote to by itself, once, and when", () => {
    const channel = openChannel();
    const before = Date.now() / 1000 - 1;
    expect(channel.written[0]).toBe(0);
    map(channel, 8192, FREE, [0, 0, 8192, MAPPED]);
    writeByShim(channel, 0, data(10));
    writeByShim(channel, 4096, data(10));
    expect(channel.written[0]).toBe(1);
    expect(channel.takeWritten()).toBe(1);
    const [left, node, seconds = 0, nanoseconds] = channel.written.subarray(0, 1 + WRITTEN_STRIDE);
    expect([left, node]).toEqual([0, NODE]);
    expect(seconds).toBeGreaterThanOrEqual(Math.floor(before));
    expect(seconds).toBeLessThanOrEqual(Date.now() / 1000);
    expect(nanoseconds).toBeLessThan(1e9);
    expect(channel.takeWritten()).toBe(0);
  });

  test("outlives that the kernel forgets the node", () => {
    const channel = openChannel();
    map(channel, 8192, FREE, [0, 0, 8192, MAPPED]);
    writeByShim(channel, 0, data(10));
    kernel.send(FORGET, NODE, new Uint8Array(8));
    channel.next(NO_REPLY, 0);
    expect(channel.takeWritten()).toBe(1);
  });
});

describe("a WRITE with O_DIRECT", () => {
  test.each([
    [0, 4096],
    [512, 1024],
    [100, 50],
    [4000, 5000],
    [0, 131_072],
    [77, 200_001],
  ])("at %i of %i bytes changes nothing around it", (offset, size) => {
    const fd = addon.openDevice(rig.devicePath, OPEN_WRITE | OPEN_DIRECT);
    if (fd < 0) return; // the filesystem of the temporary folder has no O_DIRECT
    const channel = openChannel({ deviceFd: fd, deviceDirect: true });
    map(channel, DEVICE_BYTES, FREE, [0, 8192, DEVICE_BYTES - 8192, MAPPED]);
    writeByShim(channel, offset, data(size));
    channel.drain();
    addon.closeDescriptor(fd);
    expected.set(data(size), 8192 + offset);
    expectDevice();
  });
});

test("a WRITE longer than what arrived gets to TypeScript, and not to the device", () => {
  const channel = openChannel();
  map(channel, DEVICE_BYTES, FREE, [0, 0, DEVICE_BYTES, MAPPED]);
  const body = new DataView(new ArrayBuffer(40));
  body.setUint32(16, 4096, true);
  const unique = kernel.send(WRITE, NODE, new Uint8Array(body.buffer));
  expect(channel.next(NO_REPLY, 0)).toBe(HEADERS_BYTES);
  channel.next(SERVE_BY_SHIM, 0);
  expect(kernel.receive()).toMatchObject({ unique, error: -Errno.EIO });
  ftruncateSync(deviceFd, DEVICE_BYTES);
  expectDevice();
});
