/**
 * The search for a Modifier that makes the leftmost bits of Hash2 zero (RFC 3972 §4 steps 1 to 3).
 *
 * SHA-1 is written out here because a general one is three times slower, which at Sec 2 is the difference between an
 * hour and three: only the first block of the input changes, so the others are expanded once, nothing is copied, and
 * only the first word of the digest is looked at.
 */

import { get32 } from "../wire/octets.ts";
import { MODIFIER_LENGTH, PUBLIC_KEY_OFFSET } from "./pds.ts";

const BLOCK_LENGTH = 64;
const ROUNDS = 80;
/** The start of every SHA-1 (FIPS 180-4 §5.3.1). */
const INITIAL = Int32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0);

/** Hashes that a search takes on average. */
export function expectedHashes(sec: number): number {
  return 2 ** (16 * sec);
}

/** Tries one Modifier after the other. */
export class Hash2Search {
  /** Message schedule of each block. The Modifier is in the first four words of the first. */
  readonly #schedules: Int32Array[] = [];
  readonly #state = new Int32Array(5);
  /** Bits of the first word of Hash2 that have to be zero. */
  readonly #mask: number;

  /** `keyAndExtensions` is the Public Key with all extension fields; Sec is 0, 1 or 2; `modifier` is tried first. */
  constructor(keyAndExtensions: Uint8Array, sec: number, modifier: Uint8Array) {
    this.#mask = sec === 0 ? 0 : -1 << (32 - 16 * sec);
    const length = PUBLIC_KEY_OFFSET + keyAndExtensions.length;
    const padded = new Uint8Array(Math.ceil((length + 9) / BLOCK_LENGTH) * BLOCK_LENGTH);
    padded.set(modifier.subarray(0, MODIFIER_LENGTH)); // prefix and collision count stay zero
    padded.set(keyAndExtensions, PUBLIC_KEY_OFFSET);
    padded[length] = 0x80;
    new DataView(padded.buffer).setUint32(padded.length - 4, length * 8);
    for (let at = 0; at < padded.length; at += BLOCK_LENGTH) {
      const schedule = new Int32Array(ROUNDS);
      for (let i = 0; i < 16; i++) schedule[i] = get32(padded, at + 4 * i);
      expand(schedule);
      this.#schedules.push(schedule);
    }
  }

  /** Tries `count` Modifiers more. Returns the first that does; undefined when none does. */
  run(count: number): Uint8Array | undefined {
    const state = this.#state, schedules = this.#schedules, first = schedules[0];
    for (let tried = 0; tried < count; tried++) {
      expand(first);
      state.set(INITIAL);
      for (const schedule of schedules) compress(state, schedule);
      if ((state[0] & this.#mask) === 0) return this.#modifier();
      for (let word = 3; word >= 0 && ++first[word] === 0; word--);
    }
  }

  #modifier(): Uint8Array {
    const modifier = new Uint8Array(MODIFIER_LENGTH);
    const view = new DataView(modifier.buffer);
    for (let i = 0; i < 4; i++) view.setInt32(4 * i, this.#schedules[0][i]);
    return modifier;
  }
}

/** FIPS 180-4 §6.1.2 step 1. */
function expand(w: Int32Array): void {
  for (let i = 16; i < ROUNDS; i++) {
    const x = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
    w[i] = x << 1 | x >>> 31;
  }
}

/** FIPS 180-4 §6.1.2 steps 2 to 4. */
function compress(state: Int32Array, w: Int32Array): void {
  let a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
  for (let i = 0; i < ROUNDS; i++) {
    let f: number;
    if (i < 20) f = (d ^ b & (c ^ d)) + 0x5a827999;
    else if (i < 40) f = (b ^ c ^ d) + 0x6ed9eba1;
    else if (i < 60) f = (b & c | d & (b | c)) + 0x8f1bbcdc;
    else f = (b ^ c ^ d) + 0xca62c1d6;
    const next = (a << 5 | a >>> 27) + f + e + w[i] | 0;
    e = d;
    d = c;
    c = b << 30 | b >>> 2;
    b = a;
    a = next;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
}
