/**
 * A hash table of address pairs without an object for a pair: keys and buckets are typed arrays, and what belongs to a
 * pair lies in arrays of the owner, under the number that the table gives it.
 */

import { Numbers } from "./numbers.ts";

/** Words of 32 bits in an address. */
const ADDRESS_WORDS = 4;
const PAIR_WORDS = 2 * ADDRESS_WORDS;

/** Maps (local, peer) to a number below the capacity. Open addressing with linear probing, at most half full. */
export class PairTable {
  readonly #capacity: number;
  readonly #keys: Uint32Array<ArrayBuffer>;
  readonly #hashes: Uint32Array;
  /** Number of the pair plus 1; 0 is empty. */
  readonly #buckets: Uint32Array;
  readonly #mask: number;
  readonly #numbers: Numbers;
  /** Peers choose their addresses: without a secret they could choose them to collide. */
  readonly #seed: number;

  /** Room for `capacity` pairs. `seed` is an unpredictable 32-bit number. */
  constructor(capacity: number, seed: number) {
    this.#capacity = capacity;
    this.#keys = new Uint32Array(capacity * PAIR_WORDS);
    this.#hashes = new Uint32Array(capacity);
    this.#numbers = new Numbers(capacity);
    const buckets = 2 ** Math.ceil(Math.log2(2 * capacity));
    this.#buckets = new Uint32Array(buckets);
    this.#mask = buckets - 1;
    this.#seed = seed;
  }

  /** Pairs in the table. */
  get size(): number {
    return this.#numbers.size;
  }

  /** Whether no other pair fits in. */
  get full(): boolean {
    return this.size === this.#capacity;
  }

  /** The number of the pair whose addresses start at `words[local]` and `words[peer]`; -1 when it is not there. */
  find(words: Uint32Array, local: number, peer: number): number {
    const hash = this.#hash(words, local, peer);
    for (let bucket = hash & this.#mask;; bucket = bucket + 1 & this.#mask) {
      const pair = this.#buckets[bucket] - 1;
      if (pair < 0) return -1;
      if (this.#hashes[pair] === hash && this.#equal(pair, words, local, peer)) return pair;
    }
  }

  /** Adds a pair that is not there, and returns its number, one that rested for long. Throws `RangeError` when the table is full. */
  insert(words: Uint32Array, local: number, peer: number): number {
    const pair = this.#numbers.take();
    if (pair < 0) throw new RangeError(`more than ${this.#capacity} address pairs`);
    const hash = this.#hash(words, local, peer);
    const key = pair * PAIR_WORDS;
    for (let i = 0; i < ADDRESS_WORDS; i++) {
      this.#keys[key + i] = words[local + i];
      this.#keys[key + ADDRESS_WORDS + i] = words[peer + i];
    }
    this.#hashes[pair] = hash;
    let bucket = hash & this.#mask;
    while (this.#buckets[bucket] !== 0) bucket = bucket + 1 & this.#mask;
    this.#buckets[bucket] = pair + 1;
    return pair;
  }

  /** Removes the pair with this number, which must be in the table. */
  remove(pair: number): void {
    let hole = this.#hashes[pair] & this.#mask;
    while (this.#buckets[hole] !== pair + 1) hole = hole + 1 & this.#mask;
    // Whatever stands behind the hole and may stand in it moves there, so that no search ends too early.
    for (let bucket = hole + 1 & this.#mask; this.#buckets[bucket] !== 0; bucket = bucket + 1 & this.#mask) {
      const home = this.#hashes[this.#buckets[bucket] - 1] & this.#mask;
      if ((bucket - home & this.#mask) < (bucket - hole & this.#mask)) continue;
      this.#buckets[hole] = this.#buckets[bucket];
      hole = bucket;
    }
    this.#buckets[hole] = 0;
    this.#numbers.give(pair);
  }

  /** Removes all pairs. Numbers start at 0 again. */
  clear(): void {
    this.#buckets.fill(0);
    this.#numbers.clear();
  }

  /** The 32 octets of a pair, the local address first. */
  octets(pair: number): Uint8Array {
    return new Uint8Array(this.#keys.buffer, pair * PAIR_WORDS * 4, PAIR_WORDS * 4);
  }

  #equal(pair: number, words: Uint32Array, local: number, peer: number): boolean {
    const keys = this.#keys, key = pair * PAIR_WORDS;
    return keys[key] === words[local] && keys[key + 1] === words[local + 1] && keys[key + 2] === words[local + 2] &&
      keys[key + 3] === words[local + 3] && keys[key + 4] === words[peer] && keys[key + 5] === words[peer + 1] &&
      keys[key + 6] === words[peer + 2] && keys[key + 7] === words[peer + 3];
  }

  /** Multiply and rotate over all words (the mixing steps of MurmurHash3). */
  #hash(words: Uint32Array, local: number, peer: number): number {
    let hash = this.#seed;
    for (let i = 0; i < PAIR_WORDS; i++) {
      let word = words[i < ADDRESS_WORDS ? local + i : peer + i - ADDRESS_WORDS];
      word = Math.imul(word, 0xcc9e2d51);
      hash ^= Math.imul(word << 15 | word >>> 17, 0x1b873593);
      hash = Math.imul(hash << 13 | hash >>> 19, 5) + 0xe6546b64 | 0;
    }
    hash = Math.imul(hash ^ hash >>> 16, 0x85ebca6b);
    hash = Math.imul(hash ^ hash >>> 13, 0xc2b2ae35);
    return (hash ^ hash >>> 16) >>> 0;
  }
}
