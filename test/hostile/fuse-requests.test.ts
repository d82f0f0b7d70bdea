/**
 * Malformed and absurd FUSE requests for everything that changes something, on sound images: each
 * gets an errno or does what it says, a refused one has changed nothing, and in the end e2fsck finds
 * nothing. `SEED=n` in front replays.
 */
import { beforeAll, expect, test } from "vitest";
import { errnoName } from "../../src/base/errno.ts";
import { sizeOf } from "../../src/base/layout.ts";
import { closeFilesystem, openWritableFilesystem } from "../../src/ext4/index.ts";
import {
  CopyFileRangeIn,
  CreateIn,
  FallocateIn,
  ForgetIn,
  FsyncIn,
  IoctlIn,
  LinkIn,
  MkdirIn,
  MknodIn,
  Opcode,
  Rename2In,
  RenameIn,
  SetattrIn,
  SetxattrIn,
  WriteIn,
} from "../../src/fuse/abi.ts";
import { SERVE_BY_SHIM } from "../../src/fuse/channel.ts";
import { serveExt4 } from "../../src/fuse/served.ts";
import { Session } from "../../src/fuse/session.ts";
import { image } from "../support/images.ts";
import { type Random, randomFrom, seedOfRun } from "../support/random.ts";
import { skipBecause, whyNoE2fsprogs } from "../support/run.ts";
import { complaintsAbout } from "../support/writable-image.ts";
import {
  type Bytes,
  FakeChannel,
  initRequest,
  name,
  requestBy,
  u32,
  u64,
} from "../wire/support.ts";
import { GuardedDevice, installGuards, rememberState, unwatch, watch } from "./guards.ts";

const IMAGES = ["ext4-1k", "ext2-1k", "inline-data", "ea-inode", "quota-project", "bigalloc"];
const REQUESTS = 1500;
/** Refusals that may come half-way, and requests that take set-id bits away before they refuse. */
const HALF_WAY = ["ENOSPC", "EFBIG"];
const TAKE_PRIVILEGES: readonly number[] = [Opcode.FALLOCATE, Opcode.COPY_FILE_RANGE];
const EDGES_64 = [
  0n,
  1n,
  2n,
  100n,
  4096n,
  2n ** 31n,
  2n ** 32n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 64n - 1n,
];
const EDGES_32 = [0, 1, 2, 7, 8, 0x10, 0x20, 0o40755, 0o100644, 0o120777, 0x7fffffff, 0xffffffff];
const IOCTLS = [0x40086602, 0x40046602, 0x40087602, 0x401c5820, 0x41009432, 0xc0185879, 0x80086601];

/** What the body of each request begins with, and how many names follow. */
const SHAPES: readonly (readonly [opcode: number, struct: object | undefined, names: number])[] = [
  [Opcode.SETATTR, SetattrIn, 0],
  [Opcode.MKNOD, MknodIn, 1],
  [Opcode.MKDIR, MkdirIn, 1],
  [Opcode.SYMLINK, undefined, 2],
  [Opcode.LINK, LinkIn, 1],
  [Opcode.TMPFILE, CreateIn, 1],
  [Opcode.UNLINK, undefined, 1],
  [Opcode.RMDIR, undefined, 1],
  [Opcode.RENAME, RenameIn, 2],
  [Opcode.RENAME2, Rename2In, 2],
  [Opcode.WRITE, WriteIn, 1],
  [Opcode.FALLOCATE, FallocateIn, 0],
  [Opcode.COPY_FILE_RANGE, CopyFileRangeIn, 0],
  [Opcode.SETXATTR, SetxattrIn, 2],
  [Opcode.REMOVEXATTR, undefined, 1],
  [Opcode.IOCTL, IoctlIn, 1],
  [Opcode.FSYNC, FsyncIn, 0],
  [Opcode.FORGET, ForgetIn, 0],
];

/** A channel that sees each request and its answer. */
class WatchedChannel extends FakeChannel {
  readonly #errnos: Record<string, number> = {};
  #verify: ((cause: unknown) => void) | undefined;

  get errnos(): Record<string, number> {
    return this.#errnos;
  }

