/** OPENDIR, READDIR, READDIRPLUS, RELEASEDIR, FSYNCDIR. */
import { expect, test } from "vitest";
import { Errno } from "../../src/base/errno.ts";
import type { InodeNumber } from "../../src/base/numbers.ts";
import { CorruptionError, FsError } from "../../src/ext4/index.ts";
import { InitFlag } from "../../src/fuse/abi.ts";
import type { ServedFilesystem } from "../../src/fuse/served.ts";
import {
  answerTo,
  attr,
  type Bytes,
  entry,
  exchange,
  filesystem,
  initRequest,
  inode,
  reply,
  request,
  text,
  u32,
  u64,
  writable,
  zeros,
} from "./support.ts";

const READDIR = 28;
const READDIRPLUS = 44;

const readIn = (offset: number | bigint, size: number): Bytes[] => [
  u64(0), // fh
  u64(offset),
  u32(size),
  u32(0), // read_flags
  u64(0), // lock_owner
  u32(0), // flags
  u32(0), // padding
];

interface Entry {
  readonly name: string;
  readonly ino: number;
  readonly type: number;
  /** The position behind it. */
  readonly next: bigint;
}

const entries: readonly Entry[] = [
  { name: ".", ino: 20, type: 4, next: 1n },
  { name: "..", ino: 2, type: 4, next: 2n },
  { name: "file", ino: 12, type: 8, next: 0x7fff_0001_8000_0002n },
  { name: "exactly8", ino: 13, type: 0, next: 0x7fff_ffff_ffff_ffffn },
];

/** Lists `entries` from the one behind the position asked for. */
function directory(answers: Partial<ServedFilesystem> = {}): ServedFilesystem {
  return filesystem({
    inode: (number) => inode({ number }),
    readDirectory: (number, fromHi, fromLo, sink) => {
      expect(number).toBe(20);
      const from = (BigInt(fromHi) << 32n) | BigInt(fromLo);
      const first = from === 0n ? 0 : entries.findIndex(({ next }) => next === from) + 1;
      for (const { name, ino, type, next } of entries.slice(first)) {
        const hi = Number(next >> 32n);
        const lo = Number(next & 0xffff_ffffn);
        if (!sink(Uint8Array.from(text(name)), ino as InodeNumber, type, hi, lo)) return;
      }
    },
    ...answers,
  });
}

const dirent = ({ name, ino, type, next }: Entry): Bytes => [
  ...u64(ino),
  ...u64(next), // off
  ...u32(name.length), // namelen
  ...u32(type),
  ...text(name),
  ...zeros((8 - (name.length % 8)) % 8),
];

const [dot, dotDot, file, exactly8] = entries as [Entry, Entry, Entry, Entry];

test("READDIR lists names, positions and types in records of a multiple of 8 bytes", () => {
  expect(answerTo(request(READDIR, 20, ...readIn(0, 4096)), directory())).toEqual(
    reply(0, dirent(dot), dirent(dotDot), dirent(file), dirent(exactly8)),
  );
});

test("READDIR goes on from a position of 63 bits", () => {
  expect(answerTo(request(READDIR, 20, ...readIn(file.next, 4096)), directory())).toEqual(
    reply(0, dirent(exactly8)),
  );
});

test("READDIR behind the last entry answers nothing, which means the end", () => {
  expect(answerTo(request(READDIR, 20, ...readIn(exactly8.next, 4096)), directory())).toEqual(
    reply(0),
  );
});

test("READDIR sends only records that fit whole", () => {
  expect(answerTo(request(READDIR, 20, ...readIn(0, 95)), directory())).toEqual(
    reply(0, dirent(dot), dirent(dotDot)),
  );
  expect(answerTo(request(READDIR, 20, ...readIn(0, 96)), directory())).toEqual(
    reply(0, dirent(dot), dirent(dotDot), dirent(file)),
  );
});

test("READDIR with no room for one record is EINVAL, not the end", () => {
  expect(answerTo(request(READDIR, 20, ...readIn(0, 31)), directory())).toEqual(reply(-22));
});

test("READDIR sends no more than the reply buffer holds", () => {
  const endless = directory({
    readDirectory: (_number, _hi, _lo, sink) => {
      for (let next = 1; sink(Uint8Array.from(text("a")), 12 as InodeNumber, 8, 0, next); ) next++;
    },
  });
  const answer = answerTo(request(READDIR, 20, ...readIn(0, 0x10_0000)), endless) as Uint8Array;
  expect(answer.length).toBe(16 + 255 * 32); // a buffer of 8192 bytes
});

/** Lists a directory that is in one version after the other, from each of `offsets`. */
function forgottenAfter(offsets: readonly (number | bigint)[], versions: readonly number[]) {
  const left = [...versions];
  const { inode: inodeNow, readDirectory } = directory();
  const changing = writable(
    {},
    {
      readDirectory,
      inode: (number) => Object.assign(inodeNow(number), { version: left.shift() ?? 0 }),
    },
  );
  const requests = offsets.map((offset) => request(READDIR, 20, ...readIn(offset, 64)));
  return exchange(requests, changing).channel.forgottenContents;
}

