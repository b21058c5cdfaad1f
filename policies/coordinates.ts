/**
 * Network coordinates: Vivaldi with height (Dabek, Cox, Kaashoek, Morris: Vivaldi: A Decentralized Network Coordinate
 * System, SIGCOMM 2004). Each locator of this host has a coordinate of its own, peers tell theirs, and the distance of
 * two of them predicts the round-trip time of a pair that was never measured.
 *
 * A prediction only orders probes, so a wrong one costs time, never a path. Peers may lie all the same, and a lie also
 * moves us, so that our own coordinate misleads others. What contains it:
 * - what cannot be a coordinate is refused and counted ({@linkcode isCoordinate});
 * - only round-trip times that we measured move us, and each pair counts once: nobody moves us more by talking more;
 * - the error that a peer announces is not believed when we have seen a larger one;
 * - a force that is large by the standard of the last ones is cut down to it;
 * - no step is longer than {@linkcode LARGEST_STEP_MS};
 * - coordinates are drawn to the origin, so that a steady pull reaches an end.
 */

import type { Address } from "../wire/address.ts";
import { type LocatorPair, pairKey } from "./policy.ts";

/** A place in the network. The distance of two is the length between their points and both heights. */
export interface Coordinate {
  /** ms. */
  readonly x: number;
  /** ms. */
  readonly y: number;
  /** Round-trip time to the core of the network, ms; positive. */
  readonly height: number;
  /** The relative error that its owner expects of predictions, 0 to 1; 1: it knows nothing. */
  readonly error: number;
}

/** Share of the way that a move goes, and weight of a sample in the error: c_c and c_e, both 0.25 (Dabek §2.5, §3.3). */
const MOVE_GAIN = 0.25, ERROR_GAIN = 0.25;
/** Where all begin (Dabek §2.5). Errors are cut off there, so that one bad sample does not have to be outweighed by many. */
const LARGEST_ERROR = 1;
/** Heights stay positive (Dabek §5.4): 10 µs, as HeightMin of HashiCorp's Serf (coordinate/config.go). */
const LEAST_HEIGHT_MS = 0.01;
/** No network has round-trip times beyond ten seconds: the bound of Serf (coordinate/client.go). */
const LARGEST_RTT_MS = 10_000;
/** A claim is taken to have at least this error (our choice): who announces 0 would get the whole weight otherwise. */
const LEAST_ERROR = 0.2;
/**
 * The weight of a sample compares the two errors raised to this power. Vivaldi has 1 (Dabek §2.5); with 2 peers whose claims
 * do not fit what we measure lose nearly all their weight, and honest hosts need more samples (`sim coordinates`).
 */
const DISTRUST = 2;
/** A step is not longer than this (our choice): from one end of a continent to the other in some ten steps. */
const LARGEST_STEP_MS = 10;
/**
 * A force is cut down to this multiple of the median of the last {@linkcode FORCES}, once there are so many as
 * {@linkcode FORCES_LEAST}, and never below the last value in ms. That honest forces tell the false ones is the idea of
 * Newton (Seibert, Becker, Nita-Rotaru, Zage: Securing Virtual Coordinates by Enforcing Physical Laws, ICDCS 2012), which
 * refuses the latter; cut down, they let a host follow when its own place has changed.
 */
const FORCE_PATIENCE = 3, FORCES = 64, FORCES_LEAST = 16, LEAST_FORCE_BOUND_MS = 5;
/**
 * Gravity: a step of (distance / rho)² ms to the origin (Ledlie, Gardner, Seltzer: Network Coordinates in the Wild, NSDI
 * 2007). Our choice of rho moves a coordinate at the far end of a continent by a quarter of a millisecond.
 */
const GRAVITY_RHO_MS = 256;
/**
 * With each new measurement so many of those that are remembered are applied again (our choice). Vivaldi expects traffic
 * to bring a steady stream of samples; here a pair that works is measured once in two minutes at most.
 */
const REPLAYS = 16;
/** Bounds of what is remembered: locators of peers, of this host, and measured pairs. */
const PEERS = 4_096, OWN = 64, SAMPLES = 1_024;
/** Predictions of which the median error is taken. */
const ERRORS = 256;

