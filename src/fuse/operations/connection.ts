/** The operations about the connection itself: INIT, DESTROY, INTERRUPT. */
import { setLe16, setLe32, sizeOf } from "../../base/layout.ts";
import {
  INIT_IN_SHORT,
  InitFlag,
  InitIn,
  InitOut,
  KERNEL_VERSION,
  MINOR_VERSION_MAX,
  Opcode,
} from "../abi.ts";
import { NO_REPLY } from "../channel.ts";
import {
  CONGESTION_THRESHOLD,
  hasFeature,
  MAX_BACKGROUND,
  MAX_PAGES,
  MAX_WRITE_BYTES,
  type Offer,
  TIME_GRANULARITY_NS,
} from "../negotiation.ts";
import type { Request } from "../request.ts";
import type { Operation } from "./operation.ts";

function takeOffer(request: Request): Offer {
  const length = request.remaining;
  const at = request.takeStruct(InitIn, INIT_IN_SHORT);
  const flags = request.u32(at, InitIn.flags);
  const isExtended = length >= sizeOf(InitIn) && (flags & InitFlag.INIT_EXT) !== 0;
  return {
    major: request.u32(at, InitIn.major),
    minor: request.u32(at, InitIn.minor),
    maxReadahead: request.u32(at, InitIn.maxReadahead),
    flags,
    flags2: isExtended ? request.u32(at, InitIn.flags2) : 0,
  };
}

/**
 * The first request of a connection. Until it is answered the kernel holds everything else back.
 * A kernel of a newer major version is told ours and asks again. Changes no lookup counts: the root
 * is held by the mount.
 */
export const Init: Operation = {
  opcode: Opcode.INIT,
  name: "INIT",
  serve(context, request, reply) {
    const connection = context.connect(takeOffer(request));
    const at = reply.append(InitOut);
    const { view } = reply;
    setLe32(view, at, InitOut.major, KERNEL_VERSION);
    setLe32(view, at, InitOut.minor, connection?.minor ?? MINOR_VERSION_MAX);
    if (connection === undefined) return reply.finish();

    setLe32(view, at, InitOut.maxReadahead, connection.maxReadahead);
    setLe32(view, at, InitOut.flags, connection.flags);
    setLe32(view, at, InitOut.flags2, connection.flags2);
    setLe16(view, at, InitOut.maxBackground, MAX_BACKGROUND);
    setLe16(view, at, InitOut.congestionThreshold, CONGESTION_THRESHOLD);
    setLe32(view, at, InitOut.maxWrite, MAX_WRITE_BYTES);
    setLe32(view, at, InitOut.timeGran, TIME_GRANULARITY_NS);
    if (hasFeature(connection, InitFlag.MAX_PAGES)) {
      setLe16(view, at, InitOut.maxPages, MAX_PAGES);
    }
    return reply.finish();
  },
  describe(request) {
    const { major, minor, maxReadahead, flags } = takeOffer(request);
    return `${major}.${minor} flags 0x${flags.toString(16)} readahead ${maxReadahead}`;
  },
};

/**
 * Sent when a mount of type fuseblk, or one with iomap, is unmounted. umount(2) waits for the reply: all
 * is written then, and the device is closed. The connection closes after it.
 */
export const Destroy: Operation = {
  opcode: Opcode.DESTROY,
  name: "DESTROY",
  serve(context, _request, reply) {
    context.end();
    return reply.finish();
  },
};

/**
 * Sent when a signal reaches a process that waits for a reply. Requests are answered one after the
 * other and none is held, so the answer is on its way already and there is nothing to interrupt.
 */
export const Interrupt: Operation = {
  opcode: Opcode.INTERRUPT,
  name: "INTERRUPT",
  serve: () => NO_REPLY,
};
