/**
 * Fills one reply in place, in the buffer that the channel sends from.
 *
 *     0          16
 *     | header   | appended ...   | room ...   |
 *                                 ^ length     ^ end of the buffer
 *
 * A handler appends structs and bytes and ends with `finish()`, or uses one of the whole answers
 * (`entry`, `attributes`, `bytes`, `error`). All of them return the length that the channel wants.
 * A reply begun can be dropped at any time for `error`, because nothing is sent before the end.
 */
import { Errno } from "../base/errno.ts";
import { setLe32, sizeOf } from "../base/layout.ts";
import { FsError, type Inode } from "../ext4/index.ts";
import { AttrOut, EntryOut, InHeader, OutHeader, StatxOut } from "./abi.ts";
import type { AttributeWriter } from "./attributes.ts";
import { DirentWriter } from "./dirents.ts";
import type { Request } from "./request.ts";
import type { ServedFilesystem } from "./served.ts";

const HEADER_SIZE = sizeOf(OutHeader);

/** What a handler may ask of a reply. */
export class Reply {
  /** Over the whole buffer: write the fields of a struct at the base that `append` returned. */
  readonly view: DataView;
  readonly #bytes: Uint8Array;
  readonly #attributes: AttributeWriter;
  readonly #dirents: DirentWriter;
  #length = HEADER_SIZE;

  /** @param bytes the buffer that every reply of the session is built in. */
  constructor(bytes: Uint8Array, fs: ServedFilesystem, attributes: AttributeWriter) {
    this.#bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#attributes = attributes;
    this.#dirents = new DirentWriter(bytes, fs, attributes);
  }

  /** Starts the reply to `request`. */
  open(request: Request): void {
    const { view } = this;
    view.setUint32(OutHeader.unique, request.view.getUint32(InHeader.unique, true), true);
    view.setUint32(OutHeader.unique + 4, request.view.getUint32(InHeader.unique + 4, true), true);
    this.#length = HEADER_SIZE;
  }

  /** The bytes that can still be appended. */
  get room(): number {
    return this.#bytes.length - this.#length;
  }

  /** Appends a zeroed struct that `layout()` declared. @returns its base. */
  append(struct: object): number {
    const base = this.#length;
    this.#grow(sizeOf(struct));
    this.#bytes.fill(0, base, this.#length);
    return base;
  }

  /** Appends a copy of `data`. */
  appendBytes(data: Uint8Array): void {
    const base = this.#length;
    this.#grow(data.length);
    this.#bytes.set(data, base);
  }

  /** Appends what `fill` puts into a view of `lengthMax` bytes; it returns how many it used. */
  appendFilled(lengthMax: number, fill: (into: Uint8Array) => number): void {
    const base = this.#length;
    this.#grow(lengthMax);
    this.#length = base + fill(this.#bytes.subarray(base, base + lengthMax));
  }

  #grow(count: number): void {
    if (count > this.room) throw new FsError(Errno.EIO, `a reply has no room for ${count} bytes`);
    this.#length += count;
  }

  /** Ends a successful reply. */
  finish(): number {
    return this.#close(0);
  }

  /** Answers with an errno and nothing else. */
  error(errno: Errno): number {
    this.#length = HEADER_SIZE;
    return this.#close(errno);
  }

  #close(errno: number): number {
    setLe32(this.view, 0, OutHeader.len, this.#length);
    setLe32(this.view, 0, OutHeader.error, -errno);
    return this.#length;
  }

  /** Answers with `data`. */
  bytes(data: Uint8Array): number {
    this.appendBytes(data);
    return this.finish();
  }

  /** Appends that the node asked for is `inode`. */
  appendEntry(inode: Inode): void {
    this.#attributes.writeEntry(this.view, this.append(EntryOut), inode);
  }

  /** Answers that the node asked for is `inode`, and nothing else. */
  entry(inode: Inode): number {
    this.appendEntry(inode);
    return this.finish();
  }

  /** Answers that there is no such name, in the way that the kernel may remember. */
  negativeEntry(): number {
    this.#attributes.writeNegativeEntry(this.view, this.append(EntryOut));
    return this.finish();
  }

  /** Answers GETATTR. */
  attributes(inode: Inode): number {
    this.#attributes.writeAttrOut(this.view, this.append(AttrOut), inode);
    return this.finish();
  }

  /** Answers STATX. */
  statx(inode: Inode): number {
    this.#attributes.writeStatxOut(this.view, this.append(StatxOut), inode);
    return this.finish();
  }

  /** Starts a listing of at most `lengthMax` bytes, to be filled through the sinks returned. */
  listing(lengthMax: number): DirentWriter {
    this.#dirents.open(this.#length, this.#length + Math.min(lengthMax, this.room));
    return this.#dirents;
  }

  /** Ends a listing. */
  finishListing(): number {
    this.#length = this.#dirents.end;
    return this.finish();
  }
}