  override next(replyLength: number, timeoutMs: number): number {
    if (this.#verify !== undefined && replyLength > 0) this.#judge(replyLength);
    const length = super.next(replyLength, timeoutMs);
    this.#verify = rememberState();
    return length;
  }

  #judge(replyLength: number): void {
    if (replyLength === SERVE_BY_SHIM) return;
    const { buffer, byteOffset } = this.reply;
    const error = -new DataView(buffer, byteOffset).getInt32(4, true);
    if (error === 0) return;
    const errno = errnoName(error);
    this.#errnos[errno] = (this.#errnos[errno] ?? 0) + 1;
    const opcode = new DataView(this.request.buffer, this.request.byteOffset).getUint32(4, true);
    if (HALF_WAY.includes(errno) || TAKE_PRIVILEGES.includes(opcode)) return;
    this.#verify?.(`request ${opcode}, answered ${errno}`);
  }
}

class Requests {
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  next(): Uint8Array {
    const [opcode, struct, names] = this.#of(SHAPES);
    const body: Bytes[] = [];
    if (opcode === Opcode.IOCTL)
      body.push(u64(0), u32(0), u32(this.#of(IOCTLS)), u64(0), u64(1000));
    else if (struct !== undefined) body.push(this.#struct(sizeOf(struct)));
    for (let left = names; left > 0; left--) body.push(this.#name());
    const uid = this.#of([0, 1000]);
    const made = requestBy(uid, opcode, this.#node(), ...body);
    const damage = this.#random.below(12);
    if (damage === 0) made.set(u32(this.#of(EDGES_32)));
    if (damage === 1) {
      const shorter = made.slice(0, 40 + this.#random.below(made.length - 39));
      shorter.set(u32(shorter.length));
      return shorter;
    }
    return made;
  }

  #struct(size: number): Bytes {
    const bytes: number[] = [];
    while (bytes.length < size) {
      if (size - bytes.length >= 8 && this.#random.below(2) === 0) {
        const isNode = this.#random.below(3) === 0;
        bytes.push(...u64(isNode ? this.#node() : this.#of(EDGES_64)));
      } else bytes.push(...u32(this.#of([...EDGES_32, this.#random.below(5000)])));
    }
    return bytes;
  }

  #node(): bigint {
    const random = this.#random;
    const known = BigInt(random.below(45));
    return random.below(6) === 0
      ? this.#of([...EDGES_64, 64n, 65n, 5000n])
      : this.#of([1n, 11n, known, known]);
  }

  #name(): Bytes {
    const length = this.#of([0, 1, 3, 254, 255, 256, 300, 1024, 4000]);
    return this.#of<Bytes>([
      name(`n${this.#random.below(30)}`),
      name(`n${this.#random.below(30)}`),
      name(this.#of(["folder", "file", ".", "..", "a/b", "lost+found", "user.x", "trusted.y"])),
      name(this.#of(["system.posix_acl_access", "system.data", "user.", "security.capability"])),
      name("x".repeat(length)),
      Array.from({ length: 1 + this.#random.below(20) }, () => this.#random.below(256)),
    ]);
  }

  #of<T>(choices: readonly T[]): T {
    return choices[this.#random.below(choices.length)] as T;
  }
}

beforeAll(() => installGuards());

test.each(IMAGES)("requests that make no sense leave %s sound", (which) => {
  const seed = seedOfRun();
  console.log(`SEED=${seed} npm run test:hostile  (${which})`);
  const bytes = image(which);
  const requests = new Requests(randomFrom(seed));
  const script = Array.from({ length: REQUESTS }, () => requests.next());
  const fs = openWritableFilesystem(new GuardedDevice(bytes), { errors: "continue" });
  watch(fs);
  const channel = new WatchedChannel([initRequest(0xffffffff), ...script]);
  const log: string[] = [];
  try {
    const session = new Session(channel, serveExt4(fs, { minixdf: false, asksAtOpen: false }), {
      log: (line) => log.push(line),
    });
    session.serve();
    session.finish();
    expect(log, `seed ${seed}`).toEqual([]);
    expect(fs.writer.transactions.isAborted).toBe(false);
    closeFilesystem(fs);
  } finally {
    unwatch();
  }
  expect(Object.keys(channel.errnos), `seed ${seed}`).not.toContain("EUCLEAN");
  if (!skipBecause("hostile", whyNoE2fsprogs())) {
    expect(complaintsAbout(bytes), `seed ${seed}`).toBe("");
  }
});
