/** Two connected sockets, for tests that stand at both ends of what is otherwise `/dev/fuse`. */
import { once } from "node:events";
import { readSync } from "node:fs";
import { createServer, Socket } from "node:net";

export interface SocketPair {
  readonly ours: Socket;
  readonly theirs: Socket;
}

let pairsMade = 0;

export async function socketPair(): Promise<SocketPair> {
  pairsMade += 1;
  // A name that starts with NUL lies in no directory; unix(7), "abstract".
  const path = `\0fuse4fs-ts-${process.pid}-${pairsMade}`;
  const server = createServer({ pauseOnConnect: true }).listen(path);
  await once(server, "listening");
  const theirs = new Socket().pause();
  theirs.connect(path);
  const [[ours]] = await Promise.all([once(server, "connection"), once(theirs, "connect")]);
  server.close();
  return { ours: ours as Socket, theirs };
}

/** @returns zero when there is nothing to read at the moment. */
export function readNow(fd: number, into: Uint8Array): number {
  try {
    return readSync(fd, into);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return 0;
    throw error;
  }
}

/** Node has no public name for it. */
export function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle: { fd: number } })._handle.fd;
}
