/** An index over contexts without an object for an entry: there may be ten thousand contexts, and each is in several. */

import { enlarged } from "./typed_arrays.ts";

const NONE = 0;

/** Finds the numbers of contexts by a numeric key that several may share; a hash table in typed arrays. */
export class IdIndex {
  /** Unpredictable: peers choose some of the keys. */
  readonly #seed: number;
  /** The first number in each chain, plus 1. */
  #heads = new Int32Array(64);
  /** By number: the next one in its chain, plus 1. */
  #next = new Int32Array(64);
  #keys = new Float64Array(64);
  #size = 0;

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Adds a number under a key, a whole number from 0 to 2^53 - 1. The number must not be in the index. */
  add(id: number, key: number): void {
    if (id >= this.#next.length) {
      this.#next = enlarged(this.#next, Math.max(2 * this.#next.length, id + 1));
      this.#keys = enlarged(this.#keys, this.#next.length);
    }
    this.#keys[id] = key;
    if (++this.#size > this.#heads.length) this.#spread();
    this.#link(id);
  }

  /** Takes out a number that is in the index. */
  delete(id: number): void {
    const chain = this.#chain(this.#keys[id]);
    let before = -1, at = this.#heads[chain] - 1;
    while (at !== id) [before, at] = [at, this.#next[at] - 1];
    if (before < 0) this.#heads[chain] = this.#next[id];
    else this.#next[before] = this.#next[id];
    this.#size--;
  }

  /** The numbers under a key, the one added last first; the last one found may be deleted meanwhile. */
  *find(key: number): IterableIterator<number> {
    let id = this.#heads[this.#chain(key)] - 1;
    while (id >= 0) {
      const next = this.#next[id] - 1;
      if (this.#keys[id] === key) yield id;
      id = next;
    }
  }

  /** Whether there is a number under the key. */
  has(key: number): boolean {
    for (const _ of this.find(key)) return true;
    return false;
  }

  #chain(key: number): number {
    const high = Math.floor(key / 2 ** 32);
    return (Math.imul(Math.imul(key ^ this.#seed, 0x85ebca6b) ^ high, 0xc2b2ae35) >>> 8) & (this.#heads.length - 1);
  }

  #link(id: number): void {
    const chain = this.#chain(this.#keys[id]);
    this.#next[id] = this.#heads[chain];
    this.#heads[chain] = id + 1;
  }

  /** Makes twice as many chains. */
  #spread(): void {
    const old = this.#heads;
    this.#heads = new Int32Array(2 * old.length);
    for (let chain = 0; chain < old.length; chain++) {
      // From its end, so that those with one key keep their order.
      const ids: number[] = [];
      for (let id = old[chain]; id !== NONE; id = this.#next[id - 1]) ids.push(id - 1);
      for (const id of ids.reverse()) this.#link(id);
    }
  }
}

/** A key for text. Two texts may have the same one. */
export function textKey(text: string, seed: number): number {
  let hash = seed;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x5bd1e995);
    hash ^= hash >>> 15;
  }
  return hash >>> 0;
}
