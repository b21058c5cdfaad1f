/** What a host knows about each locator pair, shared by all contexts with that peer. */

import type { Address } from "../wire/address.ts";
import type { Coordinates } from "./coordinates.ts";
import { type LocatorPair, pairKey, samePair } from "./policy.ts";

/** Where the delay of a pair is known from. */
export type DelaySource = "measured" | "coordinate" | "none";

/** What is known about one locator pair. Times are monotonic ms; -Infinity when it never happened. */
export interface PathRecord {
  /** Smoothed round-trip time in ms (RFC 6298 weights), NaN when never measured. */
  rttMs: number;
  /** Mean deviation of the round-trip time in ms. */
  rttVarianceMs: number;
  /**
   * The pair's share of round-trip times in ms: `outMs` of those whose probe left on it, `inMs` of those whose answer came
   * back on its reverse; NaN when unknown. Only differences and sums of one of each mean anything: the clocks of two
   * hosts are not compared, so a constant may have moved from all of one kind to all of the other.
   */
  outMs: number;
  /** See `outMs`. */
  inMs: number;
  /** Where `rttMs` is from. */
  source: DelaySource;
  /** When a report last showed that a probe had passed. */
  lastSuccess: number;
  /** When the pair last failed while it was in use. */
  lastFailure: number;
  /** Probes sent on the pair. */
  probesSent: number;
  /** Those that the peer reported. */
  probesAnswered: number;
  /** When a probe last left on the pair while all was well, only to learn about it. */
  lastTrial: number;
  /** Such probes since the peer last reported one of the pair. */
  trialsUnanswered: number;
}

/** The record of a pair of which nothing is known. */
export const UNKNOWN_PATH: Readonly<PathRecord> = {
  rttMs: NaN,
  rttVarianceMs: 0,
  outMs: NaN,
  inMs: NaN,
  source: "none",
  lastSuccess: -Infinity,
  lastFailure: -Infinity,
  probesSent: 0,
  probesAnswered: 0,
  lastTrial: -Infinity,
  trialsUnanswered: 0,
};

/** Gain of the smoothed RTT and of its deviation (RFC 6298 §2.3). */
const ALPHA = 1 / 8, BETA = 1 / 4;

/**
 * How much of a surprise is believed by each of the two shares of a round-trip time. Queues and busy hosts only add
 * delay: a shorter time is true, of a longer one half is believed.
 */
const SHORTER_GAIN = 1 / 2, LONGER_GAIN = 1 / 4;

/** A locator is under suspicion for so long after a failure, in ms, if nothing is heard through it. */
const FATE_MEMORY_MS = 30_000;
/** Failures with so many other locators mean that it is the locator's own link or provider that died. */
const DEAD_WITH = 2;

/** A pair that failed is tried again after this time in ms, then after twice as long each time. */
const FIRST_RETRY_MS = 5_000;

/** Failures of a locator since it last gave a sign of life. */
interface Fate {
  readonly since: number;
  readonly others: Address[];
}

/** What policies are told: the book, or one that also guesses. */
export type PathKnowledge = Pick<PathBook, "get" | "isSuspect" | "deadSince" | "coordinates">;

/** Bounded: when full, the record that was touched longest ago makes room. */
export class PathBook {
  readonly #records = new Map<string, PathRecord>();
  readonly #fates = new Map<Address, Fate>();
  readonly #capacity: number;

  /** `capacity`: the largest number of pairs remembered. `coordinates`: learn from what is measured, when there are any. */
  constructor(capacity = 4096, readonly coordinates?: Coordinates) {
    this.#capacity = capacity;
  }

  /** What is known about a pair, or undefined. */
  get(pair: LocatorPair): PathRecord | undefined {
    return this.#records.get(pairKey(pair));
  }

  /** Whether the pair answered when it was last tried, and has not failed since. */
  works(pair: LocatorPair): boolean {
    const record = this.get(pair);
    return record !== undefined && record.lastSuccess > record.lastFailure && record.trialsUnanswered === 0;
  }

  /** A probe was sent on the pair. */
  probeSent(pair: LocatorPair): void {
    this.#touch(pair).probesSent++;
  }

  /** The peer reported a probe of the pair. `rttMs`: its round-trip time, NaN when the answer says nothing about it. */
  probeAnswered(pair: LocatorPair, rttMs: number, now: number): void {
    const record = this.#touch(pair);
    record.probesAnswered++;
    record.lastSuccess = now;
    record.trialsUnanswered = 0;
    this.heard(pair);
    if (Number.isNaN(rttMs)) return;
    if (Number.isNaN(record.rttMs) || record.source !== "measured") {
      record.rttMs = rttMs;
      record.rttVarianceMs = rttMs / 2;
    } else {
      record.rttVarianceMs += BETA * (Math.abs(rttMs - record.rttMs) - record.rttVarianceMs);
      record.rttMs += ALPHA * (rttMs - record.rttMs);
    }
    record.source = "measured";
  }

