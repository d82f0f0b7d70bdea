/** Puts the bodies of requests together and takes those of replies apart. */

/** A body under construction: fields are appended in the order of the struct. */
export class Body {
  readonly #bytes: number[] = [];

  u16(value: number): this {
    return this.#little(value, 2);
  }
  u32(value: number): this {
    return this.#little(value, 4);
  }
  /** A negative value becomes its two's complement. */
  u64(value: number | bigint): this {
    return this.#little(value, 8);
  }
  zeros(count: number): this {
    for (let index = 0; index < count; index++) this.#bytes.push(0);
    return this;
  }
  raw(bytes: Uint8Array): this {
    for (const byte of bytes) this.#bytes.push(byte);
    return this;
  }
  /** A name and its NUL. */
  name(bytes: Uint8Array): this {
    return this.raw(bytes).zeros(1);
  }

  get bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }

  #little(value: number | bigint, width: number): this {
    let bits = BigInt.asUintN(width * 8, BigInt(value));
    for (let index = 0; index < width; index++, bits >>= 8n) this.#bytes.push(Number(bits & 0xffn));
    return this;
  }
}

/** The fields of a reply. Offsets are those of the struct; what is not there reads as zeros. */
export class Fields {
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array, lengthMin = 0) {
    const padded = new Uint8Array(Math.max(bytes.length, lengthMin));
    padded.set(bytes);
    this.bytes = padded;
    this.#view = new DataView(padded.buffer);
  }

  u8(at: number): number {
    return this.#view.getUint8(at);
  }
  u16(at: number): number {
    return this.#view.getUint16(at, true);
  }
  u32(at: number): number {
    return this.#view.getUint32(at, true);
  }
  s32(at: number): number {
    return this.#view.getInt32(at, true);
  }
  u64(at: number): bigint {
    return this.#view.getBigUint64(at, true);
  }
  s64(at: number): bigint {
    return this.#view.getBigInt64(at, true);
  }
  /** A u64 that is known to be small; a large one loses its last bits. */
  number(at: number): number {
    return Number(this.u64(at));
  }
  from(at: number): Fields {
    return new Fields(this.bytes.subarray(at));
  }
}

/** One character per byte, both ways. */
export const bytesOf = (text: string): Uint8Array =>
  Uint8Array.from(text, (letter) => letter.charCodeAt(0));
export const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
