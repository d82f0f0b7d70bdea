/**
 * The mappings that a server has put into the kernel for one inode: a read fork and, once something
 * other than PURE_OVERWRITE was put there, a write fork. Each is bounded by the memory of its index:
 * one that has grown too large is thrown away as a whole before the next mapping is added.
 */
import { MapType, NULL_DEV } from "./abi.ts";
import { covers, endOf, type Mapping, type Slot, trimmed } from "./mapping.ts";

/** The index is a tree of nodes of 256 bytes; a leaf holds seven mappings and two links. */
const NODE_BYTES = 256;
const MAPPINGS_PER_LEAF = 7;

/** Mappings in order of their offsets, without overlaps, and with all neighbours joined. */
class Fork {
  #mappings: Mapping[] = [];

  get mappings(): readonly Mapping[] {
    return this.#mappings;
  }

  get indexBytes(): number {
    return NODE_BYTES * Math.ceil(this.#mappings.length / MAPPINGS_PER_LEAF);
  }

  find(pos: number): Mapping | undefined {
    return this.#mappings.find((mapping) => covers(mapping, pos));
  }

  remove(start: number, end: number): void {
    this.#mappings = this.#mappings.flatMap((mapping) => {
      if (endOf(mapping) <= start || mapping.offset >= end) return [mapping];
      return [trimmed(mapping, 0, start), trimmed(mapping, end, Number.POSITIVE_INFINITY)].filter(
        ({ length }) => length > 0,
      );
    });
  }

  insert(mapping: Mapping): void {
    this.remove(mapping.offset, endOf(mapping));
    const joined: Mapping[] = [];
    const all = [...this.#mappings, mapping].sort((one, other) => one.offset - other.offset);
    for (const each of all) {
      const last = joined.at(-1);
      if (last !== undefined && continues(last, each))
        joined[joined.length - 1] = { ...last, length: last.length + each.length };
      else joined.push(each);
    }
    this.#mappings = joined;
  }

  clear(): void {
    this.#mappings = [];
  }
}

function continues(last: Mapping, next: Mapping): boolean {
  return (
    endOf(last) === next.offset &&
    last.type === next.type &&
    last.flags === next.flags &&
    last.dev === next.dev &&
    (last.dev === NULL_DEV || last.addr + last.length === next.addr)
  );
}

export class MappingCache {
  readonly #read = new Fork();
  #write: Fork | undefined;
  /** Changes with every change of the mappings: what was taken from here earlier may be wrong. */
  sequence = 0;

  get hasWriteFork(): boolean {
    return this.#write !== undefined;
  }

  mappings(slot: Slot): readonly Mapping[] {
    return (slot === "read" ? this.#read : this.#write)?.mappings ?? [];
  }

  find(slot: Slot, pos: number): Mapping | undefined {
    return (slot === "read" ? this.#read : this.#write)?.find(pos);
  }

  upsert(slot: Slot, mapping: Mapping, limitBytes: number): void {
    this.sequence += 1;
    if (slot === "write" && this.#write === undefined) {
      if (mapping.type === MapType.PURE_OVERWRITE) return;
      this.#write = new Fork();
    }
    const fork = slot === "read" ? this.#read : (this.#write as Fork);
    if (fork.indexBytes > limitBytes) fork.clear();
    fork.insert(mapping);
  }

  /** Drops what covers bytes from `start` up to `end`. */
  invalidate(slot: Slot, start: number, end: number): void {
    this.sequence += 1;
    (slot === "read" ? this.#read : this.#write)?.remove(start, end);
  }
}
