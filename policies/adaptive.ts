/** Delay and shared fate together. */

import type { Address } from "../wire/address.ts";
import { BACKGROUND, clearlyFaster } from "./better.ts";
import type { PathBook, PathKnowledge } from "./path_book.ts";
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
const LARGEST_WAVE = 9;
/** The largest first wave. */
export const MAX_FIRST: number = LARGEST_WAVE;

/**
 * A pair that shares a locator with the failed one is tried along with the best of the others when it would save at
 * least this much delay one way, in ms, and this share of the other one's round-trip time. Less is not worth a second
 * probe, for it may well be dead, too.
 */
const WORTH_A_SECOND_PROBE_MS = 24, WORTH_SHARE = 0.4;
/**
 * A host that answers takes the reverse of the peer's path when that costs no more than this much delay one way, in ms:
 * while both directions share their locators, a failure leaves no doubt about which locators are suspect.
 */
const SYMMETRY_MS = 10;
/**
 * The next wave leaves after this multiple of the round-trip time that was expected of the one before. A host that
 * searches does not know on which path the answer will come.
 */
const SEARCH_PATIENCE = 1.6, ANSWER_PATIENCE = 1.3;
/** Waves in a round of a host that searches: most of its waiting would be for the peer's search. */
const SEARCH_WAVES = 3;
/** The last wave of a host that answers leaves about so long after the first one, in ms. */
const ANSWER_WITHIN_MS = 130;
/** A host that answers sends as many probes at once as the peer had sent in vain, at most so many. */
const MOST_FOR_PEER = 4;
/** Round-trip time in ms that is expected when none was ever measured. */
const UNKNOWN_RTT_MS = 80;
/** Less is not expected: timers and hosts are not that exact. */
const LEAST_RTT_MS = 5;
/** Bounds of the gaps from the second round on in ms, and their share of the expected round-trip time before slowing. */
const LEAST_GAP_MS = 5, LARGEST_GAP_MS = 50, GAP_SHARE = 1 / 4;
/** Each round is slower than the one before by this factor, up to the Max Probe Timeout. */
const SLOWER = 4;

/**
 * The best pair that shares no suspect locator comes first, then those that the hosts prefer, the fastest foremost, in waves: the next one leaves when the
 * answers to the one before are overdue. The host that begins to search gets no answer before its peer has found a path
 * as well, so it soon sends all it has. The host that answers is told at once when a probe arrives, and spreads its own
 * over as many round-trip times as there is time for. From the second round on the probes leave one by one, ever slower,
 * without end. This departs from the sequential probing of RFC 5534 §4.3, within the host's probe budget.
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
      ? "fastest pair first among those that share no suspect locator, then waves of others as answers are overdue"
      : `as adaptive, with ${first} probes at once`;
  }

  plan(start: ExplorationStart): Plan {
    return new AdaptivePlan(start, this.#first);
  }

  better(pairs: readonly LocatorPair[], current: LocatorPair, book: PathBook): LocatorPair | undefined {
    return clearlyFaster(pairs, current, book);
  }
}

const REVERSE = "reverse of the path on which the peer's probe came";

/** A candidate with what makes its place in the order. */
interface Ranked {
  readonly pair: LocatorPair;
  /** 0: nothing against it, 1 or 2: so many suspect locators or 2 for a dead one, 3: the pair that failed. */
  readonly suspects: number;
  /** What the hosts prefer: lower is better. */
  readonly rank: number;
  /** 2: the pair that failed, 1: through a dead locator; these come after all others. */
  readonly last: 0 | 1 | 2;
  /** Its share of a round-trip time in ms; Infinity when unknown. */
  readonly outMs: number;
  readonly reason: string;
}

class AdaptivePlan implements Plan {
  readonly answersOnSchedule = true;
  /** All pairs; the one that failed comes last. */
  readonly #order: readonly Ranked[];
  readonly #timing: ProbeTiming;
  readonly #first: number;
  readonly #book: PathKnowledge;
  /** The smallest known share of a round-trip time of the way back, ms; NaN: none is known. */
  readonly #leastInMs: number;
  /** Half of what the delays of the pairs differ by, ms: what an unknown one may exceed the least one by. */
  readonly #excessMs: number;
  /** Whether this is the host that goes on when both began at once. The hosts know the same locators. */
  readonly #goesOn: boolean;
  /** The first round. */
  #round: readonly ProbeStep[] = [];
  #rttMs = UNKNOWN_RTT_MS;
  #sent = 0;
  #lastSentAt = -Infinity;

