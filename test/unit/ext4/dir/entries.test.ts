/** Changes of directories, as readers of the same filesystem see them. */
import { afterEach, describe, expect, test, vi } from "vitest";
import type { InodeNumber } from "../../../../src/base/numbers.ts";
import { MemoryDevice } from "../../../../src/device/memory-device.ts";
import { directoryOf } from "../../../../src/ext4/dir/contents.ts";
import { setParent } from "../../../../src/ext4/dir/dots.ts";
import { addEntry, removeEntry } from "../../../../src/ext4/dir/entries.ts";
import { DirHash } from "../../../../src/ext4/format/dirhash.ts";
import type { Inode } from "../../../../src/ext4/format/inode.ts";
import {
  Compat,
  closeFilesystem,
  InodeFlags,
  openFilesystem,
  openWritableFilesystem,
  parentOf,
  ROOT_INODE,
  readDirectory,
} from "../../../../src/ext4/index.ts";
import { Credits } from "../../../../src/ext4/ops/credits.ts";
import { Subject } from "../../../support/directory-subject.ts";
import { image } from "../../../support/images.ts";
import { bytesOf, list, namesOf, PatchedImage } from "./patched-image.ts";

const NOW = { seconds: 1_800_000_000, nanoseconds: 123_456_789 };

/** The subject of a golden image. */
function open(name: string): { subject: Subject; device: MemoryDevice } {
  const device = new MemoryDevice(image(name));
  const fs = openWritableFilesystem(device, { now: () => NOW });
  return { subject: new Subject(fs), device };
}

const file = ({ files }: Subject, index: number): Inode => files[index % files.length] as Inode;
const rawOf = ({ raw }: Inode): Uint8Array =>
  new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength).slice();
const nameOf = (index: number): string => `${index}-`.padEnd(20 + ((index * 7) % 60), "n");

afterEach(() => {
  vi.restoreAllMocks();
});

describe.each(["ext4-1k", "ext4-4k", "ext2-plain", "no-checksums", "inline-data", "ext4-64k"])(
  "%s",
  (name) => {
    test("entries are found after each change, and after the filesystem was closed", () => {
      const { subject, device } = open(name);
      for (let index = 0; index < 150; index++) {
        subject.set(nameOf(index), file(subject, index));
        if (index % 3 === 0) subject.remove(nameOf(index / 3));
        if (index % 10 === 0) subject.expectModel();
      }
      closeFilesystem(subject.fs);
      subject.expectModel(openFilesystem(device));
      expect(subject.model.size).toBe(100);
    });

    test("an operation that fails leaves every size of directory as it was", () => {
      const { subject } = open(name);
      for (let index = 0; index < 100; index++) {
        const before = rawOf(subject.directory);
        subject.set(nameOf(index), file(subject, index), true);
        expect(rawOf(subject.directory)).toEqual(before);
        if (index % 10 === 0) subject.expectModel();
        subject.set(nameOf(index), file(subject, index));
        subject.remove(nameOf(index), true);
        if (index % 10 === 0) subject.expectModel();
      }
    });

    test("an entry that stays is listed once, whatever changes between the pieces", () => {
      const { subject } = open(name);
      const { fs, directory } = subject;
      const staying = Array.from({ length: 20 }, (_, index) => `stays ${index}`);
      staying.forEach((each, index) => {
        subject.set(each, file(subject, index));
      });
      for (let index = 0; index < 10; index++) subject.set(nameOf(index), file(subject, index));
      const seen: string[] = [];
      let [hi, lo] = [0, 0];
      let goesOn = true;
      for (let piece = 0; goesOn; piece++) {
        let room = 3;
        goesOn = false;
        readDirectory(fs, directory.number, hi, lo, (listed, _inode, _type, nextHi, nextLo) => {
          if (room-- === 0) return false;
          seen.push(String.fromCharCode(...listed));
          [hi, lo] = [nextHi, nextLo];
          goesOn = true;
          return true;
        });
        if (piece > 30) continue;
        subject.remove(nameOf(piece));
        for (let more = 1; more < 5; more++) {
          subject.set(nameOf(100 * more + piece), file(subject, more));
        }
      }
      expect(seen.filter((each) => each.startsWith("stays")).sort()).toEqual(staying.sort());
      expect(new Set(seen).size).toBe(seen.length);
    });

    test("a change of the entries shows in times and version, and '..' can be changed", () => {
      const { subject } = open(name);
      const { fs, directory } = subject;
      const versionOf = (): number => directory.raw.getUint32(0x24, true);
      const before = versionOf();
      subject.set("name", file(subject, 0));
      expect(directory.modifiedAt.seconds).toBe(NOW.seconds);
      expect(directory.changedAt).toEqual(directory.modifiedAt);
      expect(versionOf()).toBe(before + 1);
      for (const count of [1, 100]) {
        for (let index = 0; index < count; index++) subject.set(nameOf(index), file(subject, 0));
        expect(parentOf(fs, directory.number)).toBe(ROOT_INODE);
        fs.transact(Credits.LINK, (tx) => setParent(fs, tx, directory, 17 as InodeNumber));
        expect(parentOf(fs, directory.number)).toBe(17);
        subject.expectModel();
        fs.transact(Credits.LINK, (tx) => setParent(fs, tx, directory, ROOT_INODE));
      }
    });
  },
);

