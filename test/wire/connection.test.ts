/** INIT, DESTROY, INTERRUPT. */
import { expect, test } from "vitest";
import { InitFlag } from "../../src/fuse/abi.ts";
import { type Connection, ProtocolVersionError } from "../../src/fuse/negotiation.ts";
import {
  answerTo,
  exchange,
  FakeChannel,
  filesystem,
  initRequest,
  reply,
  request,
  u16,
  u32,
  u64,
  writable,
  zeros,
} from "./support.ts";

const EVERYTHING = 0x7fff_ffff;
// async_read, export_support, big_writes, ioctl_dir, readdirplus and auto, async_dio, no_open,
// parallel_dirops, posix_acl, abort_error, max_pages, cache_symlinks, no_opendir,
// explicit_inval_data, init_ext
const AGREED = 0x43f6_e831;

const initOut = (minor: number, flags: number, maxPages = 128, flags2 = 0) =>
  reply(
    0,
    u32(7), // major
    u32(minor),
    u32(0x2_0000), // max_readahead: as offered
    u32(flags),
    u16(64), // max_background
    u16(48), // congestion_threshold
    u32(0x8_0000), // max_write
    u32(1), // time_gran
    u16(maxPages),
    u16(0), // map_alignment
    u32(flags2),
    u32(0), // max_stack_depth
    u16(0), // request_timeout
    zeros(22), // unused
  );

test("INIT takes what both sides have", () => {
  expect(answerTo(initRequest(EVERYTHING))).toEqual(initOut(45, AGREED));
});

test("INIT of a mount that can be written to takes more", () => {
  // dont_mask, handle_killpriv_v2, setxattr_ext
  expect(answerTo(initRequest(EVERYTHING), writable())).toEqual(initOut(45, AGREED | 0x3000_0040));
});

test("INIT leaves ACLs to whoever wants none", () => {
  const without = AGREED & ~InitFlag.POSIX_ACL;
  expect(answerTo(initRequest(EVERYTHING), filesystem(), { acl: false })).toEqual(
    initOut(45, without),
  );
});

test("INIT lets mounts be ID-mapped where that is wanted and offered", () => {
  const ALLOW_IDMAP = 1 << 8;
  const offer = (flags: number, flags2: number) =>
    request(26, 0, u32(7), u32(45), u32(0x2_0000), u32(flags), u32(flags2), zeros(44));
  const options = { idMapped: true };
  expect(answerTo(offer(EVERYTHING, 0xffff), filesystem(), options)).toEqual(
    initOut(45, AGREED, 128, ALLOW_IDMAP),
  );
  expect(answerTo(offer(EVERYTHING, 0xffff), filesystem())).toEqual(initOut(45, AGREED));
  expect(answerTo(offer(EVERYTHING, 1), filesystem(), options)).toEqual(initOut(45, AGREED));
  const INIT_EXT = 1 << 30;
  expect(answerTo(offer(EVERYTHING & ~INIT_EXT, 0xffff), filesystem(), options)).toEqual(
    initOut(45, AGREED & ~INIT_EXT),
  );
});

test("INIT asks nothing that the kernel does not offer", () => {
  const FLOCK_LOCKS = 1 << 10;
  expect(answerTo(initRequest(InitFlag.ASYNC_READ | FLOCK_LOCKS))).toEqual(
    initOut(45, InitFlag.ASYNC_READ, 0),
  );
});

test("INIT speaks the older of two minor versions", () => {
  expect(answerTo(initRequest(EVERYTHING, 46))).toEqual(initOut(45, AGREED));
  expect(answerTo(initRequest(EVERYTHING, 99))).toEqual(initOut(45, AGREED));
  expect(answerTo(initRequest(EVERYTHING, 38))).toEqual(initOut(38, AGREED));
});

test("INIT of 7.31 has 16 bytes", () => {
  const short = request(
    26,
    0,
    u32(7), // major
    u32(31), // minor
    u32(0x2_0000), // max_readahead
    u32(0x3ff_ffff), // flags: no init_ext
  );
  expect(answerTo(short)).toEqual(initOut(31, AGREED & 0x3ff_ffff));
});

test("INIT of a newer major version is asked to come again", () => {
  const { answers } = exchange(
    [initRequest(EVERYTHING, 0, 8), initRequest(EVERYTHING)],
    filesystem(),
  );
  expect(answers).toEqual([reply(0, u32(7), u32(45), zeros(56)), initOut(45, AGREED)]);
});

test.each([
  [7, 30],
  [6, 45],
])("INIT of %i.%i is refused, and ends the session", (major, minor) => {
  const channel = new FakeChannel([initRequest(EVERYTHING, minor, major), request(17, 1)]);
  expect(() => exchange([], filesystem(), {}, channel)).toThrow(ProtocolVersionError);
  expect(channel.answers).toEqual([reply(-71)]); // EPROTO
});

test("a refusal says which versions there are", () => {
  expect(() => exchange([initRequest(EVERYTHING, 30)], filesystem())).toThrow(
    "the kernel speaks FUSE 7.30; 7.31 (Linux 5.4) or newer is needed",
  );
});

test("INIT that is too short is refused", () => {
  expect(answerTo(request(26, 0, u32(7), u32(45), u32(0)))).toEqual(reply(-22)); // EINVAL
});

test("onReady hears of the connection once, after the kernel has its answer", () => {
  const heard: [Connection, number][] = [];
  const channel = new FakeChannel([initRequest(EVERYTHING), request(38, 0)]);
  exchange(
    [],
    filesystem(),
    { onReady: (connection) => heard.push([connection, channel.answers.length]) },
    channel,
  );
  expect(heard).toEqual([[{ minor: 45, maxReadahead: 0x2_0000, flags: AGREED, flags2: 0 }, 1]]);
});

test("DESTROY succeeds with an empty reply", () => {
  expect(answerTo(request(38, 0))).toEqual(reply(0));
});

test("INTERRUPT gets no reply", () => {
  expect(answerTo(request(36, 0, u64(4)))).toBe("no reply");
});