  constructor({ pairs, current, cause, book, now, timing, preference }: ExplorationStart, first: number) {
    const ranked = pairs.map((pair) => rank(pair, current, book, now, preference?.(pair)));
    const isBetter = (a: Ranked, b: Ranked) => compare(a, b, "suspects", "rank", "outMs") <= 0;
    const best = ranked.reduce((best, each) => isBetter(best, each) ? best : each);
    const others = ranked.filter((each) => each !== best)
      .sort((a, b) => compare(a, b, "last", "rank", "outMs", "suspects"));
    const [fastest] = others;
    this.#leastInMs = least(pairs.map((pair) => book.get(pair)?.inMs ?? NaN));
    // NaN while no way back was measured: then the share is unknown, and one probe has to do.
    const worthMs = Math.max(WORTH_A_SECOND_PROBE_MS, WORTH_SHARE * (best.outMs + this.#leastInMs));
    // A host that answers need not guess: the peer's probe would have come on a path through the faster pair's locators.
    const both = cause !== "peer-probe" && fastest !== undefined && fastest.last === 0 && fastest.rank === best.rank &&
      best.outMs < Infinity && best.outMs - fastest.outMs >= worthMs;
    this.#order = both ? [fastest, best, ...others.slice(1)] : [best, ...others];
    this.#first = both ? Math.max(first, 2) : first;
    this.#timing = timing;
    this.#book = book;
    const outMs = ranked.map((each) => each.outMs).filter((ms) => ms < Infinity);
    this.#excessMs = outMs.length === 0 ? 0 : (Math.max(...outMs) - Math.min(...outMs)) / 2;
    const smallest = (addresses: Address[]) => addresses.reduce((a, b) => a < b ? a : b);
    this.#goesOn = smallest(pairs.map(({ local }) => local)) > smallest(pairs.map(({ peer }) => peer));
  }

  next(now: number, answering?: LocatorPair, peerSent = 1): ProbeStep {
    if (this.#sent === 0) this.#round = answering === undefined ? this.#search() : this.#reply(answering, peerSent);
    const step = this.#sent < this.#round.length ? this.#round[this.#sent] : this.#laterStep();
    this.#sent++;
    this.#lastSentAt = now;
    return step;
  }

  answer(now: number, answering?: LocatorPair): ProbeChoice {
    const reverse = this.#order.find(({ pair }) => answering !== undefined && samePair(pair, answering));
    if (reverse !== undefined) return { pair: reverse.pair, reason: REVERSE };
    // What was just sent may still arrive, and is the best guess.
    const again = now - this.#lastSentAt < this.#rttMs ? Math.max(0, this.#sent - 1) : this.#sent;
    return this.#order[again % this.#order.length];
  }

  restart(_now: number, answering?: LocatorPair): boolean {
    // Both hosts began at once. One of them begins anew, to tell what it heard, and the other one goes on with what it has
    // not tried yet, or each would try all pairs twice.
    if (answering !== undefined && this.#goesOn && this.#sent < this.#order.length) return false;
    this.#sent = 0;
    return true;
  }

  /** Nothing was heard. */
  #search(): ProbeStep[] {
    const rtt = this.#rttWith(this.#leastInMs);
    return this.#inWaves(
      this.#order,
      this.#first,
      SEARCH_WAVES,
      (each) => SEARCH_PATIENCE * rtt(each),
      ANSWER_WITHIN_MS,
    );
  }

  /** A probe was heard on the reverse of `answering`, and the peer goes on with that path. */
  #reply(answering: LocatorPair, peerSent: number): ProbeStep[] {
    const knownMs = this.#book.get(answering)?.inMs ?? NaN;
    // Only the peer's current path is measured as a rule; it is one of the fast ones.
    const rtt = this.#rttWith(Number.isNaN(knownMs) ? this.#leastInMs + this.#excessMs : knownMs);
    // The peer's silent probes tell how much is broken.
    const atOnce = Math.max(this.#first, Math.min(peerSent - 1, MOST_FOR_PEER));
    const first = this.#firstChoice(answering);
    const order = [first, ...this.#order.filter(({ pair }) => !samePair(pair, first.pair))];
    const rtts = order.slice(0, -1).map(rtt);
    const gapMs = ANSWER_PATIENCE * (Math.min(...rtts) + Math.max(...rtts)) / 2;
    const waves = 1 + Math.floor(ANSWER_WITHIN_MS / gapMs);
    return this.#inWaves(order, atOnce, waves, (each) => ANSWER_PATIENCE * rtt(each), this.#rttMs);
  }

  /** Round-trip times by the pair out; `inMs`: share of the way back, NaN when unknown. */
  #rttWith(inMs: number): (each: Ranked) => number {
    const rtt = ({ outMs }: Ranked) => {
      const ms = outMs + inMs;
      return Number.isFinite(ms) ? Math.max(ms, LEAST_RTT_MS) : UNKNOWN_RTT_MS;
    };
    this.#rttMs = rtt(this.#order[0]);
    return rtt;
  }

  /**
   * The first round: `first` probes at once, the others in waves, and the pair that failed last and alone. `lastMs` is
   * waited before it, in addition.
   */
  #inWaves(
    order: readonly Ranked[],
    first: number,
    waves: number,
    patienceMs: (each: Ranked) => number,
    lastMs: number,
  ): ProbeStep[] {
    const steps: ProbeStep[] = [];
    const addWave = (wave: readonly Ranked[], extraMs: number) => {
      const waitMs = Math.min(Math.max(...wave.map(patienceMs)) + extraMs, this.#timing.maxProbeTimeoutMs);
      wave.forEach(({ pair, reason }, i) => steps.push({ pair, reason, waitMs: i < wave.length - 1 ? 0 : waitMs }));
    };
    const last = order.length - 1;
    let from = 0;
    for (const size of waveSizes(last, first, waves)) {
      const wave = order.slice(from, from += size);
      // What is sent alone is likely to work, on whatever path the answer comes: wait for a slow one.
      addWave(wave, from === last ? lastMs : steps.length === 0 && size === 1 ? this.#excessMs : 0);
    }
    addWave(order.slice(last), SLOWER * this.#rttMs);
    return steps;
  }

  #firstChoice(answering: LocatorPair): Ranked {
    const [best] = this.#order;
    const reverse = this.#order.find(({ pair }) => samePair(pair, answering));
    if (reverse === undefined || reverse.suspects > best.suspects) return best;
    if (best.outMs < Infinity && !(reverse.outMs - best.outMs <= SYMMETRY_MS)) return best;
    return { ...reverse, reason: REVERSE };
  }

  /** A probe of the second round or a later one. */
  #laterStep(): ProbeStep {
    const { length } = this.#order;
    const { pair, reason } = this.#order[this.#sent % length];
    const round = Math.floor((this.#sent + 1) / length);
    const gapMs = (this.#sent + 1) % length === 0
      ? SEARCH_PATIENCE * this.#rttMs
      : Math.min(LARGEST_GAP_MS, Math.max(LEAST_GAP_MS, GAP_SHARE * this.#rttMs));
    return { pair, reason, waitMs: Math.min(gapMs * SLOWER ** round, this.#timing.maxProbeTimeoutMs) };
  }
}

/** `first` of `count` pairs in the first wave, the others spread evenly over the other waves, larger ones first. */
function waveSizes(count: number, first: number, waves: number): number[] {
  const sizes = count === 0 ? [] : [Math.min(first, count)];
  let left = count - first;
  for (let waiting = waves - 1; left > 0; waiting--) {
    const size = Math.min(Math.ceil(left / Math.max(1, waiting)), LARGEST_WAVE);
    sizes.push(size);
    left -= size;
  }
  return sizes;
}

function rank(
  pair: LocatorPair,
  current: LocatorPair,
  book: PathKnowledge,
  now: number,
  preference: PairPreference | undefined,
): Ranked {
  const { outMs = NaN, source } = book.get(pair) ?? {};
  const isDead = preference?.broken === true ||
    [pair.local, pair.peer].some((address) => !Number.isNaN(book.deadSince(address, now)));
  const isFailed = samePair(pair, current);
  const suspects = isFailed
    ? 3
    : isDead
    ? 2
    : Number(book.isSuspect(pair.local, now)) + Number(book.isSuspect(pair.peer, now));
  const known = Number.isNaN(outMs)
    ? "delay unknown"
    : source === "coordinate"
    ? "shortest predicted delay first"
    : "fastest first";
  const reason = isFailed
    ? "the failed pair itself, last"
    : suspects > 0
    ? `${known}, but shares a locator with a failed pair`
    : `${known}, shares no suspect locator`;
  return {
    pair,
    suspects,
    rank: preference?.rank ?? 0,
    last: isFailed ? 2 : isDead ? 1 : 0,
    outMs: Number.isNaN(outMs) ? Infinity : outMs,
    reason,
  };
}

/** Ascending by the first of these that differs; unknown delays (Infinity) are equal. */
function compare(a: Ranked, b: Ranked, ...by: ("suspects" | "rank" | "last" | "outMs")[]): number {
  for (const key of by) if (a[key] !== b[key]) return a[key] - b[key];
  return 0;
}

/** The least of those that are numbers; NaN: none is. */
function least(values: readonly number[]): number {
  return values.reduce((a, b) => Number.isNaN(a) || b < a ? b : a, NaN);
}
