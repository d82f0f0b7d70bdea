/**
 * Encrypted directories without their key. The images have no such directory, so here the names of
 * an ordinary one are taken for ciphertext.
 */
import { expect, test } from "vitest";
import type { InodeNumber } from "../../../../src/base/numbers.ts";
import { DirHash } from "../../../../src/ext4/format/dirhash.ts";
import { Incompat } from "../../../../src/ext4/format/features.ts";
import { InodeFlags } from "../../../../src/ext4/format/inode.ts";
import { noKeyName } from "../../../../src/ext4/format/nokey-name.ts";
import { type Filesystem, lookup } from "../../../../src/ext4/index.ts";
import { bytesOf, list, PatchedImage } from "./patched-image.ts";

const textOf = (name: Uint8Array): string => String.fromCharCode(...name);

function encrypt(fs: Filesystem, number: InodeNumber, more = 0): void {
  const inode = fs.inode(number);
  Object.assign(inode, { flags: inode.flags | InodeFlags.ENCRYPT | more });
}

test("an indexed directory shows names with their hash, and finds them by these", () => {
  const patched = new PatchedImage("htree-deep");
  const number = patched.number("/hashed");
  const plain = list(patched.open(), number);
  const fs = patched.open();
  encrypt(fs, number);
  const hash = new DirHash(1, false, fs.superblock.hashSeed);
  const shown = plain.map(({ name, ...rest }) => {
    if (name === "." || name === "..") return { name, ...rest };
    hash.hash(bytesOf(name), 0, name.length);
    return { name: textOf(noKeyName(bytesOf(name), hash.major, hash.minor)), ...rest };
  });
  expect(list(fs, number)).toEqual(shown);
  expect(plain.some(({ name }) => name.length > 149)).toBe(true);
  for (const { name, inode } of shown) expect(lookup(fs, number, bytesOf(name)), name).toBe(inode);
});

test("ordinary names are not there", () => {
  const patched = new PatchedImage("htree-deep");
  const number = patched.number("/hashed");
  const [, , first] = list(patched.open(), number);
  const fs = patched.open();
  encrypt(fs, number);
  expect(lookup(fs, number, bytesOf(first?.name ?? ""))).toBe(0);
  expect(lookup(fs, number, bytesOf("plain"))).toBe(0);
});

test("a directory in the order of storage shows names with a hash of 0", () => {
  const patched = new PatchedImage("ext2-1k");
  const number = patched.number("/folder");
  const block = patched.block("/folder", 0);
  const ciphertext = "0123456789\0/cdef";
  writeEntry(patched, block + 24, 1024 - 24, patched.number("/folder/file"), ciphertext);
  const fs = patched.open();
  encrypt(fs, number);
  const [, , only] = list(fs, number);
  expect(only?.name).toBe(textOf(noKeyName(bytesOf(ciphertext), 0, 0)));
  expect(lookup(fs, number, bytesOf(only?.name ?? ""))).toBe(patched.number("/folder/file"));
});

test.each([
  ["in the order of hashes", true],
  ["in the order of storage", false],
])("names whose case does not matter carry their hash, listed %s", (_, isHashed) => {
  const patched = new PatchedImage("no-checksums");
  const path = "/folder/inner";
  const number = patched.number(path);
  const file = patched.number("/folder/file");
  const block = patched.block(path, 0);
  const stored = [
    { ciphertext: "second-second-second", hash: 0x8000_0002, minor: 0x12345678 },
    { ciphertext: `first-${"x".repeat(200)}`, hash: 0x1000, minor: 0x9abcdef0 },
  ];
  let at = 24;
  stored.forEach(({ ciphertext, hash, minor }, index) => {
    const room = ((8 + ciphertext.length + 3) & ~3) + 8;
    const length = index === stored.length - 1 ? 1024 - at : room;
    writeEntry(patched, block + at, length, file, ciphertext);
    patched.set32(block + at + room - 8, hash);
    patched.set32(block + at + room - 4, minor);
    at += length;
  });
  const fs = patched.open();
  const { features } = fs.superblock;
  Object.assign(features, {
    incompat: features.incompat | Incompat.CASEFOLD,
    compat: isHashed ? features.compat : 0,
  });
  encrypt(fs, number, InodeFlags.CASEFOLD);

  const [, , ...listed] = list(fs, number);
  const inOrder = isHashed ? stored.toReversed() : stored;
  expect(listed.map(({ name }) => name)).toEqual(
    inOrder.map(({ ciphertext, hash, minor }) =>
      textOf(noKeyName(bytesOf(ciphertext), hash, minor)),
    ),
  );
  if (isHashed) {
    expect(listed.map(({ hi, lo }) => [hi, lo])).toEqual([
      [0x800, 0x9abcde03],
      [0x4000_0001, 0x12345603],
    ]);
  }
  for (const { name } of listed) expect(lookup(fs, number, bytesOf(name))).toBe(file);
});

function writeEntry(
  patched: PatchedImage,
  at: number,
  length: number,
  inode: number,
  name: string,
): void {
  patched.set32(at, inode);
  patched.set16(at + 4, length);
  patched.set8(at + 6, name.length);
  patched.set8(at + 7, 1);
  patched.bytes.set(bytesOf(name), at + 8);
}
