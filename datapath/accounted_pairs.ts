/** The address pairs that are accounted, each under a number of its own, and which context has which. */

import type { LocatorPair } from "../policies/policy.ts";
import { ADDRESS_LENGTH, writeAddress } from "../wire/address.ts";
import { PairTable } from "./pair_table.ts";

/** Contexts that are accounted, without an object for any of them. Contexts with the same ULIDs share a pair. */
export class AccountedPairs {
  readonly #pairs: PairTable;
  /** Contexts of each pair. */
  readonly #users: Uint16Array;
  /** The pair of each context, by the context's number, plus 1; 0: there is no such context. */
  #ofContext = new Uint16Array(64);
  readonly #words = new Uint32Array(8);
  readonly #octets = new Uint8Array(this.#words.buffer);

  /** Room for `capacity` pairs, fewer than 65,536. */
  constructor(capacity: number) {
    this.#pairs = new PairTable(capacity, crypto.getRandomValues(new Uint32Array(1))[0]);
    this.#users = new Uint16Array(capacity);
  }

  /** The pair of a context; -1 when there is no such context. */
  of(id: number): number {
    return id < this.#ofContext.length ? this.#ofContext[id] - 1 : -1;
  }

  /** The pair whose addresses start at `words[local]` and `words[peer]`; -1 when no context has it. */
  find(words: Uint32Array, local: number, peer: number): number {
    return this.#pairs.find(words, local, peer);
  }

  /** The 32 octets of a pair, the local address first. */
  octets(pair: number): Uint8Array {
    return this.#pairs.octets(pair);
  }

  /** How many contexts have the pair. */
  users(pair: number): number {
    return this.#users[pair];
  }

  /** Adds a context that is not there. Returns its pair. Throws `RangeError` when there are too many pairs. */
  add(id: number, ulid: LocatorPair): number {
    writeAddress(ulid.local, this.#octets, 0);
    writeAddress(ulid.peer, this.#octets, ADDRESS_LENGTH);
    let pair = this.#pairs.find(this.#words, 0, 4);
    if (pair < 0) pair = this.#pairs.insert(this.#words, 0, 4);
    this.#users[pair]++;
    if (id >= this.#ofContext.length) {
      const larger = new Uint16Array(Math.max(2 * this.#ofContext.length, id + 1));
      larger.set(this.#ofContext);
      this.#ofContext = larger;
    }
    this.#ofContext[id] = pair + 1;
    return pair;
  }

  /** Removes a context that is there, and its pair with the last one that has it. */
  remove(id: number): void {
    const pair = this.of(id);
    this.#ofContext[id] = 0;
    if (--this.#users[pair] === 0) this.#pairs.remove(pair);
  }

  /** Removes all of them. */
  clear(): void {
    this.#ofContext.fill(0);
    this.#users.fill(0);
    this.#pairs.clear();
  }
}
