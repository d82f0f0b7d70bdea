/** The contents of files that do not go through iomap: plain READ and WRITE, nothing is cached. */
import type { Inode } from "./inode.ts";
import type { Mount } from "./mount.ts";
import { sendRead, sendWrite } from "./read-write.ts";

const TRANSFER_BYTES_MAX = 0x2_0000;
/** Every file is opened with O_LARGEFILE, as the kernel of a 64-bit machine does. */
const flags = 0x8000;

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
    const got = sendRead(mount, { node: inode.node, handle, pos: pos + done, flags }, size);
    if (got.length === 0) break;
    bytes.set(got, done);
    done += got.length;
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
    const written = sendWrite(mount, { node: inode.node, handle, pos: pos + done, flags }, part);
    done += written;
    inode.size = Math.max(inode.size, pos + done);
    if (written < part.length) break;
  }
  inode.attributesAreValid = false;
  return done;
}
