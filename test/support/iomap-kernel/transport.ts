/** How requests reach a server, and how what it says of its own accord comes back. */

/** Takes what a server does outside of a reply. */
export interface Receiver {
  /** A notification. @returns what the server's write() answers: zero or a negative errno. */
  notification(code: number, payload: Uint8Array): number;
  /** The server has asked its shim for something that only the road without iomap needs. */
  shimAsked(what: "map" | "store" | "reply" | "contents", node: number): void;
  /** The attributes and ACLs of a node are to be asked for again (FUSE_NOTIFY_INVAL_INODE). */
  attributesInvalid(node: number): void;
}

export interface Transport {
  /** Called once, before the first exchange. */
  attach(receiver: Receiver): void;
  /** Delivers a request, header included. @returns the whole reply; nothing when there is none. */
  exchange(request: Uint8Array): Uint8Array | undefined;
}
