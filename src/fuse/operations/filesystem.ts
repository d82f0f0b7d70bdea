/** The operation on the filesystem as a whole: STATFS. */
import { setLe32, setLe64 } from "../../base/layout.ts";
import { Kstatfs, Opcode } from "../abi.ts";
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
