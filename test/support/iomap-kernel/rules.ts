/**
 * What the kernel checks, each check under a name, and what else a server must not do although no
 * kernel would notice. A rule that is broken is recorded, and has the errno that the kernel gives.
 */
import { Errno } from "./abi.ts";

// biome-ignore format: a table
const RULES = {
  // Every reply.
  "reply-header":       "the header has the request's unique, the length of the reply, and a legal error",
  "reply-size":         "the body has the size that the request asks for, and none with an error",
  "no-reply":           "every request but FORGET is answered",
  // One slot of a BEGIN reply or an upsert (section 8.2, by number).
  "mapping-type":       "8.2 (1): the type is known",
  "retry-uncached":     "8.2 (2): RETRY_CACHE only for an inode that has a mapping cache",
  "mapping-flags":      "8.2 (4): flags 0 to 7 only",
  "mapping-empty":      "8.2 (5): the length is not zero",
  "mapping-alignment":  "8.2 (6): offset and length are multiples of the block size",
  "mapping-overflow":   "8.2 (7): offset + length fits into 64 bits",
  "mapping-maxbytes":   "8.2 (8): the offset is below the largest file size",
  "mapping-nowhere":    "8.2 (9): MAPPED and UNWRITTEN have a device and an address",
  "mapping-somewhere":  "8.2 (10): HOLE, DELALLOC and INLINE have neither",
  "overwrite-slot":     "8.2 (11): PURE_OVERWRITE in the write slot only",
  "overwrite-fields":   "8.2 (11): PURE_OVERWRITE has no flags, device or address",
  "pseudo-fields":      "8.2 (12): RETRY_CACHE and NOCACHE have no flags, device or address",
  "address-overflow":   "8.2 (13): addr + length fits into 64 bits",
  // A BEGIN reply.
  "begin-nocache":      "8.2 (14): no slot of a BEGIN reply is NOCACHE",
  "begin-first-byte":   "8.2 (15): both slots cover the first byte",
  "begin-device":       "8.2 (16): the device is registered",
  "retry-refused":      "8.2 (17): no RETRY_CACHE for ATOMIC and SWAPFILE",
  "atomic-mapping":     "8.2 (18): an ATOMIC operation gets a real mapping with ATOMIC_BIO",
  "device-access":      "8.2 (19): the device was opened for what is done to it",
  "retry-write-slot":   "8.3: RETRY_CACHE in the read slot",
  "retry-for-ever":     "8.3: after RETRY_CACHE the mapping is in the cache",
  // Notifications (section 11.2).
  "notify-size":        "11.2: the payload has the size of the struct",
  "notify-code":        "6.7: the code is known",
  "notify-no-iomap":    "11.2: the connection has iomap",
  "notify-ino":         "11.2: attr_ino is that of the node",
  "notify-not-iomap":   "11.2: the inode uses iomap",
  "upsert-retry":       "11.2: RETRY_CACHE is not upserted",
  "upsert-device":      "11.2: the device is registered",
  "upsert-device-end":  "11.2: the mapping lies within the device",
  "inval-range":        "11.2: offset and length of a range are aligned, and below the largest file size",
  "inval-overflow":     "11.2: a range does not overflow",
  "dev-inval-null":     "11.2: DEV_INVAL names a device",
  "dev-inval-device":   "11.2: DEV_INVAL names a registered device",
  "dev-inval-reserved": "11.2: the reserved word is zero",
  "dev-inval-range":    "11.2: the range lies on the device",
  // CONFIG (section 12).
  "config-flags":       "12: known flags only",
  "config-pad":         "12: s_pad is zero",
  "config-uuid":        "12: a uuid has 16 bytes at most",
  "config-blocksize":   "12: the block size is a power of two from 512 to 65536",
  "config-time":        "12: the granularity is from 1 to 10^9 ns",
  "config-maxbytes":    "12: maxbytes is not negative",
  "config-error":       "12: CONFIG is answered with success or ENOSYS",
  // Devices (section 13).
  "device-no-iomap":    "13: devices are registered after iomap was negotiated",
  "device-unknown":     "13: the block size of registered devices is set",
  "device-blocksize":   "13: the block size of a device is a power of two from 512 on",
  // Data paths (section 9).
  "inline-start":       "9.6: an inline mapping begins with the file",
  "inline-read":        "9.6: inline data is read, and more than no bytes of it",
  "inline-overflow":    "9.6: no more inline data is returned than the mapping has",
  "inline-short-write": "9.6: inline data is stored completely",
  "inline-writeback":   "9.4: dirty pages have a place",
  "inline-overwrite":   "9.6: inline data is not written with PURE_OVERWRITE (v7 does not fetch it)",
  "write-to-hole":      "9.3: a write gets space, or a promise of it",
  "writeback-hole":     "9.4: data that is written back has a place",
  "writeback-delalloc": "9.4: what is written back has been given its place",
  "direct-delalloc":    "8.3: direct I/O does not go to promised space",
  "io-beyond-device":   "9: I/O stays on the device",
  "ioend-newsize":      "9.8: the size on disk reaches the end of what was written",
  "open-flags":         "7: an iomap file is not opened with PASSTHROUGH, STREAM or NONSEEKABLE",
  // Inodes (section 7).
  "node-id":            "14: node ids 0 and 1 belong to no inode but the root",
  "attr-mode":          "attributes have a file type, which does not change",
  "iomap-not-exclusive": "7: IOMAP comes with EXCLUSIVE",
  "flags-change":       "7: every reply has the same flags for an inode",
  "ino-change":         "4: attr.ino of a node does not change",
  // What only a server on the other road does.
  "shim-mapping":       "an iomap file is not mapped for the shim",
  "shim-reply":         "a request for an iomap file is not answered by the shim",
  "shim-contents":      "the kernel is not told to drop the pages of an iomap file",
} as const;
export type Rule = keyof typeof RULES;

/** A rule that the server has broken. */
export interface Violation {
  readonly rule: Rule;
  readonly detail: string;
  /** What the kernel makes of it; zero when it does not notice. */
  readonly errno: number;
}

/** A system call, or what the kernel does for one, has failed. */
export class SystemError extends Error {
  override readonly name = "SystemError";
  readonly errno: number;

  constructor(errno: number, why: string) {
    super(`errno ${errno}: ${why}`);
    this.errno = errno;
  }
}

export class Violations {
  readonly list: Violation[] = [];

  /** Notes that the server broke `rule`, which the kernel lets pass. */
  note(rule: Rule, detail: string, errno = 0): void {
    this.list.push({ rule, detail, errno });
  }

  /** Notes that the server broke `rule`, and fails as the kernel does. */
  fail(rule: Rule, detail: string, errno: number = Errno.EUCLEAN): never {
    this.note(rule, detail, errno);
    throw new SystemError(errno, `${RULES[rule]}: ${detail}`);
  }
}
