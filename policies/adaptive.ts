/** Delay and shared fate together. */

import { BACKGROUND, clearlyFaster } from "./better.ts";
import type { PathBook } from "./path_book.ts";
import {
  type BackgroundProbing,
  type ExplorationStart,
  type LocatorPair,
  type PairPreference,
  type Plan,
  type Policy,
  type ProbeChoice,
  type ProbeStep,
  type ProbeTiming,
  samePair,
} from "./policy.ts";

/** The largest number of probes at once: the pairs of 3x3 locators. */
export const MAX_FIRST = 9;

/**
 * A pair that shares a locator with the failed one is tried along with the best of the others when it would save at
 * least this much delay one way, in ms. Less is not worth a second probe, for it may well be dead, too.
 */
const WORTH_A_SECOND_PROBE_MS = 28;
/**
 * A host that answers takes the reverse of the peer's path when that costs no more than this much delay one way, in ms:
 * while both directions share their locators, a failure leaves no doubt about which locators are suspect.
 */
const SYMMETRY_MS = 10;
/** The first gap is this multiple of the expected round-trip time, so that an answer comes before the next probe. */
const PATIENCE = 1.4;
/** Round-trip time in ms that is expected when none was ever measured. */
const UNKNOWN_RTT_MS = 80;
/** Less is not expected: timers and hosts are not that exact. */
const LEAST_RTT_MS = 5;
/** Bounds of the gaps of the first round in ms. */
const LEAST_GAP_MS = 5, LARGEST_GAP_MS = 50;
/** Gaps in the first round as a share of the expected round-trip time. */
const GAP_SHARE = 1 / 4;
/** Each round is slower than the one before by this factor, up to the Max Probe Timeout. */
const SLOWER = 4;

/**
 * Pairs that share no suspect locator with what failed come first, of them those that the hosts prefer, and of these the
 * fastest. The first probes leave
 * at once; when no answer can be expected any more the others follow as a train, and from the second round on ever
 * slower, without end. This departs from the sequential probing of RFC 5534 §4.3, within the host's probe budget.
 */
export class AdaptivePolicy implements Policy {
  readonly name: string;
  readonly summary: string;
  readonly background: BackgroundProbing = BACKGROUND;
  readonly #first: number;

  /** `first`: so many probes leave at once, 1 to {@linkcode MAX_FIRST}. Throws `RangeError` otherwise. */
  constructor(first = 1) {
    if (!Number.isInteger(first) || first < 1 || first > MAX_FIRST) {
      throw new RangeError(`1 to ${MAX_FIRST} probes at once, not ${first}`);
    }
    this.#first = first;
    this.name = first === 1 ? "adaptive" : `adaptive${first}`;
    this.summary = first === 1
      ? "fastest pair first among those that share no suspect locator, then a train adapted to the delay"
      : `as adaptive, with ${first} probes at once`;
  }

  plan(start: ExplorationStart): Plan {
    return new AdaptivePlan(start, this.#first);
  }

  better(pairs: readonly LocatorPair[], current: LocatorPair, book: PathBook): LocatorPair | undefined {
    return clearlyFaster(pairs, current, book);
  }
}

/** A candidate with what makes its place in the order. */
interface Ranked {
  readonly pair: LocatorPair;
  /** 0: nothing against it, 1 or 2: so many suspect locators or 2 for a dead one, 3: the pair that failed. */
  readonly suspects: number;
  /** What the hosts prefer: lower is better. */
  readonly rank: number;
  /** Its share of a round-trip time in ms; Infinity when unknown. */
  readonly outMs: number;
  readonly reason: string;
}

class AdaptivePlan implements Plan {
  readonly answersOnSchedule = true;
  readonly #order: readonly Ranked[];
  readonly #timing: ProbeTiming;
  readonly #first: number;
  readonly #book: PathBook;
  readonly #outMs: number;
  #rttMs = UNKNOWN_RTT_MS;
  #sent = 0;
  #lastSentAt = -Infinity;