test("READDIR drops what the kernel has cached of a directory that changed meanwhile", () => {
  const { next: middle } = dotDot;
  const { next: end } = exactly8;
  expect(forgottenAfter([0, middle, end], [1, 1, 1])).toEqual([]);
  expect(forgottenAfter([0, middle, end], [1, 2, 2])).toEqual([20]);
  // Another listing that began after the change may be the one to complete the cache.
  expect(forgottenAfter([0, 0, end], [1, 2, 2])).toEqual([20]);
  expect(forgottenAfter([0, end, 0, end], [1, 1, 2, 2])).toEqual([]);
});

test("READDIRPLUS adds what LOOKUP would answer; . and .. stay without a node", () => {
  expect(answerTo(request(READDIRPLUS, 20, ...readIn(0, 4096)), directory())).toEqual(
    reply(
      0,
      [...zeros(128), ...dirent(dot)],
      [...zeros(128), ...dirent(dotDot)],
      [...entry(12), ...dirent(file)],
      // a directory without types: the inode knows
      [...entry(13, attr({ ino: 13 })), ...dirent({ ...exactly8, type: 8 })],
    ),
  );
});

test("READDIRPLUS lists a name whose inode is corrupt, without a node", () => {
  const fs = directory({
    inode: (number) => {
      if (number === 12) throw new CorruptionError("inode-checksum", { inode: 12 }, "wrong");
      return inode({ number });
    },
  });
  const { answers, log } = exchange([request(READDIRPLUS, 20, ...readIn(2, 4096))], fs);
  expect(answers[0]).toEqual(
    reply(
      0,
      [...zeros(128), ...dirent(file)],
      [...entry(13, attr({ ino: 13 })), ...dirent({ ...exactly8, type: 8 })],
    ),
  );
  expect(log).toEqual([]);
});

test("READDIRPLUS sends only records that fit whole", () => {
  const two = 2 * (128 + 32);
  expect(answerTo(request(READDIRPLUS, 20, ...readIn(0, two)), directory())).toEqual(
    reply(0, [...zeros(128), ...dirent(dot)], [...zeros(128), ...dirent(dotDot)]),
  );
  expect(answerTo(request(READDIRPLUS, 20, ...readIn(0, 159)), directory())).toEqual(reply(-22));
});

test("a bug met while listing is not taken for a corrupt inode", () => {
  const fs = directory({
    inode: () => {
      throw new TypeError("our bug");
    },
  });
  expect(answerTo(request(READDIRPLUS, 20, ...readIn(2, 4096)), fs)).toEqual(reply(-5)); // EIO
});

test("a listing that breaks keeps what it has, and fails when it is asked for more", () => {
  const fs = directory({
    readDirectory: (_number, _hi, lo, sink) => {
      if (lo === 0) sink(Uint8Array.from(text("file")), 12 as InodeNumber, 8, 0, 5);
      throw new CorruptionError("dirent-length", { inode: 20, block: 7 }, "0");
    },
  });
  const { answers } = exchange(
    [request(READDIR, 20, ...readIn(0, 4096)), request(READDIR, 20, ...readIn(5, 4096))],
    fs,
  );
  expect(answers).toEqual([reply(0, dirent({ ...file, next: 5n })), reply(-117)]); // EUCLEAN
});

test("READDIR of no directory is ENOTDIR", () => {
  const fs = directory({
    readDirectory: () => {
      throw new FsError(Errno.ENOTDIR, "inode 12 is no directory");
    },
  });
  expect(answerTo(request(READDIR, 12, ...readIn(0, 4096)), fs)).toEqual(reply(-20));
});

test("READDIR that is too short is EINVAL", () => {
  expect(answerTo(request(READDIR, 20, ...readIn(0, 4096).slice(0, -1)))).toEqual(reply(-22));
});

const openIn = [u32(0o200000), u32(0)]; // flags, open_flags

test("OPENDIR is refused as unknown where the kernel can open without it", () => {
  const init = initRequest(InitFlag.NO_OPENDIR_SUPPORT);
  expect(exchange([init, request(27, 20, ...openIn)], filesystem()).answers[1]).toEqual(reply(-38));
});

test("OPENDIR for another kernel allows it to keep the listing", () => {
  expect(exchange([initRequest(0), request(27, 20, ...openIn)], filesystem()).answers[1]).toEqual(
    reply(
      0,
      u64(0), // fh
      u32(0b1010), // open_flags: keep_cache, cache_dir
      u32(0), // backing_id
    ),
  );
});

test("RELEASEDIR succeeds, FSYNCDIR is unknown", () => {
  expect(answerTo(request(29, 20, zeros(24)))).toEqual(reply(0));
  expect(answerTo(request(30, 20, zeros(16)))).toEqual(reply(-38));
});
