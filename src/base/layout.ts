/**
 * Declares the layout of a stored or transmitted struct as a table, and reads and writes its
 * fields in place. A field is a plain number at run time (its byte offset) and knows its width and
 * byte order at compile time, so that reading a big-endian jbd2 field as if it were ext4's does
 * not compile.
 */

/** How one field is stored. A number stands for that many raw bytes. */
export type Kind = "u8" | "le16" | "le32" | "le64" | "be16" | "be32" | "be64" | "bytes";

declare const kind: unique symbol;
/** A byte offset that knows, for the compiler alone, what is stored there. */
export type At<K extends Kind> = number & { readonly [kind]: K };

type Table = {
  readonly [field: string]: readonly [at: number, kind: Exclude<Kind, "bytes"> | number];
};
type Offsets<T extends Table> = {
  readonly [F in keyof T]: At<T[F][1] extends number ? "bytes" : Extract<T[F][1], Kind>>;
};

export interface Field {
  readonly name: string;
  readonly at: number;
  readonly width: number;
}

/** What is known of a declared struct besides its offsets. */
export interface Layout {
  readonly name: string;
  /** Bytes from the start of the struct to the start of the next one. */
  readonly size: number;
  readonly fields: readonly Field[];
}

const WIDTHS = { u8: 1, le16: 2, le32: 4, le64: 8, be16: 2, be32: 4, be64: 8 } as const;
const layouts = new Map<object, Layout>();

/**
 * Declares the struct `name` of `size` bytes; `table` maps each field to its offset and kind.
 *
 * @returns the offsets by field name; pass one of them to a reader such as `le32()`.
 */
export function layout<const T extends Table>(name: string, size: number, table: T): Offsets<T> {
  const fields: Field[] = [];
  const offsets: Record<string, number> = {};
  for (const [field, [at, stored]] of Object.entries(table)) {
    fields.push({ name: field, at, width: typeof stored === "number" ? stored : WIDTHS[stored] });
    offsets[field] = at;
  }
  const result = Object.freeze(offsets);
  layouts.set(result, { name, size, fields });
  return result as Offsets<T>;
}

/** Every struct declared so far by the modules that were loaded. */
export function allLayouts(): Iterable<Layout> {
  return layouts.values();
}

/** The size in bytes of a struct that `layout()` returned. */
export function sizeOf(struct: object): number {
  const known = layouts.get(struct);
  if (known === undefined) throw new TypeError("not a struct declared by layout()");
  return known.size;
}

/** The width in bytes of one field of a struct that `layout()` returned. */
export function widthOf<S extends object>(struct: S, field: keyof S & string): number {
  const found = layouts.get(struct)?.fields.find((each) => each.name === field);
  if (found === undefined) throw new TypeError(`no field ${field}`);
  return found.width;
}

/** A stored 64-bit number does not fit 53 bits, so it cannot be meant seriously. */
export class FieldRangeError extends RangeError {
  override readonly name = "FieldRangeError";
}

const HIGH_MAX = 0x1f_ffff;

function join(hi: number, lo: number): number {
  if (hi > HIGH_MAX)
    throw new FieldRangeError(`0x${hi.toString(16)}_${lo.toString(16)} is above 2^53 - 1`);
  return hi * 0x1_0000_0000 + lo;
}

export const u8 = (view: DataView, base: number, at: At<"u8">): number => view.getUint8(base + at);
export const le16 = (view: DataView, base: number, at: At<"le16">): number =>
  view.getUint16(base + at, true);
export const le32 = (view: DataView, base: number, at: At<"le32">): number =>
  view.getUint32(base + at, true);
export const be16 = (view: DataView, base: number, at: At<"be16">): number =>
  view.getUint16(base + at, false);
export const be32 = (view: DataView, base: number, at: At<"be32">): number =>
  view.getUint32(base + at, false);

/** @throws FieldRangeError above 2^53 - 1. */
export const le64 = (view: DataView, base: number, at: At<"le64">): number =>
  join(view.getUint32(base + at + 4, true), view.getUint32(base + at, true));

/** @throws FieldRangeError above 2^53 - 1. */
export const be64 = (view: DataView, base: number, at: At<"be64">): number =>
  join(view.getUint32(base + at, false), view.getUint32(base + at + 4, false));

/** The `length` raw bytes of a field, as a view: no copy. */
export const bytesAt = (
  view: DataView,
  base: number,
  at: At<"bytes">,
  length: number,
): Uint8Array => new Uint8Array(view.buffer, view.byteOffset + base + at, length);

export const setU8 = (view: DataView, base: number, at: At<"u8">, value: number): void =>
  view.setUint8(base + at, value);
export const setLe16 = (view: DataView, base: number, at: At<"le16">, value: number): void =>
  view.setUint16(base + at, value, true);
export const setLe32 = (view: DataView, base: number, at: At<"le32">, value: number): void =>
  view.setUint32(base + at, value, true);
export const setBe16 = (view: DataView, base: number, at: At<"be16">, value: number): void =>
  view.setUint16(base + at, value, false);
export const setBe32 = (view: DataView, base: number, at: At<"be32">, value: number): void =>
  view.setUint32(base + at, value, false);

/** Writes `value`, a whole number from 0 to 2^53 - 1. */
export const setLe64 = (view: DataView, base: number, at: At<"le64">, value: number): void => {
  view.setUint32(base + at, value % 0x1_0000_0000, true);
  view.setUint32(base + at + 4, Math.floor(value / 0x1_0000_0000), true);
};
