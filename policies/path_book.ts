/** What a host knows about each locator pair, shared by all contexts with that peer. */

import { type LocatorPair, pairKey } from "./policy.ts";

/** Where the delay of a pair is known from. */
export type DelaySource = "measured" | "coordinate" | "none";

/** What is known about one locator pair. Times are monotonic ms; -Infinity when it never happened. */
export interface PathRecord {
  /** Smoothed round-trip time in ms (RFC 6298 weights), NaN when never measured. */
  rttMs: number;
  /** Mean deviation of the round-trip time in ms. */
  rttVarianceMs: number;
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
}

/** Gain of the smoothed RTT and of its deviation (RFC 6298 §2.3). */
const ALPHA = 1 / 8, BETA = 1 / 4;

/** Bounded: when full, the record that was touched longest ago makes room. */
export class PathBook {
  readonly #records = new Map<string, PathRecord>();
  readonly #capacity: number;

  /** `capacity`: the largest number of pairs remembered. */
  constructor(capacity = 4096) {
    this.#capacity = capacity;
  }

  /** What is known about a pair, or undefined. */
  get(pair: LocatorPair): PathRecord | undefined {
    return this.#records.get(pairKey(pair));
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

  /** The pair was in use and failed. */
  failed(pair: LocatorPair, now: number): void {
    this.#touch(pair).lastFailure = now;
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
      record = {
        rttMs: NaN,
        rttVarianceMs: 0,
        source: "none",
        lastSuccess: -Infinity,
        lastFailure: -Infinity,
        probesSent: 0,
        probesAnswered: 0,
      };
      if (this.#records.size >= this.#capacity) this.#records.delete(this.#records.keys().next().value!);
    }
    this.#records.set(key, record);
    return record;
  }
}