test("names of one hash spread over several blocks, all of which are searched", () => {
  vi.spyOn(DirHash.prototype, "hash").mockImplementation(function (this: DirHash, bytes, from) {
    this.major = ((bytes[from] as number) % 4) * 0x2000_0000;
    this.minor = 0;
  });
  const { subject } = open("ext4-1k");
  for (let index = 0; index < 400; index++) {
    subject.set(nameOf(index), file(subject, index));
    if (index % 7 === 0) subject.remove(nameOf(Math.floor(index / 2)));
  }
  expect(directoryOf(subject.fs, subject.directory).isIndexed).toBe(true);
  subject.expectModel();
  for (const name of [...subject.model.keys()]) subject.remove(name);
  subject.expectModel();
});

test("entries that lie where their hashes do not belong do not break the order of the index", () => {
  const patched = new PatchedImage("htree-tea");
  const root = patched.block("/hashed", 0);
  // The first two blocks of entries change places.
  const first = patched.view.getUint32(root + 36, true);
  patched.set32(root + 36, patched.view.getUint32(root + 44, true));
  patched.set32(root + 44, first);
  patched.sealRoot("/hashed");
  const device = new MemoryDevice(patched.bytes);
  const fs = openWritableFilesystem(device);
  const directory = fs.inode(patched.number("/hashed"));
  const before = list(fs, directory.number);
  for (let index = 0; index < 200; index++) {
    const name = bytesOf(nameOf(index));
    fs.transact(Credits.LINK, (tx) =>
      addEntry(fs, tx, directory, name, patched.number("/base"), 0o100644),
    );
  }
  closeFilesystem(fs);
  const after = namesOf(list(openFilesystem(device), directory.number));
  const added = Array.from({ length: 200 }, (_, index) => nameOf(index));
  expect(after.sort()).toEqual([...namesOf(before), ...added].sort());
});

test("a directory whose only block does not begin with '.' and '..' gets no index", () => {
  const { subject } = open("ext4-1k");
  const { fs, directory } = subject;
  const block = directoryOf(fs, directory).block(0 as never);
  // There is no "..": the first entry reaches to the end.
  block?.view.setUint16(4, directoryOf(fs, directory).endOf(0), true);
  for (let index = 0; index < 40; index++) subject.set(nameOf(index), file(subject, index));
  expect(directory.hasFlag(InodeFlags.INDEX)).toBe(false);
  expect(directory.sizeBytes).toBeGreaterThan(1024);
  subject.expectModel();
});

test("an index is given up when the filesystem does not allow it any more", () => {
  const { subject } = open("no-checksums");
  const { fs, directory } = subject;
  for (let index = 0; index < 200; index++) subject.set(nameOf(index), file(subject, index));
  expect(directory.hasFlag(InodeFlags.INDEX)).toBe(true);
  fs.superblock.features.compat &= ~Compat.DIR_INDEX;
  // As when the inode is loaded anew.
  directory.flags |= InodeFlags.NODUMP;
  subject.set("another", file(subject, 0));
  expect(directory.hasFlag(InodeFlags.INDEX)).toBe(false);
  subject.expectModel();
});

test("without its key an encrypted directory only loses entries", () => {
  const { subject } = open("ext4-4k");
  const { fs, directory } = subject;
  subject.set("sixteen bytes---", file(subject, 0));
  directory.flags |= InodeFlags.ENCRYPT;
  const refused = expect.objectContaining({ errno: 126 });
  const add = (): void =>
    fs.transact(Credits.LINK, (tx) =>
      addEntry(fs, tx, directory, bytesOf("name"), ROOT_INODE, 0o100644),
    );
  expect(add).toThrow(refused);
  expect(() => subject.set("sixteen bytes---", file(subject, 1))).toThrow(refused);
  const [shown] = [...subject.listed().keys()];
  fs.transact(Credits.LINK, (tx) => removeEntry(fs, tx, directory, bytesOf(shown as string)));
  expect(subject.listed().size).toBe(0);
});
