/** Random numbers that a seed repeats exactly, for tests that print theirs. */

export interface Random {
  /** A whole number from 0 to `bound` - 1. */
  below(bound: number): number;
}

/** The generator "mulberry32": small, quick, and good enough to pick damage with. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  return { below: (bound) => Math.floor((next() / 0x1_0000_0000) * bound) };
}

/** The seed to use: `SEED` of the environment, or a new one each time. */
export function seedOfRun(): number {
  const given = process.env["SEED"];
  return given === undefined ? Math.floor(Math.random() * 0x7fff_ffff) : Number(given);
}
