/** All contexts of a host, found by number, ULID pair, either tag, or the nonce of a running exchange. */

import type { Address } from "../wire/address.ts";
import type { ContextTag } from "../wire/message.ts";
import type { Context, ContextHost } from "./context.ts";
import { IdIndex, textKey } from "./id_index.ts";
import { fromRestingText, restingText } from "./resting.ts";

/** A number is not given again before so many others were freed, so that a log stays readable. */
const RETIRED_IDS = 1_024;

/** Tags of 47 bits (RFC 5533 §5.2). */
const TAG_SPACE = 2 ** 47;

/**
 * Indexes over the contexts. One that is asked for is awake, an object, until {@linkcode ContextTable.rest} finds it at
 * rest; so nobody may keep the object beyond that, but who can tell that it must not rest.
 */
export class ContextTable {
  /** By number, which start at 1; text when at rest. */
  readonly #slots: (Context | string | undefined)[] = [undefined];
  readonly #retired: number[] = [];
  readonly #seed: number;
  readonly #byUlids: IdIndex;
  readonly #byPeer: IdIndex;
  readonly #byLocalTag: IdIndex;
  readonly #byPeerTag: IdIndex;
  readonly #byNonce = new Map<number, Context>();
  /** Negative cache entries, oldest first. */
  readonly #negative = new Set<Context>();
  /** Those that may be at rest. */
  #drowsy: Context[] = [];
  readonly #host: ContextHost;
  readonly #randomBytes: (length: number) => Uint8Array;
  #size = 0;

  /** `seed`: 32 bits that no peer can know, lest it choose what takes long to find. */
  constructor(host: ContextHost, randomBytes: (length: number) => Uint8Array, seed: number) {
    this.#host = host;
    this.#randomBytes = randomBytes;
    this.#seed = seed;
    [this.#byUlids, this.#byPeer, this.#byLocalTag, this.#byPeerTag] = Array.from(
      { length: 4 },
      () => new IdIndex(this.#seed),
    );
  }

  /** Number of contexts, negative cache entries included. */
  get size(): number {
    return this.#size;
  }

  /** Every context, awake. Contexts may be removed meanwhile. */
  *[Symbol.iterator](): IterableIterator<Context> {
    for (let id = 1; id < this.#slots.length; id++) {
      const context = this.byId(id);
      if (context !== undefined) yield context;
    }
  }

  /** Every context that is awake: only those have timers, payload or questions. Contexts may be removed meanwhile. */
  *awake(): IterableIterator<Context> {
    for (const context of this.#slots) if (typeof context === "object") yield context;
  }

  /** Every context, to be looked at only: those at rest stay so, and what is changed in their copies is lost. */
  *copies(): IterableIterator<Context> {
    for (let id = 1; id < this.#slots.length; id++) {
      const slot = this.#slots[id];
      if (slot !== undefined) yield typeof slot === "string" ? fromRestingText(slot, this.#host, id) : slot;
    }
  }

  /** A context may be at rest from now on. */
  mayRest(context: Context): void {
    if (context.mayRest) return;
    context.mayRest = true;
    this.#drowsy.push(context);
  }

  /** Puts away what is at rest; `isBusy` tells what must not be because something else holds it. */
  rest(isBusy: (context: Context) => boolean): void {
    if (this.#drowsy.length === 0) return;
    for (const context of this.#drowsy) {
      context.mayRest = false;
      if (this.#slots[context.id] !== context || isBusy(context)) continue;
      this.#slots[context.id] = restingText(context) ?? context;
    }
    this.#drowsy = [];
  }

  /** A number for a new context. */
  newId(): number {
    return this.#retired.length > RETIRED_IDS ? this.#retired.shift()! : this.#slots.length;
  }

  /** An unused tag that cannot be guessed (RFC 5533 §7.1). Random, so a freed one does not come back soon. */
  newLocalTag(): ContextTag {
    for (;;) {
      const octets = this.#randomBytes(6);
      let tag = 0;
      for (const octet of octets) tag = tag * 256 + octet;
      tag %= TAG_SPACE;
      if (tag !== 0 && !this.#byLocalTag.has(tag)) return tag;
    }
  }

  #ulidsKey(local: Address, peer: Address, fii: number): number {
    return textKey(`${local} ${peer} ${fii}`, this.#seed);
  }

  /** Puts a new context into the table. */
  add(context: Context): void {
    const { id, ulid, fii, localTag } = context;
    this.#slots[id] = context;
    this.#size++;
    this.#byUlids.add(id, this.#ulidsKey(ulid.local, ulid.peer, fii));
    this.#byPeer.add(id, textKey(ulid.peer, this.#seed));
    this.#byLocalTag.add(id, localTag);
  }

  /** Takes a context out of every index. */
  remove(context: Context): void {
    const { id } = context;
    this.#slots[id] = undefined;
    this.#retired.push(id);
    this.#size--;
    for (const index of [this.#byUlids, this.#byPeer, this.#byLocalTag]) index.delete(id);
    this.#negative.delete(context);
    this.setPeerTag(context, undefined);
    this.endExchange(context);
  }

  /** By number. */
  byId(id: number): Context | undefined {
    const slot = this.#slots[id];
    if (typeof slot !== "string") return slot;
    const context = fromRestingText(slot, this.#host, id);
    this.#slots[id] = context;
    this.mayRest(context);
    return context;
  }

  /** By ULID pair and Forked Instance Identifier. */
  find(local: Address, peer: Address, fii: number): Context | undefined {
    for (const id of this.#byUlids.find(this.#ulidsKey(local, peer, fii))) {
      const context = this.byId(id)!;
      if (context.ulid.local === local && context.ulid.peer === peer && context.fii === fii) return context;
    }
  }

  /** Contexts with a peer ULID, or once in a thousand million times one more. */
  countOfPeer(peer: Address): number {
    return [...this.#byPeer.find(textKey(peer, this.#seed))].length;
  }

  /** By the tag that we gave out. */
  byLocalTag(tag: ContextTag): Context | undefined {
    for (const id of this.#byLocalTag.find(tag)) return this.byId(id);
  }

  /** The contexts to which the peer gave `tag`, the newest first: peers choose independently. */
  *byPeerTag(tag: ContextTag): Generator<Context> {
    for (const id of this.#byPeerTag.find(tag)) yield this.byId(id)!;
  }

  /** Sets, changes or with undefined forgets the tag that the peer gave out. */
  setPeerTag(context: Context, tag: ContextTag | undefined): void {
    if (context.peerTag === tag) return;
    if (context.peerTag !== undefined) this.#byPeerTag.delete(context.id);
    context.peerTag = tag;
    if (tag !== undefined) this.#byPeerTag.add(context.id, tag);
  }

  /** By the Initiator Nonce of a running exchange. */
  byNonce(nonce: number): Context | undefined {
    return this.#byNonce.get(nonce);
  }

  /** Makes a context findable by the nonce of its exchange. */
  beginExchange(context: Context): void {
    this.#byNonce.set(context.exchange!.nonce, context);
  }

  /** Ends the exchange of a context, if there is one. */
  endExchange(context: Context): void {
    if (context.exchange === undefined) return;
    this.#byNonce.delete(context.exchange.nonce);
    context.exchange = undefined;
  }

  /** Notes that a context is now only a reminder not to try again. */
  addNegative(context: Context): void {
    this.#negative.add(context);
  }

  /** The oldest negative cache entry. */
  oldestNegative(): Context | undefined {
    return this.#negative.values().next().value;
  }
}
