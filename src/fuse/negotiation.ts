/**
 * What kernel and server agree on in INIT: the protocol version, which is the older of the two, and
 * the features that both have.
 *
 * @see fuse_kernel.h 7.45, "Version negotiation" and "INIT request/reply flags"
 */
import { Errno } from "../base/errno.ts";
import { FsError } from "../ext4/index.ts";
import {
  InitFlag,
  InitFlag2,
  KERNEL_VERSION,
  MINOR_VERSION_MAX,
  MINOR_VERSION_MIN,
} from "./abi.ts";
import { IOMAP_MINOR } from "./iomap-abi.ts";

/**
 * The longest READ, WRITE and READDIR in pages, and the same in bytes on machines of 4 KiB pages.
 * Twice as much would not fit, with its header, into the largest pipe that an unprivileged process
 * may have, and the shim splices (bench/sequential.ts).
 */
export const MAX_PAGES = 128;
export const MAX_WRITE_BYTES = 0x8_0000;
/** Read-ahead requests in flight, and how many of them make the kernel hold back. */
export const MAX_BACKGROUND = 64;
export const CONGESTION_THRESHOLD = 48;
/** Times have a granularity of one nanosecond. */
export const TIME_GRANULARITY_NS = 1;

/**
 * Features asked for wherever the kernel has them.
 *
 * ASYNC_DIO has a price: after an asynchronous write with O_DIRECT the kernel does not drop the pages
 * that a reader has brought in meanwhile, as it does after others. The shim has it do that.
 *
 * Not asked for: AUTO_INVAL_DATA (would win over EXPLICIT_INVAL_DATA, and nobody changes the device
 * behind our back), and the SPLICE family (the kernel accepts spliced replies without being told).
 */
const WANTED =
  InitFlag.ASYNC_READ |
  InitFlag.EXPORT_SUPPORT |
  InitFlag.BIG_WRITES |
  InitFlag.HAS_IOCTL_DIR |
  InitFlag.DO_READDIRPLUS |
  InitFlag.READDIRPLUS_AUTO |
  InitFlag.ASYNC_DIO |
  InitFlag.NO_OPEN_SUPPORT |
  InitFlag.PARALLEL_DIROPS |
  InitFlag.ABORT_ERROR |
  InitFlag.MAX_PAGES |
  InitFlag.CACHE_SYMLINKS |
  InitFlag.NO_OPENDIR_SUPPORT |
  InitFlag.EXPLICIT_INVAL_DATA |
  InitFlag.INIT_EXT;

/**
 * Features asked for by a mount that can be written to.
 *
 *     DONT_MASK           a default ACL of the directory decides whether the umask applies
 *     HANDLE_KILLPRIV_V2  a WRITE says when it takes set-id bits away, so that the kernel does not
 *                         ask for `security.capability` before each
 *     SETXATTR_EXT        so does an ACL that takes the setgid bit away
 *
 * Not asked for: WRITEBACK_CACHE, with which write(2) would not learn that there is no space, and
 * ATOMIC_O_TRUNC, which needs an OPEN.
 */
const WANTED_TO_WRITE = InitFlag.DONT_MASK | InitFlag.HANDLE_KILLPRIV_V2 | InitFlag.SETXATTR_EXT;

/** What the kernel says in `fuse_init_in`. */
export interface Offer {
  readonly major: number;
  readonly minor: number;
  readonly maxReadahead: number;
  readonly flags: number;
  /** 0 from kernels before 7.36, and those without INIT_EXT. */
  readonly flags2: number;
}

/** What the user decides. */
export interface NegotiationOptions {
  /**
   * Let the kernel enforce POSIX ACLs; it then checks all permissions itself, as if mounted with
   * `default_permissions`. Default true.
   */
  readonly acl?: boolean;
  /**
   * Let mounts be ID-mapped (mount_setattr(2)), where the kernel can: it has to check all permissions
   * itself, and then only tells whose a request is when that is for a new inode. Default false.
   */
  readonly idMapped?: boolean;
}

/** What the filesystem decides. */
export interface NegotiationNeeds {
  /** It can be written to. */
  readonly writable: boolean;
  /** The kernel may move file contents by itself, if it knows how. */
  readonly iomap: "forbid" | "use" | "require";
}

/** What was agreed. */
export interface Connection {
  readonly minor: number;
  readonly maxReadahead: number;
  /** `InitFlag` bits that both sides have. */
  readonly flags: number;
  /** `InitFlag2` bits that both sides have. */
  readonly flags2: number;
}

/** The kernel lacks what the mount needs: there is nothing to serve. */
export class NegotiationError extends FsError {
  override readonly name: string = "NegotiationError";
}

/** The kernel was to move file contents by itself, and does not. */
export class IomapRequiredError extends NegotiationError {
  override readonly name = "IomapRequiredError";

  constructor(why: string, errno: Errno | number = Errno.EOPNOTSUPP) {
    super(errno as Errno, `needs iomap, but ${why}`);
  }
}

/** The kernel speaks a protocol that is too old to be served. */
export class ProtocolVersionError extends NegotiationError {
  override readonly name = "ProtocolVersionError";

  constructor(offer: Offer) {
    super(
      Errno.EPROTO,
      `the kernel speaks FUSE ${offer.major}.${offer.minor}; ` +
        `${KERNEL_VERSION}.${MINOR_VERSION_MIN} (Linux 5.4) or newer is needed`,
    );
  }
}

/**
 * Decides the answer to an offer of the major version that we speak, or an older one.
 *
 * @throws ProtocolVersionError when it is too old.
 * @throws IomapRequiredError when it cannot move file contents and must.
 */
export function negotiate(
  offer: Offer,
  { acl, idMapped, writable, iomap }: NegotiationOptions & NegotiationNeeds,
): Connection {
  if (offer.major < KERNEL_VERSION || offer.minor < MINOR_VERSION_MIN) {
    throw new ProtocolVersionError(offer);
  }
  const wanted =
    WANTED | (acl === false ? 0 : InitFlag.POSIX_ACL) | (writable ? WANTED_TO_WRITE : 0);
  const movesData = iomap !== "forbid" && offersIomap(offer);
  if (iomap === "require" && !movesData) {
    throw new IomapRequiredError("this kernel does not offer it for this mount");
  }
  const flags2 =
    (idMapped === true ? InitFlag2.ALLOW_IDMAP : 0) | (movesData ? InitFlag2.IOMAP : 0);
  return {
    minor: movesData ? IOMAP_MINOR : Math.min(offer.minor, MINOR_VERSION_MAX),
    maxReadahead: offer.maxReadahead,
    flags: offer.flags & wanted,
    flags2: offer.flags2 & flags2,
  };
}

/** The bit means something else to kernels of lower minor versions. */
function offersIomap({ minor, flags2 }: Offer): boolean {
  return minor >= IOMAP_MINOR && (flags2 & InitFlag2.IOMAP) !== 0;
}

/** True when the kernel moves file contents by itself. */
export function usesIomap({ flags2 }: Connection): boolean {
  return (flags2 & InitFlag2.IOMAP) !== 0;
}

/** True when both sides have the feature `flag`. */
export function hasFeature(connection: Connection, flag: number): boolean {
  return (connection.flags & flag) !== 0;
}
