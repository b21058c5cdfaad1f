/** Seeded randomness: the same seed gives the same run, to the octet. Not for secrets. */

/** A stream of pseudo-random numbers (mulberry32). */
export class SeededRandom {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** Uniform in [0, 1). A bound function, so that it can be handed on. */
  readonly next = (): number => this.uint32() / 0x1_0000_0000;

  /** 32 uniform bits. */
  uint32(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ t >>> 15, t | 1);
    t ^= t + Math.imul(t ^ t >>> 7, t | 61);
    return (t ^ t >>> 14) >>> 0;
  }

  /** Uniform octets. A bound function. */
  readonly bytes = (length: number): Uint8Array => {
    const octets = new Uint8Array(length);
    for (let i = 0; i < length; i += 4) {
      const word = this.uint32();
      for (let j = 0; j < 4 && i + j < length; j++) octets[i + j] = word >>> 8 * j;
    }
    return octets;
  };

  /** Uniform in 0 … count - 1. */
  below(count: number): number {
    return Math.floor(this.next() * count);
  }

  /** An independent stream: what one part draws does not shift what another one gets. */
  fork(): SeededRandom {
    return new SeededRandom(this.uint32());
  }
}
