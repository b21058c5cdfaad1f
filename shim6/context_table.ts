/** All contexts of a host, found by number, ULID pair, either tag, or the nonce of a running exchange. */

import type { Address } from "../wire/address.ts";
import type { ContextTag } from "../wire/message.ts";
import type { Context } from "./context.ts";

/** A number is not given again before so many others were freed, so that a log stays readable. */
const RETIRED_IDS = 1_024;

/** Tags of 47 bits (RFC 5533 §5.2). */
const TAG_SPACE = 2 ** 47;

/** Indexes over the contexts. Chains run through the contexts themselves, so that one context costs no list. */
export class ContextTable {
  readonly #slots: (Context | undefined)[] = [undefined]; // numbers start at 1
  readonly #retired: number[] = [];
  readonly #byPeer = new Map<Address, Context>();
  readonly #byLocalTag = new Map<ContextTag, Context>();
  readonly #byPeerTag = new Map<ContextTag, Context>();
  readonly #byNonce = new Map<number, Context>();
  /** Negative cache entries, oldest first. */
  readonly #negative = new Set<Context>();
  readonly #randomBytes: (length: number) => Uint8Array;
  #size = 0;

  constructor(randomBytes: (length: number) => Uint8Array) {
    this.#randomBytes = randomBytes;
  }

  /** Number of contexts, negative cache entries included. */
  get size(): number {
    return this.#size;
  }

  /** Every context. Contexts may be removed meanwhile. */
  *[Symbol.iterator](): IterableIterator<Context> {
    for (const context of this.#slots) if (context !== undefined) yield context;
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

  /** Puts a new context into the table. */
  add(context: Context): void {
    this.#slots[context.id] = context;
    this.#size++;
    this.#byLocalTag.set(context.localTag, context);
    context.nextOfPeer = this.#byPeer.get(context.ulid.peer);
    this.#byPeer.set(context.ulid.peer, context);
  }

  /** Takes a context out of every index. */
  remove(context: Context): void {
    this.#slots[context.id] = undefined;
    this.#retired.push(context.id);
    this.#size--;
    this.#byLocalTag.delete(context.localTag);
    this.#negative.delete(context);
    this.setPeerTag(context, undefined);
    this.endExchange(context);
    const { peer } = context.ulid;
    let at = this.#byPeer.get(peer);
    if (at === context) {
      if (context.nextOfPeer === undefined) this.#byPeer.delete(peer);
      else this.#byPeer.set(peer, context.nextOfPeer);
    } else {
      while (at !== undefined && at.nextOfPeer !== context) at = at.nextOfPeer;
      if (at !== undefined) at.nextOfPeer = context.nextOfPeer;
    }
    context.nextOfPeer = undefined;
  }

  /** By number. */
  byId(id: number): Context | undefined {
    return this.#slots[id];
  }

  /** By ULID pair and Forked Instance Identifier. */
  find(local: Address, peer: Address, fii: number): Context | undefined {
    let context = this.#byPeer.get(peer);
    while (context !== undefined && (context.ulid.local !== local || context.fii !== fii)) context = context.nextOfPeer;
    return context;
  }

  /** Contexts with a peer ULID. */
  countOfPeer(peer: Address): number {
    let count = 0;
    for (let context = this.#byPeer.get(peer); context !== undefined; context = context.nextOfPeer) count++;
    return count;
  }

  /** By the tag that we gave out. */
  byLocalTag(tag: ContextTag): Context | undefined {
    return this.#byLocalTag.get(tag);
  }

  /** The first context to which the peer gave `tag`; others follow by `nextOfTag`, since peers choose independently. */
  byPeerTag(tag: ContextTag): Context | undefined {
    return this.#byPeerTag.get(tag);
  }

  /** Sets, changes or with undefined forgets the tag that the peer gave out. */
  setPeerTag(context: Context, tag: ContextTag | undefined): void {
    if (context.peerTag === tag) return;
    if (context.peerTag !== undefined) {
      let at = this.#byPeerTag.get(context.peerTag);
      if (at === context) {
        if (context.nextOfTag === undefined) this.#byPeerTag.delete(context.peerTag);
        else this.#byPeerTag.set(context.peerTag, context.nextOfTag);
      } else {
        while (at !== undefined && at.nextOfTag !== context) at = at.nextOfTag;
        if (at !== undefined) at.nextOfTag = context.nextOfTag;
      }
      context.nextOfTag = undefined;
    }
    context.peerTag = tag;
    if (tag === undefined) return;
    context.nextOfTag = this.#byPeerTag.get(tag);
    this.#byPeerTag.set(tag, context);
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