  constructor({ pairs, current, cause, book, now, timing, preference }: ExplorationStart, first: number) {
    const order = pairs.map((pair) => rank(pair, current, book, now, preference?.(pair)))
      .sort((a, b) => a.suspects - b.suspects || a.rank - b.rank || compare(a.outMs, b.outMs));
    const best = order[0];
    const mayWork = ({ pair, suspects, rank }: Ranked) =>
      suspects < 3 && rank === best.rank && Number.isNaN(book.deadSince(pair.local, now)) &&
      Number.isNaN(book.deadSince(pair.peer, now));
    const fastest = order.filter(mayWork).sort((a, b) => compare(a.outMs, b.outMs))[0] ?? best;
    // A host that answers need not guess: the peer's probe would have come on a path through the faster pair's locators.
    const both = cause !== "peer-probe" && fastest !== best && best.outMs - fastest.outMs >= WORTH_A_SECOND_PROBE_MS &&
      best.outMs < Infinity;
    this.#order = both ? [fastest, ...order.filter((choice) => choice !== fastest)] : order;
    this.#first = Math.min(first + (both ? 1 : 0), order.length);
    this.#timing = timing;
    // The peer answers on a pair that it has no more against than we have against ours.
    const ins = order.filter(({ suspects }) => suspects === best.suspects)
      .map(({ pair }) => book.get(pair)?.inMs ?? NaN).filter((ms) => !Number.isNaN(ms));
    this.#outMs = best.outMs;
    this.#book = book;
    this.#expect(Math.min(...ins));
  }

  next(now: number, answering?: LocatorPair): ProbeStep {
    // The peer goes on with the pair that works for it.
    if (answering !== undefined) this.#expect(this.#book.get(answering)?.inMs ?? NaN);
    const { pair, reason } = this.#sent === 0
      ? this.#firstChoice(answering)
      : this.#order[this.#sent % this.#order.length];
    this.#sent++;
    this.#lastSentAt = now;
    return { pair, reason, waitMs: this.#gapMs() };
  }

  answer(now: number, answering?: LocatorPair): ProbeChoice {
    const reverse = this.#order.find(({ pair }) => answering !== undefined && samePair(pair, answering));
    if (reverse !== undefined) {
      return { pair: reverse.pair, reason: "reverse of the path on which the peer's probe came" };
    }
    // What was just sent may still arrive, and is the best guess.
    const again = now - this.#lastSentAt < this.#rttMs ? Math.max(0, this.#sent - 1) : this.#sent;
    return this.#order[again % this.#order.length];
  }

  restart(): void {
    this.#sent = 0;
  }

  #expect(inMs: number): void {
    const rttMs = this.#outMs + inMs;
    if (Number.isFinite(rttMs)) this.#rttMs = Math.max(rttMs, LEAST_RTT_MS);
  }

  #firstChoice(answering: LocatorPair | undefined): ProbeChoice {
    const [best] = this.#order;
    const reverse = this.#order.find(({ pair }) => answering !== undefined && samePair(pair, answering));
    if (reverse === undefined || reverse.suspects > best.suspects) return best;
    if (best.outMs < Infinity && !(reverse.outMs - best.outMs <= SYMMETRY_MS)) return best;
    return { pair: reverse.pair, reason: "reverse of the path on which the peer's probe came" };
  }

  #gapMs(): number {
    if (this.#sent < this.#first) return 0;
    const round = Math.floor(this.#sent / this.#order.length);
    const { maxProbeTimeoutMs } = this.#timing;
    if (this.#sent === this.#first || this.#sent % this.#order.length === 0) {
      return Math.min(PATIENCE * this.#rttMs * SLOWER ** round, maxProbeTimeoutMs);
    }
    const gap = Math.min(LARGEST_GAP_MS, Math.max(LEAST_GAP_MS, GAP_SHARE * this.#rttMs));
    return Math.min(gap * SLOWER ** round, maxProbeTimeoutMs);
  }
}

function rank(
  pair: LocatorPair,
  current: LocatorPair,
  book: PathBook,
  now: number,
  preference: PairPreference | undefined,
): Ranked {
  const outMs = book.get(pair)?.outMs ?? NaN;
  const isDead = [pair.local, pair.peer].some((address) => !Number.isNaN(book.deadSince(address, now)));
  const suspects = samePair(pair, current)
    ? 3
    : isDead || preference?.broken
    ? 2
    : Number(book.isSuspect(pair.local, now)) + Number(book.isSuspect(pair.peer, now));
  const known = Number.isNaN(outMs) ? "delay unknown" : "fastest first";
  const reason = suspects === 3
    ? "the failed pair itself, last"
    : suspects > 0
    ? `${known}, but shares a locator with a failed pair`
    : `${known}, shares no suspect locator`;
  return { pair, suspects, rank: preference?.rank ?? 0, outMs: Number.isNaN(outMs) ? Infinity : outMs, reason };
}

/** Ascending; unknown ones (Infinity) are equal. */
function compare(a: number, b: number): number {
  return a === b ? 0 : a - b;
}
