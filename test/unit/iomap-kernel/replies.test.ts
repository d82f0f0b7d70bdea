/** What the kernel checks of every reply: that there is one, its header, its size. */
import { expect, test } from "vitest";
import { Errno, Opcode } from "../../support/iomap-kernel/abi.ts";
import { Body } from "../../support/iomap-kernel/wire.ts";
import { type Answer, attrOut, errnoOf, ScriptedServer } from "./scripted-server.ts";

/** What a GETATTR that is answered so comes to. @param answer gets the request's `unique`. */
function getattr(answer: (unique: bigint) => Answer): [number, string[]] {
  const server = new ScriptedServer().mount();
  const inode = server.file();
  server.on(Opcode.GETATTR, () => answer(server.unique));
  return [errnoOf(() => server.kernel.state.getattr(inode)), server.broken];
}

/** A reply with its header. */
const reply = (unique: bigint, error: number, body: Body, lengthOff = 0): Uint8Array =>
  new Body()
    .u32(16 + body.bytes.length + lengthOff)
    .u32(error)
    .u64(unique)
    .raw(body.bytes).bytes;

test("a reply with the header and the size that were asked for breaks no rule", () => {
  expect(getattr((unique) => reply(unique, 0, attrOut()))).toEqual([0, []]);
  const refused = getattr((unique) => reply(unique, -Errno.EACCES, new Body()));
  expect(refused).toEqual([Errno.EACCES, []]);
});

// biome-ignore format: a table
test.each([
  ["no reply",           "no-reply",     () => undefined],
  ["another unique",     "reply-header", (unique: bigint) => reply(unique + 2n, 0, attrOut())],
  ["a wrong length",     "reply-header", (unique: bigint) => reply(unique, 0, attrOut(), 1)],
  ["a positive error",   "reply-header", (unique: bigint) => reply(unique, 5, new Body())],
  ["no errno at all",    "reply-header", (unique: bigint) => reply(unique, -512, new Body())],
  ["a short body",       "reply-size",   () => new Body().zeros(8)],
  ["a long body",        "reply-size",   () => attrOut().zeros(8)],
  ["a body of an error", "reply-size",   (unique: bigint) => reply(unique, -2, attrOut())],
] as const)("%s is EIO", (_, rule, answer) => {
  expect(getattr(answer)).toEqual([Errno.EIO, [rule]]);
});
