/**
 * Hands out small pieces of memory cut from larger ones. An ArrayBuffer of its own for each inode
 * or block costs the garbage collector several microseconds (bench/walk.ts); a piece costs a view.
 * A large one goes when all its pieces have gone.
 */
export class Arena {
  readonly #pieceBytes: number;
  readonly #chunkBytes: number;
  #chunk = new ArrayBuffer(0);
  #used = 0;

  /** @param chunkBytes of a large one: what a single piece in use can keep from being freed. */
  constructor(pieceBytes: number, chunkBytes: number) {
    this.#pieceBytes = pieceBytes;
    this.#chunkBytes = Math.max(pieceBytes, chunkBytes - (chunkBytes % pieceBytes));
  }

  /** A zeroed piece. */
  take(): Uint8Array {
    if (this.#used + this.#pieceBytes > this.#chunk.byteLength) {
      this.#chunk = new ArrayBuffer(this.#chunkBytes);
      this.#used = 0;
    }
    const piece = new Uint8Array(this.#chunk, this.#used, this.#pieceBytes);
    this.#used += this.#pieceBytes;
    return piece;
  }
}
