/**
 * The contexts as the packet loop sees them: a record of fixed layout each, and two hash tables that find it by the
 * ULID pair of a packet that leaves and by the tag of a packet that arrives. Nothing is allocated for a packet.
 */

import type { PacketMemory } from "./packet_memory.ts";

/**
 * The record of a context, in 32-bit words. Addresses and tags are in network order, as packets have them. Words 12 to
 * 18 are the sockaddr_in6 of the peer's locator.
 */
export const ContextWord = {
  ULID_LOCAL: 0,
  ULID_PEER: 4,
  LOCATOR_LOCAL: 8,
  SOCKADDR: 12,
  LOCATOR_PEER: 14,
  /** The two words of the payload header (RFC 5533 §5.2), with a Next Header of 0. */
  PAYLOAD_HEADER: 20,
  /** The upper half of the first and the second word of the payload header that arrives. */
  LOCAL_TAG: 22,
  /** Descriptor of the sender for the local locator, as a signed number; -1 when there is none. */
  SENDER: 24,
  /** Path MTU of the locator pair. */
  MTU: 25,
  FLAGS: 26,
  /** 1 when the context is forked: its ULID pair is another's, and not looked up. */
  FORKED: 27,
} as const;

/** Bits of the FLAGS word. */
export const ContextFlag = {
  USED: 1,
  /** The payload header is put in; else packets leave as they are. */
  TRANSLATE: 2,
  /** Copies are kept. */
  HOLD: 4,
  /** Copies leave by the context's second record. */
  COPY: 8,
} as const;

const RECORD_WORDS = 32;
const AF_INET6 = 10;

/** All contexts, each in the slot that the main thread chose for it. */
export class ContextTable {
  /** Slots there are. */
  readonly capacity: number;
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #first: number;
  /** Where the second records begin; only packets that leave use them. */
  readonly #seconds: number;
  readonly #mask: number;
  /** Slot + 1 by hash of the ULID pair and of the local tag; 0 is free. Open addressing, at most half full. */
  readonly #byUlid: Int32Array;
  readonly #byTag: Int32Array;
  readonly #seed: number;

  /** `seed`: 32 unpredictable bits, so that nobody can choose addresses that collide. */
  constructor(memory: PacketMemory, capacity: number, seed: number) {
    this.capacity = capacity;
    this.#words = memory.words;
    this.#first = memory.reserve(capacity * RECORD_WORDS * 4, 128) >> 2;
    this.#seconds = memory.reserve(capacity * RECORD_WORDS * 4, 128) >> 2;
    let size = 2;
    while (size < 2 * capacity) size *= 2;
    this.#mask = size - 1;
    this.#byUlid = new Int32Array(size);
    this.#byTag = new Int32Array(size);
    this.#seed = seed;
  }

  /** Index in words of the record of the context in `slot`. */
  record(slot: number): number {
    return this.#first + slot * RECORD_WORDS;
  }

  /** Index in words of the second record of the context in `slot`: another way for copies of what it sends. */
  second(slot: number): number {
    return this.#seconds + slot * RECORD_WORDS;
  }

  /** Gives the second record what it needs of the first one besides the way itself. */
  prepareSecond(slot: number): number {
    const words = this.#words, record = this.record(slot), second = this.second(slot);
    words.copyWithin(second, record, record + RECORD_WORDS);
    return second;
  }

  /** The slot of a record. */
  slot(record: number): number {
    return (record - this.#first) / RECORD_WORDS;
  }

  #hash(hash: number, word: number): number {
    hash = Math.imul(hash ^ word, 0x85ebca6b);
    return hash ^ hash >>> 15;
  }

