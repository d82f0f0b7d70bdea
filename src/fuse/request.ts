/**
 * A cursor over the request in hand. Handlers take the structs and names of a request from front to
 * back and never slice: every length is checked here against the length that was received, and a
 * request that is too short, or that lies about its length, is refused with EINVAL.
 *
 *     0          40
 *     | header   | taken ...   | still to take ...   |
 *                              ^ cursor              ^ end
 *
 * One object serves the whole session; what it hands out is valid until the next request.
 */
import { Errno } from "../base/errno.ts";
import { type At, le32, sizeOf } from "../base/layout.ts";
import { type InodeNumber, join32 } from "../base/numbers.ts";
import { FsError } from "../ext4/index.ts";
import { InHeader } from "./abi.ts";
import { inodeOf } from "./nodes.ts";
import type { ServedFilesystem } from "./served.ts";
import type { Caller } from "./served-changes.ts";

const HEADER_SIZE = sizeOf(InHeader);
const SAFE_HI_MAX = 0x1f_ffff;

/** `fuse_in_header.uid` and `gid` where the kernel does not tell; FUSE_INVALID_UIDGID in its code. */
const UNTOLD = 0xffff_ffff;

/** Who a process acts as; undefined when that cannot be found out. */
export type CallerOf = (pid: number) => Caller | undefined;
/** Who may do nothing in particular. */
const NOBODY: Caller = { uid: UNTOLD, gid: UNTOLD };

/** No kernel sends such a request: it is refused, and logged. */
export class SuspectRequest extends FsError {
  override readonly name = "SuspectRequest";

  constructor(what: string) {
    super(Errno.EINVAL, what);
  }
}

/** What a handler may ask of a request. */
export class Request {
  /** Over the whole buffer: read the fields of a struct at the base that `takeStruct` returned. */
  readonly view: DataView;
  readonly #bytes: Uint8Array;
  readonly #fs: Pick<ServedFilesystem, "hasInode">;
  readonly #callerOf: CallerOf;
  #cursor = 0;
  #end = 0;
  opcode = 0;
  /** The node that the request is about. */
  node = 0;

  /**
   * @param bytes the buffer that every request of the session lies in.
   * @param callerOf is asked where a request does not say whose it is.
   */
  constructor(
    bytes: Uint8Array,
    fs: Pick<ServedFilesystem, "hasInode">,
    callerOf: CallerOf = () => undefined,
  ) {
    this.#bytes = bytes;
    this.#fs = fs;
    this.#callerOf = callerOf;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /**
   * Reads the header of the `length` bytes that just arrived.
   *
   * @returns false when they cannot even be answered, for want of a header.
   */
  open(length: number): boolean {
    if (length < HEADER_SIZE || length > this.#bytes.length) return false;
    this.opcode = le32(this.view, 0, InHeader.opcode);
    this.node = this.u64(0, InHeader.nodeid);
    this.#end = length;
    this.rewind();
    return true;
  }

  /** Puts the cursor back to the start of the body. */
  rewind(): void {
    this.#cursor = HEADER_SIZE;
  }

  /** @throws FsError EINVAL when the length in the header is not the length that arrived. */
  verifyLength(): void {
    const said = le32(this.view, 0, InHeader.len);
    if (said !== this.#end) {
      throw malformed(`the header says ${said} bytes, ${this.#end} arrived`);
    }
  }

  /** Whose request it is: with mounts that may be ID-mapped, only those for new inodes say so themselves. */
  get uid(): number {
    const uid = le32(this.view, 0, InHeader.uid);
    return uid === UNTOLD ? this.#caller.uid : uid;
  }

  /** One of the groups of whose request it is. */
  get gid(): number {
    const gid = le32(this.view, 0, InHeader.gid);
    return gid === UNTOLD ? this.#caller.gid : gid;
  }

  get #caller(): Caller {
    return this.#callerOf(le32(this.view, 0, InHeader.pid)) ?? NOBODY;
  }

  /** The inode of `node`. @throws FsError ESTALE when there can be none. */
  get inode(): InodeNumber {
    return this.inodeAt(this.node);
  }
  /**
   * The inode of a node that is named by a field. Node ids may be made up, by an NFS client say, so
   * one that names no inode is nothing against the image.
   *
   * @throws FsError ESTALE when there can be none.
   */
  inodeAt(node: number): InodeNumber {
    const number = inodeOf(node);
    if (this.#fs.hasInode(number)) return number;
    throw new FsError(Errno.ESTALE, `node ${node} is none of the filesystem's`);
  }

  /** Bytes still to take. */
  get remaining(): number {
    return this.#end - this.#cursor;
  }

  /**
   * Takes a struct that `layout()` declared.
   *
   * @param sizeMin what an older kernel may send of it; fields behind that must not be read then.
   * @returns its base, for the readers of base/layout.ts.
   */
  takeStruct(struct: object, sizeMin = sizeOf(struct)): number {
    const base = this.#cursor;
    if (this.remaining < sizeMin) {
      throw malformed(`${this.remaining} bytes are left of ${sizeMin}`);
    }
    this.#cursor = Math.min(base + sizeOf(struct), this.#end);
    return base;
  }

  /** Takes a name and the NUL behind it. @returns a view without the NUL. */
  takeName(): Uint8Array {
    const start = this.#cursor;
    for (let at = start; at < this.#end; at++) {
      if (this.#bytes[at] === 0) {
        this.#cursor = at + 1;
        return this.#bytes.subarray(start, at);
      }
    }
    throw malformed("a name has no end");
  }

  /** Takes all that is left. @returns a view. */
  takeRest(): Uint8Array {
    const start = this.#cursor;
    this.#cursor = this.#end;
    return this.#bytes.subarray(start, this.#end);
  }

  /** A 32-bit field of the struct at `base`. */
  u32(base: number, at: At<"le32">): number {
    return le32(this.view, base, at);
  }

  /**
   * A 64-bit field of the struct at `base`. What does not fit 53 bits becomes 2^53 - 1: as a file
   * offset that is behind the end of every file, as a node id it names no inode.
   */
  u64(base: number, at: At<"le64">): number {
    const hi = this.u64Hi(base, at);
    return hi > SAFE_HI_MAX ? Number.MAX_SAFE_INTEGER : join32(hi, this.u64Lo(base, at));
  }

  /** The upper half of a 64-bit field, for a value that uses all of its bits. */
  u64Hi(base: number, at: At<"le64">): number {
    return this.view.getUint32(base + at + 4, true);
  }

  /** The lower half of a 64-bit field. */
  u64Lo(base: number, at: At<"le64">): number {
    return this.view.getUint32(base + at, true);
  }

  /** A 64-bit field that holds signed seconds, the low 53 bits of which are enough. */
  seconds(base: number, at: At<"le64">): number {
    return (this.u64Hi(base, at) | 0) * 0x1_0000_0000 + this.u64Lo(base, at);
  }

  /** The number that pairs the request with its reply, for a person. */
  get unique(): string {
    return this.view.getBigUint64(InHeader.unique, true).toString();
  }
}

function malformed(what: string): FsError {
  return new FsError(Errno.EINVAL, `malformed request: ${what}`);
}