const ORIGIN: Coordinate = { x: 0, y: 0, height: LEAST_HEIGHT_MS, error: LARGEST_ERROR };

/** Whether a peer's numbers can be a coordinate: not farther than a network reaches, of positive height, no NaN. */
export function isCoordinate({ x, y, height, error }: Coordinate): boolean {
  // Each comparison is false for NaN.
  return Math.hypot(x, y) <= LARGEST_RTT_MS && height > 0 && height <= LARGEST_RTT_MS &&
    error >= 0 && error <= LARGEST_ERROR;
}

/** Round-trip time between two coordinates, ms. */
export function distanceMs(a: Coordinate, b: Coordinate): number {
  return Math.hypot(a.x - b.x, a.y - b.y) + a.height + b.height;
}

/** How good the predictions were. */
export interface Accuracy {
  /** Round-trip times that were measured after they had been predicted. */
  readonly predictions: number;
  /** Median of |predicted - measured| / measured of the last 256 of them; NaN when there were none. */
  readonly medianError: number;
  /** Peers of which two or more working pairs were measured after they had been predicted. */
  readonly rankings: number;
  /** Those of them whose pair of the shortest prediction was the fastest. */
  readonly firstBest: number;
  /** Announcements that held no coordinates, or none that can be. */
  readonly refused: number;
}

/** What is known of a peer's locator. */
interface Place {
  /** What the peer said last. */
  claim: Coordinate;
  /** Smoothed relative error of what its claims predicted, as we measured it; 0 before the first measurement. */
  seenError: number;
}

/** A measured pair. */
interface Sample {
  readonly pair: LocatorPair;
  rttMs: number;
}

/** The coordinates that a host has and knows. */
export class Coordinates {
  readonly #random: () => number;
  readonly #own = new Map<Address, Coordinate>();
  readonly #places = new Map<Address, Place>();
  readonly #samples: Sample[] = [];
  readonly #sampleOf = new Map<string, Sample>();
  readonly #forces = new Recent(FORCES);
  readonly #errors = new Recent(ERRORS);
  #nextSample = 0;
  #predictions = 0;
  #rankings = 0;
  #firstBest = 0;
  #refused = 0;

  /** `random`: uniform in [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** The coordinate of a locator of this host. */
  own(address: Address): Coordinate {
    return this.#own.get(address) ?? ORIGIN;
  }

  /** What the peer with this locator said of it last. */
  peer(address: Address): Coordinate | undefined {
    return this.#places.get(address)?.claim;
  }

  /** How good the predictions were. */
  get accuracy(): Accuracy {
    return {
      predictions: this.#predictions,
      medianError: this.#errors.median(),
      rankings: this.#rankings,
      firstBest: this.#firstBest,
      refused: this.#refused,
    };
  }