  /** A probe leaves on the pair while all is well. */
  tried(pair: LocatorPair, now: number): void {
    const record = this.#touch(pair);
    record.probesSent++;
    record.lastTrial = now;
    record.trialsUnanswered++;
  }

  /**
   * When it is worth while to probe the pair again: at once if it was never tried, `freshMs` after it worked, and ever
   * later while it does not answer.
   */
  trialDue(pair: LocatorPair, freshMs: number): number {
    const record = this.get(pair);
    if (record === undefined) return -Infinity;
    const { lastSuccess, lastFailure, lastTrial, trialsUnanswered } = record;
    if (lastFailure <= lastSuccess && trialsUnanswered === 0) return lastSuccess + freshMs;
    return Math.max(lastFailure, lastTrial) + Math.min(freshMs, FIRST_RETRY_MS * 2 ** trialsUnanswered);
  }

  /**
   * A probe that left on `pair` was answered at once, on the reverse of `back`: what it says about each direction. Paths
   * can be compared this way although each answer comes back on another one. `first`: nothing is known about the paths
   * between the two hosts. Otherwise one of the directions has to be known, or the result could not be compared.
   */
  roundTrip(pair: LocatorPair, back: LocatorPair, rttMs: number, first: boolean): void {
    const out = this.#touch(pair), into = this.#touch(back);
    // Coordinates know no directions: half of what the way back costs there and back is what it added.
    const sameWayMs = samePair(pair, back) ? rttMs : 2 * rttMs - into.rttMs;
    this.coordinates?.observe(pair, sameWayMs);
    if (!first && Number.isNaN(out.outMs) && Number.isNaN(into.inMs)) return;
    if (Number.isNaN(out.outMs)) out.outMs = Number.isNaN(into.inMs) ? rttMs / 2 : rttMs - into.inMs;
    if (Number.isNaN(into.inMs)) into.inMs = rttMs - out.outMs;
    const surprise = rttMs - out.outMs - into.inMs;
    const gain = surprise < 0 ? SHORTER_GAIN : LONGER_GAIN;
    out.outMs += gain * surprise;
    into.inMs += gain * surprise;
  }

  /**
   * The pair was in use and failed: its own fault, or that of one of the locators of `suspects`, which is the pair on whose
   * reverse the peer sends if that is where nothing comes from; null: it is known already which locator is dead.
   */
  failed(pair: LocatorPair, now: number, suspects: LocatorPair | null = pair): void {
    this.#touch(pair).lastFailure = now;
    if (suspects === null) return;
    this.#blame(suspects.local, suspects.peer, now);
    this.#blame(suspects.peer, suspects.local, now);
  }

  /** Something came in on the reverse of the pair, or went out on it and was reported: both its locators are connected. */
  heard(pair: LocatorPair): void {
    this.#fates.delete(pair.local);
    this.#fates.delete(pair.peer);
  }

  /** Whether a pair with this locator failed lately and nothing was heard through the locator since. */
  isSuspect(address: Address, now: number): boolean {
    return now - (this.#fates.get(address)?.since ?? -Infinity) < FATE_MEMORY_MS;
  }

  /** Since when the link or provider behind a locator of either host is taken for dead; NaN: it is not. */
  deadSince(address: Address, now: number): number {
    const fate = this.#fates.get(address);
    return fate !== undefined && fate.others.length >= DEAD_WITH && now - fate.since < FATE_MEMORY_MS
      ? fate.since
      : NaN;
  }

  #blame(address: Address, other: Address, now: number): void {
    let fate = this.#fates.get(address);
    if (fate === undefined || now - fate.since >= FATE_MEMORY_MS) {
      this.#fates.delete(address);
      if (this.#fates.size >= this.#capacity) this.#fates.delete(this.#fates.keys().next().value!);
      this.#fates.set(address, fate = { since: now, others: [] });
    }
    if (fate.others.length < DEAD_WITH && !fate.others.includes(other)) fate.others.push(other);
  }

  /** Number of pairs remembered. */
  get size(): number {
    return this.#records.size;
  }

  /** Every pair's key (see {@linkcode pairKey}) and record. */
  entries(): IterableIterator<[string, PathRecord]> {
    return this.#records.entries();
  }

  #touch(pair: LocatorPair): PathRecord {
    const key = pairKey(pair);
    let record = this.#records.get(key);
    if (record !== undefined) {
      this.#records.delete(key); // re-inserted below: a Map iterates in insertion order, so the first is the oldest
    } else {
      record = { ...UNKNOWN_PATH };
      if (this.#records.size >= this.#capacity) this.#records.delete(this.#records.keys().next().value!);
    }
    this.#records.set(key, record);
    return record;
  }
}
