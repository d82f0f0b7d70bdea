/** READ and WRITE, as the kernel sends them for file contents and for inline data. */
import { Opcode } from "./abi.ts";
import type { Mount } from "./mount.ts";
import { Body } from "./wire.ts";

const WRITE_OUT_BYTES = 8;

/** Where an I/O goes. */
export interface Place {
  readonly node: number;
  readonly handle: bigint;
  readonly pos: number;
  /** Of the open file; none without one. */
  readonly flags?: number;
}

/** `fuse_read_in` and `fuse_write_in`: fh 0, offset 8, size 16 u32, flags 20, lock_owner 24, flags 32. */
const ioIn = ({ handle, pos, flags = 0 }: Place, size: number): Body =>
  new Body().u64(handle).u64(pos).u32(size).zeros(12).u32(flags).u32(0);

/** @returns what the server has of the `size` bytes asked for. */
export function sendRead(mount: Mount, place: Place, size: number): Uint8Array {
  return mount.ask(Opcode.READ, place.node, ioIn(place, size), { max: size }).bytes;
}

/** @returns how many bytes the server says that it has written. */
export function sendWrite(mount: Mount, place: Place, bytes: Uint8Array): number {
  const body = ioIn(place, bytes.length).raw(bytes);
  return mount.ask(Opcode.WRITE, place.node, body, WRITE_OUT_BYTES).u32(0);
}