  #ulidHome(at: number): number {
    const words = this.#words;
    let hash = this.#seed;
    for (let i = 0; i < 8; i++) hash = this.#hash(hash, words[at + i]);
    return hash & this.#mask;
  }

  #tagHome(first: number, second: number): number {
    return this.#hash(this.#hash(this.#seed, first), second) & this.#mask;
  }

  /**
   * The record of the context whose local and peer ULID are the 8 words from index `at` on, as source and destination
   * of a packet that leaves; -1 when there is none.
   */
  findByUlid(at: number): number {
    const words = this.#words;
    for (let i = this.#ulidHome(at);; i = (i + 1) & this.#mask) {
      const entry = this.#byUlid[i];
      if (entry === 0) return -1;
      const record = this.record(entry - 1);
      let k = 0;
      while (k < 8 && words[record + k] === words[at + k]) k++;
      if (k === 8) return record;
    }
  }

  /** The record of the context with the local tag of the payload header that begins at word `at`; -1 when none. */
  findByTag(at: number): number {
    const words = this.#words;
    const first = words[at] >>> 16, second = words[at + 1];
    for (let i = this.#tagHome(first, second);; i = (i + 1) & this.#mask) {
      const entry = this.#byTag[i];
      if (entry === 0) return -1;
      const record = this.record(entry - 1);
      if (words[record + ContextWord.LOCAL_TAG] === first && words[record + ContextWord.LOCAL_TAG + 1] === second) {
        return record;
      }
    }
  }

  #home(table: Int32Array, record: number): number {
    if (table === this.#byUlid) return this.#ulidHome(record + ContextWord.ULID_LOCAL);
    const tag = record + ContextWord.LOCAL_TAG;
    return this.#tagHome(this.#words[tag], this.#words[tag + 1]);
  }

  #insert(table: Int32Array, record: number): void {
    let i = this.#home(table, record);
    while (table[i] !== 0) i = (i + 1) & this.#mask;
    table[i] = this.slot(record) + 1;
  }

  #delete(table: Int32Array, record: number): void {
    const entry = this.slot(record) + 1;
    let hole = this.#home(table, record);
    while (table[hole] !== entry) hole = (hole + 1) & this.#mask;
    // Entries behind move into the hole when their home does not lie between the hole and them.
    for (let i = (hole + 1) & this.#mask; table[i] !== 0; i = (i + 1) & this.#mask) {
      const home = this.#home(table, this.record(table[i] - 1));
      if (((i - home) & this.#mask) >= ((i - hole) & this.#mask)) {
        table[hole] = table[i];
        hole = i;
      }
    }
    table[hole] = 0;
  }

  /**
   * Puts a context into a free slot. Addresses are 16 octets, tags the 6 octets of a payload header from its octet 2
   * on, P bit included. A forked one is found by its tag alone.
   */
  add(
    slot: number,
    ulidLocal: Uint8Array,
    ulidPeer: Uint8Array,
    localTag: Uint8Array,
    peerTag: Uint8Array,
    isForked = false,
  ): number {
    const record = this.record(slot), words = this.#words;
    words.fill(0, record, record + RECORD_WORDS);
    const octets = new Uint8Array(words.buffer, record * 4, RECORD_WORDS * 4);
    octets.set(ulidLocal, ContextWord.ULID_LOCAL * 4);
    octets.set(ulidPeer, ContextWord.ULID_PEER * 4);
    octets[ContextWord.SOCKADDR * 4] = AF_INET6;
    words[record + ContextWord.SENDER] = -1;
    words[record + ContextWord.FLAGS] = ContextFlag.USED;
    this.#setTags(record, localTag, peerTag);
    words[record + ContextWord.FORKED] = isForked ? 1 : 0;
    if (!isForked) this.#insert(this.#byUlid, record);
    this.#insert(this.#byTag, record);
    return record;
  }

  #setTags(record: number, localTag: Uint8Array, peerTag: Uint8Array): void {
    const octets = new Uint8Array(this.#words.buffer, record * 4, RECORD_WORDS * 4);
    octets.set(peerTag, ContextWord.PAYLOAD_HEADER * 4 + 2);
    const words = this.#words, scratch = record + RECORD_WORDS - 2;
    octets.set(localTag, (RECORD_WORDS - 2) * 4 + 2);
    words[record + ContextWord.LOCAL_TAG] = words[scratch] >>> 16;
    words[record + ContextWord.LOCAL_TAG + 1] = words[scratch + 1];
  }

  /** Gives a context other tags. */
  retag(slot: number, localTag: Uint8Array, peerTag: Uint8Array): void {
    const record = this.record(slot);
    this.#delete(this.#byTag, record);
    this.#setTags(record, localTag, peerTag);
    this.#insert(this.#byTag, record);
  }

  /** Frees a slot. */
  remove(slot: number): void {
    const record = this.record(slot);
    if (this.#words[record + ContextWord.FORKED] === 0) this.#delete(this.#byUlid, record);
    this.#delete(this.#byTag, record);
    this.#words[record + ContextWord.FLAGS] = 0;
  }
}
