/**
 * A server that answers as a test says, for tests of the kernel model: one file, `f`, on a device in
 * memory whose bytes say where they are. What a test does not say has a dull answer.
 */
import { MemoryDevice } from "../../../src/device/memory-device.ts";
import {
  ConfigFlag,
  Errno,
  INIT2_IOMAP,
  InitFlag,
  MapType,
  Notification,
  NULL_ADDR,
  Opcode,
  opcodeName,
} from "../../support/iomap-kernel/abi.ts";
import type { Inode } from "../../support/iomap-kernel/inode.ts";
import { IomapKernel } from "../../support/iomap-kernel/kernel.ts";
import type { Generation, RawMapping } from "../../support/iomap-kernel/mapping.ts";
import { SystemError } from "../../support/iomap-kernel/rules.ts";
import type { Receiver, Transport } from "../../support/iomap-kernel/transport.ts";
import { Body, Fields } from "../../support/iomap-kernel/wire.ts";
import { randomFrom } from "../../support/random.ts";

export const BLOCK = 4096;
export const DEVICE_BYTES = 1 << 20;
export const FILE_NODE = 10;
export const FILE_INO = 1010;
export const FLAGS_IOMAP = 4 | 8;
export const FLAG_ATOMIC = 16;

/** What the device is full of. */
export const CONTENTS = Uint8Array.from(
  { length: DEVICE_BYTES },
  (_, at) => 1 + ((at >>> 9) % 251),
);

/** What a test answers: a body, a negative errno, a reply with its header, or nothing at all. */
export type Answer = Body | number | Uint8Array | undefined;
export type Handler = (body: Fields, node: number) => Answer;

export interface FileAttributes {
  readonly size: number;
  readonly mode: number;
  readonly flags: number;
  readonly ino: number;
  readonly nlink: number;
}

function attr(fields: Partial<FileAttributes> = {}): Body {
  const { size = 16 * BLOCK, mode = 0o100644, flags = FLAGS_IOMAP } = fields;
  const body = new Body()
    .u64(fields.ino ?? FILE_INO)
    .u64(size)
    .u64(8)
    .zeros(24)
    .zeros(12);
  return body
    .u32(mode)
    .u32(fields.nlink ?? 1)
    .u32(0)
    .u32(0)
    .u32(0)
    .u32(BLOCK)
    .u32(flags);
}

export function attrOut(fields: Partial<FileAttributes> = {}): Body {
  return new Body().u64(1000).u32(0).u32(0).raw(attr(fields).bytes);
}

export function entry(fields: Partial<FileAttributes> = {}, node = FILE_NODE): Body {
  const times = new Body().u64(1000).u64(1000).u32(0).u32(0);
  return new Body().u64(node).u64(7).raw(times.bytes).raw(attr(fields).bytes);
}

/** A mapping; `MAPPED` at the same place on the device unless it says something else. */
export function map(fields: Partial<RawMapping> = {}): RawMapping {
  const type = fields.type ?? MapType.MAPPED;
  const isPlaced = type === MapType.MAPPED || type === MapType.UNWRITTEN;
  return {
    ...{ offset: 0n, length: BigInt(16 * BLOCK), addr: isPlaced ? 0n : NULL_ADDR },
    ...{ type, flags: 0, dev: isPlaced ? 1 : 0 },
    ...fields,
  };
}

export const overwrite = (fields: Partial<RawMapping> = {}): RawMapping =>
  map({ type: MapType.PURE_OVERWRITE, ...fields });

function io(body: Body, { offset, length, addr, type, flags, dev }: RawMapping): Body {
  return body.u64(offset).u64(length).u64(addr).u16(type).u16(flags).u32(dev);
}

export function beginOut(read: RawMapping, write: RawMapping = overwrite()): Body {
  return io(io(new Body(), read), write);
}

/** `fuse_iomap_config_out`, as fuse4fs fills it. */
export interface ConfigFields {
  readonly flags: number | bigint;
  readonly uuidLength: number;
  readonly pad: number;
  readonly blockSize: number;
  readonly granularity: number;
  readonly maxBytes: bigint;
  readonly cacheBytes: number;
}

export function configOut(fields: Partial<ConfigFields> = {}): Body {
  const all = ConfigFlag.UUID | ConfigFlag.BLOCKSIZE | ConfigFlag.TIME | ConfigFlag.MAXBYTES;
  const body = new Body()
    .u64(fields.flags ?? all)
    .zeros(32)
    .zeros(16);
  body.u32((fields.uuidLength ?? 16) | ((fields.pad ?? 0) << 8));
  body
    .u32(fields.blockSize ?? BLOCK)
    .u32(0)
    .u32(fields.granularity ?? 1);
  body
    .u64(-(2 ** 31))
    .u64(2 ** 33)
    .u64(fields.maxBytes ?? BigInt(2 ** 44));
  return body.u32(fields.cacheBytes ?? 0).u32(0);
}