  /** A peer tells the coordinate of a locator that is proved to be its own. Nonsense is counted and changes nothing. */
  learn(address: Address, claim: Coordinate): void {
    if (!isCoordinate(claim)) return this.refuse();
    const place = this.#places.get(address);
    if (place !== undefined) place.claim = claim;
    else remember(this.#places, address, { claim, seenError: 0 }, PEERS);
  }

  /** Counts an announcement that cannot be used. */
  refuse(): void {
    this.#refused++;
  }

  /** Predicted round-trip time of a pair, out and back the same way, in ms; NaN while either end knows nothing. */
  predictMs({ local, peer }: LocatorPair): number {
    const own = this.own(local), theirs = this.peer(peer);
    const isKnown = theirs !== undefined && own.error < LARGEST_ERROR && theirs.error < LARGEST_ERROR;
    return isKnown ? distanceMs(own, theirs) : NaN;
  }

  /** The round-trip time of a pair was measured, out and back the same way. */
  observe(pair: LocatorPair, rttMs: number): void {
    if (!(rttMs > 0 && rttMs <= LARGEST_RTT_MS) || !this.#places.has(pair.peer)) return;
    const predictedMs = this.predictMs(pair);
    if (!Number.isNaN(predictedMs)) {
      this.#predictions++;
      this.#errors.add(Math.abs(predictedMs - rttMs) / rttMs);
    }
    const bound = this.#forces.count < FORCES_LEAST
      ? Infinity
      : Math.max(LEAST_FORCE_BOUND_MS, FORCE_PATIENCE * this.#forces.median());
    this.#move(pair, rttMs, bound);
    for (let i = 0; i < REPLAYS && i < this.#samples.length; i++) {
      const sample = this.#samples[Math.floor(this.#random() * this.#samples.length)];
      this.#move(sample.pair, sample.rttMs, bound);
    }
    this.#keep(pair, rttMs);
  }

  /** A peer's pairs were measured after they had been predicted: whether the one predicted shortest was the fastest. */
  judged(firstWasBest: boolean): void {
    this.#rankings++;
    if (firstWasBest) this.#firstBest++;
  }

  /** One step of Vivaldi (Dabek figure 3) of the pair's own locator, in vectors with height (§5.4). */
  #move({ local, peer }: LocatorPair, rttMs: number, forceBoundMs: number): void {
    const place = this.#places.get(peer);
    if (place === undefined) return; // forgotten since
    const own = this.own(local), theirs = place.claim;
    const forceMs = rttMs - distanceMs(own, theirs), strengthMs = Math.abs(forceMs);
    const sampleError = strengthMs / rttMs;
    this.#forces.add(strengthMs);
    place.seenError += (place.seenError === 0 ? 1 : ERROR_GAIN) * (sampleError - place.seenError);
    const ours = own.error ** DISTRUST;
    const weight = ours / (ours + Math.max(theirs.error, place.seenError, LEAST_ERROR) ** DISTRUST);
    const stepMs = Math.sign(forceMs) *
      Math.min(LARGEST_STEP_MS, MOVE_GAIN * weight * Math.min(strengthMs, forceBoundMs));
    let dx = own.x - theirs.x, dy = own.y - theirs.y, length = Math.hypot(dx, dy);
    if (length < LEAST_HEIGHT_MS) { // two in one place part in a random direction (Dabek §2.4)
      const angle = 2 * Math.PI * this.#random();
      [dx, dy, length] = [Math.cos(angle), Math.sin(angle), 1];
    }
    const heights = own.height + theirs.height, scale = stepMs / (length + heights);
    const x = own.x + scale * dx, y = own.y + scale * dy, radius = Math.hypot(x, y);
    const left = 1 - Math.min(1, radius / GRAVITY_RHO_MS ** 2);
    const gain = ERROR_GAIN * weight;
    remember(this.#own, local, {
      x: left * x,
      y: left * y,
      height: Math.max(LEAST_HEIGHT_MS, own.height + scale * heights),
      error: Math.min(sampleError, LARGEST_ERROR) * gain + own.error * (1 - gain),
    }, OWN);
  }

  /** Remembers a measurement; the oldest one makes room. */
  #keep(pair: LocatorPair, rttMs: number): void {
    const key = pairKey(pair), known = this.#sampleOf.get(key);
    if (known !== undefined) {
      known.rttMs = rttMs;
      return;
    }
    const sample = { pair, rttMs };
    const oldest: Sample | undefined = this.#samples[this.#nextSample];
    if (oldest !== undefined) this.#sampleOf.delete(pairKey(oldest.pair));
    this.#samples[this.#nextSample] = sample;
    this.#nextSample = (this.#nextSample + 1) % SAMPLES;
    this.#sampleOf.set(key, sample);
  }
}

/** Sets an entry; the one that was set longest ago makes room. */
function remember<T>(map: Map<Address, T>, address: Address, value: T, capacity: number): void {
  map.delete(address);
  if (map.size >= capacity) map.delete(map.keys().next().value!);
  map.set(address, value);
}

/** The last numbers of a series. */
class Recent {
  readonly #values: Float64Array;
  #added = 0;

  constructor(capacity: number) {
    this.#values = new Float64Array(capacity);
  }

  get count(): number {
    return Math.min(this.#added, this.#values.length);
  }

  add(value: number): void {
    this.#values[this.#added++ % this.#values.length] = value;
  }

  /** NaN when there is none. */
  median(): number {
    const ascending = this.#values.slice(0, this.count).sort();
    return ascending[this.count >> 1] ?? NaN;
  }
}
