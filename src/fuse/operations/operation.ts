/**
 * What an operation is: a row of the table that session, trace and statistics read. A handler
 * decodes the request, asks the filesystem one thing, and encodes the answer; the errors it throws
 * become errnos in the session.
 */
import type { Iomap } from "../../ext4/index.ts";
import type { Channel } from "../channel.ts";
import type { IomapState } from "../iomap-state.ts";
import type { Lifetimes } from "../lifetimes.ts";
import type { ListingCaches } from "../listing-caches.ts";
import type { Connection, Offer } from "../negotiation.ts";
import type { Reply } from "../reply.ts";
import type { Request } from "../request.ts";
import type { ServedFilesystem } from "../served.ts";

/** What every handler works with; one for the whole session. */
export interface Context {
  readonly fs: ServedFilesystem;
  readonly channel: Channel;
  /** What INIT agreed on; undefined before that. */
  readonly connection: Connection | undefined;
  readonly listings: ListingCaches;
  /** Kept where inodes can lose their names. */
  readonly lifetimes: Lifetimes | undefined;
  /** Where the kernel may move file contents by itself. */
  readonly iomapState: IomapState | undefined;
  /** Takes a line about something that went wrong. */
  readonly log: (line: string) => void;
  /** Who new inodes belong to, in place of the caller. */
  readonly owner: { readonly uid?: number; readonly gid?: number };
  /** For the one question in hand, so that a request allocates nothing. */
  readonly iomap: Iomap;
  /**
   * Settles what the kernel offers.
   *
   * @returns undefined when it is to offer again, in an older major version.
   * @throws ProtocolVersionError when it is too old.
   */
  connect(offer: Offer): Connection | undefined;
  /** Finishes the session: nothing is asked any more after this request. */
  end(): void;
}

export interface Operation {
  readonly opcode: number;
  /** As in `enum fuse_opcode`. */
  readonly name: string;
  /** What it changes: some mounts want that to be durable before it is answered. */
  readonly changes?: "names" | "contents" | "attributes";
  /** @returns what `Channel.next` takes: the length of the reply, NO_REPLY or SERVE_BY_SHIM. */
  serve(context: Context, request: Request, reply: Reply): number;
  /** The arguments worth a place in the trace. */
  describe?(request: Request): string;
}