export class ScriptedServer implements Transport {
  readonly kernel: IomapKernel;
  /** The bytes of the device. */
  readonly bytes = CONTENTS.slice();
  readonly device = new MemoryDevice(this.bytes);
  readonly #handlers = new Map<number, Handler>();
  /** Requests since `mount`, by name; the fields of each. */
  readonly seen: { readonly name: string; readonly body: Fields }[] = [];
  /** Of the request that is being answered. */
  unique = 0n;
  #receiver: Receiver | undefined;

  constructor(generation: Generation = "v7", deviceOffsetBytes = 0, readOnly = false) {
    this.kernel = new IomapKernel({
      ...{ transport: this, device: this.device, generation, deviceOffsetBytes },
      ...{ readOnly },
      random: randomFrom(1),
    });
    const host = this.kernel.host();
    const flags = InitFlag.INIT_EXT | InitFlag.NO_OPEN | InitFlag.NO_OPENDIR | InitFlag.POSIX_ACL;
    this.on(Opcode.INIT, () => {
      const body = new Body().u32(7).u32(99).u32(0).u32(flags).zeros(16);
      return body.u32(INIT2_IOMAP).zeros(28);
    });
    this.on(Opcode.IOMAP_CONFIG, () => {
      host.registerDevice();
      return configOut();
    });
    this.on(Opcode.GETATTR, (_, node) =>
      attrOut(node === 1 ? { mode: 0o040755, flags: 0, ino: 2 } : {}),
    );
    this.on(Opcode.SETATTR, () => attrOut());
    this.on(Opcode.LOOKUP, () => entry());
    this.on(Opcode.IOMAP_BEGIN, () => beginOut(map()));
    this.on(Opcode.IOMAP_END, () => new Body());
    this.on(Opcode.IOMAP_IOEND, (body) => new Body().u64(body.number(16) + body.number(32)));
    for (const opcode of [Opcode.FSYNC, Opcode.SYNCFS, Opcode.DESTROY, Opcode.FALLOCATE])
      this.on(opcode, () => new Body());
  }

  /** From now on `opcode` is answered so. */
  on(opcode: Opcode, handler: Handler): this {
    this.#handlers.set(opcode, handler);
    return this;
  }

  mount(): this {
    this.kernel.mount();
    this.seen.length = 0;
    return this;
  }

  /** The file. */
  file(): Inode {
    const inode = this.kernel.walk("/f");
    this.kernel.open(inode);
    this.seen.length = 0;
    return inode;
  }

  /** The names of the requests since it was last asked. */
  take(): string[] {
    return this.seen.splice(0).map(({ name }) => name);
  }

  last(opcode: Opcode): Fields {
    const found = this.seen.findLast(({ name }) => name === opcodeName(opcode));
    if (found === undefined) throw new Error(`no ${opcodeName(opcode)} was sent`);
    return found.body;
  }

  upsert(read: RawMapping, write: RawMapping, node = FILE_NODE, ino = FILE_INO): number {
    return this.notify(
      Notification.UPSERT_MAPPINGS,
      io(io(new Body().u64(node).u64(ino), read), write),
    );
  }

  notify(code: number, payload: Body): number {
    return this.#receiver?.notification(code, payload.bytes) ?? 0;
  }

  /** The rules that were broken, in order. */
  get broken(): string[] {
    return this.kernel.violations.map(({ rule }) => rule);
  }

  /** The server has its shim do something for the file that only the road without iomap needs. */
  askShim(what: Parameters<Receiver["shimAsked"]>[0], node = FILE_NODE): void {
    this.#receiver?.shimAsked(what, node);
  }

  attach(receiver: Receiver): void {
    this.#receiver = receiver;
  }

  exchange(request: Uint8Array): Uint8Array | undefined {
    const header = new Fields(request);
    const opcode = header.u32(4);
    const body = header.from(40);
    this.unique = header.u64(8);
    this.seen.push({ name: opcodeName(opcode), body });
    if (opcode === Opcode.FORGET) return undefined;
    const answer = (this.#handlers.get(opcode) ?? (() => -Errno.ENOSYS))(body, header.number(16));
    if (answer === undefined || answer instanceof Uint8Array) return answer;
    const bytes = typeof answer === "number" ? new Uint8Array(0) : answer.bytes;
    const error = typeof answer === "number" ? answer : 0;
    return new Body()
      .u32(16 + bytes.length)
      .u32(error)
      .u64(this.unique)
      .raw(bytes).bytes;
  }
}

/** The errno that `action` fails with; zero if it does not. */
export function errnoOf(action: () => unknown): number {
  try {
    action();
    return 0;
  } catch (error) {
    if (error instanceof SystemError) return error.errno;
    throw error;
  }
}
