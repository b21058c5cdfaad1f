/**
 * Copies of packets whose path is in doubt. They are kept in one ring of octets for all contexts: the newest push the
 * oldest out, whosever they are, and within a context too when it has more than its share. So memory is bounded, and a
 * failure that hits ten thousand contexts at once leaves each its newest packets.
 */

import type { PacketMemory } from "./packet_memory.ts";

const ALIGNMENT = 16;
/** No copy. */
export const NONE: number = -1;

/** The copies of all contexts. A copy is named by a number that is valid until it is dropped. */
export class HoldStore {
  /** Copies dropped to make room. */
  dropped = 0;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #start: number;
  readonly #size: number;
  readonly #share: number;
  /** The copies in order of age: a ring of `#count` entries from `#oldest` on. */
  readonly #entries: number;
  readonly #offset: Int32Array;
  readonly #length: Int32Array;
  readonly #time: Float64Array;
  /** Context slot, or NONE when the copy was dropped before its turn. */
  readonly #owner: Int32Array;
  /** The next newer copy of the same context. */
  readonly #next: Int32Array;
  #oldest = 0;
  #count = 0;
  /** Where the next copy goes. */
  #position = 0;
  /** Oldest and newest copy and octets of each context. */
  readonly #first: Int32Array;
  readonly #last: Int32Array;
  readonly #held: Int32Array;

  /** At most `share` octets for a context, `size` and `entries` copies in all, for `contexts` slots. */
  constructor(memory: PacketMemory, contexts: number, size: number, entries: number, share: number) {
    this.#bytes = memory.bytes;
    this.#start = memory.reserve(size, 64);
    this.#size = size;
    this.#share = share;
    this.#entries = entries;
    this.#offset = new Int32Array(entries);
    this.#length = new Int32Array(entries);
    this.#time = new Float64Array(entries);
    this.#owner = new Int32Array(entries);
    this.#next = new Int32Array(entries);
    this.#first = new Int32Array(contexts).fill(NONE);
    this.#last = new Int32Array(contexts).fill(NONE);
    this.#held = new Int32Array(contexts);
  }

  /** Keeps a copy of the octets in [`start`, `start + length`), sent by `context` at `now`. */
  add(context: number, start: number, length: number, now: number): void {
    const size = (length + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    if (size > this.#share || size > this.#size) {
      this.dropped++;
      return;
    }
    while (this.#held[context] + size > this.#share) this.#dropFirst(context);
    const position = this.#makeRoom(size);
    const entry = (this.#oldest + this.#count++) % this.#entries;
    this.#position = position + size;
    this.#bytes.copyWithin(this.#start + position, start, start + length);
    this.#offset[entry] = position;
    this.#length[entry] = length;
    this.#time[entry] = now;
    this.#owner[entry] = context;
    this.#next[entry] = NONE;
    if (this.#first[context] === NONE) this.#first[context] = entry;
    else this.#next[this.#last[context]] = entry;
    this.#last[context] = entry;
    this.#held[context] += size;
  }

  /** Finds `size` octets in a row, at the cost of the oldest copies. */
  #makeRoom(size: number): number {
    while (true) {
      if (this.#count === 0) return 0;
      const oldest = this.#offset[this.#oldest];
      if (this.#count < this.#entries) {
        // Never right up to the oldest copy: a full ring would look like an empty one.
        if (this.#position > oldest) {
          if (this.#position + size <= this.#size) return this.#position;
          if (size < oldest) return 0;
        } else if (this.#position + size < oldest) return this.#position;
      }
      const owner = this.#owner[this.#oldest];
      if (owner !== NONE) this.#dropFirst(owner);
      this.#removeOldest();
    }
  }

  #removeOldest(): void {
    this.#oldest = (this.#oldest + 1) % this.#entries;
    this.#count--;
  }

  /** Drops a context's oldest copy; its place comes free when all older ones are gone. */
  #dropFirst(context: number): void {
    this.#unlinkFirst(context);
    this.dropped++;
  }

  #unlinkFirst(context: number): void {
    const entry = this.#first[context];
    this.#first[context] = this.#next[entry];
    if (this.#first[context] === NONE) this.#last[context] = NONE;
    this.#held[context] -= (this.#length[entry] + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    this.#owner[entry] = NONE;
  }

  /** The oldest copy of a context, or {@linkcode NONE}. */
  first(context: number): number {
    return this.#first[context];
  }

  /** The next newer copy of the same context, or {@linkcode NONE}. */
  next(copy: number): number {
    return this.#next[copy];
  }

  /** Where the copy lies in the packet memory; at a multiple of 16. */
  offset(copy: number): number {
    return this.#start + this.#offset[copy];
  }

  /** Octets of the copy. */
  length(copy: number): number {
    return this.#length[copy];
  }

  /** When the packet was sent, monotonic ms. */
  time(copy: number): number {
    return this.#time[copy];
  }

  /** Octets that a context's copies take. */
  held(context: number): number {
    return this.#held[context];
  }

  /** Forgets a context's copies. */
  clear(context: number): void {
    while (this.#first[context] !== NONE) this.#unlinkFirst(context);
    while (this.#count > 0 && this.#owner[this.#oldest] === NONE) this.#removeOldest();
  }
}
