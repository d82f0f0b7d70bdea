/** The contents of files that do not go through iomap: plain READ and WRITE, nothing is cached. */
import { Opcode } from "./abi.ts";
import type { Inode } from "./inode.ts";
import type { Mount } from "./mount.ts";
import { Body } from "./wire.ts";

const TRANSFER_BYTES_MAX = 0x2_0000;
const WRITE_OUT_BYTES = 8;

export function readServed(
  mount: Mount,
  inode: Inode,
  handle: bigint,
  pos: number,
  length: number,
): Uint8Array {
  mount.revalidate(inode);
  const bytes = new Uint8Array(Math.max(0, Math.min(length, inode.size - pos)));
  for (let done = 0; done < bytes.length; ) {
    const size = Math.min(TRANSFER_BYTES_MAX, bytes.length - done);
    const body = new Body()
      .u64(handle)
      .u64(pos + done)
      .u32(size)
      .zeros(20);
    const reply = mount.ask(Opcode.READ, inode.node, body, { max: size });
    if (reply.bytes.length === 0) break;
    bytes.set(reply.bytes, done);
    done += reply.bytes.length;
  }
  return bytes;
}

export function writeServed(
  mount: Mount,
  inode: Inode,
  handle: bigint,
  pos: number,
  bytes: Uint8Array,
): number {
  let done = 0;
  while (done < bytes.length) {
    const part = bytes.subarray(done, done + TRANSFER_BYTES_MAX);
    const body = new Body()
      .u64(handle)
      .u64(pos + done)
      .u32(part.length)
      .zeros(20)
      .raw(part);
    const written = mount.ask(Opcode.WRITE, inode.node, body, WRITE_OUT_BYTES).u32(0);
    done += written;
    inode.size = Math.max(inode.size, pos + done);
    if (written < part.length) break;
  }
  inode.attributesAreValid = false;
  return done;
}
