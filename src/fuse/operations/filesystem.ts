/** The operations on the filesystem as a whole: STATFS; FREEZE_FS, UNFREEZE_FS, SHUTDOWN_FS. */
import { setLe32, setLe64 } from "../../base/layout.ts";
import { Kstatfs, Opcode } from "../abi.ts";
import { FreezefsIn, IomapOpcode, ShutdownfsIn } from "../iomap-abi.ts";
import { changesOf } from "./changing.ts";
import type { Operation } from "./operation.ts";

/** Sent by statfs(2) every time. Changes no lookup counts. */
export const Statfs: Operation = {
  opcode: Opcode.STATFS,
  name: "STATFS",
  serve({ fs }, _request, reply) {
    const totals = fs.totals();
    const at = reply.append(Kstatfs);
    const { view } = reply;
    setLe64(view, at, Kstatfs.blocks, totals.blocks);
    setLe64(view, at, Kstatfs.bfree, totals.blocksFree);
    setLe64(view, at, Kstatfs.bavail, totals.blocksAvailable);
    setLe64(view, at, Kstatfs.files, totals.files);
    setLe64(view, at, Kstatfs.ffree, totals.filesFree);
    setLe32(view, at, Kstatfs.bsize, totals.blockSize);
    setLe32(view, at, Kstatfs.namelen, totals.nameLengthMax);
    setLe32(view, at, Kstatfs.frsize, totals.blockSize);
    return reply.finish();
  },
};

/** Sent for FIFREEZE, after all contents are written and SYNCFS; nothing is changed until UNFREEZE_FS. */
export const FreezeFs: Operation = {
  opcode: IomapOpcode.FREEZE_FS,
  name: "FREEZE_FS",
  serve(context, request, reply) {
    request.takeStruct(FreezefsIn);
    changesOf(context, request).freeze();
    return reply.finish();
  },
};

/** Sent for FITHAW. */
export const UnfreezeFs: Operation = {
  opcode: IomapOpcode.UNFREEZE_FS,
  name: "UNFREEZE_FS",
  serve(context, request, reply) {
    changesOf(context, request).thaw();
    return reply.finish();
  },
};

/** Sent when the device is about to go. */
export const ShutdownFs: Operation = {
  opcode: IomapOpcode.SHUTDOWN_FS,
  name: "SHUTDOWN_FS",
  serve(context, request, reply) {
    request.takeStruct(ShutdownfsIn);
    changesOf(context, request).shutdown();
    return reply.finish();
  },
};
