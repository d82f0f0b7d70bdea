/**
 * The operations that change something. The mount is read-only, so the kernel refuses them by
 * itself and none of these should arrive; if one does, it is refused here as well.
 */
import { Errno } from "../../base/errno.ts";
import { Opcode } from "../abi.ts";
import type { Operation } from "./operation.ts";

// biome-ignore format: a table
const NAMES = [
  "SETATTR", "SYMLINK", "MKNOD", "MKDIR", "UNLINK", "RMDIR", "RENAME", "LINK", "WRITE", "SETXATTR",
  "REMOVEXATTR", "CREATE", "FALLOCATE", "RENAME2", "COPY_FILE_RANGE", "TMPFILE",
  "COPY_FILE_RANGE_64",
] as const;

/** Every one of them, refused with EROFS. None changes lookup counts. */
export const MODIFYING_OPERATIONS: readonly Operation[] = NAMES.map((name) => ({
  opcode: Opcode[name],
  name,
  serve: (_context, _request, reply) => reply.error(Errno.EROFS),
}));
