/** The public face of the protocol layer: all that other layers may import. */
export { opcodeName } from "./abi.ts";
export type { AttributeOptions } from "./attributes.ts";
export * from "./channel.ts";
export type { IomapHost } from "./iomap-host.ts";
export {
  type Connection,
  IomapRequiredError,
  MAX_WRITE_BYTES,
  NegotiationError,
  type NegotiationOptions,
} from "./negotiation.ts";
export { nodeOf } from "./nodes.ts";
export { type PresentationOptions, type ServedFilesystem, serveExt4 } from "./served.ts";
export type { Caller } from "./served-changes.ts";
export { Session, type SessionOptions, type Synchronous } from "./session.ts";
