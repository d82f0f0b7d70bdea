/** Mappings on their way to the shim, sent whenever the channel's array is full. */
import type { Inode } from "../../ext4/index.ts";
import { MAPPING_NEW, MAPPING_STRIDE } from "../channel.ts";
import { writeAccessOf } from "./changing.ts";
import type { Context } from "./operation.ts";

export class MappingBatch {
  readonly #context: Context;
  readonly #node: number;
  readonly #inode: Inode;
  #count = 0;
  total = 0;

  constructor(context: Context, node: number, inode: Inode) {
    this.#context = context;
    this.#node = node;
    this.#inode = inode;
  }

  /** Adds the answer that `context.iomap` holds. */
  add(): void {
    const { mappings } = this.#context.channel;
    const { offset, addr, length, type, isNew } = this.#context.iomap;
    const at = this.#count * MAPPING_STRIDE;
    mappings[at] = offset;
    mappings[at + 1] = addr;
    mappings[at + 2] = length;
    mappings[at + 3] = type;
    mappings[at + 4] = isNew ? MAPPING_NEW : 0;
    this.#count += 1;
    this.total += 1;
    if ((this.#count + 1) * MAPPING_STRIDE > mappings.length) this.flush();
  }

  /** Sends what was added, with the size that the file has by now. */
  flush(): void {
    if (this.#count === 0) return;
    const { fs, channel } = this.#context;
    const access = writeAccessOf(fs, this.#inode);
    channel.map(this.#node, this.#inode.sizeBytes, this.#count, access);
    this.#count = 0;
  }
}
