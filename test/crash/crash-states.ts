/**
 * What a disk may hold after a power cut, from the log of what was written to it.
 *
 *     … flush │ write write write write write │ flush …
 *             └──────── an epoch ─────────────┘
 *
 * All that was written before a flush is there. Of the writes since the last flush, any set of
 * sectors may be there: the disk has a cache, writes it back in any order, and is atomic only for a
 * sector. The explorer takes every prefix of the log, and from each epoch a bounded number of other
 * cases:
 *
 *     prefix   the writes up to one of them, in order, and no more
 *     torn     the same, but of the last one only some sectors
 *     drop     all writes of the epoch but one
 *     only     one write of the epoch and none before it
 *     some     a random half of the writes, a few of them torn
 */

import type { Random } from "../support/random.ts";
import type { DeviceEvent } from "../support/recording-device.ts";
import { DISCARDED, SECTOR_SIZE } from "../support/recording-device.ts";
import type { Disk, Piece } from "./disk.ts";

/**
 * The superblock has its checksum in its second sector; the kernel, too, relies on disks that write
 * the two of them together.
 */
const SUPERBLOCK_OFFSET = 1024;
const SUPERBLOCK_SIZE = 1024;

/** Operations by the moment of a cut. */
export interface Progress {
  /** How many had begun. */
  readonly begun: number;
  /** How many had returned; this many or one less than `begun`. */
  readonly returned: number;
}

export interface CrashState extends Progress {
  /** Says how it came about. */
  readonly name: string;
}

export interface CrashOptions {
  readonly random: Random;
  /** Cases per epoch besides the prefixes, at the most. */
  readonly otherCasesMax: number;
}

interface Written extends Progress {
  readonly piece: Piece;
  /** Its place in the log. */
  readonly index: number;
}

/**
 * All states that are looked at. While one of them is the current one, `disk` holds it.
 *
 * @param disk holds what was there before the log began, and at the end what the log left.
 */
export function* crashStates(
  disk: Disk,
  log: readonly DeviceEvent[],
  options: CrashOptions,
): Generator<CrashState> {
  let progress: Progress = { begun: 0, returned: 0 };
  let epoch: Written[] = [];
  yield { ...progress, name: "before the first write" };
  for (const [index, event] of [...log, { kind: "flush" } as const].entries()) {
    const piece = pieceOf(event);
    if (piece !== undefined) {
      epoch.push({ ...progress, piece, index });
    } else if (event.kind === "flush") {
      yield* statesOfEpoch(disk, epoch, options);
      epoch = [];
    } else if (event.kind === "begin") {
      progress = { ...progress, begun: progress.begun + 1 };
    } else {
      progress = { ...progress, returned: progress.begun };
      const last = epoch.pop();
      // What is there once an operation has returned is judged by what it promised.
      if (last !== undefined) epoch.push({ ...last, ...progress });
      else yield { ...progress, name: `before event ${index}` };
    }
  }
}

/** What an event changes on the disk, if anything. */
export function pieceOf(event: DeviceEvent): Piece | undefined {
  if (event.kind === "write") return event;
  if (event.kind !== "discard") return undefined;
  return { offset: event.offset, bytes: new Uint8Array(event.length).fill(DISCARDED) };
}

function* statesOfEpoch(
  disk: Disk,
  epoch: readonly Written[],
  { random, otherCasesMax }: CrashOptions,
): Generator<CrashState> {
  const others = epoch.length > 0 ? otherCasesMax : 0;
  for (let count = 0; count < others; count++) {
    const { name, cut, pieces } = otherCase(epoch, random);
    const undo = pieces.map((piece) => disk.write(piece));
    yield { name, begun: cut.begun, returned: cut.returned };
    for (const piece of undo.reverse()) disk.write(piece);
  }
  for (const { piece, index, begun, returned } of epoch) {
    disk.write(piece);
    yield { name: `prefix up to write ${index}`, begun, returned };
  }
}

interface Case {
  readonly name: string;
  /** The last write that was issued. */
  readonly cut: Written;
  readonly pieces: readonly Piece[];
}

function otherCase(epoch: readonly Written[], random: Random): Case {
  const at = random.below(epoch.length);
  const cut = epoch[at] as Written;
  const pieces = epoch.map(({ piece }) => piece);
  switch (random.below(4)) {
    case 0: {
      const upTo = pieces.slice(0, at);
      return {
        name: `torn write ${cut.index}`,
        cut,
        pieces: [...upTo, ...torn(cut.piece, random)],
      };
    }
    case 1: {
      const last = epoch.at(-1) as Written;
      return { name: `drop write ${cut.index}`, cut: last, pieces: pieces.toSpliced(at, 1) };
    }
    case 2:
      return { name: `only write ${cut.index}`, cut, pieces: [cut.piece] };
    default: {
      const some = someOf(pieces.slice(0, at + 1), random);
      return { name: `some writes up to ${cut.index}`, cut, pieces: some };
    }
  }
}

/** A random half of `pieces`, and one in eight of these torn. */
function someOf(pieces: readonly Piece[], random: Random): Piece[] {
  return pieces
    .filter(() => random.below(2) === 0)
    .flatMap((piece) => (random.below(8) === 0 ? torn(piece, random) : [piece]));
}

/** Some of the sectors of `piece`: a first part, a last part, or any. */
function torn(piece: Piece, random: Random): Piece[] {
  const sectors = sectorsOf(piece);
  const cut = random.below(sectors.length + 1);
  const way = random.below(3);
  if (way === 0) return sectors.slice(0, cut);
  if (way === 1) return sectors.slice(cut);
  return sectors.filter(() => random.below(2) === 0);
}

/** What a disk writes at once: a sector, or the superblock's two. */
function sectorsOf({ offset, bytes }: Piece): Piece[] {
  const sectors: Piece[] = [];
  const end = offset + bytes.length;
  for (let at = offset; at < end; ) {
    const start = at - (at % SECTOR_SIZE);
    const isSuperblock = start === SUPERBLOCK_OFFSET;
    const next = Math.min(start + (isSuperblock ? SUPERBLOCK_SIZE : SECTOR_SIZE), end);
    sectors.push({ offset: at, bytes: bytes.subarray(at - offset, next - offset) });
    at = next;
  }
  return sectors;
}
